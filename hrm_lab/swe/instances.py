"""One record for every repair task, and its file: JSON lines that survive `kill -9`.

The names in capitals and `patch`, `test_patch`, `problem_statement` are SWE-bench's (arXiv 2310.06770): `patch` leads
from the buggy text to the repaired one. SWE-smith (arXiv 2504.21798) keeps the bug there; its reader turns it round.
Unusual: an instance also carries the text that edits are enumerated on (`program`), so that small programs need no
checkout. Readers of other formats are in readers.py.
"""

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hrm_lab.files import write_atomic

DOMAINS = ("security", "web", "systems", "data science", "developer tools", "text", "algorithms")
LANGUAGES = ("python", "javascript", "go", "java", "cpp", "rust")
CHOICES = {"source": ("synthetic", "human"), "split": ("train", "valid", "test"), "language": LANGUAGES,
           "domain": DOMAINS}
NOT_EMPTY = ("instance_id", "repo", "file")
SYNC_EVERY = 256  # instances between two fsyncs: what a power cut may cost; a killed process loses no whole line


class InstanceError(ValueError):
    """A row that is not an instance; one line naming file, line, field, value and what was expected."""


@dataclass(frozen=True)
class Instance:
    """A bug, its tests and its repair. Paths are relative to the root of the repository."""

    instance_id: str
    repo: str
    version: str
    problem_statement: str
    patch: str  # unified diff buggy -> fixed; "" if the repair is unknown
    test_patch: str
    FAIL_TO_PASS: tuple[str, ...]
    PASS_TO_PASS: tuple[str, ...]
    language: str
    domain: str
    complexity: float  # 0..1, see complexity.py
    tool_plan: tuple[dict, ...]  # {"tool", "args", "observation"} each, see tool_plan.py; () if not made
    file: str  # that the patch changes: the first, if several
    function: str  # dotted name of the changed function; "" if unknown
    program: str  # buggy text that edits are enumerated on: the function (packages) or the file; "" without a checkout
    fixed: str  # the same, repaired; "" if unknown
    tests: str  # run with `program` alone; "" if they are in the repository
    kinds: tuple[str, ...]  # of the repairs that undo the bug; () if unknown
    source: str  # "synthetic" or "human"
    split: str  # "train", "valid" or "test"


@dataclass(frozen=True)
class Reading:
    """What a file gave: the good rows, and one line for each other row ("file:line: what; expected ...")."""

    instances: list[Instance]
    problems: list[str]

    def summary(self) -> str:
        return f"{len(self.instances)} instances, {len(self.problems)} rows refused"


def from_row(row: dict) -> Instance:
    """A parsed JSON row as an instance. Raises `InstanceError` naming the field."""
    if not isinstance(row, dict):
        raise InstanceError(f"row is a {type(row).__name__}; expected an object")
    values = {}
    for field in fields(Instance):
        name = field.name
        if name not in row:
            raise InstanceError(f"field {name} is missing; expected {_wanted(field)}")
        value = row[name]
        if name == "complexity":
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        elif field.type is str:
            good = isinstance(value, str)
        else:
            item = dict if name == "tool_plan" else str
            good = isinstance(value, list | tuple) and all(isinstance(part, item) for part in value)
            value = tuple(value) if good else value
        if name in CHOICES:
            good = good and value in CHOICES[name]
        if not good or (name in NOT_EMPTY and not value):
            raise InstanceError(f"field {name} is {value!r:.80}; expected {_wanted(field)}")
        values[name] = value
    return Instance(**values)


def _wanted(field) -> str:
    if field.name in CHOICES:
        return "one of " + ", ".join(CHOICES[field.name])
    if field.name == "complexity":
        return "a number in 0..1"
    if field.type is str:
        return "a string" + " that is not empty" * (field.name in NOT_EMPTY)
    return "a list of objects" if field.name == "tool_plan" else "a list of strings"


def json_rows(path: str | os.PathLike) -> Iterator[tuple[int, object, str]]:
    """(line number, parsed row or None, problem or "") of each line of a JSONL file that is not empty."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    yield number, json.loads(text), ""
            except UnicodeDecodeError as error:
                yield number, None, f"byte {error.start} of the line is 0x{line[error.start]:02x}; expected UTF-8"
            except (ValueError, RecursionError) as error:
                torn = "" if line.endswith(b"\n") else " (torn last line, dropped)"
                yield number, None, f"{error}{torn}; expected one JSON object a line"


def gather(path: str | os.PathLike, rows: Iterable[tuple[int, object, str]], make, strict: bool) -> Reading:
    """Instances that `make(row)` gives, with the problems of the rest; an id that was there before is a problem.

    `make` raises ValueError or KeyError for a bad row. Raises `InstanceError` at the first problem if `strict`.
    """
    instances, problems, lines = [], [], {}
    for number, row, problem in rows:
        if not problem:
            try:
                instance = make(row)
                if (first := lines.setdefault(instance.instance_id, number)) == number:
                    instances.append(instance)
                else:
                    problem = f"instance_id {instance.instance_id!r} again, first in line {first}; expected it once"
            except KeyError as error:
                problem = f"field {error.args[0]} is missing"
            except ValueError as error:
                problem = str(error)
        if problem:
            problems.append(f"{Path(path).name}:{number}: {problem}")
            if strict:
                raise InstanceError(problems[-1])
    return Reading(instances, problems)


def read(path: str | os.PathLike, strict: bool = False) -> Reading:
    """Instances that `write` wrote. Bad rows are counted and kept out; `strict` raises `InstanceError` at the first."""
    return gather(path, json_rows(path), from_row, strict)


def _mend(file):
    """End a file at a whole line: add the newline that a good last line lacks, cut a torn one and say so."""
    size = file.seek(0, os.SEEK_END)
    start = size
    tail = b""
    while start and b"\n" not in tail:
        step = min(start, 1 << 16)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    tail = tail[tail.rfind(b"\n") + 1:]
    if not tail:
        return
    try:
        json.loads(tail)
        file.write(b"\n")
    except ValueError:
        print(f"{Path(file.name).name}: last line was torn; its {len(tail)} bytes are cut")
        file.truncate(size - len(tail))


def write(path: str | os.PathLike, instances: Iterable[Instance]) -> int:
    """Append instances to a JSONL file, made if it is not there; returns how many.

    Each line is one write, so a killed process leaves at most one torn line, which the next `write` cuts and `read`
    reports; flushed to disk every 256 lines and at the end. A second process that writes the same file waits.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _mend(file)
        for instance in instances:
            file.write(json.dumps(asdict(instance), allow_nan=False).encode() + b"\n")
            count += 1
            if count % SYNC_EVERY == 0:
                os.fsync(file.fileno())
        os.fsync(file.fileno())
    return count


def card(path: str | os.PathLike, instances: Iterable[Instance], *, title: str, how: str,
         licences: dict[str, str]) -> str:
    """Write a dataset card (Markdown with Hugging Face's front matter) and return it.

    how: one paragraph, how the instances were made and checked; licences: repo -> SPDX id of its code.
    """
    instances = list(instances)
    ordered = sorted(instance.complexity for instance in instances)
    places = [int(q * (len(ordered) - 1)) for q in (0, 0.25, 0.5, 0.75, 1)] if ordered else []
    spread = ", ".join(f"{ordered[place]:.2f}" for place in places)
    repos = Counter((i.repo, i.version, i.split) for i in instances)
    lines = ["---", f"pretty_name: {title}", "license: other", "task_categories: [text-generation]",
             "tags: [program-repair, software-engineering]", "configs:", "- config_name: default",
             f"  data_files: {Path(path).with_suffix('.jsonl').name}", "---", f"# {title}", "",
             f"{len(instances):,} instances. {how}", "",
             "`patch` leads from the buggy text to the repaired one (as in SWE-bench; SWE-smith keeps the reverse).",
             f"Complexity (0 to 1; minimum, quartiles, maximum): {spread}.", ""]
    for what in ("split", "language", "domain", "source"):
        lines += _table(what, Counter(getattr(i, what) for i in instances))
    lines += _table("kind of repair", Counter(kind for i in instances for kind in i.kinds))
    lines += ["| repo | version | split | licence | instances |", "| --- | --- | --- | --- | ---: |"]
    lines += [f"| {repo} | {version} | {split} | {licences.get(repo, 'not stated')} | {n:,} |"
              for (repo, version, split), n in sorted(repos.items())]
    text = "\n".join(lines) + "\n"
    write_atomic(path, text)
    return text


def _table(what: str, counts: Counter) -> list[str]:
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"| {what} | instances |", "| --- | ---: |", *(f"| {name} | {n:,} |" for name, n in rows), ""]
