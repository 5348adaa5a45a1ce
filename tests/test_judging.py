"""Scores, the trivial baseline, and the guard against losses that fall for nothing."""

from dataclasses import replace

import numpy as np

from conftest import tiny, toy_split
from hrm_lab import act, judging, metrics, plots
from hrm_lab.model import HRM


def test_scores_are_given_for_each_task_with_n_and_interval():
    data = toy_split(100)
    found = act.evaluate(HRM(tiny()), data)
    right = data.tasks == 0  # every copy right, every increment wrong
    table = judging.scores(replace(found, exact=right, full_exact=~right), data)
    assert [table[k]["value"] for k in ("exact_match", "exact_match/copy", "exact_match/increment")] == [0.5, 1.0, 0.0]
    assert table["exact_match_full/increment"]["value"] == 1.0
    assert all(s["low"] <= s["value"] <= s["high"] and s["n"] > 0 for s in table.values())


def test_the_majority_baseline_solves_a_map_and_fails_a_coin():
    data = toy_split(400)
    copies = data.tasks == 0
    only = replace(data, inputs=data.inputs[copies], labels=data.labels[copies])
    assert judging.majority_baseline(only, only)["baseline_exact_match"]["value"] == 1.0
    both = judging.majority_baseline(data, toy_split(400, seed=5))
    assert 0.4 < both["baseline_token_accuracy"]["value"] < 0.6 and both["baseline_exact_match"]["value"] < 0.15


def test_the_guard_flags_a_loss_that_falls_while_the_task_is_not_learnt():
    zero, good = metrics.proportion(0, 500), metrics.proportion(400, 500)
    falling, still = [{"loss": 2.0}, {"loss": 1.0}], [{"loss": 2.0}, {"loss": 1.9}]
    assert judging.loss_guard(falling, {"exact_match": zero, "baseline_exact_match": zero})[0]
    assert not judging.loss_guard(falling, {"exact_match": good, "baseline_exact_match": zero})[0]
    assert not judging.loss_guard(still, {"exact_match": zero, "baseline_exact_match": zero})[0]


def test_findings_name_the_task_that_the_mean_hides():
    data = toy_split(400)
    right = data.tasks == 0
    found = replace(act.evaluate(HRM(tiny()), data), exact=right, full_exact=right)
    scores = judging.scores(found, data) | judging.majority_baseline(data, data)
    scores["ceiling"] = metrics.plain(1.0, 400, "share")
    text = " ".join(judging.findings(scores, [{"loss": 2.0}, {"loss": 1.0}], "toy"))
    assert "toy is not solved" in text and "hides that increment lags by 100 points" in text
    assert "Flagged" not in text


def test_trace_frames_mark_wrong_and_changed_cells():
    data = toy_split(1)
    right = np.where(data.labels[0] < 0, 0, data.labels[0])
    frames = [{"segment": 1, "update": 1, "answer": right * 0 + 3, "halt": 0.1},
              {"segment": 1, "update": 2, "answer": right, "halt": 0.9}]
    svgs, labels = plots.trace_frames(frames, data.inputs[0], data.labels[0], data.meta)
    wrong = int((data.labels[0][1:] != 3).sum())
    assert f": {wrong} wrong, 10 % sure" in labels[0] and f"grid, {wrong} wrong" in svgs[0]
    assert ": 0 wrong, 90 % sure" in labels[1] and f"grid, {wrong} changed" in svgs[1]
