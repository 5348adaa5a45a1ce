"""Searches: found patches, budgets, determinism, two bugs, resuming; and what outcomes do to the rest."""

import json
import random
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.swe import feedback_train
from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.feedback import (
    CLASSES,
    RELATIONS,
    Feedback,
    Seen,
    State,
    classify,
    closeness,
    insight,
    reward,
)
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.probe import DEAD, HIT, TWIN, Facts, probe, pure
from hrm_lab.swe.sandbox import Result, Server
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
    assert strip(a) == strip(b) and a.executions == len(a.trace) <= 400
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
    found = search(BUGGY, TESTS, Uniform(2), budget=60, workers=2, tree=False)
    texts = [apply(BUGGY, step.edit) for step in found.trace if step.parent == -1]
    assert len(texts) == len(set(texts)) and BUGGY not in texts
    one = search(BUGGY, TESTS, Uniform(2), budget=60, tree=False)
    assert [step.edit for step in one.trace] == [step.edit for step in found.trace][:len(one.trace)]


def test_two_bugs_are_repaired_one_after_the_other():
    once, twice = TWO.replace("a - 1", "a + 1"), TWO.replace("a - 1", "a + 1").replace("b + 2", "b - 2")
    assert TWO not in (once, twice)
    found = search(TWO, TWO_TESTS, Gold(once, twice), budget=120)
    assert found.resolved and len(found.edits) == 2 and found.program == twice
    parent = found.trace[-1].parent
    assert found.trace[parent].outcome == "mended" and 0 < found.trace[parent].reward < 1
    assert not search(TWO, TWO_TESTS, Gold(once, twice), budget=120, depth=1).resolved


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


# ---------------------------------------------------------------- the probe

SORTED = """def second(xs, limit):
    kept = []
    for x in xs:
        if x < limit:
            kept.append(x)
    kept = sorted(kept)
    return kept[0]
"""
SORTED_TESTS = "assert second([3, 1, 2], 9) == 2\nassert second([5, 4], 9) == 5\nassert second([1, 1], 4) == 1\n"


@pytest.fixture(scope="module")
def probed():
    kinds = {"comparison", "constant", "name", "off-by-one", "index", "wrap-call", "negate"}
    edits = [edit for edit in candidates(SORTED) if edit.kind in kinds]
    with Server(SORTED_TESTS) as server:
        before = server.run(SORTED)
        failing = tuple(name for name, outcome in before.tests.items() if outcome != "passed")
        results = list(server.run_many(apply(SORTED, edit) for edit in edits))
    return edits, probe(SORTED, edits, SORTED_TESTS, Evidence(failing=failing)), results, failing


def test_what_the_probe_rules_out_leaves_a_failing_test_failing(probed):
    edits, facts, results, failing = probed
    assert len(failing) == 2 and facts.dead.mean() > 0.2
    for n in np.flatnonzero(facts.dead):
        assert any(results[n].tests[test] != "passed" for test in failing), edits[n]
    fix = next(n for n, edit in enumerate(edits) if apply(SORTED, edit) == SORTED.replace("kept[0]", "kept[1]"))
    assert results[fix].outcome == "passed" and not facts.dead[fix]


def test_twins_do_the_same_to_the_failing_tests(probed):
    edits, facts, results, failing = probed
    groups = {}
    for n in np.flatnonzero((facts.twin >= 0) & ~facts.dead):
        groups.setdefault(facts.twin[n], set()).add(tuple(results[n].tests[test] for test in failing))
    assert max(map(len, groups.values())) == 1 and len(groups) < len(edits)


def test_the_probe_reads_pytest_modules_and_programs_with_future_imports():
    program = '"""Words."""\nfrom __future__ import annotations\n\n\n' + SORTED
    tests = ("from kept import second\n\ndef test_a():\n    assert second([3, 1, 2], 9) == 2\n\n\n"
             "class TestB:\n    def test_b(self):\n        assert second([1, 1], 4) == 1\n")
    found = search(program, tests, Uniform(0), budget=1)
    assert found.evidence.failing == ("test_a",) and found.ruled_out > 100


def test_the_best_of_twins_stays():
    facts = Facts(np.array([True, False, False, False]), np.array([0, 1, 1, -1]),
                  np.array([False, True, True, False]))
    assert facts.weights(np.array([0.0, 1.0, 2.0, 3.0])).tolist() == [DEAD, HIT + TWIN, HIT, 0]


def test_a_probe_makes_a_search_shorter_and_changes_no_verdict():
    plain, short = (search(SORTED, SORTED_TESTS, KindBalanced(0), tree=False, probe=on, budget=600) for on in (0, True))
    assert plain.resolved and short.resolved and short.executions <= plain.executions and short.ruled_out > 0


@pytest.mark.parametrize("text", ["xs.pop()", "f(x)", "[y for y in xs if (z := y)]", "print(1)", "2 ** n", "1 << n"])
def test_what_may_have_an_effect_is_not_evaluated(text):
    import ast

    assert not pure(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize("program", ["def f(x):\n    it = iter(x)\n    return next(it) + 1\n",
                                     "def f(x):\n    yield x\n", "def f(x):\n    return 'é'\n"])
def test_a_program_that_cannot_be_probed_rules_nothing_out(program):
    edits = candidates(program)
    facts = probe(program, edits, "assert f([1]) == 9\n", Evidence(failing=("assert:1",)))
    assert not facts.dead.any() and (facts.twin == -1).all()


# ---------------------------------------------------------------- feedback


def seen(*outcomes, messages=None):
    return Seen.from_lists(outcomes, messages or ["AssertionError: assert 5 == 4" * (o != "passed") for o in outcomes])


def test_classes_of_outcomes():
    before = seen("passed", "failed", messages=("", "AssertionError: assert 9 == 4"))

    def name(*outcomes, say="AssertionError: assert 9 == 4", first=""):
        return CLASSES[classify(before, seen(*outcomes, messages=(first, say)))]

    assert name("passed", "failed") == "same"
    assert name("passed", "failed", say="AssertionError: assert 5 == 4") == "closer"
    assert name("passed", "failed", say="AssertionError: assert 99 == 4") == "away"
    assert name("passed", "error", say="TypeError: x") == "crash"
    assert name("failed", "failed", say="AssertionError: assert 8 == 4", first="x") == "broke"
    assert name("passed", "passed", say="") == "mended" and name("failed", "passed", say="", first="x") == "mixed"


def test_reward_is_what_is_mended_less_half_of_what_is_broken():
    before = seen("passed", "passed", "failed", "failed")
    assert reward(before, before) == 0
    assert reward(before, seen("passed", "passed", "passed", "failed")) == 0.5
    assert reward(before, seen("failed", "failed", "failed", "failed")) == -0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(-50, 50), st.integers(1, 50), st.integers(1, 50))
def test_closeness_grows_towards_what_was_expected(wanted, near, more):
    def say(got):
        return closeness(f"AssertionError: assert {got} == {wanted}")

    assert 0 < say(wanted + near + more) < say(wanted + near) < 1
    assert closeness("KeyError: 3") == 0 < closeness("AssertionError: ") < say(wanted + 1)


def test_lists_and_words_are_compared_by_their_parts():
    far, near = (closeness(f"AssertionError: assert {got} == [1, 2, 3]") for got in ("[]", "[1, 2]"))
    assert far < near


@pytest.fixture
def state():
    edits = candidates(BUGGY)
    return State(BUGGY, edits), edits


def test_a_tried_edit_is_seen_from_each_other_one_by_place_and_kind(state):
    state, edits = state
    tried = next(i for i, edit in enumerate(edits) if edit.kind == "function")
    state.observe(tried, CLASSES.index("closer"))
    counts = state.counts[:, CLASSES.index("closer")]
    span = RELATIONS.index("span")
    assert all(counts[span, i] == ((e.start, e.end) == (edits[tried].start, edits[tried].end))
               for i, e in enumerate(edits))
    places = [RELATIONS.index(name) for name in ("span", "nested", "line", "near", "far")]
    assert (counts[places].sum(0) == 1).all()  # every candidate stands in one of the relations of place
    assert state.counts.sum() == counts.sum()


def test_feedback_moves_the_scores_through_its_gate_and_says_how_much(state, tmp_path):
    state, edits = state
    weights = np.zeros((len(RELATIONS), len(CLASSES)), np.float32)
    weights[RELATIONS.index("line"), CLASSES.index("closer")] = 2
    feedback, prior = Feedback(weights.ravel()), Uniform().scores(BUGGY, edits, Evidence.none())
    assert np.array_equal(feedback.update(prior, state), prior)
    assert insight(prior, state, feedback)["planning_refinement"] == pytest.approx(0, abs=1e-9)
    state.observe(0, CLASSES.index("closer"))
    after = feedback.update(prior, state)
    assert (after > prior).any() and np.array_equal(replace(feedback, gate=0.0).update(prior, state), prior)
    told = insight(prior, state, feedback)
    assert told["planning_refinement"] > 0 and told["insight_strength"] > 0 and told["integration_gate"] == 1
    feedback.save(tmp_path / "f.safetensors")
    back = Feedback.load(tmp_path / "f.safetensors")
    assert np.array_equal(back.weights, feedback.weights) and asdict(back).keys() == asdict(feedback).keys()
    Feedback(np.zeros(3, np.float32)).save(tmp_path / "g.safetensors")
    with pytest.raises(ValueError, match=r"weights have shape \(3,\)"):
        Feedback.load(tmp_path / "g.safetensors")


def test_with_feedback_the_next_execution_differs():
    """Nothing but the first edit's outcome decides which line is next."""
    program, edits = "a = 1\nb = 2\n", [Edit("constant", 4, 5, "3"), Edit("constant", 10, 11, "3"),
                                        Edit("constant", 4, 5, "4")]
    weights = np.zeros((len(RELATIONS), len(CLASSES)), np.float32)
    weights[RELATIONS.index("span"), CLASSES.index("same")] = -5

    class Prior:
        def scores(self, *_):
            return np.log([0.5, 0.2, 0.3])

    def judge(_):
        return Result("runs", "failed", {"t": "failed"}, messages={"t": "AssertionError"})

    for feedback, wanted in ((None, [0, 2, 1]), (Feedback(weights.ravel()), [0, 1, 2])):
        found = search(program, judge, Prior(), edits=edits, tree=False, feedback=feedback, depth=1)
        assert [edits.index(step.edit) for step in found.trace] == wanted


# ---------------------------------------------------------------- the fit of the feedback


def task(n):
    """Two spans; an edit of the one that passes is near one that came closer, every other outcome is the same."""
    program, edits = "a = 1\nb = 2\n", [Edit("constant", at, at + 1, str(i)) for at in (4, 10) for i in range(3, 9)]
    before = seen("failed", messages=["AssertionError: assert 9 == 4"])
    closer = seen("failed", messages=["AssertionError: assert 5 == 4"])
    right = 6 * (n % 2)
    outcomes = [closer if right <= i < right + 6 else before for i in range(12)]
    outcomes[right + 3] = seen("passed", messages=[""])
    return feedback_train.Task(f"t{n}", program, "", edits, before, outcomes, Evidence.none())


def test_the_fit_learns_which_outcomes_point_to_the_fix():
    given = [task(n) for n in range(12)]
    feedback = feedback_train.train(given, Uniform(), noise=1.0, rounds=1)
    told = [feedback_train.executions(one, KindBalanced(5), feedback) for one in given]
    untold = [feedback_train.executions(one, KindBalanced(5), None) for one in given]
    assert np.mean(told) < np.mean(untold)


def test_tasks_are_written_and_read(tmp_path):
    given = [task(0), task(1)]
    assert feedback_train.write(tmp_path / "t.jsonl", given) == 2
    assert feedback_train.read(tmp_path / "t.jsonl") == given


def test_a_function_stands_alone_with_what_it_needs_or_not_at_all():
    import ast

    tree = ast.parse("LIMIT = 3\ndef helper(x):\n    return x + LIMIT\ndef f(x):\n    y = helper(x)\n    return y\n"
                     "def g(x):\n    return open(x)\ndef h(x):\n    return missing(x) + 1\n")
    known = {getattr(node, "name", "LIMIT"): node for node in tree.body}
    text = feedback_train.alone(known["f"], known)
    names = {}
    exec(text, names)
    assert names["f"](2) == 5
    assert feedback_train.alone(known["g"], known) is None and feedback_train.alone(known["h"], known) is None


def test_behaviour_becomes_assertions_that_hold():
    program = "def double(x):\n    y = x + x\n    return y\n"
    known = feedback_train.behaviour(program, "double", 1, random.Random(0))
    assert len(known) >= 4
    with Server("\n".join(known)) as server:
        assert server.run(program).outcome == "passed"
