"""Executions to the first patch that passes, by prior alone: candidates sorted once, no tree, no feedback.

    python benchmarks/policy.py --rows humanevalpack/python.jsonl --cache outcomes --priors weights/swe-python ...

The outcomes of all candidates of each row come from the folder that `benchmarks/repair.py --tables` makes; evidence is
one traced run of the visible tests and counts as no execution. A prior is a folder of a policy, a file of a linear
prior, or uniform, kinds, kinds+lines (eight seeds each, averaged). Plausible: passes the visible tests; solved: the
first plausible one also passes the hidden tests. A row whose bug the visible tests do not show, or that has no
patch in the space, stays in n and counts as unsolved. The last line is one JSON object with n and intervals.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from hrm_lab.files import write_json
from hrm_lab.metrics import bootstrap, format_score
from hrm_lab.runs import set_threads
from hrm_lab.swe.edits import Edit
from hrm_lab.swe.evidence import Evidence, gather
from hrm_lab.swe.humanevalpack import assemble
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.policy import Policy

BUDGETS = (1, 10, 30, 100, 300, 1000)
SEEDS = 8
NEVER = 10**6


def tasks(rows: Path, cache: Path):
    """(name, program, evidence, edits, visible all passed (n,), hidden all passed (n,)) of each row with a table."""
    for row in map(json.loads, rows.read_text().splitlines()):
        name = row["task_id"].replace("/", "-")
        if not (cache / f"{name}.json").exists():
            continue
        table = json.loads((cache / f"{name}.json").read_text())
        code, visible = assemble(row, "buggy_solution", "example_test")
        kept = cache / f"{name}.evidence.json"
        if not kept.exists():
            found = gather(code, visible)
            write_json(kept, {"failing": found.failing, "passing": found.passing, "messages": found.messages,
                              "suspicion": {str(line): value for line, value in found.suspicion.items()}})
        known = json.loads(kept.read_text())
        known["suspicion"] = {int(line): value for line, value in known["suspicion"].items()}
        yield (name, code, Evidence(**known), [Edit(*entry[:4]) for entry in table],
               np.array([set(entry[4]) == {"P"} for entry in table], bool),
               np.array([set(entry[5]) == {"P"} for entry in table], bool))


def first(scores: np.ndarray, plausible: np.ndarray, correct: np.ndarray) -> tuple[int, int]:
    """Executions to the first plausible patch, and the same if that patch is correct, else NEVER."""
    order = np.argsort(-scores, kind="stable")
    hits = np.flatnonzero(plausible[order])
    if not len(hits):
        return NEVER, NEVER
    return int(hits[0]) + 1, int(hits[0]) + 1 if correct[order[hits[0]]] else NEVER


def prior_of(name: str):
    """The priors of a name, one a seed."""
    if name == "uniform":
        return [Uniform(seed) for seed in range(SEEDS)]
    if name in ("kinds", "kinds+lines"):
        return [KindBalanced(seed, localise=name == "kinds+lines") for seed in range(SEEDS)]
    return [LinearPrior.load(name) if name.endswith(".safetensors") else Policy.load(name)]


def measure(name: str, found: list, hidden: int) -> dict:
    """Scores of a prior over the tasks; `hidden` more rows cannot be searched and count as unsolved."""
    counts = np.array([[first(prior.scores(code, edits, evidence), plausible, correct)
                        for prior in prior_of(name)] for _, code, evidence, edits, plausible, correct in found])
    counts = np.concatenate([counts, np.full((hidden, *counts.shape[1:]), NEVER)])  # (tasks, seeds, 2)
    table = {}
    for k, what in enumerate(("plausible", "solved")):
        for budget in BUDGETS:
            table[f"{what}_in_{budget}"] = bootstrap((counts[..., k] <= budget).mean(1), "share")
        table[f"{what}_median"] = bootstrap(np.median(counts[..., k], 1), "executions", np.median)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--priors", nargs="+", default=["uniform", "kinds", "kinds+lines"])
    parser.add_argument("--searchable", action="store_true", help="leave out rows that cannot be searched")
    given = parser.parse_args()
    set_threads()
    found = list(tasks(given.rows, given.cache))
    unseen = 0 if given.searchable else len(given.rows.read_text().splitlines()) - len(found)
    report = {name: measure(name, found, unseen) for name in given.priors}
    for name, table in report.items():
        for what in ("plausible", "solved"):
            shares = "  ".join(f"{budget}: {100 * table[f'{what}_in_{budget}']['value']:4.1f}" for budget in BUDGETS)
            print(f"{name:40} {what:9} % in {shares}  median {format_score(table[f'{what}_median'])}")
    print(json.dumps({"tasks": len(found) + unseen, "searched": len(found), "priors": report}))


if __name__ == "__main__":
    main()
