"""Each strategy changes what it says and nothing else; its effect is paired; what was trained is found again."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import tiny, toy_split
from hrm_lab import runs, strategies
from hrm_lab.model import HRM, count_parameters
from hrm_lab.puzzles import dataset
from hrm_lab.strategies import Study
from hrm_lab.sweep import MODEL_FIELDS

MODEL = {k: v for k, v in vars(tiny(hidden=32)).items() if k in MODEL_FIELDS - {"mixer_multiple"}}
TRAIN = {"steps": 6, "batch": 8, "eval_every": 3, "eval_n": 16, "warmup": 2, "optimizer": "adamw", "lr": 3e-3,
         "ema": 0.9}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, n) in enumerate({"train": 96, "valid": 16, "test": 24}.items()):
        dataset.save(folder, name, toy_split(n, seed=seed))
    return Study(str(folder), MODEL, TRAIN, puzzles=80, seeds=2)


def by_name(study):
    return {one.name: one for one in strategies.strategies(study)}


def test_a_switch_changes_what_it_says(study):
    base, *others = strategies.strategies(study)
    assert base.name == "base" and len(others) == 10
    same_steps = [one for one in others if not one.name.startswith("twice")]
    assert {one.recipe.steps for one in same_steps} == {6}
    for one in others:
        changed = [replace(one, name="base", question="") != base, one.model != base.model, one.recipe != base.recipe]
        assert changed[0] and not (changed[1] and changed[2]), one.name
    named = by_name(study)
    assert named["20 % more puzzles"].puzzles == 96 and named["balanced"].recipe.balance == "task"
    window, control = named["curriculum"], named["window, shuffled"]
    assert replace(window, name="", question="") == replace(control, name="", question="", order="as it is")
    sizes = [count_parameters(HRM(one.model)) for one in (base, named["token mixing"])]
    assert abs(sizes[1] / sizes[0] - 1) < 0.1


def test_orders_move_difficulties_only(study):
    split = dataset.load(study.data, "train")
    shuffled, turned = (strategies.reordered(split, order) for order in ("shuffled", "reversed"))
    assert sorted(shuffled.difficulty) == sorted(split.difficulty) and (shuffled.difficulty != split.difficulty).any()
    assert (np.argsort(turned.difficulty) == np.argsort(split.difficulty)[::-1]).all()
    assert shuffled.inputs is split.inputs and strategies.reordered(split, "as it is") is split
    with pytest.raises(ValueError, match="order: got 'random'"):
        strategies.reordered(split, "random")


def test_fewer_puzzles_are_the_first_ones(study):
    split = dataset.load(study.data, "train")
    part = strategies.first(split, 10, "x")
    assert len(part) == 10 and (part.inputs == split.inputs[:10]).all()
    with pytest.raises(ValueError, match="x: got 96 examples in 96 groups, expected 97"):
        strategies.first(split, 97, "x")


def test_runs_are_kept_found_again_and_judged_in_pairs(study, tmp_path, capsys):
    chosen = [one for one in strategies.strategies(study)
              if one.name in ("base", "twice the steps, best kept", "curriculum", "window, shuffled", "token mixing")]
    rows = strategies.collect(study, chosen, tmp_path)
    again = strategies.collect(study, chosen, tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert rows == again and said == ["10 runs trained, 0 found", "0 runs trained, 10 found"]
    assert len(runs.read_metrics(tmp_path)) == 10
    assert [{row["steps"] for row in rows[name]} for name in ("base", "twice the steps, best kept")] == [{6}, {12}]
    found = strategies.scores(rows)
    assert found["base/exact_match"]["n"] == 48 and "base/minus_base" not in found
    assert {"curriculum/minus_base", "curriculum/minus_control"} <= set(found)
    assert all(s["low"] <= s["value"] <= s["high"] for s in found.values())
    lines = strategies.table(chosen, rows, found)
    assert lines["base"]["minus base"] == "–" and "to" in lines["curriculum"]["minus base"]
    assert all(" " not in name and "%" not in name for name in strategies.known(found))


def test_the_best_is_kept_by_validation_and_early_stopping_stops(study):
    one = by_name(study)["twice the steps, best kept"]
    frozen = replace(one, recipe=replace(one.recipe, lr=0.0, steps=300, patience=2, ema=0.0))
    assert strategies.measure(study, frozen, 0)["steps"] == 9  # the first evaluation is the best, two more are not


def test_more_data_have_a_forecast_before_they_are_used(study, tmp_path, monkeypatch):
    shares = {24: 0.3, 36: 0.45, 48: 0.55, 64: 0.65, 80: 0.72}

    def measured(study, one, seed):
        exact = np.arange(24) < shares[one.puzzles] * 24
        return {"key": strategies.key(study, one, seed), "strategy": one.name, "puzzles": one.puzzles, "seed": seed,
                "steps": 6, "cpu_seconds": 0.1, "n": 24, "exact": np.packbits(exact).tobytes().hex()}

    monkeypatch.setattr(strategies, "measure", measured)
    before = strategies.worth(study, tmp_path, say=lambda _: None)
    assert before["sizes"].tolist() == [24, 36, 48, 64, 80] and before["forecast"].steps.tolist() == [96]
    assert (np.diff(before["gain"]) >= 0).all() and -0.5 < before["gain"][2] < 0.5
    gain = {"value": 0.05, "n": 48, "low": -0.02, "high": 0.1, "unit": "share"}
    told = strategies.findings({"20 % more puzzles/minus_base": gain}, before)
    assert "Too close to tell: 20 % more puzzles" in told[0] and "real +5.0" in told[1]
