"""Targets: the reports' format, refusals that name the field, and probabilities that cannot contradict each other."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.forecast_bank import shipped
from hrm_lab.forecast_targets import Target, couple, outlook, percent, read_targets

REPORTED = {"loss": "<0.3", "code_compilation_success": ">0.5", "code_tiered_accuracy": ">0.99",
            "token_accuracy_all": ">0.8"}


def history(epochs=12):
    t = np.arange(1, epochs + 1)
    return [{"epoch": int(e), "loss": 45 * 0.85 ** float(e), "token_accuracy_all": 0.8 * (1 - 0.8 ** float(e)),
             "code_compilation_success": 1.0, "candidates": 12.0 + e, "n": 200} for e in t]


def test_the_reports_format_is_read(tmp_path):
    (tmp_path / "targets.json").write_text(json.dumps(REPORTED))
    found = read_targets(tmp_path / "targets.json")
    assert found[0] == Target("loss", "<", 0.3, 50.0, True) and len(found) == 4
    found = read_targets({"exact_match": {"target": " >= 9e-1 ", "epoch": 35, "required": False}}, 80)
    assert found == [Target("exact_match", ">=", 0.9, 35.0, False)] and str(found[0]) == "exact_match >= 0.9 at 35"
    assert read_targets({"loss": "<.3"}, 80)[0].epoch == 80


@pytest.mark.parametrize("text,expected", [
    ('{"loss": 0.3}', r"loss: got 0.3, expected a comparison"), ('{"loss": "0.3"}', "got '0.3'"),
    ('{"loss": "<=>0.3"}', "comparison"), ('{"loss": "< nan"}', "comparison"), ('{"loss": {"epoch": 3}}', "got None"),
    ('{"loss": {"target": "<1", "by": 3}}', "got field 'by'"), ('{"a": {"target": "<1", "epoch": 0}}', "epoch: got 0"),
    ('{"a": {"target": "<1", "epoch": true}}', "epoch: got True"), ("[]", "got list, expected an object"),
    ('{"a": {"target": "<1", "required": 1}}', "required: got 1"), ("{}", "no targets"), ("{", "line 1: got ''"),
])
def test_bad_targets_are_refused_in_one_line(tmp_path, text, expected):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ValueError, match=expected) as caught:
        read_targets(tmp_path / "t.json")
    assert str(caught.value).startswith(str(tmp_path / "t.json")) and "\n" not in str(caught.value)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["loss", "token_accuracy_all"]), st.sampled_from("<>"),
                          st.floats(0.001, 40), st.sampled_from([5, 12, 13, 20, 50]), st.booleans()),
                min_size=1, max_size=6), st.booleans(), st.integers(6, 12))
def test_all_targets_are_never_more_probable_than_the_least(wanted, calibrated, epochs):
    targets = [Target(*t) for t in wanted]
    found = outlook(history(epochs), targets, bank=shipped() if calibrated else None, draws=200)
    required = [o.p for o in found.each if o.target.required]
    assert all(0 <= p <= 1 for p in required)
    assert (found.p_all is None) == (not required)
    if required:
        assert max(0, sum(required) - len(required) + 1) - 1e-9 <= found.p_all <= min(required)


def test_a_reached_epoch_is_a_fact():
    rows = history(12)
    targets = [Target("loss", "<", 40, 5), Target("loss", "<", 1, 12), Target("loss", "<", 1, 12, required=False)]
    found = outlook(rows, targets, bank=shipped())
    assert [o.p for o in found.each] == [1, 0, 0] and found.p_all == 0 and found.forecasts == {}
    assert found.calibration == "nothing left to forecast" and found.each[0].last == rows[-1]["loss"]


def test_what_has_no_forecast_says_why():
    rows = history(12)
    targets = [Target("nowhere", "<", 1, 50), Target("candidates", ">", 14, 50), Target("loss", "<", 10, 50)]
    found = outlook(rows, targets, bank=shipped())
    assert found.p_all is None and found.each[2].p > 0.5
    assert found.each[0].reason == "no row has 'nowhere'" and "candidates: got 13" in found.each[1].reason
    text = "\n".join(found.lines())
    assert "unknown: a required target has no forecast" in text and "no forecast: no row has 'nowhere'" in text
    early = outlook(rows[:3], [Target("loss", "<", 1, 50), Target("token_accuracy_all", ">", 0.5, 2)])
    assert "at least 5" in early.each[0].reason and early.each[1].p == 0


def test_the_lines_of_a_terminal():
    lines = outlook(history(12), read_targets(REPORTED), bank=shipped()).lines()
    assert lines[0].startswith("loss < 0.3 at 50: P = ") and "exponential fit" in lines[1]
    assert "calibrated on" in lines[-1] and [percent(p) for p in (0, 0.001, 0.5, 0.999, 1)] == [
        "0 %", "< 1 %", "50 %", "> 99 %", "100 %"]


def test_good_luck_is_shared_between_metrics_and_changes_no_metric_alone():
    rows = history(12)
    forecasts = outlook(rows, [Target("loss", "<", 1, 50), Target("token_accuracy_all", ">", 0.8, 50)]).forecasts
    alone, together = (couple(forecasts, 2000, c, 0) for c in (0.0, 0.9))
    for metric, f in forecasts.items():
        np.testing.assert_array_equal(np.sort(together[metric], 0), np.sort(f.samples, 0))

    def correlation(drawn):
        return np.corrcoef(np.argsort(np.argsort(drawn["loss"][:, 0])),
                           np.argsort(np.argsort(drawn["token_accuracy_all"][:, 0])))[0, 1]

    assert abs(correlation(alone)) < 0.1 and correlation(together) < -0.7


def test_rows_without_the_metric_and_from_epoch_zero_are_left_out():
    rows = [{"epoch": 0, "loss": 99.0}, *history(8), {"epoch": 9, "note": "no loss"}]
    found = outlook(rows, [Target("loss", "<", 1, 50)], n=50)
    assert found.forecasts["loss"].count == 8 and found.seen == 9
