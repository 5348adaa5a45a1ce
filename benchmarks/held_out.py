"""Bugs injected into held-out packages: solved within so many executions, by order of candidates and kind of search.

    python -m hrm_lab.swe.synthesis --out data/built/swe --packages itsdangerous rfc3986 unidiff webcolors --n 1300
    python benchmarks/held_out.py --instances data/built/swe/instances.jsonl --kept runs/held_out

A search sees half of an instance's tests and is judged on all of them (`hrm_lab.swe.held_out`); single bugs are
searched one edit deep, two bugs in one function apart, two edits deep. Searches are named PRIOR[+probe][+tree][+TURN];
the priors are uniform, kinds (kind-balanced x suspicion) and those of `--prior`. The turn says who spends the budget
where there are two bugs: `root`, the given program's candidates alone; `even`, all programs that an edit mended in part
alike; without one, the program whose next execution is most likely to end the search. What is done is kept in the
folder `--kept` (one for each set of weights), so that a killed run goes on. `ratio` (geometric mean of executions,
unsolved as the budget) and `gain` (share solved) are paired with the search `--against`. The last line is one JSON
object, each number with n and a 95 % interval.
"""

import argparse
import json
import random
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.metrics import bootstrap, format_score, paired_difference
from hrm_lab.runs import set_threads
from hrm_lab.sources import LISTING
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.held_out import BUDGETS, Judged, Proposal, judge_one, scores
from hrm_lab.swe.instances import Instance, json_rows, read
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.nodes import evenly, most_likely
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.package_table import PACKAGES, checkout
from hrm_lab.swe.packages import PackageServer
from hrm_lab.swe.policy import Policy
from hrm_lab.swe.search import Outcome

WEIGHTS = ROOT / "weights/swe-python"
TURNS = {"root": lambda nodes: nodes[0] if nodes[0].left.any() else None, "even": evenly}
SEARCHES = ["uniform", "kinds", "linear", "hrm", "linear+probe", "hrm+probe"]


def pack(one: Judged) -> dict:
    """A judged instance without what no score needs."""
    return asdict(replace(one, outcome=replace(one.outcome, edits=(), program="", ranking=[], trace=[],
                                               evidence=Evidence.none())))


def unpack(row: dict) -> Judged:
    made = {name: Proposal(**row[name]) for name in ("first", "final")}
    outcome = Outcome(**row["outcome"] | {"edits": (), "evidence": Evidence.none()})
    return Judged(**row | made | {"kinds": tuple(row["kinds"]), "outcome": outcome})


def priors(given: list[str], searches: list[str], seed: int) -> dict:
    """Name -> prior, all that the searches name."""
    found = {"uniform": Uniform(seed), "kinds": KindBalanced(seed)}
    for one in given:
        name, _, path = one.partition("=")
        found[name] = Policy.load(path) if Path(path).is_dir() else LinearPrior.load(path)
    unknown = {part for name in searches for part in name.split("+")[:1] if part not in found} | {
        part for name in searches for part in name.split("+")[1:] if part not in ("probe", "tree", *TURNS)}
    if unknown:
        raise SystemExit(f"--searches: got {', '.join(sorted(unknown))}; expected priors among {', '.join(found)}, "
                         "then +probe, +tree, +root, +even")
    return found


def search_all(instances: list[Instance], known: dict, options, depth: int) -> dict[str, dict[str, Judged]]:
    """Search -> instance -> what it came to; what the file of `--kept` lacks is searched now."""
    path = options.kept / f"depth{depth}-budget{options.budget}-seed{options.seed}.jsonl"
    done = {name: {} for name in options.searches}
    for _, row, problem in json_rows(path) if path.exists() else ():
        if not problem:  # of a line that a kill cut off
            name = row.pop("search")
            done.setdefault(name, {})[row["instance_id"]] = unpack(row)
    with ExitStack() as stack, open(path, "a", encoding="utf-8") as file:
        servers = {}
        if path.read_bytes()[-1:] not in (b"", b"\n"):
            print(file=file)
        for number, one in enumerate(instances, 1):
            missing, outcomes = [name for name in options.searches if one.instance_id not in done[name]], {}
            if missing and one.repo not in servers:
                servers[one.repo] = stack.enter_context(
                    PackageServer(PACKAGES[one.repo], checkout(one.repo, options.cache)))
            for name in missing:
                prior, *how = name.split("+")
                turn = next((TURNS[part] for part in how if part in TURNS), most_likely)
                found = judge_one(one, servers[one.repo], known[prior], budget=options.budget, seed=options.seed,
                                  depth=depth, known=outcomes, turn=turn,
                                  **dict.fromkeys((part for part in how if part not in TURNS), True))
                done[name][one.instance_id] = found
                print(json.dumps({"search": name} | pack(found)), file=file, flush=True)
            if missing and number % 20 == 0:
                print(f"{number} of {len(instances)} searched", flush=True)
    return {name: {one.instance_id: done[name][one.instance_id] for one in instances} for name in options.searches}


def table(runs: dict[str, dict[str, Judged]], options) -> dict[str, dict]:
    """Search -> scores, printed."""
    found = {}
    for name, own in runs.items():
        found[name] = scores(list(own.values()))
        if options.against in runs and name != options.against:
            found[name] |= paired(own, runs[options.against], options.budget)
        shown = [f"{100 * found[name][f'solved@{limit}']['value']:5.1f}" for limit in BUDGETS
                 if limit <= options.budget]
        print(f"{name:16}", *shown, "|", format_score(found[name]["executions"]), "| tier",
              *(f"{found[name][f'{which}/tier']['value']:.2f}" for which in ("first", "final")), "|",
              format_score(found[name]["ratio"]) if "ratio" in found[name] else "", flush=True)
    return found


def paired(own: dict[str, Judged], other: dict[str, Judged], budget: int) -> dict:
    """Differences to another search over the same instances."""
    spent = np.array([[run[name].executions if run[name].executions else budget for run in (own, other)]
                      for name in own], float)
    found = {"ratio": bootstrap(np.log(spent[:, 0] / spent[:, 1]), "x", lambda logs: float(np.exp(np.mean(logs))))}
    for limit in (30, 100):
        solved = [[0 < run[name].executions <= limit and run[name].resolved for name in own] for run in (own, other)]
        found[f"gain@{limit}"] = paired_difference(*map(np.array, solved))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--instances", type=Path, required=True, help="file of hrm_lab.swe.synthesis")
    parser.add_argument("--kept", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--cache", default=str(LISTING.parent / "cache"), help="where sdists are fetched and unpacked")
    parser.add_argument("--split", default="test", choices=("train", "valid", "test"))
    parser.add_argument("--n", type=int, default=200, help="single bugs, drawn by the seed")
    parser.add_argument("--two", type=int, default=60, help="pairs of bugs in one function")
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--searches", nargs="+", default=SEARCHES)
    parser.add_argument("--prior", nargs="+", metavar="NAME=PATH", help="file of a linear prior, folder of a policy",
                        default=[f"linear={WEIGHTS}/linear.safetensors", f"hrm={WEIGHTS}/hrm"])
    parser.add_argument("--against", default="linear", help="the search that the others are compared with")
    options = parser.parse_args()
    set_threads()
    options.kept.mkdir(parents=True, exist_ok=True)
    known = priors(options.prior, options.searches, options.seed)
    found = [one for one in read(options.instances, strict=True).instances if one.split == options.split]
    report = {"split": options.split, "budget": options.budget}
    for title, edits, n in (("one edit", 1, options.n), ("two edits", 2, options.two)):
        own = [one for one in found if len(one.kinds) == edits]
        random.Random(options.seed).shuffle(own)
        if own := own[:n]:
            print(f"{title}, {len(own)} instances: % solved within {', '.join(map(str, BUDGETS))}, median executions")
            report[title] = table(search_all(own, known, options, edits), options)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
