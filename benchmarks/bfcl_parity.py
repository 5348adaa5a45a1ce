"""Agreement of hrm_lab.adapters.scoring with BFCL's own checker, on mutated calls.

    python benchmarks/bfcl_parity.py --cache data/cache [--each 4] [--seed 0]

From the gold calls of every usable row predictions are made by seeded mutations: other acceptable values, other types,
case and punctuation, arguments left out or added, items of lists and keys of objects changed, calls doubled, swapped
or dropped. Each is judged by `right` and by `ast_checker` of the wheel of `bfcl-eval`, which runs in a process of its
own; of the twenty packages that it imports only one flag is used, so a stub of that module stands in. Where the
checker itself raises, its verdict is "wrong". The last line is one JSON object.
"""

import argparse
import json
import random
import subprocess
import sys
import time
import zipfile
from collections import Counter

from hrm_lab.adapters import bfcl
from hrm_lab.adapters.scoring import right
from hrm_lab.metrics import format_score, proportion
from hrm_lab.sources import fetch

THEIRS = """
import collections, json, sys, types
sys.path.insert(0, sys.argv[1])
stub = types.ModuleType("bfcl_eval.constants.model_config")
flags = types.SimpleNamespace(underscore_to_dot=False)
stub.MODEL_CONFIG_MAPPING = collections.defaultdict(lambda: flags)
sys.modules[stub.__name__] = stub
from bfcl_eval.constants.enums import Language
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
for line in sys.stdin:
    row = json.loads(line)
    try:
        said = ast_checker(row["functions"], row["calls"], row["truth"], Language.PYTHON, row["category"], "m")
        verdict = said["valid"]
    except Exception as error:
        verdict = type(error).__name__
    print(json.dumps(verdict))
"""


def other_value(value, accepted: list, rng: random.Random):
    """A value near to `value`: sometimes as right, mostly wrong in one way."""
    choices = [lambda: rng.choice(accepted), lambda: None, lambda: [value], lambda: str(value), lambda: {}, lambda: ""]
    if isinstance(value, bool):
        choices += [lambda: not value, lambda: int(value)]
    elif isinstance(value, int | float):
        choices += [lambda: value + 1, lambda: float(value), lambda: int(value), lambda: -value, lambda: bool(value)]
    elif isinstance(value, str):
        choices += [value.upper, lambda: value.replace(" ", "-") + ".", lambda: value + " x", lambda: value[:-1],
                    lambda: value.replace("'", '"')]
    elif isinstance(value, list):
        choices += [lambda: value[::-1], lambda: value[1:], lambda: [*value, *value[:1]], list,
                    lambda: [other_value(item, [item], rng) if rng.random() < 0.5 else item for item in value],
                    lambda: [str(item) for item in value]]
    elif isinstance(value, dict):
        choices += [lambda: dict([*value.items()][1:]), lambda: value | {"extra": 1},
                    lambda: {key: other_value(item, [item], rng) if rng.random() < 0.5 else item
                             for key, item in value.items()}]
    return rng.choice(choices)()


def mutate(example, rng: random.Random) -> list[dict]:
    """Calls made of the gold ones by up to three changes."""
    calls = [{"name": call.name, "arguments": dict(call.gold)} for call in example.calls]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        if not calls:
            break
        i = rng.randrange(len(calls))
        arguments, expected = calls[i]["arguments"], next((c for c in example.calls if c.name == calls[i]["name"]),
                                                          None)
        kind = rng.choice(("value", "value", "value", "drop", "optional", "extra", "name", "calls", "accepted"))
        if kind == "value" and arguments:
            name = rng.choice([*arguments])
            arguments[name] = other_value(arguments[name], expected.accepted.get(name, [1]) if expected else [1], rng)
        elif kind == "accepted" and expected and expected.accepted:
            name = rng.choice([*expected.accepted])
            arguments[name] = rng.choice(expected.accepted[name])
        elif kind == "drop" and arguments:
            del arguments[rng.choice([*arguments])]
        elif kind == "optional":
            tool = next((t for t in example.tools if t["name"] == calls[i]["name"]), example.tools[0])
            if tool["parameters"]["properties"]:
                name = rng.choice([*tool["parameters"]["properties"]])
                arguments[name] = rng.choice(["", 0, 1.5, True, [], {}, ["a"], "text", [1, 2], [{"a": 1}]])
        elif kind == "extra":
            arguments[rng.choice(("x", "name"))] = 1
        elif kind == "name":
            calls[i]["name"] = rng.choice([tool["name"] for tool in example.tools] + [calls[i]["name"] + "_"])
        elif kind == "calls":
            calls = rng.choice(([*calls, calls[i]], calls[:i] + calls[i + 1:], calls[::-1]))
    return calls


def verdicts(cache, cases: list) -> tuple[list[bool], list]:
    """(ours, theirs) of (example, calls); theirs is the name of an error where the checker raised one."""
    wheel, rows = fetch("bfcl-eval", cache), {}
    with zipfile.ZipFile(wheel) as files:
        for source in {example.source for example, _ in cases}:
            asked, truths = (
                {row["id"]: row for row in map(json.loads, files.read(f"bfcl_eval/data/{path}").splitlines())}
                for path in (f"BFCL_v4_{source}.json", f"possible_answer/BFCL_v4_{source}.json"))
            rows |= {i: (asked[i]["function"], truths[i]["ground_truth"]) for i in asked}
    lines = "".join(json.dumps({"functions": rows[e.id][0], "truth": rows[e.id][1], "category": e.source,
                                "calls": [{c["name"]: c["arguments"]} for c in calls]}) + "\n" for e, calls in cases)
    done = subprocess.run([sys.executable, "-c", THEIRS, str(wheel)], input=lines, capture_output=True, text=True,
                          check=True)
    return [right(calls, example) for example, calls in cases], [json.loads(line) for line in done.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", default="data/cache")
    parser.add_argument("--each", type=int, default=4, help="predictions a row")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    examples, _ = bfcl.load(arguments.cache, (*bfcl.CALLS, *bfcl.PARALLEL))
    cases = [(example, mutate(example, rng)) for example in examples for _ in range(arguments.each)]
    ours, theirs = verdicts(arguments.cache, cases)
    start = time.process_time()
    for example, calls in cases:
        right(calls, example)
    seconds = time.process_time() - start
    same = [a == (b is True) for a, b in zip(ours, theirs, strict=True)]
    for (example, calls), a, b, agreed in zip(cases, ours, theirs, same, strict=True):
        if not agreed:
            print(example.id, "ours", a, "theirs", b, json.dumps(calls)[:300])
    agreement = proportion(sum(same), len(same))
    print(f"agreement {format_score(agreement)}")
    raised = Counter(b for b in theirs if isinstance(b, str))
    print(json.dumps({"agreement": agreement, "right": sum(ours), "raised": raised, "sources": Counter(
        e.source for e, _ in cases), "verdicts_per_cpu_s": round(len(cases) / seconds)}))


if __name__ == "__main__":
    main()
