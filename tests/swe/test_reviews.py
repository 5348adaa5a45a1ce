"""Verdicts survive, nothing is overwritten, and what they teach is what people said."""

import json
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.swe import diffs, reviews
from hrm_lab.swe.edits import apply, candidates
from hrm_lab.swe.evidence import Evidence

PROGRAM = "def clamp(x, low, high):\n    if x > high:\n        return low\n    return max(x, low)\n"
KNOWN = Evidence(("t::a",), ("t::b",), {"t::a": "AssertionError: assert 1 == 3"}, {2: 0.7, 3: 1.0}, 1)


def found(program, fixed, *more):
    """A report whose edits lead from the program over `fixed` to the last of `more`."""
    steps, text = [], program
    for wanted in (fixed, *more):
        steps.append(next(edit for edit in candidates(text) if apply(text, edit) == wanted))
        text = wanted
    return SimpleNamespace(patch=diffs.make(program, text, "clamp.py"), program=text, evidence=KNOWN, executions=7,
                           outcome=SimpleNamespace(edits=tuple(steps)), tests_after={"t::a": "passed"}, resolved=True)


RIGHT = PROGRAM.replace("return low", "return high")
WRONG = PROGRAM.replace("x > high", "x >= high")
ODD = PROGRAM.replace("return low", "return x if x < high else high")


@pytest.fixture
def db(tmp_path):
    connection = reviews.connect(tmp_path / "reviews.sqlite")
    yield connection
    connection.close()


def test_a_proposal_comes_back_as_it_went_in_and_once(db):
    report = found(PROGRAM, RIGHT)
    number = reviews.propose(db, report, file="clamp.py", instance_id="a.1", model="m")
    assert reviews.propose(db, report, file="clamp.py") == number
    (one,) = reviews.proposals(db)
    assert (one.program, one.fixed, one.edits) == (PROGRAM, RIGHT, report.outcome.edits)
    assert one.evidence == KNOWN and one.tests == {"t::a": "passed"} and one.instance_id == "a.1"


def test_the_last_verdict_of_a_reviewer_counts_and_none_is_lost(db, tmp_path):
    number = reviews.propose(db, found(PROGRAM, WRONG), file="clamp.py")
    reviews.decide(db, number, "accept", "ada")
    reviews.decide(db, number, "edit", "ada", fixed=RIGHT, comment="the other bound")
    reviews.decide(db, number, "reject", "bob")
    assert reviews.export(db, tmp_path / "out.jsonl") == 2
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["reviewer"], row["verdict"], row["fixed"]) for row in rows] == [("ada", "edit", RIGHT),
                                                                                 ("bob", "reject", "")]
    assert rows[0]["comment"] == "the other bound" and rows[0]["proposed"] == WRONG
    assert db.execute("select count(*) from reviews").fetchone()[0] == 3
    assert reviews.proposals(db, "ada") == [] and len(reviews.proposals(db, "eve")) == 1


@pytest.mark.parametrize(("arguments", "said"), [
    ((1, "maybe", "ada"), "verdict: 'maybe'"), ((1, "accept", " "), "reviewer: empty"),
    ((9, "accept", "ada"), "proposal: 9 is not there")])
def test_wrong_verdicts_are_refused(db, arguments, said):
    reviews.propose(db, found(PROGRAM, WRONG), file="clamp.py")
    with pytest.raises(ValueError, match=said):
        reviews.decide(db, *arguments)
    assert reviews.verdicts(db) == []


@pytest.mark.parametrize(("text", "said"), [("def f(:", "line 1"), (PROGRAM, "the buggy"), (WRONG, "or the proposed")])
def test_an_edit_must_be_a_new_program(db, text, said):
    number = reviews.propose(db, found(PROGRAM, WRONG), file="clamp.py")
    with pytest.raises(ValueError, match=said):
        reviews.decide(db, number, "edit", "ada", fixed=text)


def test_a_report_without_a_patch_is_refused(db):
    with pytest.raises(ValueError, match="no patch"):
        reviews.propose(db, SimpleNamespace(patch="", resolved=False), file="clamp.py")


def test_other_files_are_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.txt"
    path.write_text("this is no database at all, but long enough to be one" * 20)
    with pytest.raises(ValueError, match="expected a file of reviews"):
        reviews.connect(path)
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("create table things (a)")
    other.commit()
    other.close()
    with pytest.raises(ValueError, match="version 0"):
        reviews.connect(tmp_path / "other.sqlite")
    assert path.read_text().startswith("this is no")


def row(verdict, proposed, fixed="", reviewer="ada"):
    edits = [vars(edit) for edit in found(PROGRAM, proposed).outcome.edits]
    return {"program": PROGRAM, "proposed": proposed, "edits": edits, "verdict": verdict, "reviewer": reviewer,
            "fixed": {"accept": proposed, "reject": ""}.get(verdict, fixed), "evidence": vars(KNOWN)}


def test_lessons_say_what_is_right_and_what_was_rejected():
    (lesson,), counts = reviews.lessons([row("reject", WRONG), row("edit", WRONG, RIGHT), row("accept", RIGHT)])
    assert apply(PROGRAM, lesson.right) == RIGHT and [apply(PROGRAM, edit) for edit in lesson.wrong] == [WRONG]
    assert lesson.evidence == KNOWN and (counts["accept"], counts["edit"], counts["reject"]) == (1, 1, 1)


def test_what_cannot_be_taught_is_counted():
    taught, counts = reviews.lessons([row("accept", RIGHT), row("accept", WRONG, reviewer="bob")])
    assert taught == [] and counts["disagree"] == 1
    ((lesson,), counts) = reviews.lessons([row("edit", WRONG, "def clamp(*a):\n    return sorted(a)[1]\n")])
    assert lesson.right is None and counts["outside"] == 1
    ((lesson,), counts) = reviews.lessons([row("reject", WRONG)])
    assert lesson.right is None and len(lesson.wrong) == 1 and counts["outside"] == 0


def test_two_edits_are_two_lessons():
    report = found(PROGRAM, WRONG, WRONG.replace("return low", "return high"))
    one = row("accept", WRONG) | {"edits": [vars(edit) for edit in report.outcome.edits], "fixed": report.program}
    taught, _ = reviews.lessons([one])
    assert [apply(lesson.program, lesson.right) for lesson in taught] == [WRONG, report.program]


def test_examples_put_the_repair_first_and_the_rejected_among_its_rivals(tmp_path):
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [row("reject", WRONG),
                                                                                row("accept", RIGHT)]))
    (one,), counts = reviews.examples(tmp_path / "r.jsonl")
    assert counts["examples"] == 1 and len(one.kind) == len(one.weight) > 10 and one.weight[0] == 0
    again = reviews.examples(tmp_path / "r.jsonl")[0][0]
    assert np.array_equal(one.span, again.span)


@given(st.text(max_size=60))
def test_no_patch_writes_html_of_its_own(text):
    shown = reviews.coloured(text)
    assert shown.count("<span") == len(text.splitlines()) and "<script" not in shown


def test_the_panel_stores_what_is_pressed(db):
    pytest.importorskip("ipywidgets")
    for wrong in (WRONG, ODD.replace("x if x < high else high", "x")):
        reviews.propose(db, found(PROGRAM, wrong), file="<b>.py")
    box = reviews.panel(db, "ada")
    view, text, comment, buttons, status = box.children
    accept, edit, reject = buttons.children
    assert "&lt;b&gt;.py" in view.value and "2 to review" in view.value
    edit.click()
    assert "or the proposed one" in status.value and reviews.verdicts(db) == []
    text.value, comment.value = RIGHT, "so"
    edit.click()
    reject.click()
    assert [(one["verdict"], one["comment"]) for one in reviews.verdicts(db)] == [("edit", "so"), ("reject", "")]
    assert accept.disabled and "Nothing waits" in view.value
