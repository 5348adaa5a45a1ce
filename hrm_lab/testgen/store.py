"""People's verdicts on generated tests: append-only SQLite, exported as JSON lines, turned into the next training set.

A proposal is a requirement with the test that a model wrote; a reviewer accepts it, edits it (gives the test as it
should be) or rejects it, with a reason. Unusual: the database itself refuses to change or delete a row; a reviewer's
last verdict counts, and earlier ones stay. A new model takes over only if `promote` shows on a frozen test set that it
is not worse.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from hrm_lab import metrics, review_store
from hrm_lab.review_store import VERDICTS

from . import gherkin
from .judge import Verdict
from .records import Record, check, key

REASONS = ("wrong value", "missing boundary", "wrong outcome", "not in the requirement", "cannot be run",
           "ambiguous requirement", "wording", "other")
NEW_VERDICTS = 25  # that make retraining due
WINDOW, DROP = 30, 0.10  # verdicts looked at for acceptance, and the fall that makes retraining due
MARGIN = 0.02  # the loss that a promotion must rule out
VERSION = 1
FROZEN = "\n".join(f"create trigger {table}_{event} before {event} on {table} begin select raise(abort, "
                   f"'{table} are append-only'); end;"
                   for table in ("proposals", "reviews") for event in ("update", "delete"))
SCHEMA = f"""
create table proposals (id integer primary key, key text not null unique, record text not null, proposed text not null,
    checkpoint text not null, scores text not null, created text not null);
create table reviews (id integer primary key, proposal integer not null references proposals, reviewer text not null,
    verdict text not null check (verdict in {VERDICTS}), fixed text not null,
    reason text not null check (reason in {('', *REASONS)}), comment text not null, created text not null);
{FROZEN}
"""


@dataclass(frozen=True)
class Proposal:
    """A generated test that waits for a verdict; `scores` are those of the judge, if it could run the test."""

    id: int
    record: Record
    proposed: str
    checkpoint: str
    scores: dict


def connect(path: Path | str) -> sqlite3.Connection:
    """Open the file of verdicts, or make it. Raises ValueError: a file of another kind or version."""
    return review_store.connect(path, SCHEMA, VERSION, "verdicts on tests")


def propose(db: sqlite3.Connection, record: Record, text: str, *, checkpoint: str = "",
            verdict: Verdict | None = None) -> int:
    """Store a generated test for the requirement of `record`; its id. The same test of one checkpoint is stored once.

    The record's own target is not stored: a reviewer must not see it. Raises ValueError: an empty text.
    """
    check(record, f"record {record.id}")
    if not text.strip():
        raise ValueError(f"record {record.id}: an empty test; expected a text to be reviewed")
    about = asdict(record)
    about.pop("target")
    row = {"key": sha256(f"{record.input}\0{text}\0{checkpoint}".encode()).hexdigest(),
           "record": json.dumps(about, ensure_ascii=False), "proposed": text, "checkpoint": checkpoint,
           "scores": json.dumps(asdict(verdict) if verdict else {})}
    return review_store.propose(db, row)


def proposals(db: sqlite3.Connection, reviewer: str | None = None) -> list[Proposal]:
    """All proposals in their order; with a reviewer, those on which this one has no verdict yet.

    The target of each record is the proposed text.
    """
    return [Proposal(row["id"], Record(**json.loads(row["record"]), target=row["proposed"]), row["proposed"],
                     row["checkpoint"], json.loads(row["scores"])) for row in review_store.open_proposals(db, reviewer)]


def decide(db: sqlite3.Connection, proposal: int, verdict: str, reviewer: str, *, fixed: str = "", reason: str = "",
           comment: str = ""):
    """Store a verdict. `fixed`: for "edit" the test as it should be; `reason`: one of `REASONS`, not for "accept".

    Raises ValueError: a verdict or reason that is none, no reviewer, no such proposal, an edited test that does not
    parse or is the proposed one.
    """
    row = review_store.proposed(db, proposal, verdict, reviewer)
    if reason not in (("",) if verdict == "accept" else REASONS):
        raise ValueError(f"reason: {reason!r}; expected " + ("none of an accepted test" if verdict == "accept" else
                                                             f"one of {', '.join(REASONS)}"))
    if verdict == "edit":
        if why := gherkin.valid(fixed):
            raise ValueError(f"fixed: {why}; expected a test in Gherkin")
        if key(fixed) == key(row["proposed"]):
            raise ValueError("fixed: the text is the proposed one; expected another, or accept or reject")
    fixed = {"accept": row["proposed"], "edit": fixed, "reject": ""}[verdict]
    with db:
        db.execute("insert into reviews (proposal, reviewer, verdict, fixed, reason, comment, created) "
                   "values (?, ?, ?, ?, ?, ?, ?)",
                   (proposal, reviewer.strip(), verdict, fixed, reason, comment, review_store.now()))


def verdicts(db: sqlite3.Connection) -> list[dict]:
    """The last verdict of each reviewer on each proposal, oldest first; what `collector.collect` reads."""
    rows = db.execute("""
        select p.record, p.proposed, p.checkpoint, p.scores, r.reviewer, r.verdict, r.fixed, r.reason, r.comment,
               r.created
        from reviews r join proposals p on p.id = r.proposal
        where r.id in (select max(id) from reviews group by proposal, reviewer) order by r.id""")
    found = []
    for row in rows:
        record = json.loads(row["record"])
        plain = {name: row[name] for name in ("proposed", "checkpoint", "reviewer", "verdict", "fixed", "reason",
                                              "comment", "created")}
        found.append({"requirement": record.pop("input"), **record, **plain, "scores": json.loads(row["scores"]),
                      "source": f"feedback:{row['reviewer']}"})
    return found


def export(db: sqlite3.Connection, path: Path | str) -> int:
    """Write `verdicts` as JSON lines, whole or not at all; how many."""
    return review_store.export(verdicts(db), path)


@dataclass(frozen=True)
class Preference:
    """Two tests of one requirement, of which people want the first."""

    requirement: str
    chosen: str
    rejected: str


def preferences(rows: Iterable[dict]) -> list[Preference]:
    """(edited, original) of each edit, and (wanted, rejected) wherever one requirement has both; each pair once."""
    wanted: dict[str, list[str]] = {}
    unwanted: dict[str, list[str]] = {}
    for row in rows:
        said = row["requirement"]
        if row["verdict"] != "reject":
            wanted.setdefault(said, []).append(row["fixed"])
        if row["verdict"] != "accept":
            unwanted.setdefault(said, []).append(row["proposed"])
    pairs = [Preference(said, good, bad) for said, goods in wanted.items() for good in goods
             for bad in unwanted.get(said, []) if key(good) != key(bad)]
    return list(dict.fromkeys(pairs))


# ---------------------------------------------------------------- when to train, what to keep


def retrain_due(said: Sequence[str], trained_on: int) -> str:
    """Why it is time to train again, or "". `said`: all verdicts, oldest first; the first `trained_on` were used."""
    new = len(said) - trained_on
    if new >= NEW_VERDICTS:
        return f"{new} new verdicts (from {NEW_VERDICTS} on)"
    if new > 0 and len(said) >= 2 * WINDOW:
        share = [np.mean([verdict == "accept" for verdict in part])
                 for part in (said[-2 * WINDOW:-WINDOW], said[-WINDOW:])]
        if share[0] - share[1] >= DROP - 1e-9:
            return (f"acceptance fell from {100 * share[0]:.0f} % to {100 * share[1]:.0f} % "
                    f"over the last {WINDOW} verdicts")
    return ""


@dataclass(frozen=True)
class Promotion:
    """Whether the new model takes over; the mean change of each score with its interval; why not, or ""."""

    promoted: bool
    change: dict[str, dict]
    reason: str


def promote(old: Mapping[str, Verdict], new: Mapping[str, Verdict], margin: float = MARGIN) -> Promotion:
    """Compare two models on one frozen test set; verdicts by record id. Paired bootstrap of the mean change.

    The new model takes over if, for each of valid, correct and mutation, the 95 % interval rules out a loss of
    more than `margin`. Raises ValueError: not the same records, or none.
    """
    if not old or set(old) != set(new):
        raise ValueError(f"promote: verdicts on {len(old)} and {len(new)} records; expected the same ones, at least 1")
    change, worse = {}, []
    for name in ("valid", "correct", "mutation"):
        gain = np.array([float(getattr(new[i], name)) - float(getattr(old[i], name)) for i in sorted(old)])
        change[name] = metrics.bootstrap(gain, metrics.DIFFERENCE)
        if change[name]["low"] < -margin:
            worse.append(f"{name} {metrics.format_score(change[name])}")
    return Promotion(not worse, change, f"a loss is not ruled out: {'; '.join(worse)}" if worse else "")
