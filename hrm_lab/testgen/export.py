"""What leaves the lab: feature files, a table for test-management tools, a traceability matrix, ambiguous requirements.

Unusual: a requirement that has two readings is not quietly turned into a test: it is listed with the words that make
it so, for the one who wrote it. Files are UTF-8; cells that a spreadsheet would take for a formula are quoted.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hrm_lab.files import write_atomic

from . import gherkin
from .records import Record

COLUMNS = ("ID", "Title", "Requirement", "Type", "Precondition", "Steps", "Expected Result", "Tags", "Gherkin")
VAGUE = ("fast", "quickly", "slow", "soon", "timely", "user-friendly", "easily", "appropriate", "adequate",
         "sufficient", "reasonable", "normally", "usually", "often", "some", "several", "high quality", "acceptable",
         "as needed", "if possible", "where possible", "etc", "and so on", "approximately", "recent")
WEAK = ("should", "could", "might", "ought to", "would be nice", "preferably", "ideally")
BOUND = re.compile(r"\b(within|at most|at least|up to|(?:more|less|fewer|greater|longer|shorter|larger|smaller) than|"
                   r"maximum|minimum|exceeds?)\b", re.I)
COUNTED = re.compile(r"\d|\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|none|any)\b", re.I)
UNTIL = re.compile(r"\b(until|till|by) (\d{4}-\d\d-\d\d)", re.I)
BETWEEN = re.compile(r"\bbetween (-?[\d.]*\d) and (-?[\d.]*\d)")
INCLUSIVE = re.compile(r"includ|inclusive|exclusive|\bboth\b|\blimits? pass|\boutside\b|\bexcept\b", re.I)


def file_name(record: Record) -> str:
    """A file name of letters, digits, dots, dashes and underscores only."""
    return re.sub(r"[^\w.-]+", "_", record.id, flags=re.ASCII).strip("._")[:100] + ".feature"


def feature_files(folder: Path | str, tests: Iterable[tuple[Record, str]]) -> list[Path]:
    """One .feature file a test, whole or not at all, with its requirement as a comment; the paths.

    Raises ValueError: two tests with one file name, or a text that is no valid test.
    """
    made: dict[str, str] = {}
    for record, text in tests:
        name = file_name(record)
        if name in made:
            raise ValueError(f"record {record.id}: file {name} twice; expected ids that differ")
        if why := gherkin.valid(text):
            raise ValueError(f"record {record.id}: {why}; expected a test in Gherkin")
        about = f"# requirement {record.group}: {' '.join(record.input.split())}\n"
        made[name] = about + text.rstrip() + "\n"
    for name, text in made.items():
        write_atomic(Path(folder) / name, text)
    return [Path(folder) / name for name in made]


def cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return "'" + text if text[:1] in ("=", "+", "@", "\t", "\r") or re.match(r"-[^\d\s]", text) else text


def management_csv(path: Path | str, tests: Iterable[tuple[Record, str]]) -> int:
    """A CSV as TestRail and Xray import it: one row a case (a row of an outline is a case of its own); how many."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    count = 0
    for record, text in tests:
        for number, case in enumerate(gherkin.cases(text), 1):
            by = {kind: "\n".join(words for k, words in case.steps if k == kind) for kind in ("given", "when", "then")}
            rows.writerow(map(cell, (f"{record.id}#{number}", case.name, record.group, "Acceptance", by["given"],
                                     by["when"], by["then"], " ".join(case.tags), text.strip())))
            count += 1
    write_atomic(path, out.getvalue())
    return count


def traceability(records: Iterable[Record], tests: Mapping[str, str]) -> list[dict]:
    """One row a requirement group: its wordings, the ids of its tests, its cases, and "" or what is missing.

    `tests` maps record ids to test texts; a requirement without a test is a row, too.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    rows = []
    for group, members in groups.items():
        having = [record.id for record in members if record.id in tests]
        broken = [name for name in having if gherkin.valid(tests[name])]
        cases = sum(len(gherkin.cases(tests[name])) for name in having if name not in broken)
        rows.append({"requirement": group, "text": members[0].input, "wordings": len(members), "tests": having,
                     "cases": cases, "gap": "no test" if not having else
                     f"not valid: {', '.join(broken)}" if broken else ""})
    return rows


def traceability_csv(path: Path | str, rows: Iterable[dict]):
    """The matrix as CSV, whole or not at all."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("Requirement", "Text", "Wordings", "Tests", "Cases", "Gap"))
    for row in rows:
        table.writerow(map(cell, (row["requirement"], row["text"], str(row["wordings"]), " ".join(row["tests"]),
                                  str(row["cases"]), row["gap"])))
    write_atomic(path, out.getvalue())


@dataclass(frozen=True)
class Ambiguity:
    """Why a requirement has more than one reading: the kind, the words, and the question to its author."""

    kind: str
    words: str
    question: str


def ambiguities(text: str) -> list[Ambiguity]:
    """What is unclear in a requirement, by word lists: weak verbs, vague words, a bound without a number, two readings.

    "as soon as", a conditional "Should ...", and "not until" are none of these.
    """
    found = []
    for word in WEAK:
        if re.search(rf"\b{word}\b", text):
            found.append(Ambiguity("weak verb", word, f"Is this required? {word!r} leaves it open."))
    for word in VAGUE:
        if re.search(rf"(?<!as )\b{re.escape(word)}\b", text, re.I):
            found.append(Ambiguity("vague word", word, f"What is {word!r}, as something that can be measured?"))
    if (match := BOUND.search(text)) and not COUNTED.search(text):
        found.append(Ambiguity("bound without a number", match[0], f"{match[0]!r}: which number, in which unit?"))
    match = UNTIL.search(text)
    if match and not INCLUSIVE.search(text) and not re.search(r"\b(not|no|never|nobody)\b", text[:match.start()], re.I):
        found.append(Ambiguity("two readings", match[0], f"Does {match[2]} itself belong to it?"))
    if (match := BETWEEN.search(text)) and not INCLUSIVE.search(text):
        found.append(Ambiguity("two readings", match[0], f"Are {match[1]} and {match[2]} themselves allowed?"))
    if re.search(r"\band/or\b", text, re.I):
        found.append(Ambiguity("two readings", "and/or", "All of them, or any one?"))
    return found


def ambiguous(records: Iterable[Record]) -> list[dict]:
    """The ambiguous requirements among records, each wording once: {requirement, text, kind, words, question}."""
    seen, rows = set(), []
    for record in records:
        if record.input not in seen:
            seen.add(record.input)
            rows += [{"requirement": record.group, "text": record.input, "kind": one.kind, "words": one.words,
                      "question": one.question} for one in ambiguities(record.input)]
    return rows


def deliver(folder: Path | str, tests: Mapping[str, str], records: list[Record]) -> dict[str, int]:
    """All of it in one folder: `features/`, `tests.csv`, `traceability.csv` and `ambiguous.csv`; how many of each.

    `tests` maps record ids to test texts. One that is not valid is no file and no row, but a gap in the matrix.
    """
    folder = Path(folder)
    ready = [(r, tests[r.id]) for r in records if r.id in tests and not gherkin.valid(tests[r.id])]
    files = feature_files(folder / "features", ready)
    cases = management_csv(folder / "tests.csv", ready)
    rows, unclear = traceability(records, tests), ambiguous(records)
    traceability_csv(folder / "traceability.csv", rows)
    out = io.StringIO()
    table = csv.DictWriter(out, ("requirement", "kind", "words", "question", "text"), lineterminator="\n")
    table.writeheader()
    table.writerows({name: cell(text) for name, text in row.items()} for row in unclear)
    write_atomic(folder / "ambiguous.csv", out.getvalue())
    return {"features": len(files), "cases": cases, "requirements": len(rows),
            "without a valid test": sum(bool(row["gap"]) for row in rows),
            "ambiguous": len({row["text"] for row in unclear})}
