"""The probe: what it rules out leaves a test failing, and edits that give the same values do the same to a test."""

import ast

import numpy as np
import pytest

from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.evidence import Evidence, gather
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.probe import CRASH, RIGHT, SAME, SPIN, TWIN, UNKNOWN, WRONG, Facts, judge, probe, pure, wanted
from hrm_lab.swe.sandbox import Server
from hrm_lab.swe.search import search

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
    kinds = {"comparison", "constant", "name", "off-by-one", "index", "wrap-call", "negate", "delete", "guard"}
    edits = [edit for edit in candidates(SORTED) if edit.kind in kinds or edit.kind.startswith("insert")]
    with Server(SORTED_TESTS) as server:
        before = server.run(SORTED)
        passing, failing = (tuple(name for name, outcome in before.tests.items() if (outcome == "passed") == wanted)
                            for wanted in (True, False))
        facts = probe(SORTED, edits, SORTED_TESTS, Evidence(failing=failing, passing=passing))
        rows = np.random.default_rng(0).permutation(len(edits))[:100]
        results = {int(n): server.run(apply(SORTED, edits[n])).tests for n in rows}
    return edits, facts, results, (*failing, *passing)


def test_what_the_probe_rules_out_fails_a_test(probed):
    edits, facts, results, tests = probed
    assert facts.failing == 2 and facts.dead.mean() > 0.4
    for n in results:
        assert not facts.dead[n] or any(results[n][test] != "passed" for test in tests), edits[n]
    fix = next(n for n, edit in enumerate(edits) if apply(SORTED, edit) == SORTED.replace("kept[0]", "kept[1]"))
    assert not facts.dead[fix]


def test_same_values_in_a_test_mean_the_same_outcome(probed):
    edits, facts, results, tests = probed
    for column, test in enumerate(tests):
        groups = {}
        for n in results:
            value = facts.values[n, column]
            if value == SAME:
                assert (results[n][test] == "passed") == (column >= facts.failing), edits[n]
            elif value != UNKNOWN:
                groups.setdefault(value, set()).add(results[n][test] == "passed")
        assert len(groups) > 5 and max(map(len, groups.values())) == 1


@pytest.mark.parametrize("wanted", ["insert-guard", "insert-assignment", "insert-update", "insert-call",
                                    "insert-return", "insert-jump", "guard", "delete"])
def test_statements_are_probed_too(probed, wanted):
    edits, facts, _, _ = probed
    rows = [n for n, edit in enumerate(edits) if edit.kind == wanted]
    assert rows and (facts.values[rows] != UNKNOWN).mean() > 0.5


def test_the_probe_reads_pytest_modules_and_programs_with_future_imports():
    program = '"""Words."""\nfrom __future__ import annotations\n\n\n' + SORTED
    tests = ("from kept import second\n\ndef test_a():\n    assert second([3, 1, 2], 9) == 2\n\n\n"
             "class TestB:\n    def test_b(self):\n        assert second([1, 1], 4) == 1\n")
    found = search(program, tests, Uniform(0), budget=3)
    assert found.evidence.failing == ("test_a",) and found.ruled_out > 100


POSITIVE = "def f(xs):\n    for x in xs:\n        if x > 0:\n            yield x * 1\n"


@pytest.mark.parametrize(("program", "old", "new", "tests", "told"), [
    ("def f(n):\n    total = 0\n    for i in range(n):\n        total += i % 90\n    return total\n", "i % 90", "i",
     "assert f(100) == 4950", "changed"),  # differs after many visits only
    ("def f(n):\n    total = 0\n    for i in range(n):\n        total += i % 900\n    return total\n", "i % 900",
     "i", "assert f(100) == 4951", "same"),
    ("def f(xs):\n    ys = xs\n    ys.append(1)\n    return ys\n", "ys = xs", "ys = xs[:]",
     "a = [0]\nassert f(a) == [0, 1] and a == [0]", "unknown"),  # equal, but a copy
    ("def f(xs):\n    for i in range(9000):\n        xs[0] += min(i, 8000)\n    return xs\n", "min(i, 8000)", "i",
     "assert f([0])[0] == sum(range(9000))", "unknown"),  # the probe ends before it differs
    (POSITIVE, "x > 0", "x > -1", "assert list(f([1, 2])) == [1]", "same"),
    (POSITIVE, "x > 0", "x > 1", "assert list(f([1, 2])) == [2]", "changed"),
    (POSITIVE, "x * 1", "x * 2", "assert list(f([1, 2])) == [2, 4]", "changed"),
    ("def f(xs):\n    it = iter(xs)\n    return list(it)\n", "list(it)", "sorted(it)", "assert f([2, 1]) == [1, 2]",
     "unknown"),  # to evaluate it would use the iterator up
    ("def f(xs):\n    return [x + i for i, x in enumerate(xs)]\n", "enumerate(xs)", "enumerate(xs, 1)",
     "assert f([2, 1]) == [3, 3]", "changed"),
    ("def f(n):\n    \"\"\"é ➞ è\"\"\"; m = n * 2; return m + 1\n", "n * 2", "n + n", "assert f(2) == 4", "same"),
    ("def f(n):\n    return n ** 2\n", "n ** 2", "n ** n", "assert f(3) == 27", "changed"),
    ("def f(n):\n    n -= 2\n    return n\n", "-=", "//=", "assert f(9) == 4", "changed"),
    ("def f(n):\n    n -= 2\n    return n\n", "-=", "//=", "assert f(4) == 3", "same"),
    ("def f(n):\n    m = n\n    n -= 2\n    return m\n", "n -=", "m -=", "assert f(4) == 2", "changed"),
    ("def f(n):\n    return n ** 2\n", "n ** 2", "n ** n ** n", "assert f(9) == 27", "unknown"),
])
def test_what_was_not_seen_to_differ_is_not_the_same(program, old, new, tests, told):
    start = program.index(old)
    edit = Edit("name", start, start + len(old), new)
    values = probe(program, [edit], tests, gather(program, tests)).values
    assert {"changed": values > CRASH, "same": values == SAME, "unknown": values == UNKNOWN}[told].all(), values


def test_a_statement_at_the_end_of_a_block_is_probed_in_that_block():
    program = "def f(n):\n    m = 0\n    while n > 0:\n        n -= 1\n    return m\n"
    at, tests = program.index("\n    return"), "assert f(3) == 3"
    edits = [Edit("insert-update", at, at, f"\n{' ' * indent}m += n") for indent in (8, 4)]
    values = probe(program, edits, tests, gather(program, tests)).values
    assert values[0] > CRASH and values[1] == SAME


def test_the_loop_that_does_not_end_is_where_the_search_looks():
    program = ("def f(n):\n    k = 1\n    for i in range(n):\n        k += i\n    while n > k:\n        n += 1\n"
               "    return k\n")
    tests = "assert f(2) == 2\nassert f(0) == 1\nassert f(-9) == 1"
    edits = candidates(program)
    facts = probe(program, edits, tests, gather(program, tests))
    assert facts.spins is None  # every test ends
    program = program.replace("n > k", "n >= k")
    edits = candidates(program)
    facts = probe(program, edits, tests, gather(program, tests))
    start, end = program.index("while"), program.index("\n    return")
    assert facts.spins.tolist() == [1 if start <= edit.start <= end else -1 for edit in edits]
    more = facts.among(np.arange(1, len(edits) + 1), len(edits) + 1)
    assert more.spins[0] == 0 and (more.values[0] == UNKNOWN).all() and (more.values[1:] == facts.values).all()
    rest = Facts(facts.values, facts.failing)
    assert set(np.round(facts.weights(np.zeros(len(edits))) - rest.weights(np.zeros(len(edits))), 6)) == {SPIN, -SPIN}


def test_the_best_of_twins_stays():
    facts = Facts(np.array([[SAME, 5], [7, 4], [7, 4], [7, UNKNOWN], [7, CRASH]]), 1)
    assert facts.dead.tolist() == [True, False, False, False, False]
    weights = facts.weights(np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert weights[1] == weights[2] + TWIN
    assert weights[0] < weights[2] - 5


RETURNS = """def f(xs):
    total = 0
    for x in xs:
        total += x
    return total + 1


def g(n):
    return n if n < 2 else g(n - 1) + n
"""


def test_what_is_returned_is_judged_by_what_each_test_wanted():
    tests = "assert f([1, 2]) == 3\nassert f([0, 2]) == 2\nassert f([4]) == 4\n"
    edits, known = candidates(RETURNS), gather(RETURNS, tests)
    facts = probe(RETURNS, edits, tests, known)
    programs = [apply(RETURNS, edit) for edit in edits]
    at = programs.index(RETURNS.replace("total + 1", "total"))
    assert facts.values[at].tolist() == [RIGHT] * 3 and not facts.dead[at] and facts.runs == 1
    assert facts.values[programs.index(RETURNS.replace("total + 1", "total + 2"))].tolist() == [WRONG] * 3
    good = [n for n, row in enumerate(facts.values) if (row == RIGHT).all()]
    with Server(tests) as server:
        assert all(server.run(programs[n]).outcome == "passed" for n in good)
        dead = np.flatnonzero((facts.values == WRONG).any(1))
        assert len(dead) > 50 and all(server.run(programs[n]).outcome != "passed" for n in dead)


def test_a_passing_test_wants_what_it_got_and_a_call_among_its_own_calls_tells_nothing():
    tests = "assert f([1]) == 1\nassert f([]) == 1\nassert g(3) == 7\n"
    edits, known = candidates(RETURNS), gather(RETURNS, tests)
    facts = probe(RETURNS, edits, tests, known)
    assert known.passing == ("assert:2",)
    at = [apply(RETURNS, edit) for edit in edits].index(RETURNS.replace("total + 1", "total"))
    assert facts.values[at].tolist() == [RIGHT, SAME, WRONG] and facts.dead[at]
    inside = [n for n, edit in enumerate(edits) if edit.start >= RETURNS.index("return n")]
    assert not (facts.values[inside][:, 1] == RIGHT).any()


def test_a_probe_makes_a_search_shorter_and_changes_no_verdict():
    plain, short = (search(SORTED, SORTED_TESTS, KindBalanced(0), tree=False, probe=on, budget=300) for on in (0, True))
    assert short.resolved and short.executions <= plain.executions and short.ruled_out > 0


@pytest.mark.parametrize("text", ["xs.pop()", "f(x)", "[y for y in xs if (z := y)]", "print(1)",
                                  "[y for self.y in xs]", "sum(y for x[0], y in xs)"])
def test_what_may_have_an_effect_is_not_evaluated(text):
    assert not pure(ast.parse(text, mode="eval").body)


def test_a_program_that_ends_before_it_can_tell_rules_nothing_out():
    program = "def f(x):\n    return x + 1\n"
    facts = probe(program, candidates(program), "import os\nassert os._exit(1) == f(1)\n",
                  Evidence(failing=("assert:1",)))
    assert not facts.dead.any() and (facts.values == UNKNOWN).all()


LISTS = "[1, 2]", "[1, 2, 3, 4, 5, 6, ...]"


@pytest.mark.parametrize(("before", "after", "asked", "told"), [
    ("[1, 2]", "[1, 2, 3, 4, 5, 6, 7]", LISTS, RIGHT), ("[1, 2]", "[1, 2, 4]", LISTS, WRONG),
    ("{}", "{2: 1}", ("{}", "{1: 2, 2: 1, ...}"), UNKNOWN),  # of which order is shown nobody knows
    ("'ab'", "'abcd'", ("'ab'", "'a...d'"), RIGHT), ("'ab'", "'cd'", ("'ab'", "'a...d'"), WRONG),
    ("'abd'", "'acd'", ("'abd'", "'a...d'"), UNKNOWN),  # it failed for what is not shown
    ("0.6", "1.2000001", ("0.6", "1.2 ± 1.2e-06"), RIGHT), ("0.6", "1.3", ("0.6", "1.2 ± 1.2e-06"), WRONG),
    ("[0.6]", "[1.2]", ("[0.6]", "approx([1.2 ± 1.2e-06])"), UNKNOWN),
    ("P(1)", "P(2)", ("P(1)", "P(2)"), RIGHT), ("P(1)", "P(3)", ("P(1)", "P(2)"), WRONG),
    ("True", "0", ("True", "False"), UNKNOWN), ("False", "", ("False", "True"), UNKNOWN)])
def test_a_value_is_judged_by_what_is_shown_of_the_one_that_was_wanted(before, after, asked, told):
    assert judge(before, after, asked) == told


@pytest.mark.parametrize(("message", "told"), [
    ("AssertionError: assert 3 == 4", ("3", "4")), ("assert False is True", ("False", "True")),
    ("assert False", ("False", "True")), ("AssertionError: total: assert not True", ("True", "False")),
    ("assert 3 < 2", ("", "")), ("AssertionError", ("", ""))])
def test_what_a_failing_test_wanted(message, told):
    assert wanted(message) == told
