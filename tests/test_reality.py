"""What was predicted when is made from what was known then, and stands beside what came."""

import numpy as np
import pytest

from conftest import tiny
from hrm_lab import alarms, plan, reality
from hrm_lab.forecast_targets import read_targets
from hrm_lab.train import TrainConfig


def history(n=50, every=10):
    return [{"step": every * e, "epoch": e / 7, "loss": 2 * 0.95 ** e, "exact_match": 1 - 0.93 ** e,
             "token_accuracy": 1 - 0.9 ** e, "n": 200} for e in range(1, n + 1)]


def test_a_forecast_knows_only_what_was_there():
    whole = reality.predicted(history(), 500, "exact_match", (10, 25))
    cut = reality.predicted(history(26), 500, "exact_match", (10, 25))
    assert [p.epoch for p in whole] == [10, 25]
    assert [p.forecast.seen for p in whole] == [10, 25] and whole[0].forecast.count == 10
    changed = [row | ({"exact_match": 0.0} if row["step"] > 100 else {}) for row in history()]
    again = reality.predicted(changed, 500, "exact_match", (10,))
    assert np.array_equal(whole[0].forecast.quantiles, again[0].forecast.quantiles)
    assert len(cut) == 2 and cut[1].forecast.steps.tolist() == [26]


def test_a_short_history_has_a_reason_instead():
    past = reality.predicted(history(8), 500, "loss", (3, 5, 40))
    assert [p.forecast is None for p in past] == [True, False] and "at least 5" in past[0].reason
    rows = reality.table(history(8), 500, "loss", past)
    assert [row["made at epoch"] for row in rows] == ["5"] and rows[0]["what came"]


def test_the_table_and_the_score_agree():
    past = reality.predicted(history(), 500, "exact_match", (20,))
    rows = reality.table(history(), 500, "exact_match", past)
    score = reality.inside(history(), 500, "exact_match", past)
    assert score["n"] == len(past[0].forecast.steps) <= reality.AHEAD + 1
    assert rows[0]["inside"] == "yes" and score["value"] > 0.8
    wrong = [row | ({"exact_match": 0.0} if row["step"] > 200 else {}) for row in history()]
    assert reality.inside(wrong, 500, "exact_match", past)["value"] < 0.2
    assert reality.table(wrong, 500, "exact_match", past)[0]["inside"] == "no"


def test_the_section_shows_and_scores_each_metric(capsys):
    found = reality.show(history(), 500, targets=read_targets({"loss": "<0.3"}))
    assert set(found) == {"forecast/exact_match/inside_90", "forecast/loss/inside_90"}
    assert all(0 <= s["low"] <= s["value"] <= s["high"] <= 1 for s in found.values())
    capsys.readouterr()
    assert reality.show(history(3), 500) == {}
    assert capsys.readouterr().out.count("Markdown") == 1  # one sentence for both metrics


@pytest.mark.parametrize("settings", [{}, {"phases": [{"name": "a", "epochs": [0, 15], "targets": {"loss": "<0.1"}},
                                                      {"name": "b", "epochs": [15, 50], "targets": {"loss": "<9"}}]}])
def test_the_plan_is_shown_beside_the_run(settings, capsys):
    reality.show_plan(plan.read(settings), history(30), TrainConfig(steps=500), tiny(), 100, ceiling=0.5)
    reality.show_plan(plan.read(settings), history(3), TrainConfig(steps=500), tiny(), 100)


def test_epochs_are_fiftieths():
    assert [row["epoch"] for row in alarms.plan_rows(history(2, every=5), 500)] == [0.5, 1.0]
