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
    """Four cells whose curves rise to .9, .6, .3 and .1, three seeds a point apart."""
    t = np.arange(1, EPOCHS + 1)
    cells = [{"cell": {"lr": top}, "reached": [top - 0.01, top, top + 0.01],
              "curves": [((top + s) * (1 - np.exp(-t / 6))).round(5).tolist() for s in (-0.01, 0, 0.01)]}
             for top in (0.9, 0.6, 0.3, 0.1)]
    told = {"n": 100, "cpu_seconds": 1.0, "cells": cells}
    (tmp_path / "toy.json").write_text(json.dumps(told))
    return tmp_path / "toy.json"


def test_pruning_spends_less_and_finds_the_best(grid):
    found = pruning.judge("toy", json.loads(grid.read_text()), orders=12)
    assert found["best"] == {"lr": 0.9} and (found["cells"], found["seeds"]) == (4, 3)
    whole, ours = found["rules"]["all"], found["rules"]["forecast"]
    assert (whole["epochs"], whole["same_cell"], whole["regret"]) == (1, 1, 0)
    assert ours["epochs"] < 0.9 and ours["same_cell"] == 1 and ours["best_or_within"]["n"] == 12
    for rule in found["rules"].values():
        assert 0 < rule["epochs_5_95"][0] <= rule["epochs"] <= rule["epochs_5_95"][1] <= 1 or rule is whole


def test_the_first_cell_is_always_finished(grid):
    curves = np.array([cell["curves"] for cell in json.loads(grid.read_text())["cells"]])
    reached = np.array([0.9, 0.6, 0.3, 0.1])
    hopeless = {(cell, rung): np.zeros(10) for cell in range(4) for rung in pruning.RUNGS}
    spent, chosen = pruning.replay(curves, reached, reached, hopeless, np.array([3, 0, 1, 2]), "forecast")
    assert chosen == 3 and spent == 3 * (EPOCHS + 3 * pruning.RUNGS[0])
    hopeful = {place: np.ones(10) for place in hopeless}
    assert pruning.replay(curves, reached, reached, hopeful, np.array([3, 0, 1, 2]), "forecast") == (3 * 4 * EPOCHS, 0)


def test_a_cut_record_is_refused(grid):
    told = json.loads(grid.read_text())
    for cell in told["cells"]:
        cell["curves"] = [curve[:10] for curve in cell["curves"]]
    with pytest.raises(ValueError, match=r"toy: got curves of shape \(4, 3, 10\), expected \(cells, seeds, 50\)"):
        pruning.judge("toy", told, 2)


def test_the_runs_of_a_task_are_a_search(tmp_path):
    values = " ".join(f"{0.02 * e:.2f}" for e in range(EPOCHS))
    runs = [("many", i) for i in range(8)] + [("few", i) for i in range(7)]
    lines = [f"{task},{i},token_accuracy,accuracy,100,{values}" for task, i in runs]
    (tmp_path / "curves.csv").write_text("\n".join(["task,run,metric,kind,n,values", *lines]) + "\n")
    found = pruning.searches(str(tmp_path / "curves.csv"))
    assert list(found) == ["many"] and len(found["many"]["cells"]) == 8
    assert found["many"]["n"] == 100 and found["many"]["cells"][0]["reached"] == [0.98]


def test_the_command_ends_with_one_object(grid, monkeypatch, capsys):
    monkeypatch.setattr(pruning, "FOLDER", grid.parent)
    monkeypatch.setattr(sys, "argv", ["pruning.py", "--orders", "3"])
    assert pruning.main() == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["grids"][0]["grid"] == "toy"
