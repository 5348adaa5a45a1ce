"""One family of requirements: the YAML file that defines it, read and checked field by field.

A family has slots (typed, with samplers), wordings of the requirement (some held out), the expected test as a Gherkin
template whose cells are expressions over the slots, the reference behaviour and mutants of it as expressions.
Unusual: what a file holds is checked before anything is drawn from it, down to the names in its expressions.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from .expressions import HOLE, ExpressionError, names_of, split_style

KINDS = ("name", "number", "date", "choice", "oneof", "sample", "pattern", "let")
SPLIT = ("number", "date", "sample", "pattern")  # kinds whose values are held out on the axis "values"
CELLS = ("number", "date", "text", "list")
TEXTS = "a list of texts"
FIELDS = {"family": "a text", "held_out_family": "true or false", "slots": "fields", "requirements": TEXTS,
          "held_out": TEXTS, "test": "a text", "inputs": "fields of number, date, text or list", "outcome": "a text",
          "reference": "a text", "mutants": TEXTS}
SHAPES = {"number": "[from, to, step]", "date": "[from, to]", "choice": TEXTS, "oneof": "rows of the same fields",
          "sample": "{of: texts, size: [least, most]}", "pattern": "a text", "let": "an expression", "name": "nothing"}
COLUMN = re.compile(r"<([^<>\n]+)>")
EACH = re.compile(r"\beach (\w+)")


class DomainError(ValueError):
    """A folder that is no domain; one line that names the file and the field."""


@dataclass(frozen=True, eq=False)
class Family:
    """One kind of requirement. `slots`: name -> (kind, arguments); `visible`: the slots that a requirement states."""

    name: str
    held_out: bool
    slots: dict[str, tuple[str, object]]
    requirements: tuple[str, ...]
    paraphrases: tuple[str, ...]  # held out
    test: str
    inputs: dict[str, str]  # column -> number, date, text or list
    outcome: str
    reference: str
    mutants: tuple[str, ...]
    visible: tuple[str, ...]


def read_yaml(path: Path) -> dict:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DomainError(f"{path}: {' '.join(str(error).split())[:160]}; expected YAML") from None
    if not isinstance(value, dict):
        raise DomainError(f"{path}: a {type(value).__name__}; expected fields")
    return value


def family(path: Path | str) -> Family:
    """The family in a file. Raises `DomainError` naming file, field and what was expected."""
    path = Path(path)
    raw = read_yaml(path)

    def refuse(name, seen, expected):
        raise DomainError(f"{path}: field {name!r}: {seen}; expected {expected}")

    raw.setdefault("held_out_family", False)
    if wrong := set(FIELDS) ^ set(raw):
        first = min(wrong, key=str)
        refuse(first, "missing" if first in FIELDS else "unknown", f"the fields {', '.join(FIELDS)}")
    for name, shape in FIELDS.items():
        if not _is(raw[name], shape):
            refuse(name, repr(raw[name])[:60], shape)
    slots = _slots(raw["slots"], refuse)
    known = {inner for name, (kind, held) in slots.items() for inner in (held[0] if kind == "oneof" else [name])}
    try:
        _check_names(raw, known, refuse)
    except ExpressionError as error:
        refuse("test, reference or mutants", str(error), "expressions")
    texts = (*raw["requirements"], *raw["held_out"])
    holes = [{name for hole in HOLE.findall(text) for name in names_of(split_style(hole)[0])} for text in texts]
    for text, found in zip(texts, holes, strict=True):
        if found != holes[0]:
            refuse("requirements", f"{text[:60]!r} states {sorted(found)}", f"{sorted(holes[0])} as the first does")
    kinds = {kind for kind, _ in slots.values()}
    if "name" not in kinds or not kinds & set(SPLIT):
        refuse("slots", ", ".join(sorted(kinds)), f"a name and one of {', '.join(SPLIT)}")
    if unknown := set(COLUMN.findall(raw["test"])) ^ {*raw["inputs"], raw["outcome"]}:
        refuse("test", f"columns and inputs differ in {sorted(unknown)}", "each input and the outcome as <column>")
    return Family(raw["family"], raw["held_out_family"], slots, tuple(raw["requirements"]), tuple(raw["held_out"]),
                  raw["test"].strip(), raw["inputs"], raw["outcome"], raw["reference"], tuple(raw["mutants"]),
                  tuple(sorted(holes[0])))


def _slots(raw: dict, refuse) -> dict[str, tuple[str, object]]:
    """name -> (kind, arguments) of the field `slots`."""
    slots = {}
    for name, spec in raw.items():
        if not isinstance(spec, str) and not (isinstance(spec, dict) and len(spec) == 1):
            refuse(f"slots.{name}", repr(spec)[:60], "a sampler, as {number: [1, 9, 1]}")
        kind, arguments = (spec, None) if isinstance(spec, str) else next(iter(spec.items()))
        if kind not in KINDS:
            refuse(f"slots.{name}", repr(kind), f"one of {', '.join(KINDS)}")
        if not _is(arguments, SHAPES[kind]):
            refuse(f"slots.{name}", repr(arguments)[:60], SHAPES[kind])
        slots[name] = (kind, arguments)
    return slots


def _check_names(raw: dict, known: set[str], refuse):
    """Every name in an expression is a slot; in the reference and the mutants, or an input."""
    for name in ("requirements", "held_out", "test"):
        texts = [raw[name]] if isinstance(raw[name], str) else raw[name]
        for hole in (hole for text in texts for hole in HOLE.findall(text)):
            if lost := names_of(EACH.sub(r"\1", split_style(hole)[0])) - known:
                refuse(name, f"{min(lost)!r} in {{{hole}}}", f"a slot: {', '.join(sorted(known))}")
    for name, texts in (("reference", [raw["reference"]]), ("mutants", raw["mutants"])):
        for text in texts:
            if lost := names_of(text) - known - set(raw["inputs"]):
                refuse(name, repr(min(lost)), "slots and inputs")


def _is(value, shape: str) -> bool:
    """Whether a value from YAML has a shape of `FIELDS` or `SHAPES`."""
    def texts(held):
        return isinstance(held, list) and bool(held) and all(isinstance(part, str) for part in held)

    match shape:
        case "a text" | "an expression":
            return isinstance(value, str) and bool(value.strip())
        case "true or false":
            return isinstance(value, bool)
        case "fields":
            return isinstance(value, dict) and all(isinstance(key, str) and key.isidentifier() for key in value)
        case "fields of number, date, text or list":
            return isinstance(value, dict) and all(kind in CELLS for kind in value.values())
        case "rows of the same fields":
            return (isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
                    and all(row.keys() == value[0].keys() for row in value))
        case "{of: texts, size: [least, most]}":
            return isinstance(value, dict) and texts(value.get("of")) and _pair(value.get("size"), len(value["of"]))
        case "[from, to, step]" | "[from, to]":
            return isinstance(value, list) and len(value) == shape.count(",") + 1
    return value is None if shape == "nothing" else texts(value)


def _pair(size, most: int) -> bool:
    return (isinstance(size, list) and len(size) == 2 and all(isinstance(part, int) for part in size)
            and 1 <= size[0] <= size[1] <= most)
