"""The one canonical example of the track: a requirement, its test, and where it comes from.

Unusual: a record knows its requirement group (paraphrases of one requirement), so that a split never sets the same
requirement on both sides; and the axis on which it is held out ("train" if it is not). Files are JSON lines.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path

from hrm_lab.files import write_atomic

AXES = ("train", "values", "names", "paraphrase", "family")
LONGEST = {"input": 20_000, "target": 60_000}  # characters


class RecordError(ValueError):
    """A record that cannot be used; one line that names file, line and field."""


@dataclass(frozen=True)
class Record:
    """`input` is the requirement, `target` the test in Gherkin; `slots` the requirement's values as texts or lists.

    group: the same for all wordings of one requirement; axis: one of `AXES`; weight: of the loss, above 0.
    """

    id: str
    group: str
    source: str
    licence: str
    domain: str
    family: str
    input: str
    target: str
    slots: dict[str, str | list[str]] = field(default_factory=dict)
    axis: str = "train"
    weight: float = 1.0


def key(text: str) -> str:
    """What two requirements share if they are the same but for case and spaces."""
    return sha256(" ".join(text.lower().split()).encode(errors="surrogatepass")).hexdigest()[:16]


def check(record: Record, where: str) -> Record:
    """The record itself. Raises `RecordError` naming `where` and the field."""

    def refuse(name, seen, expected):
        raise RecordError(f"{where}: field {name!r} is {seen}; expected {expected}")

    for f in fields(Record):
        value = getattr(record, f.name)
        if f.name == "weight":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1000:
                refuse("weight", repr(value)[:40], "a number above 0")
        elif f.name == "slots":
            texts = value.values() if isinstance(value, dict) else [None]
            if not all(isinstance(v, str) or isinstance(v, list) and all(isinstance(x, str) for x in v)
                       for v in texts):
                refuse("slots", repr(value)[:40], "an object of texts and lists of texts")
        elif not isinstance(value, str):
            refuse(f.name, repr(value)[:40], "a text")
    for name in ("id", "group", "input", "target"):
        if not getattr(record, name).strip():
            refuse(name, "empty", "a text")
    for name, longest in LONGEST.items():
        if len(getattr(record, name)) > longest:
            refuse(name, f"{len(getattr(record, name)):,} characters long", f"at most {longest:,}")
        if "\0" in getattr(record, name):
            refuse(name, "a text with a null character", "plain text")
        try:
            getattr(record, name).encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON lets through
            refuse(name, "a text that has no UTF-8 form", "plain text")
    if record.axis not in AXES:
        refuse("axis", repr(record.axis), f"one of {', '.join(AXES)}")
    return record


def lines(path: Path | str) -> Iterator[tuple[str, str | RecordError]]:
    """("file: line n", text) of each line that is not blank; a `RecordError` for a line that is not UTF-8."""
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        where = f"{path}: line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield where, RecordError(f"{where}: byte {error.start} is 0x{line[error.start]:02x}; expected UTF-8")
            continue
        if text.strip():
            yield where, text


def read_object(text: str, where: str) -> dict:
    """A JSON object. Raises `RecordError` naming `where`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: {str(error)[:80]}; expected a JSON object") from None
    if not isinstance(value, dict):
        raise RecordError(f"{where}: a {type(value).__name__}; expected a JSON object")
    return value


def read(path: Path | str) -> list[Record]:
    """The records of a JSONL file. Raises `RecordError` naming file, line and field."""
    known, found = {f.name for f in fields(Record)}, []
    for where, text in lines(path):
        if isinstance(text, RecordError):
            raise text
        value = read_object(text, where)
        if unknown := set(value) - known:
            raise RecordError(f"{where}: field {min(unknown)!r} is not known; expected {', '.join(sorted(known))}")
        try:
            found.append(check(Record(**value), where))
        except TypeError as error:
            raise RecordError(f"{where}: {str(error).split('__init__() ')[-1]}") from None
    return found


def write(path: Path | str, records: list[Record]):
    """JSON lines, whole or not at all. Raises `RecordError`: a record that `read` would refuse."""
    rows = [json.dumps(asdict(check(record, f"{path}: record {i}")), ensure_ascii=False, sort_keys=True)
            for i, record in enumerate(records, 1)]
    write_atomic(path, "".join(row + "\n" for row in rows))

