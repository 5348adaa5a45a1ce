"""The table that decides: bugs solved within so many executions, by order of candidates and by kind of search.

    python benchmarks/repair.py --rows humanevalpack/python.jsonl --cache outcomes --tables
    python benchmarks/repair.py ... --prior linear=weights/swe-python/linear.safetensors hrm=weights/swe-python/hrm

Rows are HumanEvalPack's. A search sees `example_test` only; its patch is judged by `test`. No line is given, an
execution runs the visible tests on one candidate, and the run on the bug as it is comes on top. What each candidate
does is found once and kept in the folder `--cache` (`--tables` makes what is missing: seconds to minutes of CPU a row),
so that searches are replayed in seconds. With `--depth 2`, as in `hrm-lab repair`, an edit that mends some tests can be
followed by another one: what the second does is run when it is asked for. What is searched is added to the file
`--kept` (one for each set of weights), so that a killed run goes on. A bug that the visible tests do not show counts as
not solved. Plausible: the first patch that passes the visible tests; solved: it passes the hidden ones, too. With
`--all-tests` a search sees `test` itself, as one that is given all there is (it wants a `--cache` of its own). With
`--whole` the visible tests are one test, as in a file whose only function holds all assertions: the first that fails
hides the rest. `ratio` (geometric mean of executions, unsolved as the budget) and `gain` (share plausible) are paired:
with the same prior merely sorted, for the probe without it; `ratio_to_...` with the same search by another prior. The
last line is one JSON object, each number with n and a 95 % interval (over bugs; runs with several seeds are averaged).
"""

import argparse
import json
import os
import zlib
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from hrm_lab.metrics import bootstrap, format_score, paired_difference, proportion
from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.evidence import Evidence, gather
from hrm_lab.swe.feedback import Feedback
from hrm_lab.swe.humanevalpack import assemble
from hrm_lab.swe.instances import json_rows
from hrm_lab.swe.jail import Limits
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.orders import Counting, KindBalanced, Uniform
from hrm_lab.swe.policy import Policy
from hrm_lab.swe.probe import Facts, probe
from hrm_lab.swe.sandbox import Result, Server
from hrm_lab.swe.search import search
from hrm_lab.swe.split import suite

BUDGETS = (1, 10, 30, 100, 300, 1000)
CANDIDATE = Limits(cpu_seconds=0.3)
LETTERS = {"passed": "P", "failed": "F", "error": "E", "fuel": "T", "cpu": "T", "wall": "T"}
OUTCOMES = {"P": "passed", "F": "failed", "E": "error", "T": "fuel", "X": "killed"}


# ---------------------------------------------------------------- the cache


def vector(result: Result) -> str:
    return "".join(LETTERS.get(outcome, "X") for outcome in result.tests.values())


def said(result: Result) -> list[str]:
    """What the failing tests say, in their order."""
    return [result.messages.get(test, "")[:160] for test, outcome in result.tests.items() if outcome != "passed"]


def make(row: dict, folder: Path):
    """Run every candidate of a row; the hidden tests only on those that pass the visible ones."""
    path, name = folder / f"{row['task_id'].replace('/', '-')}.json", row["task_id"]
    code, visible = assemble(row, "buggy_solution", "example_test")
    try:
        suite(visible)
    except ValueError as error:
        print(f"{name}: no visible test ({str(error)[:60]})", flush=True)
        return
    with Server(visible, limits=CANDIDATE) as shown, Server(row["test"]) as hidden:
        before = shown.run(code)
        base = {"task": name, "visible": vector(before), "messages": said(before), "hidden": vector(hidden.run(code)),
                "evidence": asdict(gather(code, shown))}
        limit_fuel(row, shown, hidden)
        table = []
        for edit in candidates(code) if set(base["visible"]) != {"P"} else []:
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


def limit_fuel(row: dict, *servers: Server):
    """Give candidates 20 times what the repaired program takes."""
    gold, _ = assemble(row, "canonical_solution")
    for server in servers:
        server.limits = replace(server.limits, fuel=20 * server.run(gold).ticks + 5000)


class Replay:
    """A row whose outcomes are known: a judge for `search`. whole: all visible tests count as one.

    Programs that are two edits away are run, in servers that are started for the first one and closed by `close`.
    """

    def __init__(self, row: dict, folder: Path, whole: bool = False):
        path = folder / f"{row['task_id'].replace('/', '-')}.json"
        self.program, visible = assemble(row, "buggy_solution", "example_test")
        base, table = json.loads(path.with_suffix(".base.json").read_text()), json.loads(path.read_text())
        self.name, self.row, self.visible, self.told, self.open = row["task_id"], row, visible, {}, ExitStack()
        self.servers: list[Server] = []  # of the visible and the hidden tests
        self.edits = [Edit(*line[:4]) for line in table]
        known = {apply(self.program, edit): (line[4], line[7]) for edit, line in zip(self.edits, table, strict=True)}
        known[self.program] = base["visible"], base["messages"]
        self.correct = {edit: set(line[5]) == {"P"} for edit, line in zip(self.edits, table, strict=True)}
        evidence = dict(base["evidence"])
        evidence["suspicion"] = {int(line): value for line, value in evidence["suspicion"].items()}
        self.evidence, self.tests = Evidence(**evidence), suite(visible) if table else None
        if whole and table:
            self.tests = replace(self.tests, tests=(("tests", "\n".join(body for _, body in self.tests.tests)),))
            known = {code: (collapsed(letters), messages[:1]) for code, (letters, messages) in known.items()}
            with Server(self.tests) as server:
                self.evidence = gather(self.program, server)
        self.outcomes = known
        self.number = {edit: n for n, edit in enumerate(self.edits)}

    @cached_property
    def facts(self) -> Facts:
        return probe(self.program, self.edits, self.tests, self.evidence)

    def probed(self, program: str, edits: list[Edit], evidence: Evidence | None) -> Facts:
        """What the probe tells of these edits."""
        if program == self.program:
            facts, number = self.facts, self.number
        else:
            key = program, frozenset(edits)
            if key not in self.told:
                self.told[key] = (probe(program, edits, self.tests, evidence), {one: n for n, one in enumerate(edits)})
            facts, number = self.told[key]
        asked = [number[edit] for edit in edits]
        return replace(facts, values=facts.values[asked], spins=None if facts.spins is None else facts.spins[asked])

    def live(self) -> list[Server]:
        if not self.servers:
            self.servers = [self.open.enter_context(Server(self.visible, limits=CANDIDATE)),
                            self.open.enter_context(Server(self.row["test"]))]
            limit_fuel(self.row, *self.servers)
        return self.servers

    def close(self):
        self.open.close()
        self.servers = []

    def right(self, edits: tuple[Edit, ...], program: str) -> bool:
        """Whether a patch that passes the visible tests passes the hidden ones."""
        return self.correct[edits[0]] if len(edits) == 1 else self.live()[1].run(program).outcome == "passed"

    def __call__(self, program: str) -> Result:
        if program not in self.outcomes:
            result = self.live()[0].run(program)
            self.outcomes[program] = vector(result), said(result)
        letters, messages = self.outcomes[program]
        tests = {str(i): OUTCOMES[letter] for i, letter in enumerate(letters)}
        bad = [name for name, outcome in tests.items() if outcome != "passed"]
        return Result("", "passed" if not bad else "failed", tests, messages=dict(zip(bad, messages, strict=False)))


def collapsed(letters: str) -> str:
    """The outcome of all tests as one: that of the first that does not pass."""
    return next((letter for letter in letters if letter != "P"), "P")


# ---------------------------------------------------------------- the table


class Once:
    """A prior that remembers its scores of each program: searches of one table ask for the same ones."""

    def __init__(self, prior):
        self.prior, self.known = prior, {}

    def scores(self, program, edits, evidence, language="python"):
        if program not in self.known:
            self.known[program] = self.prior.scores(program, edits, evidence, language)
        return self.known[program]


def run(replay: Replay, prior, seeds: int, budget: int, probed: bool, **options) -> dict[str, list]:
    """Executions to the first plausible patch (None: there is none), and whether it is correct, for each seed."""
    found = {"executions": [], "correct": []}
    for seed in range(seeds):
        one = search(replay.program, replay, prior(seed), edits=replay.edits, evidence=replay.evidence,
                     seed=seed, budget=budget, probe=replay.probed if probed else False, **options)
        found["executions"].append(one.executions if one.resolved else None)
        found["correct"].append(one.resolved and replay.right(one.edits, one.program))
    replay.close()
    return found


class Kept:
    """What was searched, in a file of JSON lines if there is one."""

    def __init__(self, path: Path | None):
        self.path, rows = path, json_rows(path) if path and path.exists() else ()
        self.known = {json.dumps(row["of"]): row["found"] for _, row, problem in rows if not problem}

    def run(self, of: list, replay: Replay, *given, **options) -> dict[str, np.ndarray]:
        """`run` as arrays, unless it is kept. of: what tells this search from others."""
        key = json.dumps(of)
        if key not in self.known:
            self.known[key] = run(replay, *given, **options)
            if self.path:
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write("\n" + json.dumps({"of": of, "found": self.known[key]}))  # a torn line costs itself
        found = self.known[key]
        return {"executions": np.array([np.inf if one is None else one for one in found["executions"]], float),
                "correct": np.array(found["correct"], bool)}


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


def priors(given: list[str]) -> dict:
    """Name -> (seed -> prior), and whether a seed matters."""
    found = {"uniform": (Uniform, True), "kinds": (KindBalanced, True)}
    for one in given:
        name, _, path = one.partition("=")
        loaded = Once(Policy.load(path) if Path(path).is_dir() else LinearPrior.load(path))
        if name.endswith("-counting"):
            loaded = Once(Counting(loaded.prior))
        found[name] = (lambda seed, loaded=loaded: loaded, False)
    return found


def kinds_of_search(feedback: Feedback | None) -> dict[str, tuple[dict, str]]:
    """Name -> (what `run` takes, the kind that it is compared with)."""
    found = {}
    for probed in (False, True):
        suffix, base = (" + probe", "sorted + probe") if probed else ("", "sorted")
        found["sorted" + suffix] = {"tree": False, "probed": probed}, "sorted" if probed else ""
        found["tree" + suffix] = {"tree": True, "probed": probed}, base
        if feedback:
            found["feedback" + suffix] = {"tree": False, "probed": probed, "feedback": feedback}, base
            found["tree + feedback" + suffix] = {"tree": True, "probed": probed, "feedback": feedback}, base
    return found


def gains(own: dict[str, dict], other: dict[str, dict], budget: int) -> dict:
    """Paired differences to another search; of several seeds, the first."""
    pairs = [np.stack([one["executions"] for one in side.values()])[:, 0] for side in (own, other)]
    return {f"gain@{limit}": paired_difference(*(side <= limit for side in pairs)) for limit in (30, 100, 300)
            if limit <= budget}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--tables", action="store_true", help="run the candidates of rows that the cache lacks")
    parser.add_argument("--limit", type=int, default=10**6, help="the first rows only")
    parser.add_argument("--all-tests", action="store_true", help="a search sees all tests; a --cache of its own")
    parser.add_argument("--whole", action="store_true", help="the visible tests are one test")
    parser.add_argument("--prior", nargs="+", default=[], metavar="NAME=PATH",
                        help="learned priors: the file of a linear one, the folder of a policy; NAME-counting: as in "
                        "hrm-lab repair, which knows that people get the bounds of range wrong")
    parser.add_argument("--against", nargs="+", default=["linear"], help="priors that later ones are compared with")
    parser.add_argument("--feedback", type=Path, help="weights of the feedback")
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=1, help="edits of a patch at most")
    parser.add_argument("--kept", type=Path, help="file for what is searched")
    parser.add_argument("--only", nargs="+", help="priors to run: uniform, kinds, names of --prior")
    parser.add_argument("--searches", nargs="+", help='kinds to run, such as "sorted" or "tree + probe"')
    parser.add_argument("--seeds", type=int, default=5, help="of the random orders")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [row | {"example_test": row["test"]} if options.all_tests else row for row in rows[:options.limit]]
    options.cache.mkdir(parents=True, exist_ok=True)
    for row in rows if options.tables else []:
        if not (options.cache / f"{row['task_id'].replace('/', '-')}.json").exists():
            make(row, options.cache)
    here = [row for row in rows if (options.cache / f"{row['task_id'].replace('/', '-')}.json").exists()]
    replays = [one for one in (Replay(row, options.cache, options.whole) for row in here) if one.edits]
    if not replays:
        parser.error(f"--cache: no table of a row with a bug that shows in {options.cache}; expected some (--tables)")
    found, runs = {"bugs": len(rows), "shown": len(replays), "whole": options.whole, "depth": options.depth}, {}
    kept = Kept(options.kept)
    for name, (prior, several) in priors(options.prior).items():
        if options.only and name not in options.only:
            continue
        for kind, (settings, base) in kinds_of_search(options.feedback and Feedback.load(options.feedback)).items():
            if options.searches and kind not in options.searches:
                continue
            seeds = options.seeds if several else 1
            what = [name, kind, options.whole, options.depth, options.budget, seeds]
            own = {one.name: kept.run([one.name, *what], one, prior, seeds, options.budget, depth=options.depth,
                                      **settings) for one in replays}
            runs[name, kind] = own
            scores = line_of(own, len(rows) - len(replays), options.budget)
            if (name, base) in runs:
                scores["ratio"] = ratio(own, runs[name, base], options.budget)
                scores |= gains(own, runs[name, base], options.budget)
            for other in options.against:
                if other != name and (other, kind) in runs:
                    scores[f"ratio_to_{other}"] = ratio(own, runs[other, kind], options.budget)
                    scores |= {f"{gain}_to_{other}": value for gain, value in
                               gains(own, runs[other, kind], options.budget).items()}
            found[f"{name} {kind}"] = scores
            shown = [f"{100 * scores[f'{what}@{b}']['value']:5.1f}" for what in ("plausible", "solved")
                     for b in BUDGETS if b <= options.budget]
            ratios = [f"| {which} {format_score(value)}" for which, value in scores.items() if which[:5] == "ratio"]
            print(f"{name + ' ' + kind:32}", *shown, "|", format_score(scores["median_executions"]), *ratios,
                  flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
