"""What outcomes do to the candidates that were not tried, and the fit of it."""

import ast
import random
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.swe import feedback_data, feedback_train
from hrm_lab.swe.edits import Edit, candidates
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.features import SIZE
from hrm_lab.swe.feedback import (
    CLASSES,
    MEMORY,
    RELATIONS,
    WIDTH,
    Feedback,
    Seen,
    State,
    classify,
    closeness,
    insight,
    reward,
)
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.probe import SAME, UNKNOWN, Facts
from hrm_lab.swe.sandbox import Result, Server
from hrm_lab.swe.search import search

BUGGY = "def clamp(x, low, high):\n    if x < low:\n        return low\n    return max(x, high)\n"


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


def weight(relation, outcome, value):
    weights = np.zeros(WIDTH, np.float32)
    weights[RELATIONS.index(relation) * len(CLASSES) + CLASSES.index(outcome)] = value
    return weights


def test_what_a_test_said_of_an_edit_is_said_of_all_that_give_it_the_same_values(state):
    edits = state[1][:5]
    facts = Facts(np.array([[12, 13, SAME], [12, 4, 7], [5, 13, 8], [UNKNOWN, 13, SAME], [6, 6, 6]]), 2)
    state = State(BUGGY, edits, facts, seen("passed", "failed", "failed"))
    assert not state.memory().any()
    state.observe(0, CLASSES.index("mixed"), seen("failed", "failed", "passed"))
    assert state.told.tolist() == [[-1, 1, 0], [-1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]
    fails = MEMORY.index("a failing test fails")
    assert state.memory()[:, fails].tolist() == [1, 1, 0, 0, 0]
    state.observe(1, CLASSES.index("broke"), seen("failed", "passed", "passed"))
    assert state.memory()[:, MEMORY.index("a passing test breaks")].tolist() == [0, 1, 0, 0, 0]
    assert state.features().shape == (5, WIDTH) and state.best.max() == 0.5
    with pytest.raises(ValueError, match="facts: of 2 failing and 1 passing tests; the run shows 1 and 0"):
        State(BUGGY, edits, facts, seen("failed"))


def test_feedback_moves_the_scores_through_its_gate_and_says_how_much(state, tmp_path):
    state, edits = state
    feedback, prior = Feedback(weight("line", "closer", 2)), Uniform().scores(BUGGY, edits, Evidence.none())
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
    class Prior:
        def scores(self, *_):
            return np.log([0.5, 0.2, 0.3])

    def judge(_):
        return Result("runs", "failed", {"t": "failed"}, messages={"t": "AssertionError"})

    for feedback, wanted in ((None, [0, 2, 1]), (Feedback(weight("span", "same", -5)), [0, 1, 2])):
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
    facts = Facts(np.full((12, 1), UNKNOWN), 1)
    return feedback_data.Task(f"t{n}", program, "", edits, before, outcomes, Evidence.none(), facts, list(range(12)))


@pytest.fixture
def unknowing():
    return LinearPrior(np.zeros(SIZE))


def test_the_fit_learns_which_outcomes_point_to_the_fix(unknowing):
    given = [task(n) for n in range(12)]
    feedback = feedback_train.train(given, [feedback_train.wide(one) for one in given], unknowing, rounds=1)
    def needs(n, steer=None, **how):
        scores = [KindBalanced(seed).scores("a = 1\nb = 2\n", task(n).edits, Evidence.none()) for seed in (1, 2, 3)]
        return np.mean([feedback_train.executions(task(n), one, steer, **how) for one in scores])

    told, untold = (np.mean([needs(n, steer) for n in range(4)]) for steer in (feedback, None))
    assert told < untold and told < np.mean([needs(n, feedback, shuffled=0) for n in range(4)])
    assert needs(0, replace(feedback, gate=0.0)) == needs(0)


def test_shuffled_or_even_outcomes_are_no_surprise(state):
    state, edits = state
    for n in range(len(edits)):
        state.observe(n, CLASSES.index("same"))
    even = state.surprise()[:, CLASSES.index("same")]
    state.observe(0, CLASSES.index("mended"))
    odd = state.surprise()[RELATIONS.index("span"), CLASSES.index("mended"), 0]
    assert even.min() >= 0 and even.max() < odd


def test_the_gate_is_the_one_that_needs_fewest_executions(unknowing):
    given = [task(n) for n in range(6)]
    known = [feedback_train.wide(one) for one in given]
    wrong = feedback_train.train(given, known, unknowing, rounds=1)
    wrong = replace(wrong, weights=-wrong.weights)
    assert feedback_train.fit_gate(given, known, unknowing, wrong).gate == feedback_train.GATES[0]


def test_a_prior_loses_some_of_its_features():
    prior, wide = LinearPrior(np.ones(SIZE)), np.arange(1, 3001).reshape(-1, 30)
    whole, less = (feedback_train.dropped(prior, wide, share, 0) for share in (0, 0.8))
    assert np.ptp(whole) < 1e-5 and np.ptp(less) > 5 and np.exp(less).sum() == pytest.approx(1, rel=1e-4)


def test_tasks_are_written_and_read(tmp_path):
    given = [task(0), task(1)]
    assert feedback_data.write(tmp_path / "t.jsonl", given) == 2
    back = feedback_data.read(tmp_path / "t.jsonl")
    assert [(one.name, one.edits, one.seen, one.ran) for one in back] == [
        (one.name, one.edits, one.seen, one.ran) for one in given]
    assert np.array_equal(back[1].facts.values, given[1].facts.values) and back[1].facts.failing == 1


def test_a_function_stands_alone_with_what_it_needs_or_not_at_all():
    tree = ast.parse("LIMIT = 3\ndef helper(x):\n    return x + LIMIT\ndef f(x):\n    y = helper(x)\n    return y\n"
                     "def g(x):\n    return open(x)\ndef h(x):\n    return missing(x) + 1\n")
    known = {getattr(node, "name", "LIMIT"): node for node in tree.body}
    text = feedback_data.alone(known["f"], known)
    names = {}
    exec(text, names)
    assert names["f"](2) == 5
    assert feedback_data.alone(known["g"], known) is None and feedback_data.alone(known["h"], known) is None


def test_behaviour_becomes_assertions_that_hold():
    program = "def double(x):\n    y = x + x\n    return y\n"
    known = feedback_data.behaviour(program, "double", 1, random.Random(0))
    assert len(known) >= 4
    with Server("\n".join(known)) as server:
        assert server.run(program).outcome == "passed"
