"""The table that decides: bugs solved within so many executions, by order of candidates and by kind of search.

    python benchmarks/repair.py --rows humanevalpack/python.jsonl --cache outcomes [--tables] [--searches kinds,...]

Rows are HumanEvalPack's. A search sees `example_test` only; its patch is judged by `test`. No line is given, an
execution runs the visible tests on one candidate, and the run on the bug as it is comes on top. What each candidate
does is found once and kept in the folder `--cache` (`--tables` makes what is missing: minutes of CPU a row), so that
searches are replayed in seconds; edits come one at a time here. A bug that the visible tests do not show counts as
not solved. Plausible: the first patch that passes the visible tests; solved: it passes the hidden ones, too. The last
line is one JSON object, each number with n and a 95 % interval (over bugs; runs with several seeds are averaged).
"""

import argparse
import json
import os
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from hrm_lab.metrics import bootstrap, format_score, paired_difference, proportion
from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.evidence import Evidence, gather
from hrm_lab.swe.feedback import Feedback
from hrm_lab.swe.humanevalpack import assemble
from hrm_lab.swe.jail import Limits
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.probe import probe
from hrm_lab.swe.sandbox import Result, Server
from hrm_lab.swe.search import search
from hrm_lab.swe.split import suite

BUDGETS = (1, 10, 30, 100, 300, 1000)
LETTERS = {"passed": "P", "failed": "F", "error": "E", "fuel": "T", "cpu": "T", "wall": "T"}
OUTCOMES = {"P": "passed", "F": "failed", "E": "error", "T": "fuel", "X": "killed"}


# ---------------------------------------------------------------- the cache


def vector(result: Result) -> str:
    return "".join(LETTERS.get(outcome, "X") for outcome in result.tests.values())


def said(result: Result) -> list[str]:
    return [message[:160] for message in result.messages.values()]


def make(row: dict, folder: Path):
    """Run every candidate of a row; the hidden tests only on those that pass the visible ones."""
    path, name = folder / f"{row['task_id'].replace('/', '-')}.json", row["task_id"]
    code, visible = assemble(row, "buggy_solution", "example_test")
    gold, _ = assemble(row, "canonical_solution")
    try:
        suite(visible)
    except ValueError as error:
        print(f"{name}: no visible test ({str(error)[:60]})", flush=True)
        return
    with Server(visible, limits=Limits(cpu_seconds=0.3)) as shown, Server(row["test"]) as hidden:
        before = shown.run(code)
        fuel = [20 * server.run(gold).ticks + 5000 for server in (shown, hidden)]
        base = {"task": name, "visible": vector(before), "messages": said(before), "hidden": vector(hidden.run(code)),
                "evidence": asdict(gather(code, shown))}
        for server, limit in zip((shown, hidden), fuel, strict=True):
            server.limits = replace(server.limits, fuel=limit)
        table = []
        for edit in candidates(code) if "F" in base["visible"] or set(base["visible"]) != {"P"} else []:
            result = shown.run(apply(code, edit))
            passed = result.outcome == "passed"
            table.append([edit.kind, edit.start, edit.end, edit.text, vector(result),
                          vector(hidden.run(apply(code, edit))) if passed else "",
                          zlib.crc32(json.dumps(said(result)).encode()), said(result)])
    path.with_suffix(".base.json").write_text(json.dumps(base))
    new = path.with_suffix(".new")
    new.write_text(json.dumps(table))
    os.replace(new, path)
    print(f"{name}: {len(table)} candidates, {sum(bool(line[5]) for line in table)} plausible, "
          f"{sum(set(line[5]) == {'P'} for line in table)} correct", flush=True)


class Replay:
    """A row whose outcomes are known: a judge for `search`, with the executions that it has made."""

    def __init__(self, row: dict, folder: Path):
        path = folder / f"{row['task_id'].replace('/', '-')}.json"
        self.program, _ = assemble(row, "buggy_solution", "example_test")
        base, table = json.loads(path.with_suffix(".base.json").read_text()), json.loads(path.read_text())
        self.name = row["task_id"]
        self.edits = [Edit(*line[:4]) for line in table]
        self.outcomes = {apply(self.program, edit): (line[4], line[7])
                         for edit, line in zip(self.edits, table, strict=True)}
        self.correct = {edit: set(line[5]) == {"P"} for edit, line in zip(self.edits, table, strict=True)}
        self.outcomes[self.program] = (base["visible"], base.get("messages", []))
        evidence = dict(base["evidence"])
        evidence["suspicion"] = {int(line): value for line, value in evidence["suspicion"].items()}
        self.evidence = Evidence(**evidence)
        visible = assemble(row, "buggy_solution", "example_test")[1]
        self.facts = probe(self.program, self.edits, visible, self.evidence)

    def __call__(self, program: str) -> Result:
        letters, messages = self.outcomes[program]
        tests = {str(i): OUTCOMES[letter] for i, letter in enumerate(letters)}
        bad = [name for name, outcome in tests.items() if outcome != "passed"]
        return Result("", "passed" if not bad else "failed", tests, messages=dict(zip(bad, messages, strict=False)))


# ---------------------------------------------------------------- the table


def run(replay: Replay, prior, seeds: int, budget: int, probed: bool, **options) -> dict:
    """Executions to the first plausible patch (inf: none), and whether the patch is correct, for each seed."""
    found = []
    for seed in range(seeds):
        one = search(replay.program, replay, prior(seed), edits=replay.edits, evidence=replay.evidence, depth=1,
                     seed=seed, budget=budget, probe=(lambda *_: replay.facts) if probed else False, **options)
        first = next((i + 1 for i, step in enumerate(one.trace) if step.resolved), np.inf)
        found.append((first, one.resolved and replay.correct[one.edits[0]]))
    return {"executions": np.array([first for first, _ in found]), "correct": np.array([right for _, right in found])}


def line_of(runs: dict[str, dict], missing: int, budget: int) -> dict:
    """Scores of one search over all bugs; `missing` of them have no visible failing test."""
    executions = np.stack([one["executions"] for one in runs.values()])  # (bugs, seeds)
    correct = np.stack([one["correct"] for one in runs.values()])
    everyone = np.concatenate([executions, np.full((missing, executions.shape[1]), np.inf)])
    right = np.concatenate([correct, np.zeros((missing, correct.shape[1]), bool)])
    scores = {}
    for limit in BUDGETS:
        if limit <= budget:
            for name, values in (("plausible", everyone <= limit), ("solved", (everyone <= limit) & right)):
                several = values.shape[1] > 1
                scores[f"{name}@{limit}"] = bootstrap(values.mean(1), "share") if several else proportion(
                    int(values.sum()), len(values))
    scores["median_executions"] = bootstrap(np.minimum(np.median(everyone, 1), budget + 1), "executions", np.median)
    return scores


def ratio(a: dict[str, dict], b: dict[str, dict], budget: int) -> dict:
    """Geometric mean over bugs of executions of search a / of search b, unsolved as `budget`."""
    logs = [np.mean(np.log(np.minimum(a[name]["executions"], budget))) - np.mean(np.log(np.minimum(
        b[name]["executions"], budget))) for name in a]
    return bootstrap(np.array(logs), "x", lambda values: float(np.exp(values.mean())))


def priors(options) -> dict:
    """Name -> (seed -> prior), and whether a seed matters."""
    found = {"uniform": (lambda seed: Uniform(seed), True), "kinds": (lambda seed: KindBalanced(seed), True)}
    for given in options.prior:
        name, _, path = given.partition("=")
        module, _, kind = name.rpartition(".")
        loaded = getattr(__import__(module, fromlist=[kind]), kind).load(Path(path))
        found[kind] = (lambda seed, loaded=loaded: loaded, False)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--tables", action="store_true", help="run the candidates of rows that the cache lacks")
    parser.add_argument("--limit", type=int, default=10**6, help="the first rows only")
    parser.add_argument("--prior", action="append", default=[], metavar="MODULE.CLASS=PATH",
                        help="a learned prior, loaded by CLASS.load(PATH)")
    parser.add_argument("--feedback", type=Path, help="weights of the feedback")
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--only", nargs="+", help="priors to compare: uniform, kinds, names of classes")
    parser.add_argument("--seeds", type=int, default=5, help="of the random orders")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = rows[:options.limit]
    options.cache.mkdir(parents=True, exist_ok=True)
    for row in rows if options.tables else []:
        if not (options.cache / f"{row['task_id'].replace('/', '-')}.json").exists():
            make(row, options.cache)
    here = [row for row in rows if (options.cache / f"{row['task_id'].replace('/', '-')}.json").exists()]
    replays = [replay for replay in (Replay(row, options.cache) for row in here) if replay.evidence.failing]
    searches = {"sorted": {"tree": False, "probed": False}, "tree": {"tree": True, "probed": False},
                "probe": {"tree": False, "probed": True}, "tree+probe": {"tree": True, "probed": True}}
    if options.feedback:
        loaded = Feedback.load(options.feedback)
        searches |= {f"{'tree+' * tree}{'probe+' * probed}feedback": {"tree": tree, "probed": probed,
                                                                      "feedback": loaded}
                     for tree in (False, True) for probed in (False, True)}
        searches["feedback, gate 0"] = {"tree": False, "probed": False, "feedback": replace(loaded, gate=0.0)}
    found, plain = {"bugs": len(rows), "shown": len(replays)}, {}
    for name, (prior, several) in priors(options).items():
        if options.only and name not in options.only:
            continue
        for kind, settings in searches.items():
            runs = {one.name: run(one, prior, options.seeds if several else 1, options.budget, **settings)
                    for one in replays}
            plain[name, kind] = runs
            scores = line_of(runs, len(rows) - len(replays), options.budget)
            if kind != "sorted":
                scores["ratio"] = ratio(runs, plain[name, "sorted"], options.budget)
                for limit in (30, 100):
                    pair = [np.stack([one["executions"] for one in side.values()])[:, 0] <= limit
                            for side in (runs, plain[name, "sorted"])]
                    scores[f"gain@{limit}"] = paired_difference(*pair)
            found[f"{name} {kind}"] = scores
            print(f"{name + ' ' + kind:28}", *(f"{100 * scores[f'plausible@{b}']['value']:5.1f}" for b in BUDGETS
                                              if b <= options.budget), "|", format_score(scores["median_executions"]),
                  "|", format_score(scores["ratio"]) if "ratio" in scores else "", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
