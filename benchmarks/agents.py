"""Do the coordinator and reverse learning earn their place? Every search at equal executions on human bugs.

    python benchmarks/agents.py --rows humanevalpack/python.jsonl --cache outcomes [--weights weights/swe-python]

Rows and cache as in benchmarks/repair.py: a search sees the visible tests, its patch is judged by the hidden ones, and
what each candidate does is replayed from the cache. All searches but one use the probe; the prior is linear. Arms:
each editor alone (the rest of the candidates after its own), the localiser, all editors in one order (the linear prior:
the best single agent), a uniform split of the executions, a split by an oracle (for each bug the editor that needs
fewest, known afterwards), the coordinator; reverse learning with its gate as learnt, at 0, at 1, and with the outcomes
of other candidates; and the probe, left out, or saying of each candidate what it found of another. Plausible: a patch
that passes the visible tests; solved: the first such patch passes the hidden ones, too. Intervals are over bugs,
paired. The last line is one JSON object.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from repair import Once, Replay

from hrm_lab.metrics import bootstrap, format_score, paired_difference, proportion
from hrm_lab.swe.agents import EDITORS, Coordinator, Editor, Localiser, Split
from hrm_lab.swe.feedback import Feedback
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.search import search

BUDGETS = (1, 10, 30, 100, 300, 1000)


def run(replay: Replay, prior, feedback: Feedback | None, budget: int, judge=None,
        probe=None) -> tuple[float, bool]:
    """Executions to the first plausible patch (inf: none), and whether it is correct. probe: False, or a false one."""
    one = search(replay.program, judge or replay, prior, edits=replay.edits, evidence=replay.evidence, depth=1,
                 tree=False, budget=budget, probe=replay.probed if probe is None else probe, feedback=feedback)
    return (one.executions if one.resolved else np.inf), one.resolved and replay.correct[one.edits[0]]


def shuffled(replay: Replay, seed: int = 0):
    """A judge that says of each candidate that fails what another one of those did."""
    rng = np.random.default_rng(seed)
    bad = [code for code, (letters, _) in replay.outcomes.items() if set(letters) != {"P"} and code != replay.program]
    other = dict(zip(bad, rng.permutation(np.array(bad, object)), strict=True))
    return lambda code: replay(other.get(code, code))


def elsewhere(replay: Replay, seed: int = 0):
    """A probe that says of each candidate what it found of another one."""
    mixed = np.random.default_rng(seed).permutation(len(replay.edits))
    return lambda *given: replay.probed(given[0], [replay.edits[mixed[replay.number[one]]] for one in given[1]], None)


def scores(found: list[tuple[float, bool]], base: list[tuple[float, bool]], missing: int, budget: int) -> dict:
    """Scores of an arm, and against `base`; `missing` bugs are not shown by any visible test."""
    (runs, right), (old, was) = (map(np.array, zip(*one, strict=True)) for one in (found, base))
    n, told = len(runs) + missing, {}
    for limit in (one for one in BUDGETS if one <= budget):
        told[f"plausible@{limit}"] = proportion(int((runs <= limit).sum()), n)
        told[f"solved@{limit}"] = proportion(int(((runs <= limit) & right).sum()), n)
        told[f"plausible_gain@{limit}"] = paired_difference(runs <= limit, old <= limit)
        told[f"solved_gain@{limit}"] = paired_difference((runs <= limit) & right, (old <= limit) & was)
    told["median_executions"] = bootstrap(np.minimum(runs, budget + 1), "executions", np.median)
    logs = np.log(np.minimum(runs, budget)) - np.log(np.minimum(old, budget))
    told["ratio"] = bootstrap(logs, "x", lambda values: float(np.exp(values.mean())))
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder that benchmarks/repair.py --tables filled")
    parser.add_argument("--weights", type=Path, default=Path("weights/swe-python"))
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--limit", type=int, default=10**6, help="the first rows only")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = rows[:options.limit]
    here = [row for row in rows if (options.cache / f"{row['task_id'].replace('/', '-')}.json").exists()]
    replays = [one for one in (Replay(row, options.cache) for row in here) if one.evidence.failing]
    linear = Once(LinearPrior.load(options.weights / "linear.safetensors"))
    feedback = Feedback.load(options.weights / "feedback.safetensors")
    coordinator = Once(Coordinator.load(options.weights / "coordinator.safetensors", linear))
    arms = {"linear": (linear, None), "linear, no probe": (linear, None), "linear, probe shuffled": (linear, None),
            "localiser": (Localiser(), None)}
    arms |= {f"editor: {name}": (Editor(name, linear), None) for name in EDITORS}
    arms |= {"uniform split": (Split(linear), None), "coordinator": (coordinator, None)}
    for name, prior in (("linear", linear), ("coordinator", coordinator)):
        arms |= {f"{name} + feedback": (prior, feedback),
                 f"{name} + feedback, gate 0": (prior, replace(feedback, gate=0.0)),
                 f"{name} + feedback, gate 1": (prior, replace(feedback, gate=1.0)),
                 f"{name} + feedback, shuffled": (prior, feedback)}
    found = {}
    for name, (prior, steer) in arms.items():
        found[name] = [run(one, prior, steer, options.budget, shuffled(one) if "feedback, shuffled" in name else None,
                           False if "no probe" in name else elsewhere(one) if "probe shuffled" in name else None)
                       for one in replays]
    found["oracle split"] = [min(runs) for runs in zip(*(found[f"editor: {name}"] for name in EDITORS), strict=True)]
    told = {"bugs": len(rows), "shown": len(replays)}
    for name, runs in found.items():
        base = "coordinator" if name.startswith("coordinator +") else "linear"
        told[name] = {"against": base} | scores(runs, found[base], len(rows) - len(replays), options.budget)
        print(f"{name:34}", *(f"{100 * told[name][f'solved@{b}']['value']:5.1f}" for b in BUDGETS
                              if b <= options.budget), "|", format_score(told[name]["median_executions"]), "|",
              f"against {base}:", format_score(told[name]["ratio"]), flush=True)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
