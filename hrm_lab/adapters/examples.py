"""One function-calling example: what is asked, which tools there are, and every answer that is right.

Unusual: an expected call holds two things. `accepted` lists for each argument every value that counts as right (the
possible answers of the Berkeley Function Calling Leaderboard, BFCL; "" in a list says that the argument may be left
out; objects hold such lists inside), and `gold` is the one answer that a model is trained on. Grading `gold` against
`accepted` must give 100 %: a data set where it does not cannot be learnt, whatever the model.

A file holds one JSON object a line, with the fields of `Example`.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hrm_lab.files import write_atomic


class ExampleError(ValueError):
    """A row that is no example; one line with file, line, field, value and what was expected."""


@dataclass(frozen=True)
class Call:
    """An expected call: every right answer, and the one to train on."""

    name: str
    accepted: dict  # argument -> list of values that count as right; "" in it: may be left out
    gold: dict  # argument -> value, in the order of the tool's schema


@dataclass(frozen=True)
class Example:
    """A request with its tools. `calls` is empty where no tool fits and none must be called."""

    id: str
    system: str  # what the request's own author says to the assistant; "" mostly
    tools: tuple[dict, ...]  # {"name", "description", "parameters": JSON schema of an object}
    turns: tuple[dict, ...]  # {"role": "user" | "assistant", "content"}; the last is the user's
    calls: tuple[Call, ...]
    group: str  # examples that share a function or a question share it, and are never split
    source: str

    def json(self) -> dict:
        return asdict(self)


TYPES = {"id": str, "system": str, "tools": list, "turns": list, "calls": list, "group": str, "source": str}


def _check(good: bool, where: str, field: str, seen, expected: str):
    if not good:
        raise ExampleError(f"{where}: field {field} is {seen!r:.80}; expected {expected}")


def from_json(row: object, where: str = "example") -> Example:
    """The example of one decoded line; `where` begins the message. Raises `ExampleError`."""
    _check(isinstance(row, dict), where, "(all)", row, "a JSON object")
    for name, kind in TYPES.items():
        _check(isinstance(row.get(name), kind), where, name, row.get(name), f"a JSON {kind.__name__}")
    extra = sorted(set(row) - set(TYPES))
    _check(not extra, where, ", ".join(extra), [row[name] for name in extra], f"only {', '.join(TYPES)}")
    _check(row["id"] != "", where, "id", row["id"], "a name")
    _check(len(row["tools"]) > 0, where, "tools", row["tools"], "at least one tool")
    for i, tool in enumerate(row["tools"]):
        _check(isinstance(tool, dict) and isinstance(tool.get("name"), str) and tool["name"] != ""
               and isinstance(tool.get("description"), str), where, f"tools[{i}]", tool,
               "name and description, strings")
        schema = tool.get("parameters")
        _check(isinstance(schema, dict) and schema.get("type") == "object"
               and isinstance(schema.get("properties"), dict) and isinstance(schema.get("required", []), list),
               where, f"tools[{i}].parameters", schema, "the JSON schema of an object, with properties")
    _check(len(row["turns"]) > 0, where, "turns", row["turns"], "at least one turn")
    for i, turn in enumerate(row["turns"]):
        _check(isinstance(turn, dict) and turn.get("role") in ("user", "assistant")
               and isinstance(turn.get("content"), str), where, f"turns[{i}]", turn,
               "role user or assistant, and content, a string")
    _check(row["turns"][-1]["role"] == "user", where, "turns[-1].role", row["turns"][-1]["role"], "user")
    calls = []
    for i, call in enumerate(row["calls"]):
        at = f"calls[{i}]"
        _check(isinstance(call, dict) and set(call) == {"name", "accepted", "gold"}, where, at, call,
               "name, accepted and gold")
        _check(call["name"] in [tool["name"] for tool in row["tools"]], where, f"{at}.name", call["name"],
               "the name of one of the tools")
        _check(isinstance(call["gold"], dict), where, f"{at}.gold", call["gold"],
               "a JSON object (not a string: an object printed by Python is no JSON)")
        accepted = call["accepted"]
        _check(isinstance(accepted, dict) and all(isinstance(v, list) and v for v in accepted.values()), where,
               f"{at}.accepted", accepted, "a list of values for each argument")
        calls.append(Call(**call))
    return Example(**{f.name: row[f.name] for f in fields(Example)} | {
        "tools": tuple(row["tools"]), "turns": tuple(row["turns"]), "calls": tuple(calls)})


def read(path: Path | str) -> list[Example]:
    """The examples of a file of JSON lines, ids distinct. Raises `ExampleError` naming file and line."""
    found: list[Example] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ExampleError(f"{where}: {line[:60]!r} is no JSON ({error}); expected one object a line") from None
        found.append(from_json(row, where))
        first = lines.setdefault(found[-1].id, number)
        _check(first == number, where, "id", found[-1].id, f"an id that line {first} does not have")
    return found


def write(path: Path | str, examples: Iterable[Example]):
    """A file that `read` reads to the same examples."""
    write_atomic(path, "".join(json.dumps(e.json(), ensure_ascii=False) + "\n" for e in examples))


def read_splits(folder: Path | str) -> dict[str, list[Example]]:
    """{"train", "validation", "test"} of a folder with train.jsonl, validation.jsonl and test.jsonl.

    Raises `ExampleError`: a file is missing, or a row is no example.
    """
    found = {}
    for name in ("train", "validation", "test"):
        path = Path(folder) / f"{name}.jsonl"
        if not path.is_file():
            raise ExampleError(f"{path}: not found; expected a folder with train.jsonl, validation.jsonl and "
                               "test.jsonl")
        found[name] = read(path)
    return found
