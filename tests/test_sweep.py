"""A sweep tries every cell once, prunes what the forecast gives up, and goes on after `kill -9`."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import tiny, toy_split
from hrm_lab import sweep_study
from hrm_lab.alarms import EPOCHS
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles import dataset
from hrm_lab.sweep import MODEL_FIELDS, Rival, Sweep, at_the_end, judge, read, train_cell

MODEL = {k: v for k, v in vars(tiny()).items() if k in MODEL_FIELDS}
TRAIN = {"steps": 50, "batch": 8, "eval_n": 16, "warmup": 2, "optimizer": "adamw", "lr": 3e-3}
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, n) in enumerate({"train": 64, "valid": 16, "test": 24}.items()):
        dataset.save(folder, name, toy_split(n, seed=seed))
    return str(folder)


def small(data, **changes):
    given = {"space": {"lr": [1e-3, 3e-3], "batch": [4, 8]}, "seeds": 2, "prune_below": 0.0} | changes
    return Sweep(data, MODEL, TRAIN, **given)


def never(epoch, curves):
    return None


@pytest.mark.parametrize("changes,text", [
    ({"space": {"learning_rate": [1]}}, "unknown setting learning_rate"),
    ({"space": {}}, "sweep.space: got {}"),
    ({"space": {"lr": {"low": 1e-4, "high": 1e-2}}}, "a range needs sampler: tpe"),
    ({"sampler": "random"}, "sweep.sampler: got 'random'"), ({"seeds": 0}, "sweep.seeds: got 0"),
    ({"sampler": "tpe"}, "sweep.trials: got 0"), ({"rungs": (3,)}, "sweep.rungs: got (3,)"),
    ({"prune_below": 1.0}, "sweep.prune_below: got 1.0"),
])
def test_a_bad_sweep_is_refused_in_one_line(data, changes, text):
    with pytest.raises(ValueError) as error:
        small(data, **changes)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="sweep: unknown grid; expected data, model"):
        read({"grid": {}})


def test_cells_are_the_whole_grid_in_a_fixed_order(data):
    cells = small(data, space={"lr": [1e-4, 5e-4, 1e-3], "hidden": [128, 256], "batch": [4, 8]}).cells()
    assert len(cells) == 12 == len({json.dumps(c, sort_keys=True) for c in cells})
    assert cells == small(data, space={"lr": [1e-4, 5e-4, 1e-3], "hidden": [128, 256], "batch": [4, 8]}).cells()


def test_all_cells_see_as_many_examples(data):
    sweep, meta = small(data), toy_split().meta
    recipes = [sweep.configs(cell, 1, meta)[1] for cell in sweep.cells()]
    assert {r.steps * r.batch for r in recipes} == {400} and {r.steps // r.eval_every for r in recipes} == {EPOCHS}
    model, recipe = sweep.configs({"hidden": 32, "lr": 0.5}, 2, meta)
    assert isinstance(model, HRMConfig) and (model.hidden, recipe.lr, recipe.seed) == (32, 0.5, 2)


def test_pruning_asks_for_the_chance_to_win():
    low = np.linspace(0.05, 0.12, 10)[None].repeat(2, 0)
    ahead, behind = np.ones(EPOCHS), np.zeros(EPOCHS)  # of the best finished cell, at the same epoch
    stopped = judge(low, 500, Rival(0.95, ahead), below=0.5)
    assert stopped["chance"] < 0.5 and stopped["epoch"] == 10 and len(stopped["quantiles"]) == 5
    assert judge(low, 500, Rival(0.1, ahead), below=0.5) is None  # likely to win: being behind is no reason
    unsure = Rival(float(np.quantile(at_the_end(low, 500).samples[:, -1], 0.8)), behind)
    assert judge(low, 500, unsure, below=0.5) is None  # a chance of 20 %, and not behind
    assert judge(low, 500, replace(unsure, curve=ahead), below=0.5)["chance"] == pytest.approx(0.2, abs=0.02)
    assert judge(low[:, :3], 500, Rival(0.95, ahead), below=0.5) is None  # too few points to forecast: go on


def test_a_cell_killed_after_a_checkpoint_ends_alike(data, tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_lab.sweep.SAVE_AFTER", 0.0)
    sweep = small(data, rungs=(5, 10))
    cell = sweep.cells()[0]
    whole = train_cell(sweep, cell, never, tmp_path / "a.safetensors")

    def cut(epoch, curves):
        if epoch == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_cell(sweep, cell, cut, tmp_path / "b.safetensors")
    begun = []
    again = train_cell(sweep, cell, lambda epoch, _: begun.append(epoch), tmp_path / "b.safetensors")
    assert begun[0] == 6
    assert again | {"cpu_seconds": 0} == whole | {"cpu_seconds": 0}
    assert not list(tmp_path.iterdir())


def test_every_cell_is_tried_once_and_a_second_call_adds_nothing(data, tmp_path):
    sweep = small(data, seeds=1)
    found = sweep_study.run(sweep, tmp_path)
    assert sorted(map(str, (c["cell"] for c in found))) == sorted(map(str, sweep.cells()))
    assert {c["state"] for c in found} == {"COMPLETE"}
    for c in found:
        assert np.shape(c["curves"]["exact_match"]) == (1, EPOCHS) and c["test"]["n"] == 24
        assert c["value"] == pytest.approx(c["curves"]["exact_match"][0][-1])  # eval_n is the whole split here
    assert set(sweep_study.importances(sweep, tmp_path)) == {"lr", "batch", "interaction"}
    assert sweep_study.work(sweep, tmp_path) == 0
    assert sweep_study.cells(sweep, tmp_path) == found
    assert sweep_study.cells(replace(sweep, seeds=2), tmp_path) == []  # another sweep is another study


def test_a_hopeless_cell_is_stopped_and_its_forecast_kept(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_study, "judge", lambda curves, n, best, below, bank: {
        "why": "unlikely to be the best", "epoch": curves.shape[1], "chance": 0.01, "quantiles": [0.1] * 5})
    found = sweep_study.run(small(data, seeds=1, prune_below=0.05), tmp_path)
    assert [c["state"] for c in found] == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]  # the first has nothing to beat
    study = sweep_study.open_study(small(data, seeds=1, prune_below=0.05), tmp_path)
    own = sweep_study.place(small(data, seeds=1, prune_below=0.05), tmp_path)
    assert found[0]["value"] <= sweep_study.to_beat(study, own).high <= 1
    assert len(sweep_study.to_beat(study, own).curve) == EPOCHS
    assert {c["stopped"]["epoch"] for c in found[1:]} == {5} and "test" not in found[1]
    assert len(found[1]["curves"]["loss"][0]) == 5 and found[1]["value"] is None


def test_tpe_tries_as_many_cells_as_asked(data, tmp_path):
    sweep = small(data, sampler="tpe", trials=3, seeds=1,
                  space={"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "L_cycles": {"low": 1, "high": 2}})
    found = sweep_study.run(sweep, tmp_path)
    assert len(found) == 3 and all(1e-4 <= c["cell"]["lr"] <= 1e-2 for c in found)
    assert {type(c["cell"]["L_cycles"]) for c in found} == {int}
    shares = sweep_study.importances(sweep, tmp_path)
    assert set(shares) == {"lr", "L_cycles"} and all(0 <= share <= 1 for share in shares.values())


def test_a_diverged_cell_is_a_result(data, tmp_path):
    sweep = small(data, space={"lr": [1e30]}, seeds=1)
    found = sweep_study.run(replace(sweep, train=TRAIN | {"clip": 0.0, "optimizer": "adamw"}), tmp_path)
    assert [c["state"] for c in found] == ["PRUNED"] and found[0]["stopped"]["why"] == "diverged"


def test_an_error_leaves_the_cell_for_the_next_worker(data, tmp_path, monkeypatch):
    sweep = small(data, seeds=1, space={"lr": [1e-3, 3e-3]})

    def broken(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(sweep_study, "train_cell", broken)
        sweep_study.work(sweep, tmp_path)
    assert len(sweep_study.run(sweep, tmp_path)) == 2


def test_the_command_works_on_a_presets_sweep_in_any_database(data, tmp_path, monkeypatch, capsys):
    settings = {"sweep": {"data": data, "model": MODEL, "train": TRAIN, "space": {"lr": [1e-3]}, "seeds": 1}}
    monkeypatch.setattr(sweep_study.notebooks, "settings", lambda *_, **__: settings)
    monkeypatch.setenv("HRM_LAB_STORAGE", f"sqlite:///{tmp_path}/elsewhere.db")
    command = ["--out", str(tmp_path / "out"), "--done", str(tmp_path / "done.json")]
    assert sweep_study.main(command) == 0 and sweep_study.main(command) == 0
    assert json.loads((tmp_path / "done.json").read_text()) == {"finished": 1}
    assert (tmp_path / "elsewhere.db").exists() and not (tmp_path / "out" / "study.db").exists()
    settings["sweep"]["sampler"] = "hope"
    assert sweep_study.main(command) == 2 and "sweep.sampler: got 'hope'" in capsys.readouterr().err


WORKER = """
import sys, time; sys.path.insert(0, {tests!r})
from test_sweep import *
old = sweep_study.train_cell
def slow(*a):
    Path({folder!r}, "begun").touch()
    time.sleep({nap})
    return old(*a)
sweep_study.train_cell = slow
sweep_study.work(small({data!r}, seeds=1), {folder!r})
"""


def worker(data, folder, nap):
    code = WORKER.format(tests=str(TESTS), data=data, folder=str(folder), nap=nap)
    return subprocess.Popen([sys.executable, "-c", code], cwd=TESTS.parent,
                            env={**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"})


def test_kill_9_loses_no_trial_and_doubles_none(data, tmp_path):
    """One worker is killed in its trial while another one is at work; who comes next takes the cell up again."""
    killed = worker(data, tmp_path, nap=100)
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end and killed.poll() is None
        time.sleep(0.1)
    sweep = small(data, seeds=1)
    assert sweep_study.work(sweep, tmp_path) == 3  # a living worker's trial is left alone
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert sweep_study.work(sweep, tmp_path) == 1
    found = sweep_study.cells(sweep, tmp_path)
    assert sorted(map(str, (c["cell"] for c in found))) == sorted(map(str, sweep.cells()))
    study = sweep_study.open_study(sweep, tmp_path)
    assert sorted(t.state.name for t in study.trials) == ["COMPLETE"] * 4 + ["FAIL"]
