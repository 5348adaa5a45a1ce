"""Freezing and swapping H states: identities that hold for any policy, and verdicts that follow the intervals."""

import json
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.swe import corpus
from hrm_lab.swe.planning import (
    PARTS,
    after_cycles,
    cycles,
    divergence,
    fitted,
    grouped,
    logits,
    moved,
    states,
    summary,
    swap,
    verdict,
)
from hrm_lab.swe.policy import PRESETS, Policy, collate
from hrm_lab.swe.policy_data import generate

TEXTS = ["""def pick(values, low, high):
    found = []
    for value in values:
        if low <= value < high:
            found.append(value)
    return found
""", """def steps(left, right):
    count = 0
    while left < right:
        left = left * 2 + 1
        count += 1
    return count
"""]


@pytest.fixture(scope="module")
def examples():
    return list(generate(TEXTS, 6, 1, rivals=30))


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    policy = Policy(PRESETS["smoke"]).eval()
    for head in (policy.where, policy.what):  # zero at first
        torch.nn.init.normal_(head.weight, std=0.3)
    return policy


@torch.no_grad()
def test_with_all_cycles_the_states_are_those_of_the_policy(policy, examples):
    batch = collate([examples[0]])
    *_, (scores, _, _, plan) = policy(batch)
    whole, alone = logits(policy, batch, *states(policy, batch, cycles(policy)))
    assert np.allclose(whole, scores + batch["weight"], atol=1e-4)
    assert np.allclose(alone, plan + batch["weight"], atol=1e-4)


@torch.no_grad()
def test_frozen_from_the_start_h_stays_what_it_was(policy, examples):
    z_H, z_L = states(policy, collate([examples[0]]), 0)
    assert torch.equal(z_H, policy.H_init.expand_as(z_H)) and not torch.equal(z_L, policy.L_init.expand_as(z_L))


def test_hits_are_counted_for_each_cycle_and_example(policy, examples):
    found = after_cycles(policy, examples)
    assert sorted(found) == list(range(cycles(policy) + 1))
    for hits in found.values():
        assert all(len(own) == len(examples) for own in hits.values())
        assert (hits["place in 3"] >= hits["place"]).all()


def test_groups_add_up_and_the_first_row_is_in_the_first():
    scores = np.log([0.1, 0.2, 0.3, 0.4])
    found = grouped(scores, np.array([7, 3, 7, 3]))
    assert np.allclose(np.exp(found), [0.4, 0.6])
    assert np.allclose(np.exp(grouped(scores, np.array([7, 3, 7, 3]), np.array([0, 0, 1, 0]))), [0.1, 0.6, 0.3])


def test_the_parts_of_a_move_add_up_to_all_of_it(examples):
    rng, n = np.random.default_rng(0), len(examples[0].kind)
    own, new = (np.log(rng.dirichlet(np.ones(n))) for _ in range(2))
    row = moved(own, new, examples[0], target=0)
    assert sum(row[part] for part in PARTS) == pytest.approx(divergence(own, new))
    assert all(row[part] >= -1e-9 for part in PARTS)


def test_the_own_state_given_back_moves_nothing(policy, examples):
    rows = swap(policy, [examples[0], examples[0]])["another bug's"]
    assert all(row["same place"] and row["same edit"] and abs(row[part]) < 1e-5 for row in rows for part in PARTS)
    assert any(row["place"] > 1e-4 for row in swap(policy, examples)["another bug's"])


def test_states_are_cut_or_padded_to_length():
    z = torch.arange(6.0).reshape(1, 3, 2)
    assert fitted(z, 2).tolist() == z[:, :2].tolist()
    assert fitted(z, 5)[0, 2:].tolist() == [[4, 5]] * 3


def test_a_policy_without_cycles_and_a_single_bug_are_refused(policy, examples):
    plain = Policy(replace(PRESETS["smoke"], variant="plain", segments=1))
    with pytest.raises(ValueError, match="variant 'plain'; expected hrm"):
        after_cycles(plain, examples)
    with pytest.raises(ValueError, match="got 1, expected at least two"):
        swap(policy, examples[:1])


def rows(toward, place):
    return [{"place": place, "kind": 0.1, "text": 0.0, "toward": toward, "same place": False, "same edit": False,
             "first before": True, "first": False} for _ in range(20)]


@pytest.mark.parametrize("early, toward, words", [(False, 1.0, "**A plan**"), (False, 0.0, "not carried over"),
                                                  (True, 1.0, "pull without use"), (True, 0.0, "**No plan")])
def test_the_verdict_follows_the_intervals(early, toward, words):
    frozen = {k: {"place": np.full(20, early or k > 0)} for k in range(5)}
    found = summary(frozen, {"another bug's": rows(toward, 0.5)})
    assert words in verdict(found) and "moves the place most" in verdict(found)
    assert found["place_full_minus_frozen"]["n"] == 20


def test_a_swap_that_moves_nothing_is_said_to_move_nothing():
    still = [row | {"kind": 0.0} for row in rows(0.0, 0.0)]
    frozen = {k: {"place": np.full(20, True)} for k in range(5)}
    assert "next to nothing" in verdict(summary(frozen, {"another bug's": still}))


def test_the_benchmark_trains_what_it_compares_and_asks_each_hrm_for_its_plan(tmp_path, monkeypatch, capsys):
    text = (ROOT / "data/languages/search.js").read_text().split("\n\n")[0] + "\n"
    corpus.write(tmp_path / "c.jsonl", [corpus.Snippet(package, "1", "MIT", "javascript", "a.js", "search", text)
                                        for package in ("sphinx", "dukpy")])  # the latter is held out
    monkeypatch.setattr(sys, "argv", ["planning.py", "--language", "javascript", "--corpus", str(tmp_path / "c.jsonl"),
                                      "--train", "1", "--examples", "4", "--preset", "smoke", "--n", "3"])
    runpy.run_path(str(ROOT / "benchmarks/planning.py"), run_name="__main__")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["n"] == 3 and set(found["priors"]) == {"linear", "HRM", "plain", "HRM alone"}
    assert "over_linear" not in found["priors"]["linear"] and "plan/verdict" not in found["priors"]["plain"]
    alone = found["priors"]["HRM alone"]
    assert alone["over_linear"]["n"] == 3 and alone["plan/place_after/0"]["n"] == 3
    monkeypatch.setattr(sys, "argv", ["planning.py", "--language", "java"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "benchmarks/planning.py"), run_name="__main__")
    assert "--language java: a corpus is for other languages" in capsys.readouterr().err
