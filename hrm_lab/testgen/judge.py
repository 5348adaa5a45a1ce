"""Run a generated test: against the reference behaviour of its requirement, and against wrong behaviours (mutants).

A test is valid if the official parser takes it, executable if every step has a step definition, correct if every case
agrees with the reference for this very requirement and the cases reach every outcome that the expected test reaches;
its mutation score is the share of mutants that at least one case tells from the reference, and 0 if it is not correct.
Unusual: no text is compared with a wanted text. Any order of rows, plain scenarios or an outline, other values: what
counts is what the test would find out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from . import gherkin
from .domain import Domain, values
from .expressions import HOLE, ExpressionError, Value, evaluate, read, show, split_style, styled
from .families import COLUMN, Family
from .records import Record, key

TYPED = {"number": r"[+-]?\d+(?:\.\d+)?", "date": r"\d{4}-\d\d-\d\d"}
LONGEST = 400  # characters of a step: beyond, matching patterns of several groups takes long
KEYWORD = re.compile(r"^\s*(Given|When|Then|And|But) (.*\S)\s*$")


@dataclass(frozen=True)
class Verdict:
    """valid, executable, correct: yes or no; slots, mutation: shares 0..1; reason: why not correct, or ""."""

    valid: bool
    slots: float
    executable: bool
    correct: bool
    mutation: float
    reason: str


@dataclass(frozen=True)
class Step:
    """A step definition: what it matches, its columns and the slot expressions in it, by group name."""

    kind: str  # given, when, then
    text: str
    pattern: re.Pattern
    columns: dict[str, str]
    slots: dict[str, str]


@lru_cache(maxsize=1000)
def step_library(family: Family) -> tuple[Step, ...]:
    """The step definitions of a family: the steps of its test, with a group for each column and slot."""
    made, kind = [], ""
    for line in family.test.splitlines():
        if not (match := KEYWORD.match(line)):
            continue
        kind = {"Given": "given", "When": "when", "Then": "then"}.get(match[1], kind)
        columns, slots, parts = {}, {}, []
        for part in re.split(r"(\{[^{}]+\}|<[^<>]+>)", match[2]):
            if HOLE.fullmatch(part):
                slots[f"s{len(slots)}"] = part[1:-1]
                parts.append(f"(?P<s{len(slots) - 1}>.+?)")
            elif COLUMN.fullmatch(part):
                columns[f"c{len(columns)}"] = part[1:-1]
                parts.append(f"(?P<c{len(columns) - 1}>{TYPED.get(family.inputs.get(part[1:-1], ''), '.+?')})")
            else:
                parts.append(re.escape(part))
        made.append(Step(kind, match[2], re.compile("".join(parts)), columns, slots))
    return tuple(made)


def defined(kind: str, words: str, domain: Domain) -> bool:
    """Whether any family of the domain has a step definition for a step; none has for one of over `LONGEST` signs."""
    return len(words) <= LONGEST and any(step.kind == kind and step.pattern.fullmatch(words)
               for family in domain.families.values() for step in step_library(family))


def judge(record: Record, text: str, domain: Domain) -> Verdict:
    """What a test text is worth for the requirement of `record`. Raises ValueError: a family that is not there."""
    if record.family not in domain.families:
        raise ValueError(f"record {record.id}: family {record.family!r}; expected one of {domain.name}'s")
    family = domain.families[record.family]
    found = values(family, record.slots)
    share = coverage(record, text)
    if reason := gherkin.valid(text):
        return Verdict(False, share, False, False, 0.0, reason)
    cases = gherkin.cases(text)
    for case in cases:
        for kind, words in case.steps:
            if not defined(kind, words, domain):
                return Verdict(True, share, False, False, 0.0, f"no step definition: {kind} {words[:80]}")
    try:
        rows = [bind(family, found, case) for case in cases]
        for row, said in rows:
            if (right := behave(family.reference, found, row)) != said:
                shown = ", ".join(f"{name} {show(value)}" for name, value in row.items())
                raise Disagrees(f"{shown}: the test says {said}, the reference {right}")
    except Disagrees as error:
        return Verdict(True, share, True, False, 0.0, str(error)[:200])
    missing = {said for _, said in expected_rows(family, found, record.target)} - {said for _, said in rows}
    if missing:
        return Verdict(True, share, True, False, 0.0, f"no case with outcome {sorted(missing)[0]}")
    killed = sum(any(behave(mutant, found, row) != said for row, said in rows) for mutant in family.mutants)
    return Verdict(True, share, True, True, killed / len(family.mutants), "")


class Disagrees(ValueError):
    """A test that can be run and does not fit the requirement."""


def bind(family: Family, found: dict[str, Value], case: gherkin.Case) -> tuple[dict[str, Value], str]:
    """(inputs, said outcome) of a case. Raises `Disagrees`: another slot value, two values, a step that is missing.

    Every step of the family is needed: one that is left out leaves the system in another state.
    """
    row: dict[str, str] = {}
    left = list(step_library(family))
    for kind, words in case.steps:
        for step in step_library(family):
            if step.kind == kind and (match := step.pattern.fullmatch(words)):
                break
        else:
            raise Disagrees(f"a step of another family: {words[:80]}")
        left = [other for other in left if other is not step]
        for group, hole in step.slots.items():
            text, style = split_style(hole)
            if (wanted := styled(evaluate(text, found), style)) != match[group]:
                raise Disagrees(f"{match[group][:40]!r} in a step; the requirement says {wanted!r}")
        for group, column in step.columns.items():
            if row.setdefault(column, match[group]) != match[group]:
                raise Disagrees(f"{column} is {row[column]!r} and {match[group]!r}; expected one value")
    if left:
        raise Disagrees(f"no step like: {left[0].kind} {left[0].text}"[:120])
    try:
        return {name: read(kind, row[name]) for name, kind in family.inputs.items()}, row[family.outcome]
    except ExpressionError as error:
        raise Disagrees(str(error)) from None


def behave(expression: str, found: dict[str, Value], row: dict[str, Value]) -> str:
    """The outcome of a behaviour for one row; a behaviour that fails has the outcome "error: ..."."""
    try:
        return show(evaluate(expression, found | row))
    except ExpressionError as error:
        return f"error: {error}"


def expected_rows(family: Family, found: dict[str, Value], target: str) -> list[tuple[dict[str, Value], str]]:
    """The boundary table of the record's own test. Raises `Disagrees` if that test is not of the family."""
    return [bind(family, found, case) for case in gherkin.cases(target)]


def coverage(record: Record, text: str) -> float:
    """The share of the requirement's values that stand verbatim in a text; of those that its own test states."""
    texts = [value for held in record.slots.values() for value in (held if isinstance(held, list) else [held])]
    texts = [value for value in texts if stands(value, record.input) and stands(value, record.target)]
    return sum(stands(value, text) for value in texts) / len(texts) if texts else 1.0


def stands(value: str, text: str) -> bool:
    """Whether a value is in a text as a whole: 2 is not in 12, 2.5 or 2026-01-02."""
    return re.search(rf"(?<![\w.:-]){re.escape(value)}(?![\w+]|[.:-]\w)", text) is not None


def duplicates(texts: Iterable[str]) -> int:
    """How many texts are, but for case and spaces, the same as an earlier one."""
    keys = [key(text) for text in texts]
    return len(keys) - len(set(keys))
