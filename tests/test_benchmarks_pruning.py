"""The replay of recorded grids: what a rule costs and finds. What it measures on real grids is not asserted."""

import json
import sys

import numpy as np
import pytest

from hrm_lab.alarms import EPOCHS
from hrm_lab.inspect_notebook import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import pruning  # noqa: E402


@pytest.fixture
def grid(tmp_path):
    """Six cells whose tokens rise to .9 ... .4 and whose exact match follows in the second half, three seeds each."""
    t = np.arange(1, EPOCHS + 1)
    cells = []
    for top in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        tokens = [((top + s) * (1 - np.exp(-t / 6))).round(5) for s in (-0.01, 0, 0.01)]
        exact = [(own - 0.2) * (t > 25) for own in tokens]
        packed = [np.packbits(np.arange(100) < 100 * own[-1]).tobytes().hex() for own in exact]
        cells.append({"cell": {"lr": top}, "reached": [float(own[-1]) for own in exact],
                      "valid": {"n": 100, "exact": packed},
                      "curves": {"exact_match": [own.tolist() for own in exact],
                                 "token_accuracy": [own.tolist() for own in tokens],
                                 "loss": [(1 - own).tolist() for own in tokens]}})
    (tmp_path / "toy.json").write_text(json.dumps({"n": 100, "cpu_seconds": 1.0, "cells": cells}))
    return tmp_path / "toy.json"


def test_the_race_spends_little_and_finds_the_best(grid):
    found = pruning.judge("toy", json.loads(grid.read_text()), 6, None)
    assert found["best"] == {"lr": 0.9} and (found["cells"], found["seeds"]) == (6, 3)
    whole, ours = found["rules"]["all"], found["rules"]["race"]
    assert (whole["epochs"], whole["same_cell"], whole["regret"]) == (1, 1, 0)
    assert ours["same_cell"] == 1 and ours["best_or_within"]["n"] == 6
    # 6 cells to epoch 5, 4 to 15, 2 to 50, and two more seeds of one
    assert ours["epochs"] == pytest.approx((6 * 5 + 4 * 10 + 2 * 35 + 2 * 50) / (6 * 3 * 50))
    assert found["rules"]["now"]["same_cell"] == 1  # all equal, so that the order decides: the first cell is the best
    assert whole["epochs"] > found["rules"]["median"]["epochs"] > ours["epochs"]


def test_the_race_follows_what_ranks_it(grid):
    told = json.loads(grid.read_text())
    curves = {metric: np.array([cell["curves"][metric] for cell in told["cells"]])
              for metric in ("exact_match", "token_accuracy", "loss")}
    final = np.array([cell["reached"] for cell in told["cells"]])
    worst = {(c, s, e): float(c) for c in range(6) for s in range(3) for e in (5, 15)}
    assert pruning.race(curves, final, np.zeros(6, int), worst)[1] == 4  # of the last two, 4 and 5, the better one


def test_a_cut_record_is_refused(grid):
    told = json.loads(grid.read_text())
    for cell in told["cells"]:
        cell["curves"] = {metric: [own[:10] for own in seeds] for metric, seeds in cell["curves"].items()}
    with pytest.raises(ValueError, match=r"toy: got curves of shape \(6, 3, 10\), expected \(cells, seeds, 50\)"):
        pruning.judge("toy", told, 2, None)


def test_the_runs_of_a_task_are_a_search(tmp_path):
    values = " ".join(f"{0.02 * e:.2f}" for e in range(EPOCHS))
    runs = [("many", i) for i in range(8)] + [("few", i) for i in range(7)]
    lines = [f"{task},{i},{metric},{kind},100,{values}" for task, i in runs
             for metric, kind in (("token_accuracy", "accuracy"), ("loss", "loss"))]
    (tmp_path / "curves.csv").write_text("\n".join(["task,run,metric,kind,n,values", *lines]) + "\n")
    found = pruning.searches(str(tmp_path / "curves.csv"))
    assert list(found) == ["many"] and len(found["many"]["cells"]) == 8
    assert found["many"]["n"] == 100 and found["many"]["cells"][0]["reached"] == [0.98]


def test_the_command_ends_with_one_object(grid, monkeypatch, capsys):
    monkeypatch.setattr(pruning, "FOLDER", grid.parent)
    monkeypatch.setattr(sys, "argv", ["pruning.py", "--draws", "3"])
    assert pruning.main() == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["grids"][0]["grid"] == "toy"
