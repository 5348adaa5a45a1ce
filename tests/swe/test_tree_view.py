"""The drawn search: every execution that is promised, in order, with its sign, in valid markup, live and at the end."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.swe import tree_view
from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.feedback import CLASSES
from hrm_lab.swe.orders import KindBalanced
from hrm_lab.swe.search import Step, search
from hrm_lab.swe.tree_view import SIGNS, alt, drawn, live, tree

PROGRAM = "def larger(a, b):\n    if a < b:\n        return a\n    return a\n"
TESTS = "assert larger(1, 2) == 2\nassert larger(2, 1) == 2\nassert larger(3, 3) == 3\n"


@pytest.fixture(scope="module")
def found():
    edits = candidates(PROGRAM)
    return search(PROGRAM, TESTS, KindBalanced(0), budget=30, probe=False, edits=edits, depth=1, more=5)


def svg(html):
    return ElementTree.fromstring(html[html.index("<svg"):html.index("</svg>") + 6])


def texts(html):
    return [node.text or "" for node in svg(html).iter("text")]


def test_every_execution_is_drawn_once_with_what_it_changes(found):
    shown = texts(tree(found.trace, PROGRAM))
    for number, step in enumerate(found.trace, 1):
        assert shown.count(str(number)) == 1
        assert " ".join(step.edit.text.split())[:10] in " ".join(shown)
        assert f"line {step.line}" in shown and step.edit.kind in shown


def test_the_alternative_text_says_how_it_ended(found):
    words = alt(found.trace, "Search")
    assert found.resolved and "passes all tests" in words
    step = next(step for step in found.trace if step.resolved)
    assert f"number {found.trace.index(step) + 1}, {step.edit.kind} in line {step.line}" in words
    assert apply(PROGRAM, step.edit) != PROGRAM and svg(tree(found.trace, PROGRAM)).get("aria-label") == words


def step(outcome="same", text="x", line=1, parent=-1, passed=False):
    return Step(parent, Edit("change name", 0, 3, text), line, -1.0, outcome, 0.0,
                ("passed" if passed else "failed",), ("",))


@pytest.mark.parametrize("outcome", CLASSES)
def test_every_class_of_outcome_has_a_sign_that_is_explained(outcome):
    sign, colour, what = SIGNS[outcome]
    html = tree([step(outcome)], "abc = 1")
    assert sign in texts(html) and what in html[html.index("</svg>"):] and colour in html


def test_signs_differ_without_their_colours():
    assert len({sign for sign, _, _ in SIGNS.values()}) == len(SIGNS)


@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.text(max_size=90), st.integers(1, 9), st.integers(-1, 3)),
                max_size=60))
def test_any_trace_gives_valid_markup(rows):
    steps = [step(*row) for row in rows if row[1].isprintable()]
    html = tree(steps, "abc <&> 1", "a <b> & 'c'")
    assert svg(html) is not None and html.count("<figure") == html.count("</figure>") == 1


@given(st.integers(0, 200), st.integers(2, 50))
def test_the_first_and_the_last_are_drawn(n, most):
    found = drawn([None] * n, most)
    assert len(found) == len(set(found)) == min(n, most)
    assert not n or found[0] == 0 and found[-1] == n - 1


def test_what_is_left_out_is_said():
    html = tree([step(text=str(n)) for n in range(90)], most=20)
    assert "90 executions; drawn: the first 10 and the last 10" in html and len(svg(html).findall("rect")) == 20


def test_edits_of_a_partly_mended_program_say_after_which():
    shown = texts(tree([step("mended"), step(parent=0, text="new", passed=True)], "abc"))
    assert "line 1, after 1" in shown and "new" in shown


def test_the_live_view_is_one_display_that_is_replaced(monkeypatch, found):
    kept = []

    class Handle:
        def update(self, html):
            kept.append(html.data)

    monkeypatch.setattr(tree_view, "display", lambda html, display_id: kept.append(html.data) or Handle())
    watch = live(PROGRAM)
    again = search(PROGRAM, TESTS, KindBalanced(0), budget=30, probe=False, depth=1, more=5, watch=watch)
    assert len(kept) == 1 + len(again.trace) and kept[-1] == tree(again.trace, PROGRAM)
    assert kept[0] == tree([], PROGRAM)


def test_without_a_notebook_the_live_view_stays_silent(monkeypatch):
    monkeypatch.setattr(tree_view, "display", lambda html, display_id: None)
    live()(step())
