"""What the tests show: coverage, words of failing tests, suspicion; and the orders that use nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.swe.edits import Edit
from hrm_lab.swe.evidence import Evidence, gather, lines_at, suspicion
from hrm_lab.swe.observe import explain, lines_of, show
from hrm_lab.swe.orders import KindBalanced, Uniform, localisation
from hrm_lab.swe.sandbox import Server

PROGRAM = '''LIMIT = (1,
         2)


def sign(x):
    """Words
    of it."""
    if x > 0:
        return 1
    if x == 0:
        return max(
            1,
            0)
    return -1
'''
TESTS = "assert sign(5) == 1\nassert sign(0) == 0, 'zero'\nassert sign(-2) == -1\n"


@pytest.fixture(scope="module")
def evidence():
    return gather(PROGRAM, TESTS)


def test_failing_and_passing_tests_and_what_they_say(evidence):
    assert evidence.failing == ("assert:2",) and evidence.passing == ("assert:1", "assert:3")
    assert evidence.messages == {"assert:2": "AssertionError: zero: assert 1 == 0"}
    assert evidence.executions == 1


def test_suspicion_is_ochiai_of_the_lines_that_ran(evidence):
    found = evidence.suspicion
    assert found[11] == found[12] == found[13] == 1  # only the failing test runs it; a statement shares its value
    assert found[10] == pytest.approx(1 / np.sqrt(2)) and found[8] == pytest.approx(1 / np.sqrt(3))
    assert found[9] == found[14] == 0
    assert found[1] == found[2] == pytest.approx(1 / np.sqrt(3))  # ran at import: as if every test had run it
    assert not {3, 6, 7} & set(found)


def test_a_program_that_cannot_be_imported_gives_evidence_too():
    found = gather("1 / 0\n", TESTS)
    assert len(found.failing) == 3 and not found.passing and all(found.messages.values())


def test_a_trace_does_not_change_an_outcome():
    slow = "def f(n):\n    t = 0\n    for i in range(n):\n        t += i\n    return t\n"
    with Server("assert f(10) == 45\nassert f(100000) == 1\nassert f(3) == 3") as server:
        plain, traced = server.run(slow), server.run(slow, trace=True)
    assert plain.tests == traced.tests and plain.ticks == traced.ticks and plain.messages == traced.messages
    assert not plain.lines and set(traced.lines) == {"import", *plain.tests}
    assert traced.lines["assert:1"] == (2, 3, 4, 5)
    assert traced.lines["assert:2"] == (2, 3, 4)  # no longer looked at when it came to line 5


def test_suspicion_without_a_failing_test_that_ran_is_empty():
    assert suspicion("x = 1\n", {"import": (1,), "a": (1,)}, ()) == {}


def test_what_an_assertion_compared_is_said_and_evaluated_once():
    import ast

    calls = []
    names = {"f": lambda: calls.append(1) or 5, "__show__": show}
    code = compile(explain(ast.parse("assert f() == 4")), "t", "exec")
    with pytest.raises(AssertionError, match="^assert 5 == 4$"):
        exec(code, names)
    assert len(calls) == 1
    text = "assert f() in [5] and f()\nassert 1 < 2 < 3\nassert f() != 4"
    exec(compile(explain(ast.parse(text)), "t", "exec"), names)


def test_a_value_that_cannot_be_shown_or_is_long_does_no_harm():
    class Bad:
        def __repr__(self):
            raise RuntimeError

    assert show(Bad(), "==", 1) == "assert <RuntimeError> == <RuntimeError>"
    assert len(show("x" * 1000, "is", 1)) < 160


def test_lines_are_those_of_the_file_asked_for():
    names = {}
    exec(compile("def f():\n    a = 1\n    return a\n", "mine.py", "exec"), names)
    assert lines_of(names["f"], "mine.py") == {2, 3} and lines_of(names["f"], "other.py") == set()


# ---------------------------------------------------------------- orders

EDITS = [Edit("name", i, i + 1, "x") for i in range(0, 60, 2)] + [Edit("sign", 1, 2, "-")]


def test_orders_are_probabilities_and_a_seed_decides():
    for kind in (Uniform, KindBalanced):
        a, b = (kind(3).scores(PROGRAM, EDITS, Evidence.none(), "python") for _ in range(2))
        assert np.array_equal(a, b) and not np.array_equal(a, kind(4).scores(PROGRAM, EDITS, Evidence.none(), "python"))
        assert np.exp(a).sum() == pytest.approx(1)
        assert kind().scores(PROGRAM, [], Evidence.none()).shape == (0,)


def test_kinds_share_the_weight_and_suspect_lines_get_more():
    scores = np.exp(KindBalanced().scores(PROGRAM, EDITS, Evidence.none(), "python"))
    assert scores[-1] == pytest.approx(0.5) and scores[:-1].sum() == pytest.approx(0.5)
    weights = localisation("a\nb\nc\n", [Edit("name", at, at + 1, "x") for at in (0, 2, 4)],
                           Evidence(suspicion={1: 0.5, 2: 1.0}))
    assert weights[1] == 0 > weights[0] > weights[2]


def test_the_seeded_order_draws_in_proportion_to_the_weights():
    first = [int(np.argmax(KindBalanced(seed).scores(PROGRAM, EDITS, Evidence.none()))) for seed in range(200)]
    assert 0.35 < sum(i == len(EDITS) - 1 for i in first) / 200 < 0.65


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab\n", max_size=30))
def test_lines_at_agrees_with_counting(code):
    assert lines_at(code, range(len(code))) == [code.count("\n", 0, i) + 1 for i in range(len(code))]
