"""What notebook 03 asks of a repairer: ranks, cells, proposals for reviewers, the monitor of feedback, pools."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.metrics import bootstrap
from hrm_lab.swe import reviews
from hrm_lab.swe.edits import candidates
from hrm_lab.swe.feedback import Feedback, State
from hrm_lab.swe.held_out import Judged, Proposal
from hrm_lab.swe.instances import Instance
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.orders import KindBalanced
from hrm_lab.swe.policy import PRESETS, Policy
from hrm_lab.swe.policy_data import generate, pool
from hrm_lab.swe.search import search
from hrm_lab.swe.trial import monitor, ranks, table, to_review, trial

PROGRAM = "    def larger(a, b):\n        if a < b:\n            return a\n        return a\n"
FIXED = PROGRAM.replace("            return a", "            return b")
TESTS = "assert larger(1, 2) == 2\nassert larger(2, 1) == 2\nassert larger(3, 3) == 3\n"


@pytest.fixture(scope="module")
def examples():
    texts = [FIXED.replace("\n    ", "\n").lstrip(), "def twice(n):\n    return [i * 2 for i in range(n) if i]\n"]
    return list(generate(texts, 5, 1, rivals=30))


def test_a_network_that_adds_nothing_ranks_as_the_prior_under_it(examples):
    rng = np.random.default_rng(0)
    prior = LinearPrior(np.r_[0, rng.normal(size=(1 << 16) - 1)])
    policy = Policy(PRESETS["smoke"]).eval()  # its heads are zero at first
    policy.wide.copy_(torch.from_numpy(prior.weights))
    found = ranks(prior, examples)
    assert found.tolist() == ranks(policy, examples).tolist() and found.min() >= 1 and len(set(found)) > 1


def test_a_table_says_n_beside_the_name():
    assert table({"linear": {"x": bootstrap([2.5])}}, {"of 5": "x"}) == [{"": "linear (n\u00a0=\u00a01)",
                                                                          "of 5": "2.5 (2.5\u20112.5)"}]


def instance(number):
    return Instance(f"p.{number}", "p", "1", "", "", "", ("t",), (), "python", "text", 0.1, (), "p/larger.py", "larger",
                    PROGRAM, FIXED, "", ("change name",), "synthetic", "train")


def judged(number, outcome):
    proposal = Proposal(True, True, True, True, True, True, True, 1.0)
    spent = next((n for n, step in enumerate(outcome.trace, 1) if step.resolved), 0)
    return Judged(f"p.{number}", "python", "text", 0.1, ("change name",), budget=60, executions=spent, first=proposal,
                  final=proposal, unchanged=0.9, outcome=outcome)


@pytest.fixture(scope="module")
def outcome():
    code = "\n".join(line[4:] for line in PROGRAM.split("\n"))
    return code, search(code, TESTS, KindBalanced(0), budget=60, probe=False, depth=1)


def test_patches_that_pass_are_proposed_and_others_are_not(tmp_path, outcome):
    code, found = outcome
    failed = replace(found, resolved=False, program=code, edits=(), trace=[s for s in found.trace if not s.resolved])
    db = reviews.connect(tmp_path / "reviews.sqlite")
    assert len(to_review(db, [judged(1, found), judged(2, failed)], [instance(1), instance(2)], "linear")) == 1
    (one,) = reviews.proposals(db)
    assert (one.program, one.fixed, one.instance_id) == (code, found.program, "p.1")
    reviews.decide(db, one.id, "accept", "ada")
    reviews.export(db, tmp_path / "out.jsonl")
    taught, counts = reviews.examples(tmp_path / "out.jsonl")
    assert len(taught) == counts["accept"] == 1


def test_the_monitor_starts_from_nothing_and_follows_each_execution(outcome):
    code, found = outcome
    weights = np.linspace(-1, 1, State(code, candidates(code)).features().shape[1]).astype(np.float32)
    rows = monitor(code, found, KindBalanced(None), Feedback(weights, gate=0.5))
    assert [row["executions"] for row in rows] == list(range(len(found.trace) + 1))
    assert rows[0]["insight_strength"] == rows[0]["planning_refinement"] == 0
    assert rows[-1]["insight_strength"] > 0 and {row["integration_gate"] for row in rows} == {0.5}


def test_functions_come_from_the_packages_that_are_named_and_of_their_split(tmp_path):
    names = ("inflection", "hyperframe", "itsdangerous")
    found = {split: pool(split, tmp_path, names) for split in ("valid", "test")}
    assert found["valid"] == pool("valid", tmp_path, ("hyperframe",)) and not pool("valid", tmp_path, ("inflection",))
    assert len(found["valid"]) > 20 and len(found["test"]) > 10 and not set(found["valid"]) & set(found["test"])


def test_a_trial_repairs_or_says_that_it_did_not():
    folder = ROOT / "data/languages"
    ((kind, report),) = trial(folder / "search.py", folder / "test_search.py", 1, 40)
    assert kind and set(report.tests_before.values()) != {"passed"}
    assert report.resolved == (set(report.tests_after.values()) == {"passed"})
