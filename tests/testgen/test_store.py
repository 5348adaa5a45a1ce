"""Verdicts survive, nothing is overwritten, and a worse model never takes over."""

import json
import sqlite3
from dataclasses import replace

import pytest

from hrm_lab.testgen import collector, reviewing, store
from hrm_lab.testgen.domain import ROOT, draw, load
from hrm_lab.testgen.judge import Verdict, judge

MEDIA = load(ROOT / "media")
(RECORD,) = draw(MEDIA, 1, 4, families=("retries",))
TRIES = int(RECORD.slots["tries"])
WEAK = RECORD.target.replace(f"| {TRIES} |", "| 0 |")
WRONG = RECORD.target.replace(f"{TRIES} | delivered", f"{TRIES} | escalated")
BROKEN = RECORD.target.replace("When", "Wenn")


@pytest.fixture
def db(tmp_path):
    connection = store.connect(tmp_path / "verdicts.sqlite")
    yield connection
    connection.close()


def test_a_proposal_comes_back_once_and_without_the_target(db):
    number = store.propose(db, RECORD, WRONG, checkpoint="epoch-03", verdict=judge(RECORD, WRONG, MEDIA))
    assert store.propose(db, RECORD, WRONG, checkpoint="epoch-03") == number
    assert store.propose(db, RECORD, WRONG, checkpoint="epoch-04") != number
    one = store.proposals(db)[0]
    assert one.record == replace(RECORD, target=WRONG)
    assert one.checkpoint == "epoch-03" and one.scores["correct"] is False
    assert RECORD.target not in "\n".join(db.iterdump())


def test_the_last_verdict_of_a_reviewer_counts_and_none_is_lost(db, tmp_path):
    number = store.propose(db, RECORD, WRONG)
    store.decide(db, number, "accept", "ada")
    store.decide(db, number, "edit", "ada", fixed=RECORD.target, reason="wrong outcome", comment="see <b>")
    store.decide(db, number, "reject", "bob", reason="other")
    assert store.export(db, tmp_path / "out.jsonl") == 2
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["reviewer"], row["verdict"], row["fixed"], row["reason"]) for row in rows] == [
        ("ada", "edit", RECORD.target, "wrong outcome"), ("bob", "reject", "", "other")]
    assert db.execute("select count(*) from reviews").fetchone()[0] == 3
    assert store.proposals(db, "ada") == [] and len(store.proposals(db, "eve")) == 1


@pytest.mark.parametrize("change", ["update reviews set verdict = 'accept'", "delete from reviews",
                                    "update proposals set proposed = ''", "delete from proposals"])
def test_the_database_itself_refuses_to_forget(db, change):
    store.decide(db, store.propose(db, RECORD, WRONG), "reject", "ada", reason="other")
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        db.execute(change)
    assert len(store.verdicts(db)) == 1


@pytest.mark.parametrize("say, named", [
    ({"verdict": "maybe"}, "verdict"), ({"verdict": "reject"}, "reason"),
    ({"verdict": "reject", "reason": "x"}, "reason"),
    ({"verdict": "accept", "reason": "other"}, "reason"), ({"verdict": "accept", "reviewer": " "}, "reviewer"),
    ({"verdict": "edit", "fixed": "nonsense", "reason": "other"}, "fixed"),
    ({"verdict": "accept", "proposal": 9}, "proposal"),
    ({"verdict": "edit", "fixed": WRONG + " \n", "reason": "other"}, "fixed"),
])
def test_a_verdict_that_makes_no_sense_is_refused(db, say, named):
    number = store.propose(db, RECORD, WRONG)
    with pytest.raises(ValueError, match=named):
        store.decide(db, **{"proposal": number, "reviewer": "ada"} | say)
    assert store.verdicts(db) == []


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing of the kind" * 99)
    with pytest.raises(ValueError, match="expected a file of verdicts"):
        store.connect(tmp_path / "x")
    other = sqlite3.connect(tmp_path / "y")
    other.execute("create table t (a)")
    other.close()
    with pytest.raises(ValueError, match="version 0"):
        store.connect(tmp_path / "y")


def test_verdicts_become_weighted_examples_and_preferences(db, tmp_path):
    others = draw(MEDIA, 2, 5, families=("sla_hours",))
    store.decide(db, store.propose(db, RECORD, WRONG), "edit", "ada", fixed=RECORD.target, reason="wrong outcome")
    store.decide(db, store.propose(db, RECORD, BROKEN), "reject", "ada", reason="cannot be run")
    store.decide(db, store.propose(db, others[0], others[0].target), "accept", "ada")
    store.decide(db, store.propose(db, others[1], BROKEN), "reject", "ada", reason="cannot be run")
    store.export(db, tmp_path / "feedback.jsonl")
    found = collector.collect([tmp_path / "feedback.jsonl"], strict=True)
    assert [(r.input, r.target, r.weight) for r in found.records] == [
        (RECORD.input, RECORD.target, 2.0), (others[0].input, others[0].target, 1.0)]
    assert {(r.group, r.family, r.source) for r in found.records} == {
        (r.group, r.family, "feedback:ada") for r in (RECORD, others[0])}
    assert found.counts["feedback.jsonl"] == {"kept": 2, "rejected by a reviewer": 2}
    assert store.preferences(store.verdicts(db)) == [store.Preference(RECORD.input, RECORD.target, WRONG),
                                                     store.Preference(RECORD.input, RECORD.target, BROKEN)]


def test_when_to_train_again():
    assert store.retrain_due(["accept"] * 24, 0) == "" and "25 new" in store.retrain_due(["accept"] * 25, 0)
    assert store.retrain_due(["accept"] * 40, 16) == ""
    falling = ["accept"] * 30 + ["accept"] * 27 + ["reject"] * 3
    assert "from 100 % to 90 %" in store.retrain_due(falling, 59)
    assert store.retrain_due(falling, 60) == "" and store.retrain_due(["reject", *falling[1:]], 59) == ""


def scores(*correct):
    return {str(i): Verdict(True, 1.0, True, bool(x), float(x), "") for i, x in enumerate(correct)}


def test_a_model_takes_over_only_if_a_loss_is_ruled_out():
    old = scores(*[1] * 80, *[0] * 20)
    assert store.promote(old, old).promoted and store.promote(old, scores(*[1] * 100)).promoted
    worse = store.promote(old, scores(*[1] * 70, *[0] * 30))
    assert not worse.promoted and "correct" in worse.reason and worse.change["correct"]["high"] < 0
    mixed = store.promote(old, scores(*[0] * 10, *[1] * 80, *[0] * 10))  # as many right, but other ones
    assert not mixed.promoted and mixed.change["correct"]["value"] == 0
    invalid = {i: replace(v, valid=False) for i, v in old.items()}
    assert "valid" in store.promote(old, invalid).reason
    for other in ({}, scores(1)):
        with pytest.raises(ValueError, match="same ones"):
            store.promote(old, other)


@pytest.mark.parametrize("text, wanted", [(RECORD.target, ("accept", "", "")),
                                          (WEAK, ("edit", RECORD.target, "missing boundary")),
                                          (WRONG, ("edit", RECORD.target, "wrong outcome")),
                                          (BROKEN, ("reject", "", "cannot be run")),
                                          (RECORD.target.replace(RECORD.slots["partner"], "Nobody"),
                                           ("edit", RECORD.target, "wrong value"))])
def test_the_simulated_reviewer_says_what_the_executor_finds(db, text, wanted):
    said, fixed, reason = reviewing.simulated_reviewer(RECORD, text, MEDIA)
    assert (said, fixed, reason) == wanted
    store.decide(db, store.propose(db, RECORD, text), said, "executor", fixed=fixed, reason=reason)


@pytest.mark.parametrize("text, said", [(RECORD.target, "accept"), (WEAK, "edit"), (BROKEN, "edit"), ("", "edit")])
def test_the_simulated_reviewers_verdict_is_kept_once(db, text, said):
    assert [reviewing.simulate(db, RECORD, text, MEDIA) for _ in range(2)] == [said, said]
    rows = store.verdicts(db)
    assert [row["verdict"] for row in rows] == ([said] if text else [])
    assert all(row["fixed"] == RECORD.target for row in rows)


def test_the_panel_escapes_what_it_shows_and_stores_each_press(db):
    evil = replace(RECORD, input="<script>alert(1)</script>", id="<img>")
    store.propose(db, evil, RECORD.target + "# </pre><b>\n")
    store.propose(db, RECORD, WRONG)
    box = reviewing.panel(db, "ada")
    view, text, reason, _, buttons, status = box.children
    assert "<script>" not in view.value and "<img>" not in view.value and "&lt;/pre&gt;" in view.value
    buttons.children[2].click()
    assert "reason" in status.value and not store.verdicts(db)
    reason.value = "wording"
    buttons.children[2].click()
    assert "&lt;img&gt;: reject" in status.value
    text.value, reason.value = RECORD.target, "wrong outcome"
    buttons.children[1].click()
    assert [(row["verdict"], row["reason"]) for row in store.verdicts(db)] == [("reject", "wording"),
                                                                               ("edit", "wrong outcome")]
    assert buttons.children[0].disabled and "Nothing waits" in view.value
