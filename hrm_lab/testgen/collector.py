"""Examples from several sources and formats to one canonical record: checked, without duplicates, split by group.

Reads JSON lines of `prompt`/`completion`, of `input_sequence`/`target_sequence`, canonical records and the feedback
store's export, `.feature` files, and whole drop folders of these. Unusual: a line that cannot be used is refused with
file, line and field, never mended; wordings of one requirement, and equal requirements from different sources, become
one group, and a split takes whole groups, so that no requirement is on both sides.

    python -m hrm_lab.testgen.collector DROP_FOLDER FILE.jsonl --out data/built/testgen --held-out 0.2
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from zlib import crc32

from hrm_lab.files import write_atomic

from . import feature_files, gherkin
from .domain import ROOT
from .records import Record, RecordError, check, key, lines, read_object, write

PAIRS = (("prompt", "completion"), ("input_sequence", "target_sequence"), ("input", "target"))
EXTRA = {f.name for f in fields(Record)} - {"input", "target"}
FEEDBACK = {"requirement", "proposed", "verdict", "fixed"}
WEIGHTS = {"edit": 2.0, "accept": 1.0}  # a rejected test is no example
INSTRUCTION = "Write the acceptance test in Gherkin: "  # in front of a prompt; cut off, since a requirement has none
SUFFIXES = (".jsonl", ".feature")


@dataclass(frozen=True)
class Collected:
    """What was found: `refused` are lines "file: line n: ..."; `counts` by source file: kept, and why not."""

    records: tuple[Record, ...]
    refused: tuple[str, ...]
    counts: dict[str, dict[str, int]]


def convert(value: dict, where: str, *, name: str, licence: str, domain: str) -> Record | None:
    """A raw object as a record; None for a rejected test of the feedback store. Raises `RecordError`.

    `name` stands for an id and a source that the object lacks, `licence` and `domain` for those.
    """
    if value.keys() >= FEEDBACK:
        return _from_feedback(value, where, name=name, licence=licence, domain=domain)
    for said, wanted in PAIRS:
        if said in value or wanted in value:
            break
    else:
        raise RecordError(f"{where}: fields {', '.join(sorted(map(str, value)))[:80]}; expected one of the pairs "
                          + ", ".join("/".join(pair) for pair in PAIRS))
    for field in (said, wanted):
        if not isinstance(value.get(field), str):
            seen = "missing" if field not in value else f"a {type(value[field]).__name__}"
            raise RecordError(f"{where}: field {field!r} is {seen}; expected a text")
        if not value[field].strip():
            raise RecordError(f"{where}: field {field!r} is empty; expected a text")
    if unknown := set(value) - EXTRA - {said, wanted}:
        raise RecordError(f"{where}: field {min(unknown)!r} is not known beside {said}/{wanted}")
    text = value[said].removeprefix(INSTRUCTION) if said == "prompt" else value[said]
    rest = {"id": name, "group": key(text), "source": name, "licence": licence, "domain": domain, "family": ""}
    record = Record(**rest | {field: value[field] for field in EXTRA & set(value)}, input=text, target=value[wanted])
    check(record, where)
    if reason := gherkin.valid(record.target):
        raise RecordError(f"{where}: field {wanted!r} is no test in Gherkin: {reason}")
    return record


def _from_feedback(value: dict, where: str, *, name: str, licence: str, domain: str) -> Record | None:
    if value["verdict"] == "reject":
        return None
    if value["verdict"] not in WEIGHTS:
        raise RecordError(f"{where}: field 'verdict' is {value['verdict']!r}; expected accept, edit or reject")
    plain = {field: value[field] for field in EXTRA & set(value) - {"weight", "axis"}}
    plain |= {"input": value["requirement"], "target": value["fixed"]}
    record = convert(plain, where, name=name, licence=licence, domain=domain)
    return replace(record, weight=WEIGHTS[value["verdict"]])


def collect(paths: Iterable[Path | str], *, licence: str = "unstated", domain: str = "",
            strict: bool = False) -> Collected:
    """Records of files and drop folders (their .jsonl and .feature files, in order of name).

    The same requirement with the same test is kept once; with another test, the one of the higher weight is kept
    (an edit corrects what was there), and of equal weights the second is refused. With `strict` the first refusal is
    raised as `RecordError`; else it is in `refused`, and the rest is used. Raises `RecordError`: no such path.
    """
    kept: dict[str, Record] = {}
    origin: dict[str, tuple[str, str]] = {}
    counts: dict[str, Counter] = {}
    refused: list[str] = []

    def refuse(file, error):
        if strict:
            raise error
        counts[file]["refused"] += 1
        refused.append(str(error))

    for path in _files(paths):
        file = path.name
        counts.setdefault(file, Counter())
        for where, found in _records(path, licence, domain):
            if isinstance(found, RecordError):
                refuse(file, found)
            elif isinstance(found, str):
                counts[file][found] += 1
            else:
                same = key(found.input)
                before = kept.get(same)
                if before and key(before.target) == key(found.target):
                    counts[file]["duplicate"] += 1
                elif before and before.weight == found.weight:
                    refuse(file, RecordError(f"{where}: field 'target' differs from that of the same requirement at "
                                             f"{origin[same][1]}; expected one test a requirement"))
                elif before and before.weight > found.weight:
                    counts[file]["corrected elsewhere"] += 1
                else:
                    if before:
                        counts[origin[same][0]]["kept"] -= 1
                        counts[origin[same][0]]["corrected elsewhere"] += 1
                    kept[same], origin[same] = found, (file, where)
                    counts[file]["kept"] += 1
    return Collected(tuple(kept.values()), tuple(refused),
                     {file: dict(sorted(count.items())) for file, count in counts.items()})


def _files(paths: Iterable[Path | str]) -> list[Path]:
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        elif path.suffix in SUFFIXES and path.is_file():
            found.append(path)
        else:
            raise RecordError(f"{path}: not there, or not {' or '.join(SUFFIXES)}; expected such a file or a folder")
    return found


def _records(path: Path, licence: str, domain: str):
    """(where, record | reason for leaving it out | RecordError) for everything in a file."""
    if path.suffix == ".feature":
        yield from _of_feature_file(path, licence, domain)
        return
    for where, text in lines(path):
        try:
            if isinstance(text, RecordError):
                raise text
            name = f"{path.stem}:{where.rpartition(' ')[2]}"
            found = convert(read_object(text, where), where, name=name, licence=licence, domain=domain)
            yield where, found or "rejected by a reviewer"
        except RecordError as error:
            yield where, error


def _of_feature_file(path: Path, licence: str, domain: str):
    counts = Counter()
    try:
        text = path.read_bytes().decode("utf-8-sig")
        for record in feature_files.records(text, source=path.name, licence=licence, domain=domain, family="",
                                            group=path.name, counts=counts):
            yield f"{path}: line {record.id.rpartition('#')[2]}", record
    except UnicodeDecodeError as error:
        line = error.object[:error.start].count(b"\n") + 1
        yield str(path), RecordError(f"{path}: line {line}: byte 0x{error.object[error.start]:02x}; expected UTF-8")
    except gherkin.GherkinError as error:
        yield str(path), RecordError(f"{path}: {error}; expected Gherkin")
    for reason, count in counts.items():
        if reason not in ("scenarios", "useful", "does not parse"):
            for _ in range(count):
                yield str(path), reason


# ---------------------------------------------------------------- groups, splits, files


def grouped(records: Iterable[Record]) -> list[Record]:
    """The records with groups joined where they share a requirement (but for case and spaces)."""
    records = list(records)
    parent = {record.group: record.group for record in records}

    def top(group):
        while parent[group] != group:
            group = parent[group]
        return group

    first: dict[str, str] = {}
    for record in records:
        other = first.setdefault(key(record.input), record.group)
        parent[max(top(record.group), top(other))] = min(top(record.group), top(other))
    return [replace(record, group=top(record.group)) for record in records]


def split(records: Iterable[Record], share: float, seed: int = 0,
          held_out: Iterable[str] = ()) -> tuple[list[Record], list[Record]]:
    """(train, held out) by whole groups: those named in `held_out`, or about `share` of the groups by a hash."""
    records, named = grouped(records), set(held_out)
    if lost := named - {record.group for record in records}:
        raise RecordError(f"held-out group {min(lost)!r} is not among the records")
    order = sorted({record.group for record in records}, key=lambda group: crc32(f"{seed}/{group}".encode()))
    out = named or set(order[:round(share * len(order))])
    return [r for r in records if r.group not in out], [r for r in records if r.group in out]


def write_set(folder: Path | str, train: list[Record], held_out: list[Record], found: Collected):
    """train.jsonl, held_out.jsonl and card.md, each whole or not at all. Raises `RecordError`: a group on both."""
    if both := {r.group for r in train} & {r.group for r in held_out}:
        raise RecordError(f"{folder}: group {min(both)!r} on both sides; expected whole groups")
    write(Path(folder) / "train.jsonl", train)
    write(Path(folder) / "held_out.jsonl", held_out)
    write_atomic(Path(folder) / "card.md", card(train, held_out, found))


def card(train: list[Record], held_out: list[Record], found: Collected) -> str:
    """What the set holds, by source, licence and family, and what was refused."""
    rows = ["# Requirements and their tests", "",
            f"{len(train)} records to train on ({len({r.group for r in train})} requirement groups), {len(held_out)} "
            f"held out ({len({r.group for r in held_out})} groups); no group is on both sides.", "",
            "| file | counts |", "| --- | --- |"]
    rows += [f"| {file} | {', '.join(f'{reason}: {n}' for reason, n in count.items() if n)} |"
             for file, count in found.counts.items()]
    for name in ("licence", "domain", "family"):
        count = Counter(getattr(r, name) or "(none)" for r in (*train, *held_out))
        rows += ["", f"By {name}: " + ", ".join(f"{value} {n}" for value, n in sorted(count.items())) + "."]
    if found.refused:
        rows += ["", f"Refused ({len(found.refused)}):", "", *(f"- {line}" for line in found.refused[:50])]
    return "\n".join(rows) + "\n"


def fulfilment(folder: Path | str = ROOT / "fulfilment_68") -> tuple[list[Record], list[Record]]:
    """The media-fulfilment set as (54 to train on, 14 held out). Raises `RecordError` at the first bad line."""
    found = collect([folder], strict=True)
    named = read_object((Path(folder) / "split.json").read_text(encoding="utf-8"), str(Path(folder) / "split.json"))
    return split(found.records, 0.0, held_out=named["held_out"])


def main(argv: list[str] | None = None) -> int:
    """Collect, split and write; 0, or 1 if nothing could be used. Refused lines go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.testgen.collector", description=main.__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="files and folders of .jsonl and .feature")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.jsonl, held_out.jsonl, card.md")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of the requirement groups")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--licence", default="unstated", help="of records that state none")
    parser.add_argument("--domain", default="", help="of records that state none")
    parser.add_argument("--strict", action="store_true", help="stop at the first line that cannot be used")
    asked = parser.parse_args(argv)
    try:
        found = collect(asked.paths, licence=asked.licence, domain=asked.domain, strict=asked.strict)
    except RecordError as error:
        print(error, file=sys.stderr)
        return 1
    for line in found.refused:
        print(line, file=sys.stderr)
    train, held_out = split(found.records, asked.held_out, asked.seed)
    write_set(asked.out, train, held_out, found)
    print(f"{asked.out}: {len(train)} records to train on, {len(held_out)} held out, {len(found.refused)} refused")
    return 0 if found.records else 1


if __name__ == "__main__":
    sys.exit(main())
