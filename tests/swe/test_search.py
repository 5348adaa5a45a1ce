"""Searches: found patches, budgets, determinism, two bugs, resuming."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hrm_lab.swe.edits import apply, candidates
from hrm_lab.swe.nodes import evenly
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.sandbox import Server
from hrm_lab.swe.search import Judge, search, search_score, summary

BUGGY = "def clamp(x, low, high):\n    if x < low:\n        return low\n    return max(x, high)\n"
TESTS = "assert clamp(5, 0, 10) == 5\nassert clamp(-1, 0, 10) == 0\nassert clamp(11, 0, 10) == 10\n"
TWO = "def both(a, b):\n    first = a - 1\n    second = b + 2\n    return [first, second]\n"
TWO_TESTS = ("assert both(1, 5)[0] == 2\nassert both(4, 1)[0] == 5\n"
             "assert both(1, 5)[1] == 3\nassert both(1, 1)[1] == -1\n")


class Gold:
    """A prior that knows some texts."""

    def __init__(self, *wanted):
        self.wanted = wanted

    def scores(self, program, edits, evidence, language):
        scores = np.array([5.0 * (apply(program, edit) in self.wanted) for edit in edits])
        return scores - np.log(np.exp(scores).sum())


@pytest.fixture(scope="module")
def server():
    with Server(TESTS) as server:
        yield server


def strip(outcome):
    return replace(outcome, seconds=0.0)


@pytest.mark.parametrize("tree", [False, True])
def test_a_bug_is_repaired_and_the_same_seed_does_the_same(server, tree):
    a, b = (search(BUGGY, server, KindBalanced(1), tree=tree, budget=400) for _ in range(2))
    assert a.resolved and a.stopped == "resolved" and set(a.tests_after.values()) == {"passed"}
    assert strip(a) == strip(b) and a.executions == len(a.trace) + 1 <= 400  # the probe's
    assert apply(BUGGY, a.edits[0]) == a.program and server.run(a.program).outcome == "passed"
    assert a.tests_before["assert:3"] == "failed" and a.evidence.failing
    assert [row for row in a.ranking if row["passes"]] or len(a.ranking) == 20
    json.dumps(a.ranking)


def test_a_prior_that_knows_needs_one_execution(server):
    fixed = BUGGY.replace("max", "min")
    found = search(BUGGY, server, Gold(fixed), budget=5)
    assert (found.program, found.executions, search_score(found)) == (fixed, 1, 1.0)
    assert summary([found])["convergence_rate"]["value"] == 1 and summary([found])["efficiency"]["value"] == 1


def test_budgets_end_a_search(server):
    nothing = search(BUGGY, server, Uniform(0), budget=0)
    assert (nothing.resolved, nothing.executions, nothing.program, nothing.stopped) == (False, 0, BUGGY, "budget")
    assert nothing.tests_after == nothing.tests_before and search_score(nothing) == 0
    assert search(BUGGY, server, Uniform(0), budget=3).executions == 3
    assert search(BUGGY, server, Uniform(0), seconds=1e-9).stopped == "seconds"
    few = candidates(BUGGY)[:4]
    assert search(BUGGY, server, Uniform(0), edits=few, depth=1).stopped == "exhausted"
    fixed = BUGGY.replace("max", "min")
    assert search(fixed, server, Uniform(0)).stopped == "nothing fails"


def test_no_text_is_run_twice_and_workers_change_nothing_but_the_order():
    found = search(BUGGY, TESTS, Uniform(2), budget=60, workers=2, tree=False, probe=False)
    texts = [apply(BUGGY, step.edit) for step in found.trace if step.parent == -1]
    assert len(texts) == len(set(texts)) and BUGGY not in texts
    one = search(BUGGY, TESTS, Uniform(2), budget=60, tree=False, probe=False)
    assert [step.edit for step in one.trace] == [step.edit for step in found.trace][:len(one.trace)]


def test_two_bugs_are_repaired_one_after_the_other():
    once, twice = TWO.replace("a - 1", "a + 1"), TWO.replace("a - 1", "a + 1").replace("b + 2", "b - 2")
    assert TWO not in (once, twice)
    found = search(TWO, TWO_TESTS, Gold(once, twice), budget=120)
    assert found.resolved and len(found.edits) == 2 and found.program == twice
    parent = found.trace[-1].parent
    assert found.trace[parent].outcome == "mended" and 0 < found.trace[parent].reward < 1
    assert not search(TWO, TWO_TESTS, Gold(once, twice), budget=120, depth=1).resolved


def test_the_next_execution_is_where_it_is_most_likely_to_end_the_search():
    once, twice = TWO.replace("a - 1", "a + 1"), TWO.replace("a - 1", "a + 1").replace("b + 2", "b - 2")
    found = search(TWO, TWO_TESTS, Gold(once, twice), budget=120)
    steps = [n for n, step in enumerate(found.trace) if step.parent >= 0]
    assert found.trace[0].outcome == "mended" and steps == [1]  # the second edit's share x its worth is the largest
    found = search(TWO, TWO_TESTS, Gold(once), budget=60)
    assert all(step.parent == -1 for step in found.trace)  # all of the mended program's edits are alike: it waits


def test_who_is_next_can_be_set():
    once, twice = TWO.replace("a - 1", "a + 1"), TWO.replace("a - 1", "a + 1").replace("b + 2", "b - 2")
    given = search(TWO, TWO_TESTS, Gold(once, twice), budget=20, turn=lambda nodes: nodes[0])
    assert not given.resolved and all(step.parent == -1 for step in given.trace)
    alike = search(TWO, TWO_TESTS, Gold(once), budget=40, turn=evenly, probe=False)
    of_given = sum(step.parent == -1 for step in alike.trace)
    assert 2 * of_given <= len(alike.trace) + 2  # half are for mended programs, though no edit there is worth it


def test_more_executions_look_for_a_more_probable_patch(server):
    other = search(BUGGY, server, Uniform(0), tree=False, budget=2000, depth=1)
    assert other.resolved
    more = search(BUGGY, server, Uniform(0), tree=False, budget=2000, depth=1, more=50)
    assert more.executions > other.executions and more.resolved
    passing = [step for step in more.trace if step.resolved]
    assert max(step.score for step in passing) == next(s for s in more.trace if s.edit == more.edits[0]).score


def test_a_search_is_resumed_from_its_trace(server):
    whole = search(BUGGY, server, KindBalanced(0), budget=40, more=100, probe=False)
    runs = []

    def judge(program):
        runs.append(program)
        return server.run(program)

    again = search(BUGGY, judge, KindBalanced(0), budget=40, more=100, resume=whole.trace[:30],
                   evidence=whole.evidence)
    assert strip(again).trace == whole.trace and len(runs) == 1 + max(0, len(whole.trace) - 30)


def test_only_a_candidate_that_mends_and_fails_nothing_gets_more_fuel():
    loop = "def f(n):\n    t = 1\n    for i in range(n):\n        t += 1\n    return t\n"
    with Server("assert f(2) == 2\nassert f(300000) == 300000\n") as server:
        judge = Judge(server, server.run(loop))
        judge.short = replace(judge.full, fuel=1000)
        right, runs = judge(loop.replace("t = 1", "t = 0"))
        assert (right.outcome, runs) == ("passed", 2)
        assert judge(loop.replace("t = 1", "t = 7"))[1] == 1


def test_bad_arguments_are_refused_in_one_line(server):
    with pytest.raises(ValueError, match="workers: 2; expected 1"):
        search(BUGGY, server, Uniform(0), workers=2)

    class Wrong:
        def scores(self, *_):
            return np.zeros(3)

    with pytest.raises(ValueError, match="prior: scores have shape"):
        search(BUGGY, server, Wrong())
