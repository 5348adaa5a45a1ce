"""Judging on instances: what a search sees and what judges it, tiers of proposals, groups; on a tiny package."""

import warnings
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_packages import FILE, make

from hrm_lab.swe import held_out
from hrm_lab.swe.drawing import enumerable
from hrm_lab.swe.edits import Edit, apply
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.instances import Instance
from hrm_lab.swe.orders import Uniform
from hrm_lab.swe.packages import PackageServer
from hrm_lab.swe.sandbox import Result
from hrm_lab.swe.search import Outcome

CODE = '''
def sign(value):
    if value < 0:
        return -1
    if value > 0:
        return 1
    return 0


class Box:
    def area(self, side, high):
        side = min(side, high)
        return side * side
'''
TESTS = '''
import unittest

import pytest

from tiny import core


@pytest.mark.parametrize("value, expected", [(-7, -1), (-1, -1), (0, 0), (1, 1), (2, 1), (9, 1)])
def test_sign(value, expected):
    assert core.sign(value) == expected


def test_area():
    assert core.Box().area(3, 5) == 9


def test_even():
    assert core.Box().area(5, 5) == 25


class TestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.high = 5

    def test_case(self):
        self.assertEqual(core.Box().area(3, self.high), 9)
'''
SIGN = "\n".join(CODE.strip().split("\n")[:6])
AREA = CODE.split("class Box:\n")[1].rstrip("\n")


class Knows:
    """A prior that tries known texts first, in their order."""

    def __init__(self, *texts):
        self.texts = texts

    def scores(self, program, edits, evidence, language="python"):
        return np.array([-float(self.texts.index(text)) if (text := apply(program, edit)) in self.texts else -99.0
                         for edit in edits])


def instance(function, program, fixed, failing, passing, kinds, **changes):
    return Instance(**dict(
        instance_id=f"tiny__1.0.{function}", repo="tiny", version="1.0", problem_statement="", patch="", test_patch="",
        FAIL_TO_PASS=tuple(f"tests/test_core.py::{name}" for name in failing),
        PASS_TO_PASS=tuple(f"tests/test_core.py::{name}" for name in passing), language="python", domain="algorithms",
        complexity=0.2, tool_plan=(), file=FILE, function=function, program=program, fixed=fixed, tests="",
        kinds=kinds, source="synthetic", split="test") | changes)


POSITIVE = ("test_sign[1-1]", "test_sign[2-1]", "test_sign[9-1]")
OTHERS = ("test_sign[-7--1]", "test_sign[-1--1]", "test_sign[0-0]")
BAD_SIGN = instance("sign", SIGN.replace("return 1", "return 2"), SIGN, POSITIVE, OTHERS, ("change-number",))
BAD_AREA = instance("Box.area", AREA.replace("side * side", "side + side").replace("min", "max"), AREA,
                    ("test_area", "test_even"), (), ("swap-operator", "change-call"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("held") / "tiny-1.0"
    with PackageServer(make(root, CODE, TESTS), root) as started:
        yield started


@pytest.fixture
def here(server, monkeypatch):
    monkeypatch.setitem(held_out.PACKAGES, "tiny", server.package)
    monkeypatch.setattr(held_out, "checkout", lambda name, cache: server.root)
    monkeypatch.setattr(held_out, "PackageServer", lambda package, root: nullcontext(server))  # one start for all


def wrong(n):
    """Texts of the buggy `sign` after edits that do not repair it."""
    return [BAD_SIGN.program.replace("value < 0", f"value {sign} 0") for sign in ("<=", ">", ">=", "==")][:n]


# ---------------------------------------------------------------- searches


def test_the_known_repair_tried_first_has_the_highest_tier(here):
    one, = held_out.judge([BAD_SIGN], Knows(SIGN), "", budget=5)
    assert (one.executions, one.resolved, one.tier, one.first.tier) == (1, True, 5, 5)
    assert one.first == one.final and one.first.exact and one.first.line and one.first.token_accuracy == 1
    assert 0.9 < one.unchanged < 1 and one.outcome.program == SIGN
    assert one.outcome.evidence.failing and one.outcome.evidence.messages


def test_executions_are_counted_and_an_unsolved_one_has_none(here):
    late, never = (held_out.judge([BAD_SIGN], Knows(*wrong(3), SIGN), "", budget=budget)[0] for budget in (9, 3))
    assert (late.executions, late.tier, late.first.tier) == (4, 5, 0)
    assert (never.executions, never.resolved, never.tier) == (0, False, 0) and len(never.outcome.trace) == 3


def test_searches_that_are_compared_find_what_each_finds_alone(here, monkeypatch):
    searches = {"knows": {"prior": Knows(SIGN)}, "late": {"prior": Knows(*wrong(3), SIGN)},
                "later": {"prior": Knows(*wrong(3), SIGN), "depth": 2}}
    alone = [held_out.judge([BAD_SIGN], how.pop("prior"), "", budget=9, **how) for how in map(dict, searches.values())]
    ran = []
    monkeypatch.setattr(held_out, "brief", lambda run, text, before, brief=held_out.brief: ran.append(text) or brief(
        run, text, before))
    found = held_out.compare([BAD_SIGN], searches, "", budget=9)
    assert [[(one.executions, one.final) for one in own] for own in found.values()] == [
        [(one.executions, one.final) for one in own] for own in alone]
    assert len(ran) == len(set(ran)) >= 4


def test_the_search_sees_half_of_the_tests_and_no_line_of_the_others(here):
    one, = held_out.judge([BAD_SIGN], Knows(SIGN), "", budget=1)
    assert set(one.outcome.tests_before) == set(held_out.shown(BAD_SIGN, 0)) and len(one.outcome.tests_before) == 3
    again, = held_out.judge([BAD_SIGN], Knows(SIGN), "", budget=1, seed=3)
    assert set(again.outcome.tests_before) == set(held_out.shown(BAD_SIGN, 3))


def test_lines_that_only_failing_tests_run_are_the_most_suspect(server):
    tests = [*BAD_SIGN.FAIL_TO_PASS, *BAD_SIGN.PASS_TO_PASS]
    seen = server.run(FILE, "sign", BAD_SIGN.program, tests, trace=True)
    assert seen.lines[BAD_SIGN.FAIL_TO_PASS[0]] == (2, 4, 5) and seen.messages.keys() == set(BAD_SIGN.FAIL_TO_PASS)
    assert seen.messages[BAD_SIGN.FAIL_TO_PASS[0]] == "AssertionError: assert 2 == 1"
    found = held_out.evidence(BAD_SIGN.program, seen).suspicion
    assert found[5] == 1 > found[4] > found[2] == found[1] > found[3] == found[6] == 0
    longer = BAD_SIGN.program.replace("    return 0", "    value = 0\n    value = 0\n    value = 0\n    return 0")
    assert server.run(FILE, "sign", longer, tests[-1:], trace=True).lines[tests[-1]] == (2, 4, 6, 7, 8, 9)


def test_what_a_unittest_case_says_is_kept(server):
    test = "tests/test_core.py::TestCase::test_case"
    found = server.run(FILE, "Box.area", BAD_AREA.program, [test])
    assert (found.tests, found.messages) == ({test: "failed"}, {test: "AssertionError: 10 != 9"})
    found = server.run(FILE, "Box.area", AREA.replace("side * side", "side.none"), [test])
    assert found.messages == {test: "AttributeError: 'int' object has no attribute 'none'"}


def test_a_short_run_and_a_whole_one_agree_on_what_passes(here):
    prior = Knows(*wrong(2), SIGN)
    brief, = held_out.judge([BAD_SIGN], prior, "", budget=5)
    whole, = held_out.judge([BAD_SIGN], prior, "", budget=5, depth=2)
    assert [step.resolved for step in brief.outcome.trace] == [step.resolved for step in whole.outcome.trace]
    assert brief.outcome.tests_before == whole.outcome.tests_before
    with_tree, = held_out.judge([BAD_SIGN], prior, "", budget=5, tree=True)
    assert with_tree.resolved


def test_what_is_not_run_counts_as_it_was():
    before = Result("", "failed", {"a": "failed", "b": "error", "c": "passed"}, messages={"a": "A", "b": "B"})
    after = Result("", "failed", {"a": "passed", "b": "failed", "c": "not run"}, messages={"b": "C"})
    seen = held_out.brief(lambda text, tests, stop: after, "", before)
    assert seen.tests == {"a": "passed", "b": "failed", "c": "passed"} and seen.messages == {"b": "C"}
    early = replace(after, tests={"a": "failed", "b": "not run", "c": "not run"}, messages={"a": "A"})
    assert held_out.brief(lambda text, tests, stop: early, "", before).tests == before.tests


def test_two_bugs_are_mended_one_after_the_other(here, monkeypatch):
    monkeypatch.setattr(held_out, "shown", lambda one, seed: [*one.FAIL_TO_PASS])
    fixed = enumerable(BAD_AREA.fixed)
    prior = Knows(fixed.replace("min", "max"), fixed)  # the first of them mends one of the two tests
    once, twice = (held_out.judge([BAD_AREA], prior, "", budget=9, depth=depth)[0] for depth in (1, 2))
    assert not once.resolved and once.final.line and once.final.kind is False
    assert twice.resolved and len(twice.outcome.edits) == 2 and twice.final.tier == 5 and twice.final.exact


def test_the_probe_rules_out_edits_but_not_the_repair(here):
    one, = held_out.judge([BAD_SIGN], Uniform(0), "", budget=300, probe=True)
    assert one.resolved and 0 < one.outcome.ruled_out < one.outcome.candidates


def test_a_text_that_cannot_be_probed_says_nothing(server):
    assert server.probe(FILE, "sign", "def sign(value:", BAD_SIGN.FAIL_TO_PASS) == ""
    assert server.probe(FILE, "sign", "def sign(other):\n    return 1", BAD_SIGN.FAIL_TO_PASS) == ""
    assert server.probe(FILE, "sign", SIGN, ["nowhere"]) == ""
    assert server.probe(FILE, "sign", SIGN, BAD_SIGN.FAIL_TO_PASS).startswith('<probe>{"sites":{}')


def test_an_instance_whose_repair_fails_here_is_named(here):
    with pytest.raises(ValueError, match=r"tiny__1\.0\.sign: its repair gives 'failed' here"):
        held_out.judge([replace(BAD_SIGN, fixed=BAD_SIGN.program)], Uniform(0), "", budget=1)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 99))
def test_half_of_the_tests_are_visible_and_one_that_fails(failing, passing, seed):
    one = replace(BAD_SIGN, FAIL_TO_PASS=tuple(f"f{i}" for i in range(failing)),
                  PASS_TO_PASS=tuple(f"p{i}" for i in range(passing)))
    found = held_out.shown(one, seed)
    assert len(found) == len(set(found)) == (failing + passing + 1) // 2 and found == held_out.shown(one, seed)
    assert found[0][0] == "f" and set(found) <= {*one.FAIL_TO_PASS, *one.PASS_TO_PASS}


# ---------------------------------------------------------------- proposals


def proposed(new, passes=(), old="return 2", kind="change-number"):
    program = BAD_SIGN.program
    start = program.index(old)
    every = [*BAD_SIGN.FAIL_TO_PASS, *BAD_SIGN.PASS_TO_PASS]
    outcomes = {test: "passed" if test in passes or passes == "all" else "failed" for test in every}
    seen = Result("", "passed" if set(outcomes.values()) == {"passed"} else "failed", outcomes)
    return held_out.propose(BAD_SIGN, [Edit(kind, start, start + len(old), new)], lambda text, tests: seen,
                            every[:1], every)


def test_tiers_are_the_highest_that_holds():
    visible = BAD_SIGN.FAIL_TO_PASS[:1]
    assert proposed("return 3", kind="other").tier == 1
    assert proposed("return 3").tier == 2
    assert proposed("return  1 # text").tier == 3  # the tokens of the repair, where no test could be run
    assert proposed("return 3", visible).tier == 4
    assert proposed("return 3", "all").tier == 5
    assert proposed("return 9", old="return 0").tier == 0
    assert proposed("return 9", visible, old="return 0", kind="other").tier == 4


def test_code_metrics_of_a_proposal():
    right, long, broken = proposed("return 1"), proposed("return 1 + 1"), proposed("return (")
    assert right.token_accuracy == 1 and right.exact and right.parses and right.compiles
    assert 0.8 < long.token_accuracy < 1 and not long.exact
    assert not broken.parses and not broken.compiles
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert held_out.validity("x is 1", "python") == (True, True)
    assert held_out.validity("let x = (", "javascript") == (False, False)
    assert proposed("break").parses and not proposed("break").compiles
    nothing = held_out.propose(BAD_SIGN, [], lambda text, tests: Result("", "failed", dict.fromkeys(tests, "failed")),
                               list(BAD_SIGN.FAIL_TO_PASS), list(BAD_SIGN.FAIL_TO_PASS))
    assert nothing.tier == 0 and not nothing.line and not nothing.kind and nothing.token_accuracy > 0.9


def test_changed_lines_are_those_of_the_old_text():
    assert held_out.changed("a\nb\nc", "a\nB\nc") == {2}
    assert held_out.changed("a\nb\nc", "a\nc") == {2}
    assert held_out.changed("a\nc", "a\nb\nc") == {1, 2}
    assert held_out.changed("a", "a") == set()


# ---------------------------------------------------------------- scores


def judged(n, executions, resolved, **changes):
    outcome = Outcome(bool(executions), executions or 30, 0.0, (), "", [], [], {"t": "failed"}, {"t": "passed"}, 100,
                      "resolved", Evidence.none())
    bad = held_out.Proposal(False, False, False, False, False, True, True, 0.9)
    good = replace(bad, line=True, kind=True, exact=True, visible=True, resolved=True, token_accuracy=1.0)
    return held_out.Judged(**dict(
        instance_id=str(n), language="python", domain="text", complexity=n / 10, kinds=("a",), budget=30,
        executions=executions, first=good if executions == 1 else bad,
        final=good if resolved else replace(bad, visible=executions > 0), unchanged=0.9, outcome=outcome) | changes)


RUNS = [judged(0, 1, True), judged(1, 5, True), judged(2, 20, False, domain="web"), judged(3, 0, False),
        judged(4, 10, True, kinds=("a", "b")), judged(5, 0, False, domain="web")]


def test_scores_are_shares_and_means_over_instances():
    found = held_out.scores(RUNS)
    value = {name: score["value"] for name, score in found.items()}
    assert [value[f"plausible@{k}"] for k in (1, 10, 30)] == pytest.approx([1 / 6, 3 / 6, 4 / 6])
    assert [value[f"solved@{k}"] for k in (1, 10, 30)] == pytest.approx([1 / 6, 3 / 6, 3 / 6])
    assert "solved@100" not in value and value["resolved"] == 0.5 and value["executions"] == 15
    assert value["first/tier"] == pytest.approx(5 / 6) and value["final/tier"] == pytest.approx((15 + 4) / 6)
    assert value["no-op/tier"] == 0 and value["no-op/token_accuracy"] == pytest.approx(0.9)
    assert value["search/convergence_rate"] == pytest.approx(4 / 6)
    assert all(score["n"] == 6 and score["low"] <= score["value"] <= score["high"] for score in found.values())
    with pytest.raises(ValueError, match="no instance"):
        held_out.scores([])


def test_groups_hold_every_instance():
    sizes = {what: {name: found["resolved"]["n"] for name, found in held_out.by(RUNS, what).items()}
             for what in ("domain", "kind")}
    assert sizes == {"domain": {"text": 4, "web": 2}, "kind": {"a": 6, "b": 1}}
    thirds = held_out.by(RUNS, "complexity")
    assert [found["resolved"]["n"] for found in thirds.values()] == [2, 2, 2] and list(thirds)[0].startswith("below")
    assert list(held_out.by(RUNS, "language")) == ["python"]
    with pytest.raises(ValueError, match="expected domain, language, kind or complexity"):
        held_out.by(RUNS, "colour")
