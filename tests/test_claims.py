"""Claims are judged by their intervals, and one that failed or was not measured is shown as such."""

import pytest

from hrm_lab import claims, metrics
from hrm_lab.claims import FAILED, MET, MISSING, NARROW, Claim
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.notebooks import presets

SCORES = {"run": {"good": metrics.proportion(99, 100), "base": metrics.proportion(40, 100),
                  "seconds": metrics.plain(12.0, 3, "s")}}


@pytest.mark.parametrize("condition, verdict", [
    ({"at_least": 0.9}, MET), ({"at_least": 0.97}, NARROW), ({"at_least": 0.999}, FAILED),
    ({"at_most": 0.999}, MET), ({"at_most": 0.99}, NARROW), ({"at_most": 0.5}, FAILED), ({"above": "base"}, MET),
    ({"above": "absent"}, MISSING),
    ({"above": 0.5}, MET), ({"above": 2.0}, FAILED)])
def test_a_claim_is_judged_by_its_interval(condition, verdict):
    assert claims.judge(Claim("t", "s", "run", "good", **condition), SCORES) == verdict


def test_a_metric_without_an_interval_is_judged_by_its_value():
    assert claims.judge(Claim("t", "s", "run", "seconds", at_most=12.5), SCORES) == MET
    assert claims.judge(Claim("t", "s", "run", "seconds", at_most=11.5), SCORES) == FAILED


def test_a_run_that_is_not_there_is_not_measured():
    claim = Claim("t", "says", "other", "good", at_least=0.5)
    assert claims.judge(claim, SCORES) == MISSING
    assert claims.table([claim], SCORES)[0]["verdict"] == MISSING


def test_the_table_shows_the_baseline_and_the_page():
    row = claims.table([Claim("t", "says", "run", "good", at_least=0.9, beside="base")], SCORES)[0]
    assert (row["wanted"], row["baseline"], row["page"]) == ("≥\u00a090\u202f%", "40.0\u202f%", "run.html")


@pytest.mark.parametrize("text, complaint", [
    ("- {track: t, says: s, run: r}", "expected track, says, run, metric"),
    ("- {track: t, says: s, run: r, metric: m, atleast: 3}", "entry 1"),
    ("- {track: t, says: s, run: r, metric: m}", "got 0 conditions"),
    ("- {track: t, says: s, run: r, metric: m, at_least: 1, at_most: 2}", "got 2 conditions")])
def test_a_wrong_entry_is_refused(tmp_path, text, complaint):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        claims.claims(tmp_path / "claims.yaml")


def test_the_claims_are_about_runs_that_the_pipeline_makes():
    tasks = presets("laptop")["02_puzzle_training"]["tasks"]
    runs = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} | {f"02_puzzle_training-{t}" for t in tasks}
    assert {claim.run for claim in claims.claims()} <= runs


def test_a_summary_keeps_chance_apart_from_what_holds():
    found = [Claim("t", "holds", "run", "good", at_least=0.9), Claim("t", "may hold", "run", "good", at_least=0.97),
             Claim("t", "fails", "run", "good", at_least=0.999), Claim("u", "unknown", "other", "good", at_least=0.5)]
    first, second = claims.summary(claims.table(found, SCORES))
    assert "1 of 3 claims met beyond chance, 1 in value only." in first and "Not met: fails (99.0" in first
    assert "0 of 1" in second and "Not measured: unknown (no value" in second
