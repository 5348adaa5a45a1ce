"""Rows of the Berkeley Function Calling Leaderboard (BFCL v4, Patil et al. 2025) as examples, split without a leak.

The files come from the wheel of `bfcl-eval` (Apache-2.0), which is unpacked and never imported. Unusual: BFCL is a test
set. Here a part of it is trained on, so that scores from here cannot be compared to the leaderboard. Rows that share a
function, be it only as a distractor, or a question (normalised: BFCL asks the same of several functions) make one
connected component, and a component lies in one split.

Rows are dropped where the canonical answer (of each argument that must be given its first acceptable value) does not
pass the row's own possible answers, or breaks its own schema; `load` says how many.
"""

import json
import random
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from jsonschema import Draft202012Validator

from hrm_lab.sources import fetch

from .examples import Call, Example
from .scoring import right

CALLS = ("simple_python", "multiple", "live_simple", "live_multiple")  # one call each
PARALLEL = ("parallel", "parallel_multiple", "live_parallel", "live_parallel_multiple")  # several
IRRELEVANT = ("irrelevance", "live_irrelevance")  # none
JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "string": "string", "integer": "integer",
              "boolean": "boolean", "array": "array"}


def json_schema(schema: dict) -> dict:
    """BFCL's schema as a JSON schema; its type "any" has no counterpart and is left out."""
    made = {key: schema[key] for key in ("description", "enum", "default") if key in schema}
    if schema.get("type") in JSON_TYPES:
        made = {"type": JSON_TYPES[schema["type"]]} | made
    if "properties" in schema:
        made["properties"] = {name: json_schema(part) for name, part in schema["properties"].items()}
        made["required"] = [name for name in schema.get("required", []) if name in schema["properties"]]
    if "items" in schema:
        made["items"] = json_schema(schema["items"])
    return made


def _object(accepted: dict, schema: dict) -> dict:
    """The canonical object of one whose keys hold lists of acceptable values, in the order of the schema."""
    order = [*schema.get("properties", {})]
    chosen = {key: _first(values, key in schema.get("required", [])) for key, values in accepted.items()}
    keys = sorted(chosen, key=lambda key: order.index(key) if key in order else len(order))
    return {key: chosen[key] for key in keys if chosen[key] is not None}


def _first(values: list, required: bool):
    """The first acceptable value; None where the argument may be left out and is not required."""
    return None if "" in values and not required else next((value for value in values if value != ""), values[0])


def _call(truth: dict, tools: Sequence[dict]) -> Call:
    (name, accepted), = truth.items()
    schema = next(tool["parameters"] for tool in tools if tool["name"] == name)
    gold = _object(accepted, schema)
    for key, value in gold.items():  # possible answers list values once more inside objects, and only there
        inner = schema["properties"].get(key, {})
        if isinstance(value, dict):
            gold[key] = _object(value, inner)
        elif isinstance(value, list) and inner.get("items", {}).get("type") == "object":
            gold[key] = [_object(item, inner["items"]) for item in value]
    return Call(name, accepted, gold)


def _valid(example: Example) -> bool:
    """Whether the gold calls pass the row's own possible answers, and its schemas."""
    try:
        if not right([{"name": c.name, "arguments": c.gold} for c in example.calls], example):
            return False
    except (KeyError, TypeError, AttributeError):  # an array without items, an answer of another shape
        return False
    schemas = {tool["name"]: tool["parameters"] | {"additionalProperties": False} for tool in example.tools}
    return all(Draft202012Validator(schemas[c.name]).is_valid(c.gold) for c in example.calls)


def convert(row: dict, truth: list[dict], source: str) -> Example:
    """A row of BFCL with its possible answers (none: no call is right). Raises KeyError, StopIteration, ValueError."""
    tools = tuple({"name": f["name"], "description": f["description"], "parameters": json_schema(f["parameters"])}
                  for f in row["function"])
    said = row["question"][0]
    system = "\n\n".join(turn["content"] for turn in said if turn["role"] == "system")
    turns = tuple({"role": turn["role"], "content": turn["content"]} for turn in said if turn["role"] != "system")
    if not turns or turns[-1]["role"] != "user":
        raise ValueError(f"{row['id']}: the last turn is not the user's")
    schemas = [tool["parameters"] for tool in tools]
    if not tools or not all(schema.get("type") == "object" and "properties" in schema for schema in schemas):
        raise ValueError(f"{row['id']}: no tool, or one whose parameters are no object")
    return Example(row["id"], system, tools, turns, tuple(_call(one, tools) for one in truth), "", source)


def components(examples: Sequence[Example]) -> list[Example]:
    """The examples with `group` set: linked by any function name (distractors too) and by the normalised question."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for example in examples:
        question = " ".join(turn["content"] for turn in example.turns if turn["role"] == "user")
        keys = [f"question {re.sub(r'[^a-z0-9]+', ' ', question.lower()).strip() or question}",
                *(f"function {tool['name']}" for tool in example.tools)]
        for key in keys:
            parent[root(key)] = root(f"id {example.id}")
    first: dict[str, str] = {}
    for example in examples:
        first.setdefault(root(f"id {example.id}"), example.id)
    return [Example(**(vars(e) | {"group": first[root(f"id {e.id}")]})) for e in examples]


def load(cache: Path | str, sources: Iterable[str] = (*CALLS, *PARALLEL, *IRRELEVANT)) -> tuple[list[Example], dict]:
    """(examples, counts of used and dropped rows by source) of the pinned wheel, fetched into `cache` if need be.

    `group` is computed over all sources, whichever are returned. Raises `hrm_lab.sources.SourceError`.
    """
    wanted, found, counts = set(sources), [], Counter()
    with zipfile.ZipFile(fetch("bfcl-eval", cache)) as wheel:
        for source in (*CALLS, *PARALLEL, *IRRELEVANT):
            rows = _lines(wheel, f"BFCL_v4_{source}.json")
            truths = {} if source in IRRELEVANT else {
                row["id"]: row["ground_truth"] for row in _lines(wheel, f"possible_answer/BFCL_v4_{source}.json")}
            for row in rows:
                try:
                    example = convert(row, truths.get(row["id"], []), source)
                    good = bool(example.calls) != (source in IRRELEVANT) and _valid(example)
                except (KeyError, IndexError, TypeError, AttributeError, StopIteration, ValueError):  # a faulty row
                    good = False
                counts[f"{source}/{'used' if good else 'dropped'}"] += 1
                if good:
                    found.append(example)
    return [e for e in components(found) if e.source in wanted], dict(counts)


def _lines(wheel: zipfile.ZipFile, name: str) -> list[dict]:
    return [json.loads(line) for line in wheel.read(f"bfcl_eval/data/{name}").decode().splitlines() if line.strip()]


def split(examples: Sequence[Example], test: int = 250, validation: int = 80, largest: int = 3,
          seed: int = 0) -> dict[str, list[Example]]:
    """{"train", "validation", "test"}: whole components; those of at most `largest` rows are drawn for test, then for
    validation, until as many rows are reached; the rest is train.

    Raises ValueError: not enough small components.
    """
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    small = sorted(name for name, rows in groups.items() if len(rows) <= largest)
    random.Random(seed).shuffle(small)
    chosen: dict[str, str] = {}
    for part, wanted in (("test", test), ("validation", validation)):
        count = 0
        while count < wanted:
            if not small:
                raise ValueError(f"split: components of at most {largest} rows give {count} for {part}; "
                                 f"expected {wanted}")
            name = small.pop()
            chosen[name] = part
            count += len(groups[name])
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for example in examples:
        parts[chosen.get(example.group, "train")].append(example)
    return parts
