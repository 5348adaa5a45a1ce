"""People's verdicts on proposed patches: kept in SQLite, exported as JSON lines, turned into training examples.

A proposal is a program and the patch that a search found for it; a reviewer accepts it, edits it (gives the program as
it should be) or rejects it. Nothing is overwritten: every verdict is kept, a reviewer's last one counts, and the export
says who said what. Unusual: an edited patch trains the policy only if one of the candidates leads there, and a rejected
one only as a rival of what is right; the rest is counted, not hidden.
"""

import ast
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from html import escape
from pathlib import Path
from random import Random

import numpy as np

from hrm_lab import review_store
from hrm_lab.review_store import VERDICTS

from . import diffs
from .edits import Edit, apply, candidates
from .evidence import Evidence
from .instances import InstanceError, json_rows
from .languages import normalise

VERSION = 1
SCHEMA = f"""
create table proposals (id integer primary key, key text not null unique, instance_id text not null, file text not null,
    program text not null, fixed text not null, patch text not null, edits text not null, evidence text not null,
    tests text not null, executions integer not null, model text not null, created text not null);
create table reviews (id integer primary key, proposal integer not null references proposals, reviewer text not null,
    verdict text not null check (verdict in {VERDICTS}), fixed text not null, comment text not null,
    created text not null);
"""


@dataclass(frozen=True)
class Proposal:
    """A patch that waits for a verdict. `edits` lead from `program` to `fixed`; `tests` passed after it."""

    id: int
    instance_id: str
    file: str
    program: str
    fixed: str
    patch: str
    edits: tuple[Edit, ...]
    evidence: Evidence
    tests: dict[str, str]
    executions: int
    model: str


def connect(path: Path | str) -> sqlite3.Connection:
    """Open the file of reviews, or make it. Raises ValueError: a file of another kind or version."""
    return review_store.connect(path, SCHEMA, VERSION, "reviews")


def propose(db: sqlite3.Connection, report, *, file: str, instance_id: str = "", model: str = "") -> int:
    """Store the patch of a `repair.Report`; its id. The same patch of the same program is stored once.

    Raises ValueError: a report without a patch.
    """
    if not report.patch:
        raise ValueError(f"report of {file}: no patch (resolved: {report.resolved}); expected one to be reviewed")
    edits, known = report.outcome.edits, report.evidence
    program = diffs.apply(diffs.reverse(report.patch), report.program)
    row = {"key": sha256(f"{program}\0{report.program}".encode()).hexdigest(), "instance_id": instance_id,
           "file": file, "program": program, "fixed": report.program, "patch": report.patch,
           "edits": json.dumps([asdict(edit) for edit in edits]), "evidence": json.dumps(asdict(known)),
           "tests": json.dumps(report.tests_after), "executions": report.executions, "model": model}
    return review_store.propose(db, row)


def proposals(db: sqlite3.Connection, reviewer: str | None = None) -> list[Proposal]:
    """All proposals in their order; with a reviewer, those on which this one has no verdict yet."""
    return [Proposal(row["id"], row["instance_id"], row["file"], row["program"], row["fixed"], row["patch"],
                     tuple(Edit(**edit) for edit in json.loads(row["edits"])), evidence_of(row["evidence"]),
                     json.loads(row["tests"]), row["executions"], row["model"])
            for row in review_store.open_proposals(db, reviewer)]


def evidence_of(text: str) -> Evidence:
    known = json.loads(text)
    return Evidence(tuple(known["failing"]), tuple(known["passing"]), known["messages"],
                    {int(line): value for line, value in known["suspicion"].items()}, known["executions"])


def decide(db: sqlite3.Connection, proposal: int, verdict: str, reviewer: str, *, fixed: str = "", comment: str = ""):
    """Store a verdict. `fixed`: for "edit" the program as it should be.

    Raises ValueError: a verdict that is none, no reviewer, no such proposal, an edited program that does not parse or
    is the buggy or the proposed one.
    """
    row = review_store.proposed(db, proposal, verdict, reviewer)
    if verdict == "edit":
        try:
            ast.parse(fixed)
        except SyntaxError as error:
            raise ValueError(f"fixed: line {error.lineno}: {error.msg}; expected Python") from None
        if fixed in (row["program"], row["fixed"]):
            raise ValueError("fixed: the text is the buggy or the proposed one; expected a third, or accept or reject")
    fixed = {"accept": row["fixed"], "edit": fixed, "reject": ""}[verdict]
    with db:
        db.execute("insert into reviews (proposal, reviewer, verdict, fixed, comment, created) "
                   "values (?, ?, ?, ?, ?, ?)",
                   (proposal, reviewer.strip(), verdict, fixed, comment, review_store.now()))


def verdicts(db: sqlite3.Connection) -> list[dict]:
    """The last verdict of each reviewer on each proposal, with what it is about; rows of the export."""
    rows = db.execute("""
        select p.instance_id, p.file, p.program, p.fixed as proposed, p.patch, p.edits, p.evidence, p.tests,
               p.executions, p.model, r.reviewer, r.verdict, r.fixed, r.comment, r.created
        from reviews r join proposals p on p.id = r.proposal
        where r.id in (select max(id) from reviews group by proposal, reviewer) order by r.id""")
    return [{name: json.loads(row[name]) if name in ("edits", "evidence", "tests") else row[name]
             for name in row.keys()} for row in rows]  # noqa: SIM118 (a row yields values)


def export(db: sqlite3.Connection, path: Path | str) -> int:
    """Write `verdicts` as JSON lines, whole or not at all; how many."""
    return review_store.export(verdicts(db), path)


# ---------------------------------------------------------------- for the next round of training


@dataclass(frozen=True)
class Lesson:
    """What people said of one program: `right` is the edit to take (None: unknown), `wrong` were rejected."""

    program: str
    right: Edit | None
    wrong: tuple[Edit, ...]
    evidence: Evidence


def lessons(rows: Iterable[dict]) -> tuple[list[Lesson], dict[str, int]]:
    """Lessons of exported rows, and counts: of each verdict, "disagree" (left out), "outside" (no candidate is right).

    Where reviewers want different programs, none is taught. A patch of two edits gives two lessons.
    """
    found: dict[str, dict] = {}
    counts = dict.fromkeys((*VERDICTS, "disagree", "outside"), 0)
    for row in rows:
        counts[row["verdict"]] += 1
        one = found.setdefault(row["program"], {"wanted": {}, "rejected": set(), "row": row})
        edits = tuple(Edit(**edit) for edit in row["edits"])
        if row["verdict"] == "reject":
            one["rejected"].add(edits[0])
        else:
            one["wanted"][row["fixed"]] = edits
            one["rejected"] |= {edits[0]} if row["verdict"] == "edit" and len(edits) == 1 else set()
    made = []
    for program, one in found.items():
        known = evidence_of(json.dumps(one["row"]["evidence"]))
        if len({normalise(text, "python") for text in one["wanted"]}) > 1:
            counts["disagree"] += 1
            continue
        path: list[tuple[str, Edit | None]] = [(program, None)]
        for fixed, edits in one["wanted"].items():
            path = way(program, fixed, edits)
            counts["outside"] += path[0][1] is None
        wrong = tuple(sorted(one["rejected"] - {path[0][1]}, key=lambda edit: (edit.start, edit.end, edit.text)))
        made += [Lesson(text, right, wrong if text == program else (), known if text == program else Evidence.none())
                 for text, right in path]
    return made, counts


def way(program: str, fixed: str, edits: tuple[Edit, ...]) -> list[tuple[str, Edit | None]]:
    """(program, edit) of each step to a program of the same tokens as `fixed`; the edit is None if there is no way."""
    wanted, steps, text = normalise(fixed, "python"), [], program
    for edit in edits:
        steps.append((text, edit))
        text = apply(text, edit)
        if normalise(text, "python") == wanted:
            return steps
    last = next((one for one in candidates(program) if normalise(apply(program, one), "python") == wanted), None)
    return [(program, last)]


def read(path: Path | str) -> list[dict]:
    """The rows that `export` wrote. Raises InstanceError naming file, line and field of one that is none."""
    wanted = {"program": str, "fixed": str, "verdict": str, "edits": list, "evidence": dict}
    parts = {"failing": list, "passing": list, "messages": dict, "suspicion": dict, "executions": int}
    found = []
    for number, row, problem in json_rows(path):
        where = f"{Path(path).name}:{number}"
        if problem or not isinstance(row, dict):
            raise InstanceError(f"{where}: {problem or 'not an object'}; expected a verdict")
        for name, kind in wanted.items():
            if not isinstance(row.get(name), kind):
                raise InstanceError(f"{where}: field {name} is {row.get(name)!r:.60}; expected {kind.__name__}")
        if row["verdict"] not in VERDICTS:
            raise InstanceError(f"{where}: field verdict is {row['verdict']!r:.40}; expected {', '.join(VERDICTS)}")
        for edit in row["edits"] or [None]:
            kinds = {"kind": str, "start": int, "end": int, "text": str}
            if not (isinstance(edit, dict) and set(edit) == set(kinds)
                    and all(type(edit[name]) is kind for name, kind in kinds.items())
                    and 0 <= edit["start"] <= edit["end"] <= len(row["program"])):
                raise InstanceError(f"{where}: field edits holds {edit!r:.60}; expected edits of the program")
        known = row["evidence"]
        if not all(isinstance(known.get(name), kind) for name, kind in parts.items()) or not all(
                line.isascii() and line.isdigit() for line in known["suspicion"]):
            raise InstanceError(f"{where}: field evidence is {known!r:.60}; expected {', '.join(parts)}")
        found.append(row)
    return found


def examples(path: Path | str, seed: int = 0) -> tuple[list, dict[str, int]]:
    """`policy_data.Example`s of an exported file (see `read`), and the counts of `lessons`.

    Row 0 is what is right, then come the rejected edits, each for itself, then a sample that stands for all others.
    """
    from .features import features
    from .policy_data import RIVALS, Example  # torch
    from .reading import Reading

    taught, counts = lessons(read(path))
    rng, made = Random(seed), []
    for lesson in taught:
        if lesson.right is None:
            continue
        first = [lesson.right, *lesson.wrong]
        others = [edit for edit in candidates(lesson.program) if edit not in first]
        rng.shuffle(others)
        edits, rows = [*first, *others], range(min(len(first) + len(others), RIVALS + 1))
        weight = np.zeros(len(rows), np.float32)
        weight[len(first):] = np.log(len(others) / max(1, len(rows) - len(first)))
        reading = Reading(lesson.program, "python", lesson.evidence)
        made.append(Example(reading.token_ids(), wide=features(reading, edits, rows=rows), weight=weight,
                            **reading.edit_ids(edits[:len(rows)])))
    return made, counts | {"examples": len(made)}


# ---------------------------------------------------------------- the notebook's view


def coloured(patch: str) -> str:
    """A unified diff as HTML; added and removed lines differ by sign and weight, too, not by colour alone."""
    style = {"+": "color:#1a7f37;font-weight:600", "-": "color:#b35900;font-weight:600", "@": "color:#57606a"}
    return "<pre>" + "\n".join(f'<span style="{style.get(line[:1], "")}">{escape(line)}</span>'
                               for line in patch.splitlines()) + "</pre>"


def panel(db: sqlite3.Connection, reviewer: str):
    """An ipywidgets box that shows one proposal after the other; each button stores a verdict and goes on."""
    import ipywidgets as widgets

    waiting = proposals(db, reviewer)
    view, status = widgets.HTML(), widgets.HTML()
    comment = widgets.Text(placeholder="why (optional)", description="comment")
    text = widgets.Textarea(description="program", layout=widgets.Layout(width="95%", height="16em"))
    buttons = {verdict: widgets.Button(description=label, tooltip=tip) for verdict, label, tip in (
        ("accept", "Accept", "the patch is right"), ("edit", "Save my version", "the program below is right"),
        ("reject", "Reject", "the patch is wrong"))}

    def show():
        one = waiting[0] if waiting else None
        view.value = (f"<b>{escape(one.file)}</b> {escape(one.instance_id)}: {len(one.tests)} tests pass after "
                      f"{one.executions} executions; {len(waiting)} to review{coloured(one.patch)}" if one else
                      "Nothing waits for a verdict.")
        text.value, comment.value = one.fixed if one else "", ""
        for widget in (*buttons.values(), text, comment):
            widget.disabled = one is None

    def press(verdict):
        try:
            decide(db, waiting[0].id, verdict, reviewer, fixed=text.value, comment=comment.value)
        except ValueError as error:
            status.value = escape(str(error))
            return
        status.value = f"{escape(waiting.pop(0).file)}: {verdict}"
        show()

    for verdict, button in buttons.items():
        button.on_click(lambda _, verdict=verdict: press(verdict))
    show()
    return widgets.VBox([view, text, comment, widgets.HBox(list(buttons.values())), status])
