"""Bugs injected into held-out packages: solved within so many executions, by order of candidates and kind of search.

    python -m hrm_lab.swe.synthesis --out data/built/swe --packages itsdangerous rfc3986 unidiff webcolors --n 1300
    python benchmarks/held_out.py --instances data/built/swe/instances.jsonl --kept runs/held_out

A search sees half of an instance's tests and is judged on all of them (`hrm_lab.swe.held_out`); single bugs are
searched one edit deep, two bugs in one function apart, two edits deep. Searches are named PRIOR[+probe][+tree]; the
priors are uniform, kinds (kind-balanced x suspicion) and those of `--prior`. What is done is kept in the folder
`--kept` (one for each set of weights), so that a killed run goes on. `ratio` (geometric mean of executions, unsolved as
the budget) and `gain` (share solved) are paired with the search `--against`. The last line is one JSON object, each
number with n and a 95 % interval.
"""

import argparse
import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from hrm_lab.files import write_json
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.metrics import bootstrap, format_score, paired_difference
from hrm_lab.runs import set_threads
from hrm_lab.sources import LISTING
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.held_out import BUDGETS, Judged, Proposal, judge, scores
from hrm_lab.swe.instances import Instance, read
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.policy import Policy
from hrm_lab.swe.search import Outcome

WEIGHTS = ROOT / "weights/swe-python"
CHUNK = 20  # instances between two writes
SEARCHES = ["uniform", "kinds", "linear", "hrm", "linear+probe", "hrm+probe"]


def pack(one: Judged) -> dict:
    """A judged instance without what no score needs."""
    return asdict(replace(one, outcome=replace(one.outcome, edits=(), program="", ranking=[], trace=[],
                                               evidence=Evidence.none())))


def unpack(row: dict) -> Judged:
    made = {name: Proposal(**row[name]) for name in ("first", "final")}
    outcome = Outcome(**row["outcome"] | {"edits": (), "evidence": Evidence.none()})
    return Judged(**row | made | {"kinds": tuple(row["kinds"]), "outcome": outcome})


def priors(given: list[str], seed: int) -> dict:
    found = {"uniform": Uniform(seed), "kinds": KindBalanced(seed)}
    for one in given:
        name, _, path = one.partition("=")
        found[name] = Policy.load(path) if Path(path).is_dir() else LinearPrior.load(path)
    return found


def results(name: str, prior, instances: list[Instance], kept: Path, options, depth: int) -> dict[str, Judged]:
    """Instance -> what the search came to; those that the file of the search lacks are searched now."""
    path = kept / f"{name}-depth{depth}-budget{options.budget}-seed{options.seed}.json"
    done = {row["instance_id"]: unpack(row) for row in json.loads(path.read_text())} if path.exists() else {}
    missing = sorted((one for one in instances if one.instance_id not in done), key=lambda one: one.repo)
    how = {"probe": "probe" in name.split("+"), "tree": "tree" in name.split("+")}
    for at in range(0, len(missing), CHUNK):
        for one in judge(missing[at:at + CHUNK], prior, options.cache, budget=options.budget, seed=options.seed,
                         depth=depth, **how):
            done[one.instance_id] = one
        write_json(path, [pack(one) for one in done.values()])
        print(f"{name}: {len(done)} searched", flush=True)
    return {one.instance_id: done[one.instance_id] for one in instances}


def table(instances: list[Instance], known: dict, options, depth: int) -> dict[str, dict]:
    """Search -> scores, printed as they come."""
    found, runs = {}, {}
    for name in options.searches:
        runs[name] = results(name, known[name.split("+")[0]], instances, options.kept, options, depth)
        found[name] = scores(list(runs[name].values()))
    for name, own in runs.items():
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
    known = priors(options.prior, options.seed)
    if unknown := {name.split("+")[0] for name in options.searches} - set(known):
        parser.error(f"--searches: got {', '.join(sorted(unknown))}; expected priors among {', '.join(known)}")
    found = [one for one in read(options.instances, strict=True).instances if one.split == options.split]
    report = {"split": options.split, "budget": options.budget}
    for title, edits, n in (("one edit", 1, options.n), ("two edits", 2, options.two)):
        own = [one for one in found if len(one.kinds) == edits]
        own = random.Random(options.seed).sample(own, min(n, len(own)))
        if own:
            print(f"{title}, {len(own)} instances: % solved within {', '.join(map(str, BUDGETS))}, median executions")
            report[title] = table(own, known, options, edits)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
