"""Build validated instances from packages with tests: `python -m hrm_lab.swe.synthesis --out DIR --n 10000`.

A package's attempts are numbered; number t draws from a generator seeded by (seed, package, t) alone, so that a build
that was killed goes on where it stopped and ends with the same instances as one that was not. What is kept goes to
DIR/parts/<package>.jsonl, then how far the package has come to parts/<package>.json; the first n go to
DIR/instances.jsonl, with a card. Unusual: packages get equal shares, and those that run dry leave theirs to the rest.
"""

import argparse
import fcntl
import json
import os
import random
import resource
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from hrm_lab.files import write_json
from hrm_lab.sources import LISTING, listed
from hrm_lab.swe import diffs, drawing
from hrm_lab.swe.dedup import change, repeated, similar
from hrm_lab.swe.instances import Instance, card, read, write
from hrm_lab.swe.jail import Limits
from hrm_lab.swe.package_table import PACKAGES, Package, checkout, functions
from hrm_lab.swe.packages import PackageError, PackageServer, Profile, fresh, settle

PER_FUNCTION = 40  # instances of one function, at most
DRY = 30  # attempts in a row without an instance that end a package
BATCH = 32  # attempts between two marks of progress
LIMITS = Limits(cpu_seconds=0.25)
HOW = ("Bugs are drawn by `hrm_lab.swe.inject` (the kind of repair first) in functions of the packages below, and kept "
       "if the package's own tests fail on them. Tests that do not pass in every clean run are left out, as are "
       "near-duplicates (hrm_lab/swe/dedup.py). Splits are by package. `PASS_TO_PASS` holds the tests that reach the "
       "function, 40 at most, cheapest of each test function first.")


@dataclass(frozen=True)
class Config:
    """One build; the same values give the same instances."""

    out: str
    n: int = 10_000
    workers: int = 2
    seed: int = 0
    packages: tuple[str, ...] = tuple(PACKAGES)
    cache: str = "data/cache"


@contextmanager
def _alone(path: Path):
    """Held by one process at a time: the workers of a killed build may still be at it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path.name}: another process holds it; waiting for its end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cpu() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def profile(package: Package, root: Path, path: Path) -> Profile:
    """The settled profile of a package, kept in the file `path`."""
    if path.exists():
        return Profile.load(path)
    found = settle(package, root)
    found.save(path)
    return found


def build_package(package: Package, root: Path, out: Path, quota: int, seed: int = 0,
                  version: str = "0", dropped: frozenset = frozenset()) -> dict:
    """Add instances of one package to `out`/parts until there are `quota`, or it is dry; returns its counts.

    dropped: (file, name) of functions that another package has too.
    """
    part, mark = out / "parts" / f"{package.name}.jsonl", out / "parts" / f"{package.name}.json"
    with _alone(part.with_suffix(".lock")):
        state = json.loads(mark.read_text()) if mark.exists() else {"next": 0, "counts": {}, "seconds": 0.0}
        written = read(part).instances if part.exists() else []
        kept = [i for i in written if _number(i) < state["next"]]
        last = max(map(_number, kept), default=-1)
        if len(kept) >= quota or state["next"] > last + DRY:
            return state | {"kept": len(kept)}
        start, counts = _cpu(), Counter(state["counts"])
        parent = os.getppid()  # a worker whose build was killed stops at once
        have = {instance.instance_id for instance in written}
        taken = {}  # (file, name) -> changes of the kept bugs
        for instance in kept:
            taken.setdefault((instance.file, instance.function), []).append(
                (instance.program, change(instance.program, instance.fixed)))
        found = profile(package, root, out / "profiles" / f"{package.name}.json")
        texts, gold, number, count, fit = {}, {}, state["next"], len(kept), []
        with PackageServer(package, root, limits=LIMITS, profile=found) as server:
            targets = [f for f in functions(package, root) if (f.file, f.name) not in dropped
                       and drawing.fits(f) and server.swappable(f)]
            while targets and os.getppid() == parent and count < quota and number <= last + DRY:
                new, why = _attempt(server, targets, number, seed, version, taken, gold, texts)
                counts[why] += 1
                if new:
                    count, last = count + 1, number
                    fit += [new] * (new.instance_id not in have)
                number += 1
                if number % BATCH == 0 or count == quota or number > last + DRY:
                    write(part, fit)
                    fit = []
                    state |= {"next": number, "counts": dict(counts)}
                    write_json(mark, state)
        state |= {"seconds": round(state["seconds"] + _cpu() - start, 2), "targets": len(targets),
                  "tests": len(found.seconds), "excluded": found.excluded}
        write_json(mark, state)
        return state | {"kept": count}


def _number(instance: Instance) -> int:
    return int(instance.instance_id.rsplit(".", 1)[1])


def _attempt(server: PackageServer, targets: list, number: int, seed: int, version: str, taken: dict, gold: dict,
             texts: dict) -> tuple[Instance | None, str]:
    """Attempt `number`: (instance or None, "valid" or why not). `taken`, `gold` and `texts` are added to."""
    package = server.package
    rng = random.Random(f"{seed}/{package.name}/{number}")
    free = [f for f in targets if len(taken.get((f.file, f.name), ())) < PER_FUNCTION]
    if not free:
        return None, "every function is full"
    function = rng.choice(free)
    key = function.file, function.name
    others = taken.setdefault(key, [])
    drawn = drawing.draw(function, rng)
    if drawn is None:
        return None, "no bug drawn"
    if any(drawn.program == program or similar(drawn.change, other) for program, other in others):
        return None, "near-duplicate"
    if key not in gold:
        gold[key] = server.run(*key, function.text)
        steady = [test for test, outcome in gold[key].tests.items() if outcome == "passed"]
        if steady and gold[key].outcome != "passed":
            gold[key] = server.run(*key, function.text, steady)
    if gold[key].outcome != "passed":
        return None, f"pristine function: {gold[key].outcome}"
    bug, why = drawing.reason(server, drawn, gold[key])
    if bug is None:
        return None, why
    others.append((drawn.program, drawn.change))
    text = texts.setdefault(function.file, (server.root / function.file).read_bytes().decode())
    return drawing.instance(package, version, text, drawn, number, bug, gold[key],
                            drawing.suspects(server, bug)), "valid"


def shared_functions(packages: list[Package], roots: dict[str, Path]) -> dict[str, frozenset]:
    """Package -> its (file, name) that repeat a function of a package before it; test goes before valid and train."""
    order = sorted(packages, key=lambda package: (("test", "valid", "train").index(package.split), package.name))
    texts = (((package.name, f.file, f.name), f.text) for package in order
             for f in functions(package, roots[package.name]) if drawing.fits(f))
    found = repeated(texts)
    return {package.name: frozenset(key[1:] for key in found if key[0] == package.name) for package in packages}


def _job(name: str, root: Path, out: Path, quota: int, seed: int, version: str, dropped: frozenset) -> dict:
    try:
        return build_package(PACKAGES[name], root, out, quota, seed, version, dropped)
    except PackageError as error:
        return {"kept": 0, "problem": str(error), "counts": {}, "seconds": 0.0, "next": 0}


def build(config: Config) -> dict:
    """Build, or go on building, `config.n` instances; returns the report, which is also DIR/report.json."""
    started, out = time.monotonic(), Path(config.out)
    sources = listed()
    packages = [PACKAGES[name] for name in config.packages]
    roots = {package.name: checkout(package.name, config.cache) for package in packages}
    dropped = shared_functions(packages, roots)
    states, quotas = {}, dict.fromkeys(roots, -(-config.n // len(packages)))
    with ProcessPoolExecutor(config.workers, get_context("spawn")) as pool:
        while True:
            jobs = {name: pool.submit(_job, name, roots[name], out, quotas[name], config.seed, sources[name].version,
                                      dropped[name]) for name in roots}
            for name, job in jobs.items():
                states[name] = job.result()
                print(f"{name}: {states[name]['kept']} of {quotas[name]}, {states[name]['seconds']:.0f} CPU s "
                      f"{states[name].get('problem', '')}", flush=True)
            owed = config.n - sum(state["kept"] for state in states.values())
            able = [name for name in roots if states[name]["kept"] >= quotas[name]]
            if owed <= 0 or not able:
                break
            for name in able:
                quotas[name] += -(-owed // len(able))
    instances = gather(out, list(roots), config.n)
    card(out / "instances.md", instances, title="Bugs of real packages, verified by their tests", how=HOW,
         licences={name: sources[name].licence for name in roots})
    report = {"n": len(instances), "wanted": config.n, "wall_seconds": round(time.monotonic() - started, 1),
              "workers": config.workers, "cpu_seconds": round(sum(s["seconds"] for s in states.values()), 1),
              "splits": dict(Counter(instance.split for instance in instances)),
              "several_bugs": sum(len(instance.kinds) > 1 for instance in instances),
              "attempts": dict(sum((Counter(s["counts"]) for s in states.values()), Counter())),
              "shared_functions": sum(map(len, dropped.values())), "packages": states}
    write_json(out / "report.json", report)
    return report


def gather(out: Path, names: list[str], n: int) -> list[Instance]:
    """The first n instances of the parts, by number and package, written to `out`/instances.jsonl."""
    found = [instance for name in names if (path := out / "parts" / f"{name}.jsonl").exists()
             for instance in read(path, strict=True).instances]
    found = sorted(found, key=lambda instance: (_number(instance), instance.repo))[:n]
    new = out / "instances.jsonl.new"
    new.unlink(missing_ok=True)
    write(new, found)
    os.replace(new, out / "instances.jsonl")
    return found


def verify(instances: list[Instance], cache: str | os.PathLike) -> list[str]:
    """What is wrong with instances in a new pytest: the bug must fail its tests, the patch must pass all of them."""
    wrong = []
    for one in instances:
        package, root = PACKAGES[one.repo], checkout(one.repo, cache)
        pristine = (root / one.file).read_bytes().decode()
        buggy = diffs.apply(diffs.reverse(one.patch), pristine)
        tests = [*one.FAIL_TO_PASS, *one.PASS_TO_PASS]
        bug = fresh(package, root, {one.file: buggy}, tests).tests
        gold = fresh(package, root, {one.file: diffs.apply(one.patch, buggy)}, tests).tests
        for label, good in (("FAIL_TO_PASS passes with the bug", all(bug[t] != "passed" for t in one.FAIL_TO_PASS)),
                            ("PASS_TO_PASS fails with the bug", all(bug[t] == "passed" for t in one.PASS_TO_PASS)),
                            ("a test fails with the patch", all(gold[t] == "passed" for t in tests))):
            if not good:
                wrong.append(f"{one.instance_id}: {label}")
    return wrong


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.synthesis", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--n", type=int, default=Config.n)
    parser.add_argument("--workers", type=int, default=Config.workers)
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES), choices=list(PACKAGES), metavar="NAME")
    parser.add_argument("--cache", default=str(LISTING.parent / "cache"), help="where sdists are fetched and unpacked")
    parser.add_argument("--verify", type=int, default=0, metavar="N", help="run N random instances again, by pytest")
    given = parser.parse_args(arguments)
    config = Config(given.out, given.n, given.workers, given.seed, tuple(given.packages), given.cache)
    report = build(config)
    if given.verify:
        instances = read(Path(config.out) / "instances.jsonl", strict=True).instances
        sample = random.Random(config.seed).sample(instances, min(given.verify, len(instances)))
        wrong = verify(sample, config.cache)
        report |= {"verified": len(sample), "wrong": wrong}
        write_json(Path(config.out) / "report.json", report)
    print(json.dumps({name: value for name, value in report.items() if name != "packages"}))


if __name__ == "__main__":
    main()
