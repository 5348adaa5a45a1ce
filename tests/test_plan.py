"""A plan proposes by its table, acts only when told to, and measures what acting did."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import tiny, toy_split
from hrm_lab import runs
from hrm_lab.alarms import Alarm
from hrm_lab.plan import TABLE, Plan, effects, follow, fork, looked_at, propose, reached, read
from hrm_lab.train import TrainConfig, train

CONFIG = TrainConfig(steps=20, batch=8, eval_every=2, eval_n=16, warmup=2, optimizer="adamw", lr=3e-3)


def rows(n=50, **columns):
    return [{"step": 10 * (i + 1), "epoch": 0.1 * (i + 1), **{name: f(i + 1) for name, f in columns.items()}}
            for i in range(n)]


@pytest.mark.parametrize("settings,text", [
    ({"mode": "always"}, "plan.mode: got 'always', expected one of propose, auto"),
    ({"points": [25, 15]}, "plan.points"), ({"points": [50]}, "plan.points"),
    ({"phases": [{"name": "late", "epochs": [35, 60], "targets": {"loss": "<1"}}]}, "'late': got epochs 35 to 60"),
    ({"phases": [{"name": "a", "epochs": [0, 5], "targets": {"loss": "0.3"}}]}, "loss: got '0.3'"),
    ({"phase": []}, "plan: got phase, expected phases, points and mode only"),
])
def test_a_bad_plan_is_refused_in_one_line(settings, text):
    with pytest.raises(ValueError) as error:
        read(settings)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_phases_are_held_against_what_was_reached():
    plan = read({"phases": [{"name": "first", "epochs": [0, 15], "targets": {"loss": "<0.5", "exact_match": ">0.9"}},
                            {"name": "last", "epochs": [15, 50], "targets": {"loss": "<0.01"}}]})
    history = rows(30, loss=lambda e: 0.95 ** e, exact_match=lambda e: e / 50)
    found = reached(plan, history, 500)
    assert [(r["phase"], r["metric"], r["met"]) for r in found] == [
        ("first", "loss", True), ("first", "exact_match", False), ("last", "loss", None)]
    assert found[0]["value"] == pytest.approx(0.95 ** 15) and found[2]["value"] is None


def test_every_rule_has_a_proposal_and_the_first_decides():
    on = [Alarm(rule, 10, None, "") for rule in reversed(TABLE)]
    found = propose(on, CONFIG, tiny(), drawn=100)
    assert [p.rule for p in found] == list(TABLE)
    changes = {p.rule: p.train | p.model for p in found}
    assert changes["slow"] == {"lr": pytest.approx(9e-4)} and changes["gap"] == {"L_cycles": tiny().L_cycles + 1}
    assert changes["loss"]["curriculum_examples"] == 200 and not changes["ceiling"]
    assert propose([replace(a, until=20) for a in on], CONFIG, tiny(), 100) == []


def test_a_point_sees_only_what_was_known_by_then():
    history = rows(loss=lambda e: 0.9 ** min(e, 20), exact_match=lambda e: min(1.0, e / 20))
    found = looked_at(Plan(), history, replace(CONFIG, steps=500), tiny(), n_train=100)
    assert [(r["epoch"], r["step"]) for r in found] == [(15, 150), (25, 250), (35, 350)]
    assert [[a.rule for a in r["alarms"]] for r in found] == [[], ["slow"], ["slow"]]
    assert found[0]["proposals"] == [] and found[1]["proposals"][0].train["lr"] == pytest.approx(9e-4)
    assert len(looked_at(Plan(), history[:20], replace(CONFIG, steps=500), tiny(), 100)) == 1
    coarse = looked_at(Plan(), history[3::4], replace(CONFIG, steps=500), tiny(), 100)
    assert [r["step"] for r in coarse] == [160, 280, 360]


def test_a_point_asks_the_forecast_too():
    """A run that falls back at epoch 24 has left its band and will not reach what the next phase wants."""
    history = rows(loss=lambda e: 0.95 ** e, exact_match=lambda e: e / 40 if e < 24 else 0.0)
    phases = [{"name": "all", "epochs": [15, 50], "targets": {"exact_match": ">0.9"}}]
    found = looked_at(read({"phases": phases}), history, replace(CONFIG, steps=500), tiny(), n_train=100)
    assert {"band", "chance"} <= {alarm.rule for alarm in found[1]["alarms"]}
    assert {"band", "chance"} <= {p.rule for p in found[1]["proposals"]}
    assert "band" not in {alarm.rule for alarm in found[0]["alarms"]}


def test_a_fork_without_changes_ends_with_the_parents_bits(tmp_path, toy):
    valid = toy_split(seed=1)
    train(tiny(), CONFIG, toy, valid, tmp_path / "a", progress=False, device="cpu", stop_after=10)
    fork(tmp_path / "a", tmp_path / "b", {}, {})
    for name in "ab":
        train(tiny(), CONFIG, toy, valid, tmp_path / name, progress=False, device="cpu", resume=True)
    a, b = (runs.load_checkpoint(tmp_path / name / "final" / "model.safetensors")[0] for name in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a)
    losses = [[row["loss"] for row in runs.read_metrics(tmp_path / name)] for name in "ab"]
    assert losses[0] == losses[1] and len(losses[0]) == 10


@pytest.mark.parametrize("change", [{"lr": 1e-4}, {"balance": "task"}, {"curriculum": 0.5, "curriculum_examples": 60},
                                    {"weight_decay": 0.2}, {"steps": 30}])
def test_every_change_of_the_recipe_goes_on_from_the_fork(tmp_path, toy, change):
    valid = toy_split(seed=1)
    train(tiny(), CONFIG, toy, valid, tmp_path / "a", progress=False, device="cpu", stop_after=10)
    fork(tmp_path / "a", tmp_path / "b", change, {})
    config = replace(CONFIG, **change)
    row = train(tiny(), config, toy, valid, tmp_path / "b", progress=False, device="cpu", resume=True)
    assert row["step"] == change.get("steps", 20)
    history = runs.read_metrics(tmp_path / "b")
    assert [r["step"] for r in history] == list(range(2, row["step"] + 1, 2))
    assert history[:5] == runs.read_metrics(tmp_path / "a")


def stuck(monkeypatch):
    """Every point sees the same two alarms."""
    import hrm_lab.plan as plan
    two = [Alarm(rule, 2, None, "x") for rule in ("ceiling", "gap")]
    monkeypatch.setattr(plan.alarms, "check", lambda *_, **__: two)


def test_proposing_changes_nothing(tmp_path, toy, monkeypatch):
    stuck(monkeypatch)
    found = follow(Plan(points=(15, 25)), tiny(), CONFIG, toy, toy_split(seed=1), tmp_path / "plan")
    assert [b["name"] for b in found] == ["main"] and found[0]["row"]["step"] == 20
    told = json.loads((tmp_path / "plan" / "plan.json").read_text())["looked"]
    assert [(t["epoch"], t["step"], [p["rule"] for p in t["proposals"]]) for t in told] == [
        (15, 6, ["ceiling", "gap"]), (25, 10, ["ceiling", "gap"])]
    train(tiny(), CONFIG, toy, toy_split(seed=1), tmp_path / "alone", progress=False, device="cpu")
    planned, alone = (runs.load_checkpoint(p / "final" / "model.safetensors")[0]
                      for p in (tmp_path / "plan" / "main", tmp_path / "alone"))
    assert all(torch.equal(planned[k], alone[k]) for k in alone)


def test_acting_forks_and_measures_the_effect(tmp_path, toy, monkeypatch):
    stuck(monkeypatch)
    valid = toy_split(seed=1)
    found = follow(Plan(points=(15, 35), mode="auto"), tiny(), CONFIG, toy, valid, tmp_path)
    assert [(b["name"], b["parent"], b["forked_at"]) for b in found] == [
        ("main", None, None), ("fork-15", "main", 6), ("fork-35", "fork-15", 14)]
    cycles = [json.loads((b["run"] / "run.json").read_text())["model"]["L_cycles"] for b in found]
    assert np.diff(cycles).tolist() == [1, 1]
    measured = effects(found, valid)
    assert [(m["branch"], m["rule"]) for m in measured] == [("fork-15", "gap"), ("fork-35", "gap")]
    assert [m["effect"]["n"] for m in measured] == [64, 64]
    assert all(m["effect"]["low"] <= m["effect"]["value"] <= m["effect"]["high"] for m in measured)


def test_points_between_two_evaluations_train_nothing_twice(tmp_path, toy, monkeypatch):
    stuck(monkeypatch)
    config = replace(CONFIG, eval_every=10)
    found = follow(Plan(points=(15, 25, 35), mode="auto"), tiny(), config, toy, toy_split(seed=1), tmp_path)
    assert [(b["name"], b["forked_at"]) for b in found] == [("main", None), ("fork-15", 10), ("fork-25", 10)]
    for branch in found:  # at epoch 35 the run is over: there is nothing left to fork
        assert [row["step"] for row in runs.read_metrics(branch["run"])] == [10, 20]
