"""A sweep tries every cell once, prunes what the forecast gives up, and goes on after `kill -9`."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import tiny, toy_split
from hrm_lab import sweep as sweep_module
from hrm_lab import sweep_results, sweep_study
from hrm_lab.alarms import EPOCHS
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles import dataset
from hrm_lab.sweep import MODEL_FIELDS, Sweep, read, train_stage
from hrm_lab.sweep_race import METRIC, Stage, stages

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
    given = {"space": {"lr": [1e-3, 3e-3], "batch": [4, 8]}, "seeds": 2, "cuts": ()} | changes
    return Sweep(data, MODEL, TRAIN, **given)


@pytest.mark.parametrize("changes,text", [
    ({"space": {"learning_rate": [1]}}, "unknown setting learning_rate"),
    ({"space": {}}, "sweep.space: got {}"),
    ({"space": {"lr": {"low": 1e-4, "high": 1e-2}}}, "a range needs sampler: tpe"),
    ({"sampler": "random"}, "sweep.sampler: got 'random'"), ({"seeds": 0}, "sweep.seeds: got 0"),
    ({"sampler": "tpe"}, "sweep.trials: got 0"), ({"cuts": ((3, 0.5),)}, "sweep.cuts: got ((3, 0.5),)"),
    ({"cuts": ((10, 0.5), (5, 0.2))}, "sweep.cuts: got"), ({"cuts": ((5, 0.2), (10, 0.5))}, "shares falling"),
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


def test_a_cell_trained_in_stages_ends_like_one_trained_at_once(data, tmp_path):
    """The first seed waits twice, the other one starts last: the same bits, also after being killed in a stage."""
    sweep = small(data)
    cell = sweep.cells()[0]
    whole = train_stage(sweep, cell, None, Stage(2, EPOCHS), tmp_path / "a")
    found = None
    for stage in stages(((5, 0.5), (10, 0.3), (50, 0.2)), 2):
        found = train_stage(sweep, cell, found, stage, tmp_path / "b")
    again = train_stage(sweep, cell, None, Stage(2, EPOCHS), tmp_path / "b")  # as if nothing of the stages was kept
    for one in (found, again):
        assert one | {"cpu_seconds": 0} == whole | {"cpu_seconds": 0}
    assert np.shape(whole["curves"][METRIC]) == (2, EPOCHS) and len(whole["valid"]["exact"]) == 2
    assert whole["curves"]["loss"][0] != whole["curves"]["loss"][1]


def test_a_seed_killed_between_checkpoints_ends_alike(data, tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_lab.sweep.SAVE_AFTER", 0.0)
    sweep = small(data, seeds=1)
    cell = sweep.cells()[0]
    whole = train_stage(sweep, cell, None, Stage(1, EPOCHS), tmp_path / "a")
    old, done = sweep_module.advance, []

    def cut(*arguments):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(1)
        return old(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sweep_module, "advance", cut)
        train_stage(sweep, cell, None, Stage(1, EPOCHS), tmp_path / "b")
    monkeypatch.setattr(sweep_module, "advance", lambda *a: done.append(1) or old(*a))
    found = train_stage(sweep, cell, None, Stage(1, EPOCHS), tmp_path / "b")
    assert len(done) == EPOCHS and found | {"cpu_seconds": 0} == whole | {"cpu_seconds": 0}


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


def test_a_race_ends_with_one_finished_cell_and_forecasts_of_the_others(data, tmp_path, monkeypatch):
    """Two of four cells go on at epoch 5, one at 10; only the winner's second seed is trained."""
    monkeypatch.setattr(sweep_study, "survivors", lambda seen, share, n, _: range(len(seen))[-round(share * n):])
    sweep = small(data, cuts=((5, 0.5), (10, 0.25)))
    found = sweep_study.run(sweep, tmp_path)
    assert [c["state"] for c in found] == ["PRUNED", "PRUNED", "PRUNED", "COMPLETE"]
    assert [[len(seed) for seed in c["curves"][METRIC]] for c in found] == [[5], [5], [10], [50, 50]]
    assert [c["stopped"] and c["stopped"]["epoch"] for c in found] == [5, 5, 10, None]
    assert all(len(c["stopped"]["quantiles"]) == 5 and not c["test"]["exact"] for c in found[:3])
    assert len(found[3]["test"]["exact"]) == 2 and 0 <= found[3]["value"] <= 1
    assert sweep_results.trained(found) == (120, 400)
    assert not list(tmp_path.glob("**/checkpoint*"))
    assert sweep_study.work(sweep, tmp_path) == 0 and sweep_study.cells(sweep, tmp_path) == found
    assert set(sweep_study.importances(sweep, tmp_path)) == {"lr", "batch", "interaction"}


def pretended(sweep, cell, found, stage, checkpoints):
    """A stage without training: the larger the rate and the batch, the better."""
    merit = min(1.0, 200 * cell["lr"] * cell.get("batch", 8) / 8)
    curve = (merit * np.arange(1, stage.epoch + 1) / EPOCHS).tolist()
    exact = [np.packbits(np.arange(16) < 16 * merit).tobytes().hex()] * (stage.seeds * (stage.epoch == EPOCHS))
    return {"curves": {name: [curve] * stage.seeds for name in sweep_module.CURVES}, "diverged": None,
            "cpu_seconds": 0.0, "valid": {"n": 16, "exact": exact}, "test": {"n": 16, "exact": exact}}


@pytest.mark.parametrize("where", ["train_stage", "losers", "drop", "tell"])
def test_an_end_anywhere_loses_nothing(data, tmp_path, monkeypatch, where):
    """The worker dies each time it comes to one place, just before and just after it; the race ends the same."""
    monkeypatch.setattr(sweep_study, "train_stage", pretended)
    sweep = small(data, cuts=((5, 0.5), (10, 0.25)))
    whole = sweep_study.run(sweep, tmp_path / "whole")
    assert [c["cell"] for c in whole if c["state"] == "COMPLETE"] == [{"lr": 3e-3, "batch": 8}]
    old, count = getattr(sweep_study, where), [0]

    def dies(*arguments):
        count[0] += 1
        if count[0] % 3 == 1:
            raise KeyboardInterrupt
        found = old(*arguments)
        if count[0] % 3 == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(sweep_study, where, dies)
    for _ in range(60):
        try:
            sweep_study.work(sweep, tmp_path / "killed")
            break
        except KeyboardInterrupt:
            continue
    assert count[0] > 3 and sweep_study.cells(sweep, tmp_path / "killed") == whole


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_several_workers_wait_for_each_other_at_a_cut(data, tmp_path, monkeypatch):
    calls = []

    def slow(sweep, cell, found, stage, checkpoints):
        calls.append((stage, found is None or len(found["curves"][METRIC][0])))
        time.sleep(0.05)
        return pretended(sweep, cell, found, stage, checkpoints)

    monkeypatch.setattr(sweep_study, "train_stage", slow)
    sweep = small(data, cuts=((5, 0.5), (10, 0.25)))
    workers = [threading.Thread(target=sweep_study.work, args=(sweep, tmp_path)) for _ in range(3)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(60)
    assert [stage for stage, _ in calls] == [Stage(1, 5)] * 4 + [Stage(1, 10)] * 2 + [Stage(2, 50)]
    found = sweep_study.cells(sweep, tmp_path)
    assert [c["cell"] for c in found if c["state"] == "COMPLETE"] == [{"lr": 3e-3, "batch": 8}]


def test_tpe_tries_as_many_cells_as_asked(data, tmp_path, monkeypatch):
    """Seven cells in races of three: each race finishes one."""
    monkeypatch.setattr(sweep_study, "train_stage", pretended)
    monkeypatch.setattr(sweep_study, "BATCH", 3)
    sweep = small(data, sampler="tpe", trials=7, seeds=2, cuts=((5, 0.67), (50, 0.34)),
                  space={"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "L_cycles": {"low": 1, "high": 2}})
    found = sweep_study.run(sweep, tmp_path)
    assert [c["number"] // 3 for c in found if c["state"] == "COMPLETE"] == [0, 1, 2]
    assert len(found) == 7 and all(1e-4 <= c["cell"]["lr"] <= 1e-2 for c in found)
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
        patch.setattr(sweep_study, "train_stage", broken)
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
old = sweep_study.train_stage
def slow(*a):
    Path({folder!r}, "begun").touch()
    time.sleep({nap})
    return old(*a)
sweep_study.train_stage = slow
sweep_study.work(small({data!r}, seeds=1), {folder!r})
"""


def worker(data, folder, nap):
    code = WORKER.format(tests=str(TESTS), data=data, folder=str(folder), nap=nap)
    return subprocess.Popen([sys.executable, "-c", code], cwd=TESTS.parent,
                            env={**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"})


def test_kill_9_loses_no_trial_and_doubles_none(data, tmp_path):
    """One worker is killed in its trial; who comes next takes the cell up again, while others wait for it."""
    killed = worker(data, tmp_path, nap=100)
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end and killed.poll() is None
        time.sleep(0.1)
    sweep = small(data, seeds=1)
    other = threading.Thread(target=sweep_study.work, args=(sweep, tmp_path))
    other.start()
    while len(sweep_study.cells(sweep, tmp_path)) < 3:  # a living worker's trial is left alone
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(3 * sweep_study.WAIT)
    assert other.is_alive() and len(sweep_study.cells(sweep, tmp_path)) == 3
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    other.join(60)
    found = sweep_study.cells(sweep, tmp_path)
    assert sorted(map(str, (c["cell"] for c in found))) == sorted(map(str, sweep.cells()))
    study = sweep_study.open_study(sweep, tmp_path)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 4
