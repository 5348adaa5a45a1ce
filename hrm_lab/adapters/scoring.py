"""Judge generated calls: what BFCL's own checker says, and what it does not say (schema, each argument, why it failed).

The verdict `exact` follows the possible-answer semantics of the Berkeley Function Calling Leaderboard (BFCL v4, the
checker of `bfcl_eval`, which needs twenty packages to import): types are compared exactly (an integer may stand for a
float), strings without case, blanks and ",./-_*^", an argument may be left out where "" is accepted, several calls in
any order. benchmarks/bfcl_parity.py compares both on thousands of mutated calls; some rules look odd (a list is
compared to "" as to an empty list), and are kept because the field's numbers rest on them.

Unusual: `exact` also asks that the text is an answer in the format's own syntax and nothing else, and every failure is
kept with prompt, expected, got and a class. Optional arguments are neither rewarded nor required.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import comb

import numpy as np
from jsonschema import Draft202012Validator

from hrm_lab.metrics import bootstrap, paired_difference, proportion

from .examples import Call, Example
from .formats import Format, Parsed

PYTHON = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}


# ---------------------------------------------------------------- BFCL's semantics


def _norm(value):
    """A string without case, blanks and light punctuation; anything else as it is."""
    return re.sub(r"[ ,./\-_*^]", "", value).lower().replace("'", '"') if type(value) is str else value


def _python_type(schema: dict) -> type:
    return PYTHON[schema["type"]] if "type" in schema else str  # BFCL's "any" means a string


def _first_type(accepted: Sequence) -> type | None:
    return next((type(value) for value in accepted if value != ""), None)


def _item_types(value: list, accepted: Sequence, inner: type) -> bool:
    """Whether all items have the inner type, or the type of the items of one accepted list."""
    return any(type(one) is not list or all(type(item) in (inner, _first_type(one)) for item in value)
               for one in accepted)


def _object(value, accepted: Sequence) -> bool:
    """Whether an object matches one of the accepted ones: no other keys, each value one of those listed."""
    if type(value) is not dict:
        return False
    for one in accepted:
        if type(one) is dict:
            listed = {key: values if isinstance(values, list | str) else [] for key, values in one.items()}
            known = all(key in listed and _norm(item) in [_norm(x) for x in listed[key]] for key, item in value.items())
            if known and all(key in value or "" in values for key, values in listed.items()):
                return True
    return False


def argument_error(value, accepted: Sequence, schema: dict) -> str:
    """"" if BFCL takes `value` for an argument of that schema, else "wrong type" or "wrong value"."""
    wanted = _python_type(schema)
    if wanted is list and "items" not in schema:
        return "wrong type"
    inner = _python_type(schema["items"]) if wanted is list else None
    if wanted is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            return "wrong value"
    other = _first_type(accepted)
    variable = other is not None and other is not wanted  # then values of the accepted ones' type count too
    if type(value) is wanted:
        if inner is not None and not _item_types(value, accepted, inner):
            return "wrong type"
    elif other is not None and type(value) is other:
        variable = True
    else:
        return "wrong type"
    lists = [one for one in accepted if type(one) in (list, str)]  # "" stands for the empty list
    if variable:
        right = value in accepted
    elif wanted is dict:
        right = _object(value, accepted)
    elif wanted is list and inner is dict:
        right = any(len(value) == len(one) and all(map(lambda v, a: _object(v, [a]), value, one)) for one in lists)
    elif wanted is list:
        right = [_norm(v) for v in value] in [[_norm(x) for x in one] for one in lists]
    elif wanted is str:
        right = _norm(value) in [_norm(x) for x in accepted if type(x) is str]
    else:
        right = value in accepted
    return "" if right else "wrong value"


def call_errors(given: dict, expected: Call, tool: dict) -> dict[str, str]:
    """Argument -> class of error of a call of the right name; empty if BFCL accepts it."""
    schema, found = tool["parameters"], {}
    for name, value in given["arguments"].items():
        if name not in schema["properties"] or name not in expected.accepted:
            found[name] = "unexpected argument"
        elif error := argument_error(value, expected.accepted[name], schema["properties"][name]):
            found[name] = error
    for name in [*schema.get("required", []), *(n for n, values in expected.accepted.items() if "" not in values)]:
        if name not in given["arguments"]:
            found[name] = "missing argument"
    return found


def right(calls: Sequence[dict], example: Example) -> bool:
    """BFCL's verdict on parsed calls: as many as expected, each expected one met by another of the given."""
    if len(calls) != len(example.calls):
        return False
    left = list(calls)
    for expected in example.calls:
        tool = tool_named(example, expected.name)
        hit = next((i for i, c in enumerate(left) if c["name"] == expected.name
                    and not call_errors(c, expected, tool)), None)
        if hit is None:
            return False
        del left[hit]
    return True


def tool_named(example: Example, name: str) -> dict | None:
    """The first tool of that name."""
    return next((tool for tool in example.tools if tool["name"] == name), None)


# ---------------------------------------------------------------- one answer


@dataclass(frozen=True)
class Verdict:
    """One judged answer. Counts are (true positive, false positive, false negative)."""

    id: str
    source: str
    valid_json: bool  # calls can be read from the text (where none is expected: it can be read at all)
    strict: bool  # in the format's syntax and nothing else
    schema_valid: bool  # a call, or several, and all arguments as the schemas say
    name: bool  # the names of the calls are those expected
    arguments: bool  # BFCL's verdict, whatever stood around the calls
    exact: bool  # `arguments` and `strict`
    call_counts: tuple[int, int, int]
    argument_counts: tuple[int, int, int]
    expects_call: bool
    stopped: bool  # the end token came before the limit of length
    failure: str  # "" or one class
    wrong: tuple[str, ...]  # "argument: class", for the failure's row
    expected: str
    got: str
    prompt: str = ""


def _schema_valid(call: dict, example: Example) -> bool:
    tool = tool_named(example, call["name"])
    if tool is None:
        return False
    schema = tool["parameters"] | {"additionalProperties": False}
    return Draft202012Validator(schema).is_valid(call["arguments"])


def _pairs(calls: Sequence[dict], example: Example) -> list[tuple[Call, dict | None]]:
    """Each expected call with the given one of its name that has the fewest errors, each given one used once."""
    left, pairs = list(calls), []
    for expected in example.calls:
        tool = tool_named(example, expected.name)
        same = [i for i, c in enumerate(left) if c["name"] == expected.name]
        best = min(same, key=lambda i: len(call_errors(left[i], expected, tool)), default=None)
        pairs.append((expected, None if best is None else left.pop(best)))
    return pairs


def _argument_counts(calls: Sequence[dict], pairs: list, example: Example) -> tuple[int, int, int]:
    """Over arguments: forced ones that are right, given ones that are wrong or not asked for, forced ones not right."""
    hits = wrong = missed = 0
    for expected, given in pairs:
        forced = {name for name, values in expected.accepted.items() if "" not in values}
        errors = call_errors(given, expected, tool_named(example, expected.name)) if given else {}
        arguments = given["arguments"] if given else {}
        good = {name for name in arguments if name not in errors}
        hits += len(good & forced)
        wrong += len(set(arguments) - good)
        missed += len(forced - good)
    used = [given for _, given in pairs if given]
    return hits, wrong + sum(len(c["arguments"]) for c in calls if not any(c is u for u in used)), missed


def _failure(parsed: Parsed, example: Example, pairs: list, stopped: bool) -> tuple[str, tuple[str, ...]]:
    """(class, wrong arguments) of an answer that is not exact."""
    calls = parsed.calls
    if not calls and parsed.error not in ("", "no call"):
        return ("cut short" if not stopped else parsed.error), ()
    if not example.calls and calls:
        return "call where none fits", ()
    if example.calls and not calls:
        return "no call", ()
    if len(calls) != len(example.calls):
        return "wrong number of calls", ()
    if any(given is None for _, given in pairs):
        known = all(tool_named(example, c["name"]) for c in calls)
        return ("wrong function" if known else "unknown function"), ()
    wrong = [(name, error) for expected, given in pairs
             for name, error in call_errors(given, expected, tool_named(example, expected.name)).items()]
    if wrong:
        return wrong[0][1], tuple(f"{name}: {error}" for name, error in wrong)
    return parsed.error or "not in the format", ()


def judge(example: Example, text: str, form: Format, stopped: bool = True, prompt: str = "") -> Verdict:
    """The verdict on a generated text (end token cut off); `stopped`: the model ended its turn itself."""
    parsed = form.parse(text)
    calls, pairs = parsed.calls, _pairs(parsed.calls, example)
    readable = bool(calls) if example.calls else parsed.error in ("", "no call", "text around the call")
    accepted = readable and right(calls, example)
    exact = accepted and parsed.strict
    hits = sum(1 for expected, given in pairs
               if given and not call_errors(given, expected, tool_named(example, expected.name)))
    failure, wrong = ("", ()) if exact else _failure(parsed, example, pairs, stopped)
    names = Counter(c["name"] for c in calls) == Counter(c.name for c in example.calls)
    return Verdict(
        id=example.id, source=example.source, valid_json=readable, strict=parsed.strict,
        schema_valid=all(_schema_valid(c, example) for c in calls) and readable, name=names and readable,
        arguments=accepted, exact=exact, call_counts=(hits, len(calls) - hits, len(example.calls) - hits),
        argument_counts=_argument_counts(calls, pairs, example), expects_call=bool(example.calls), stopped=stopped,
        failure=failure, wrong=wrong, expected=form.answer(example), got=text, prompt=prompt)


# ---------------------------------------------------------------- many


def f1(counts: np.ndarray) -> tuple[float, float, float]:
    """(precision, recall, F1) of counts (N, 3) summed; 0 where nothing was given or expected."""
    hits, wrong, missed = np.asarray(counts, float).reshape(-1, 3).sum(0)
    whole = ((hits, hits + wrong), (hits, hits + missed), (2 * hits, 2 * hits + wrong + missed))
    return tuple(float(part / of) if of else 0.0 for part, of in whole)


def _f1_score(counts: Sequence[tuple], part: int) -> dict:
    """Precision (part 0), recall (1) or F1 (2) with a bootstrap interval over answers."""
    table = np.asarray(counts, float).reshape(-1, 3)
    return bootstrap(np.arange(len(table)), "share", lambda rows: f1(table[rows.astype(int)])[part], draws=1000)


def scores(verdicts: Sequence[Verdict]) -> dict[str, dict]:
    """Flat table of scores with n and interval; calls and no-call answers apart, exact also by source."""
    asked, other = [v for v in verdicts if v.expects_call], [v for v in verdicts if not v.expects_call]
    table = {}
    for field in ("valid_json", "strict", "schema_valid", "name", "arguments", "exact") if asked else ():
        table[field] = proportion(sum(getattr(v, field) for v in asked), len(asked))
    for source in sorted({v.source for v in asked}) if asked else ():
        mine = [v for v in asked if v.source == source]
        table[f"exact/{source}"] = proportion(sum(v.exact for v in mine), len(mine))
    for level in ("call", "argument") if asked else ():
        counts = [getattr(v, f"{level}_counts") for v in asked]
        for i, part in enumerate(("precision", "recall", "f1")):
            table[f"{level}_{part}"] = _f1_score(counts, i)
    if other:
        table["irrelevance"] = proportion(sum(v.arguments for v in other), len(other))
    table["stopped"] = proportion(sum(v.stopped for v in verdicts), len(verdicts))
    return table


def mcnemar(a: Iterable[bool], b: Iterable[bool]) -> float:
    """Exact two-sided p of McNemar's test over the same examples."""
    pairs = list(zip(a, b, strict=True))
    first, second = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    n, k = first + second, min(first, second)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)


def compare(a: Sequence[Verdict], b: Sequence[Verdict], field: str = "exact") -> dict:
    """Share of `field` in a minus that in b over the same examples, Newcombe's interval, and "p" (McNemar, exact).

    Raises ValueError: not the same ids in the same order.
    """
    if [v.id for v in a] != [v.id for v in b]:
        raise ValueError(f"compare: the two systems answered other questions or in another order ({len(a)} and "
                         f"{len(b)} answers); expected the same ids")
    x, y = [getattr(v, field) for v in a], [getattr(v, field) for v in b]
    return paired_difference(np.array(x), np.array(y)) | {"p": mcnemar(x, y)}


def failures(verdicts: Sequence[Verdict]) -> list[dict]:
    """Every answer that is not exact: id, source, failure, wrong, prompt, expected, got; the commonest class first."""
    failed = [v for v in verdicts if v.failure]
    counts = Counter(v.failure for v in failed)
    keep = ("id", "source", "failure", "wrong", "prompt", "expected", "got")
    return [{key: value for key, value in asdict(v).items() if key in keep}
            for v in sorted(failed, key=lambda v: (-counts[v.failure], v.failure, v.id))]
