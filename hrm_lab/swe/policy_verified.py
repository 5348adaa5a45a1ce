"""Examples for a policy whose bugs real tests tell apart, so that what the tests say is real.

    python -m hrm_lab.swe.policy_verified --out data/built/policy --n 3000 --cache data/cache [--instances FILE]

Two sources: functions that stand alone, with assertions made from what they return (feedback_data.py), and instances
of packages (synthesis.py), whose failing test speaks in the problem statement. Unusual: one server a function judges
all of its bugs by all of its assertions, and each example sees a few of them, as a small test file would have.
"""

import argparse
import random
import time
from dataclasses import replace
from pathlib import Path

from hrm_lab.sources import LISTING

from . import sandbox
from .drawing import enumerable
from .edits import Edit, apply, proposals, sites
from .evidence import Evidence, of
from .feedback_data import LIMITS, described
from .inject import inject
from .instances import Instance
from .languages import normalise
from .policy_data import RIVALS, example, proposed, save, simulated
from .reading import Reading
from .scope import program
from .synthesis import read

SHOWN = (1, 2, 3, 3, 4, 5, 6, 8)  # assertions that an example sees


def of_functions(split: str, cache: Path, n: int, seed: int = 0, per_function: int = 40, rivals: int = RIVALS):
    """Up to n examples of bugs in functions of a split that stand alone."""
    rng, made = random.Random(f"verified/{split}/{seed}"), 0
    for _, text, known in described(split, cache, rng) if n else ():
        bugs = {bug.code: bug for bug in (inject(text, rng) for _ in range(per_function)) if bug}
        with sandbox.Server("\n".join(known), limits=LIMITS) as server:
            for bug in bugs.values():
                result = server.run(bug.code, trace=True)
                if result.outcome == "passed" or not result.tests:
                    continue
                edits = proposed(bug.code, Reading(bug.code), bug.repair, rng)
                if len(edits) < 20:
                    continue
                yield example(bug.code, edits, of(bug.code, some(result, rng)), rng, rivals=rivals)
                made += 1
                if made == n:
                    return


def some(result: sandbox.Result, rng: random.Random) -> sandbox.Result:
    """The result as a few of its tests would give it, at least one of them failing."""
    failing = [test for test, outcome in result.tests.items() if outcome != "passed"]
    shown = {rng.choice(failing), *rng.sample(list(result.tests), min(len(result.tests), rng.choice(SHOWN) - 1))}
    return replace(result, tests={test: outcome for test, outcome in result.tests.items() if test in shown},
                   lines={test: lines for test, lines in result.lines.items() if test in shown or test == "import"})


def of_instances(instances: list[Instance], seed: int = 0, rivals: int = RIVALS):
    """An example of each instance with a single bug; its failing test speaks, its suspicion is made up."""
    rng = random.Random(f"instances/{seed}")
    for instance in instances:
        code = enumerable(instance.program)
        repair = repair_of(code, enumerable(instance.fixed), instance.kinds[0]) if len(instance.kinds) == 1 else None
        if repair is None:
            continue
        edits = proposed(code, Reading(code), repair, rng)
        if len(edits) >= 20:
            made_up = simulated(code, code.count("\n", 0, repair.start) + 1, rng)
            yield example(code, edits, said(instance, made_up), rng, rivals=rivals)


def repair_of(code: str, fixed: str, kind: str) -> Edit | None:
    """The edit of a kind that makes `fixed` of `code`, up to white space."""
    wanted, p = normalise(fixed, "python"), program(code, "python")
    edits = (Edit(*found) for node in sites(p, 0, len(code)) for found in proposals(p, node, frozenset({kind})))
    return next((edit for edit in edits if normalise(apply(code, edit), "python") == wanted), None)


def said(instance: Instance, made_up) -> Evidence:
    """What an instance's tests say; suspicion from `made_up`, if there is any."""
    output = instance.problem_statement.split("```")[1] if "```" in instance.problem_statement else ""
    told = [line[2:].strip() for line in output.split("\n") if line.startswith("E ")]
    return Evidence(instance.FAIL_TO_PASS, instance.PASS_TO_PASS,
                    {instance.FAIL_TO_PASS[0]: " ".join(told) or output.strip().rsplit("\n", 1)[-1]},
                    made_up.suspicion if made_up else {})


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.policy_verified", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, help="folder for <split>-verified-<seed>.npz")
    parser.add_argument("--split", default="train", choices=("train", "valid"))
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rivals", type=int, default=RIVALS, help="rival edits kept of each example")
    parser.add_argument("--instances", type=Path, help="a file of synthesis.py, in place of functions that stand alone")
    parser.add_argument("--cache", default=str(LISTING.parent / "cache"), help="where sdists are fetched and unpacked")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    if given.instances:
        wanted = [one for one in read(given.instances, strict=True).instances if one.split == given.split]
        random.Random(given.seed).shuffle(wanted)
        found, name = list(of_instances(wanted[:given.n], given.seed, given.rivals)), "instances"
    else:
        found, name = list(of_functions(given.split, Path(given.cache), given.n, given.seed,
                                        rivals=given.rivals)), "verified"
    save(Path(given.out) / f"{given.split}-{name}-{given.seed}.npz", found)
    print(f"{len(found)} examples in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
