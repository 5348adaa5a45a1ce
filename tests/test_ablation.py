"""The ablation: fair arms, budgets in steps, honest intervals, and a killed run that goes on."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import tiny, toy_split
from hrm_lab import ablation, ablation_results
from hrm_lab.model import HRM, Block
from hrm_lab.puzzles import dataset
from hrm_lab.train import TrainConfig

MODEL = {"variant": "trm", "hidden": 16, "heads": 2, "L_layers": 2, "H_cycles": 1, "L_cycles": 2, "inner_multiple": 16,
         "expansion": 2, "halt_max_steps": 2}
TRAIN = {"batch": 8, "optimizer": "muon", "lr": 0.02, "warmup": 2, "ema": 0.9}


def settings(**ablation):
    return {"model": MODEL, "train": TRAIN,
            "ablation": {"arms": ["trm", "loop"], "seeds": 2, "cpu_seconds": 0.05, "rates": [1, 2]} | ablation}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the toy dataset."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    for seed, name in enumerate(("train", "valid", "test")):
        dataset.save(folder, name, toy_split(20 + seed, seed=seed))
    return str(folder)


@pytest.fixture
def known():
    base = tiny(variant="trm", L_layers=2, H_cycles=2, L_cycles=2, positions="none")
    return ablation.arms(base, TrainConfig(**TRAIN))


# ---------------------------------------------------------------- the arms


def test_arms_are_of_equal_size(known):
    ablation.check_sizes(list(known.values()))


def test_an_arm_of_another_size_is_refused(known):
    other = replace(known["loop"], model=replace(known["loop"].model, H_layers=2))
    with pytest.raises(ValueError, match="arm 'loop': got .* parameters, expected .* as the base within 2 %"):
        ablation.check_sizes([known["trm"], other])
    ablation.check_sizes([known["trm"], replace(other, same_size=False)])


def layers_used(config):
    """How many layers a puzzle passes through in a segment."""
    model, calls = HRM(config), []
    for block in (m for m in model.modules() if isinstance(m, Block)):
        block.register_forward_hook(lambda *_: calls.append(1))
    model(torch.zeros(1, config.seq_len, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), *model.initial_state(1))
    return len(calls)


def test_the_controls_have_the_depth_that_they_claim(known):
    once = known["trm"].model.L_layers  # each layer once
    assert layers_used(known["trm"].model) == 6 * once
    assert layers_used(known["hrm"].model) == 3 * once
    for name in ("loop", "plain"):
        assert layers_used(known[name].model) == once, name

    def depth(name):
        return layers_used(known[name].model) * known[name].model.halt_max_steps

    assert depth("loop, deep") == depth("trm, flat") == depth("no outer loop, deep") == depth("trm")
    assert depth("plain") == once and depth("no outer loop") == depth("trm") / 3


def test_every_arm_but_the_base_changes_something_and_asks_something(known):
    base = (known["trm"].model, known["trm"].recipe)
    assert all((arm.model, arm.recipe) != base for name, arm in known.items() if name != "trm")
    assert len({(arm.model, arm.recipe) for arm in known.values()}) == len(known)
    assert all(arm.question.endswith("?") for name, arm in known.items() if name != "trm")
    assert set(ablation_results.PARTS) <= set(known)


@pytest.mark.parametrize("change", [{"variant": "hrm"}, {"L_layers": 3}, {"halt_max_steps": 1}, {"q_continue": True}])
def test_a_base_that_cannot_be_divided_is_refused(change):
    with pytest.raises(ValueError, match=f"ablation: base {next(iter(change))}: got {next(iter(change.values()))}"):
        ablation.arms(replace(tiny(variant="trm", L_layers=2), **change), TrainConfig())


@pytest.mark.parametrize("change, said", [
    ({"arms": ["trm", "lop"]}, "unknown lop"), ({"arms": ["loop"]}, "unknown trm"),
    ({"arms": ["trm", "loop, deep"]}, "unknown loop;"), ({"seeds": 0}, "expected seeds"), ({"seed": 1}, "'seed': 1")])
def test_settings_that_make_no_study_are_refused(data, change, said):
    with pytest.raises(ValueError, match=said):
        ablation.plan(settings(**change), data)


# ---------------------------------------------------------------- runs


def test_a_run_repeats_to_the_bit_but_for_its_time(data):
    study = ablation.plan(settings(), data)
    job = ablation.Job(data, "test", "trm", study.arms[0].model, replace(study.arms[0].recipe, steps=3))
    first, again = ({k: v for k, v in ablation.measure(job).items() if k != "cpu_seconds"} for _ in range(2))
    assert first == again and first["n"] == 22
    assert ablation.measure(replace(job, puzzles=5))["n"] == 5


def test_a_killed_ablation_goes_on(data, tmp_path, capsys):
    study = ablation.plan(settings(), data)
    rows = ablation.run(study, tmp_path)
    assert {name: [row["seed"] for row in own] for name, own in rows["time"].items()} == {"trm": [0, 1], "loop": [0, 1]}
    assert len({row["steps"] for own in rows["steps"].values() for row in own}) == 1
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    costs = json.loads(lines[0])["seconds_per_step"]
    for name, own in rows["time"].items():
        assert all(row["steps"] == max(1, round(study.cpu_seconds / costs[name])) for row in own), name
    assert {json.loads(line)["split"] for line in lines[1:5]} == {"valid"}  # the rates, before any look at the test
    capsys.readouterr()

    (tmp_path / "metrics.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:30])  # cut in the last write
    again = ablation.run(study, tmp_path)
    said = capsys.readouterr().out
    assert "learning rates: 0 runs trained, 4 found" in said
    assert sum(int(part.split(": ")[1].split()[0]) for part in said.splitlines() if "trained" in part) == 1

    def kept(rows):
        return [row["exact"] for budget in rows.values() for own in budget.values() for row in own]

    assert kept(again) == kept(rows)


def test_the_rate_is_chosen_on_exact_match_then_tokens():
    def row(right, tokens):
        return {"exact": np.packbits(np.arange(8) < right).tobytes().hex(), "n": 8, "token_accuracy": tokens}

    assert ablation.choose((0.5, 1, 2), [row(1, 0.9), row(3, 0.5), row(2, 0.9)]) == 1
    assert ablation.choose((0.5, 1, 2), [row(0, 0.2), row(0, 0.3), row(0, 0.6)]) == 2
    assert ablation.choose((2, 1), [row(4, 0.5), row(4, 0.5)]) == 1


# ---------------------------------------------------------------- intervals and sentences


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_an_interval_holds_its_value_and_turns_with_its_sign(seeds, n, seed):
    a, b = np.random.default_rng(seed).random((2, seeds, n)) < 0.6
    one, there, back = ablation_results.share(a), ablation_results.share(a, b), ablation_results.share(b, a)
    assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1 and one["n"] == seeds * n
    assert -1 <= there["low"] <= there["value"] <= there["high"] <= 1
    assert there["value"] == pytest.approx(-back["value"])


def test_nothing_is_certain_where_all_are_right():
    right = np.ones((3, 100), bool)
    one, both = ablation_results.share(right), ablation_results.share(right, ~right)
    assert one["value"] == 1 and 0.9 < one["low"] < 1
    assert both["value"] == 1 and 0.9 < both["low"] < 1


def test_the_interval_covers_the_luck_of_training():
    """Of 200 simulated studies with seeds that differ, about 95 % hold the true difference."""
    rng = np.random.default_rng(0)

    def study(n, seeds):
        easy = rng.normal(0, 1, n)  # puzzles are shared by all
        return [rng.random((seeds, n)) < 1 / (1 + np.exp(-(easy + mean + rng.normal(0, 0.7, (seeds, 1)))))
                for mean in (0.8, 0.0)]

    a, b = study(1000, 1000)
    truth, held = a.mean() - b.mean(), 0
    for _ in range(200):
        s = ablation_results.share(*study(100, 3))
        held += s["low"] <= truth <= s["high"]
    assert 0.9 <= held / 200 <= 0.995


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"share: got \(2, 3\) and \(2, 4\)"):
        ablation_results.share(np.ones((2, 3), bool), np.ones((2, 4), bool))


def rows_of(shares, seeds=3, n=200):
    rng = np.random.default_rng(0)
    return {name: [{"exact": np.packbits(rng.random(n) < p).tobytes().hex(), "n": n, "seed": s, "steps": 10, "lr": 0.01,
                    "cpu_seconds": 1.0, "segments": 2.0, "parameters": 1000, "diverged": name == "no EMA" and s == 1}
                   for s in range(seeds)] for name, p in shares.items()}


def test_the_sentences_follow_the_numbers(known):
    rows = rows_of({"trm": 0.6, "plain": 0.1, "loop": 0.6, "hrm": 0.95, "no EMA": 0.6})
    for own in rows.values():
        for row in own:
            row["full_exact"] = row["exact"]
    found = ablation_results.scores(rows)
    answer, *rest = ablation_results.findings(rows, found)
    head, worth, not_worth, close = re.split(r"Worth their cost|Not worth their cost|Too close to tell", answer)
    assert "`plain`" in worth and "`hrm`" in not_worth and "`loop`" in close and "3 seeds x 200 puzzles" in head
    assert rest == ["**Diverged:** no EMA (seed 1); their exact match is what the broken weights give."]
    lines = ablation_results.table(known.values(), rows, found)
    assert list(lines) == [name for name in known if name in rows]
    assert lines["trm"]["minus base"] == "–" and lines["plain"]["minus base"].startswith("-")
    one = {name: own[:1] for name, own in rows.items()}
    assert any("One seed" in text for text in ablation_results.findings(one, ablation_results.scores(one)))


def test_a_task_without_an_ablation_says_where_it_is():
    assert "[sudoku-4x4](02_puzzle_training-sudoku-4x4.html)" in ablation.elsewhere("smoke")


def test_the_command_line_names_what_is_wrong(capsys):
    assert ablation.main(["--task", "sudoku-5x5"]) == 2
    assert "no task 'sudoku-5x5'" in capsys.readouterr().err
    assert ablation.main(["--task", "copy-increment"]) == 2
    assert "no value for ablation" in capsys.readouterr().err
