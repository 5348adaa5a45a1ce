"""Tables from which searches are replayed: small programs with injected bugs and tests made from their behaviour.

Functions of the standard library and of packages that need nothing but builtins and quiet modules are called with
values from a pool, in the jail; what they return becomes tests. A bug is injected, and the candidates that the probe
does not rule out are run once. Unusual: from such a table any search can be replayed in milliseconds. No program of a
benchmark is seen: the split is by module, by a hash of its name, and by package.

    python -m hrm_lab.swe.feedback_data --tables data/built/feedback --make train --n 150
"""

import argparse
import ast
import builtins
import json
import random
import sysconfig
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hrm_lab.sources import LISTING

from . import sandbox
from .edits import Edit, apply, candidates
from .evidence import Evidence, of
from .feedback import Seen
from .inject import Bug, inject
from .jail import Limits
from .package_table import PACKAGES, checkout
from .probe import Facts, probe

QUIET = ("math", "re", "string", "itertools", "functools", "collections", "operator", "bisect", "heapq")
POOL = ("0", "1", "2", "3", "5", "7", "10", "12", "-1", "-4", "0.5", "2.0", "''", "'a'", "'abc'", "'Hello World'",
        "'a1 b2'", "'racecar'", "'x-y_z'", "[]", "[1]", "[3, 1, 2]", "[1, 2, 2, 5]", "[5, 4, 1, 0, -2]", "['b', 'a']",
        "[[1, 2], [3]]", "(1, 2)", "(2, 0, 1)", "{}", "{'a': 1, 'b': 2}", "{1: 2}", "True", "False", "None")
CALLS = 60  # tried of each function
LINES = (4, 40)  # of a program
HELPERS = 4  # statements of its module that a function may need
BANNED = frozenset(("open", "exec", "eval", "input", "print", "exit", "quit", "globals", "locals", "__import__", "vars",
                    "breakpoint", "help"))
MOST = 300  # candidates of a program that are run beside the repair
LIMITS = Limits(cpu_seconds=0.3, fuel=20_000)


@dataclass(frozen=True)
class Task:
    """A program with a bug, its tests, and what candidates do to them: `seen` of edits[n] for n in `ran`."""

    name: str
    program: str
    tests: str
    edits: list[Edit]
    before: Seen
    seen: list[Seen]
    evidence: Evidence
    facts: Facts
    ran: list[int]


def modules(split: str, cache: Path) -> list[Path]:
    """Modules of a split: packages of packages.py by their split, the standard library four to one by a hash."""
    standard = Path(sysconfig.get_paths()["stdlib"])
    found = [path for path in sorted([*standard.glob("*.py"), *standard.glob("[a-su-z]*/*.py")])
             if (zlib.crc32(path.stem.encode()) % 5 == 0) == (split == "valid")
             and not {"site-packages", "idlelib", "lib2to3"} & set(path.parts)]
    for name, package in PACKAGES.items():
        if package.split == split:
            found += sorted(path for path in (checkout(name, cache) / package.code).rglob("*.py")
                            if "test" not in str(path.relative_to(cache)))
    return found


def alone(node: ast.FunctionDef, known: dict[str, ast.stmt]) -> str | None:
    """The text of a function with what it needs of its module, or None if that is more than HELPERS statements.

    known: the functions and plain constants of its module by name.
    """
    taken, queue, imports = {}, [node], set()
    while queue:
        one = queue.pop()
        need = _needs(one)
        if need is None:
            return None
        imports |= need & set(QUIET)
        for name in sorted(need - set(QUIET)):
            if name == node.name or name in taken:
                continue
            if name not in known or len(taken) == HELPERS:
                return None
            taken[name] = known[name]
            queue.append(known[name])
    text = [ast.unparse(one) for one in [*taken.values(), node]]
    text = "".join(f"import {name}\n" for name in sorted(imports)) + "\n\n".join(text) + "\n"
    return text if LINES[0] <= text.count("\n") <= LINES[1] else None


def _needs(node: ast.stmt) -> set[str] | None:
    """Names that a statement needs from outside, builtins left out; None if it does what a test must not."""
    inner = list(ast.walk(node))
    if any(isinstance(one, ast.Import | ast.ImportFrom | ast.Global | ast.Yield | ast.ClassDef) for one in inner):
        return None
    if getattr(node, "decorator_list", None):
        return None
    for one in inner:
        if isinstance(one, ast.arg):
            one.annotation = None
        if isinstance(one, ast.FunctionDef):
            one.returns = None
            if ast.get_docstring(one):
                one.body = one.body[1:] or [ast.Pass()]
    inner = list(ast.walk(node))
    names = [one for one in inner if isinstance(one, ast.Name)]
    bound = {one.id for one in names if not isinstance(one.ctx, ast.Load)}
    bound |= {one.arg for one in inner if isinstance(one, ast.arg)}
    bound |= {one.name for one in inner if isinstance(one, ast.FunctionDef | ast.ExceptHandler) and one.name}
    free = {one.id for one in names} - bound
    return None if free & BANNED else free - set(dir(builtins))


def functions(split: str, cache: Path):
    """(name, program, function's name, number of arguments) of the functions of a split that stand alone."""
    for path in modules(split, cache):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        known = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        known |= {node.targets[0].id: node for node in tree.body if isinstance(node, ast.Assign)
                  and isinstance(node.targets[0], ast.Name) and len(node.targets) == 1}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and (text := alone(node, known)):
                given = len(node.args.args) - len(node.args.defaults)
                if 1 <= given <= 4 and not node.args.kwonlyargs:
                    yield f"{path.stem}.{node.name}", text, node.name, given


def behaviour(program: str, name: str, given: int, rng: random.Random) -> list[str]:
    """Assertions that hold of the program: calls whose results are short and can be written down."""
    calls = sorted({f"{name}({', '.join(rng.choices(POOL, k=given))})" for _ in range(CALLS)})
    asked = "\n".join(f"assert {call} == '?'" for call in calls)
    with sandbox.Server(asked, limits=LIMITS) as server:
        result = server.run(program)
    found, values = [], set()
    for call, message in zip(calls, (result.messages.get(test, "") for test in result.tests), strict=True):
        head, _, rest = message.partition("AssertionError: assert ")
        value = rest.removesuffix(" == '?'")
        try:
            ast.literal_eval(value)
        except (ValueError, SyntaxError):
            continue
        if not head and value != rest:
            found.append((value in values, f"assert {call} == {value}"))
            values.add(value)
    return [text for _, text in sorted(found, key=lambda one: one[0])] if len(values) >= 3 else []


def described(split: str, cache: Path, rng: random.Random):
    """(name, program, assertions that hold of it) of functions that stand alone, in an order drawn by `rng`."""
    pool = list(functions(split, cache))
    rng.shuffle(pool)
    for name, program, function, given in pool:
        known = behaviour(program, function, given, rng)
        if len(known) >= 4:
            yield name, program, known


def tasks(split: str, cache: Path, n: int, seed: int = 0, per_function: int = 3):
    """Up to n tasks of a split, in an order drawn by `seed`."""
    rng, made = random.Random(f"{seed}/{split}"), 0
    for name, program, known in described(split, cache, rng):
        for _ in range(per_function):
            bug = inject(program, rng)
            if bug is None:
                break
            shown = known[:2] + rng.sample(known[2:], min(len(known) - 2, rng.choice((0, 1, 2, 4, 6))))
            task = table(f"{name}/{made}", bug, "\n".join(shown), rng)
            if task and any(one.resolved for one in task.seen):
                made += 1
                yield task
            if made == n:
                return


def table(name: str, bug: Bug, tests: str, rng: random.Random) -> Task | None:
    """Run the repair and MOST others of the candidates that the probe leaves, of twins one; None if no test fails."""
    program = bug.code
    with sandbox.Server(tests, limits=LIMITS) as server:
        result = server.run(program, trace=True)
        before, evidence = Seen.of(result), of(program, result)
        edits = candidates(program)
        if before.resolved or bug.repair not in edits:  # the suite's own limits on candidates can leave it out
            return None
        facts = probe(program, edits, tests, evidence)
        _, first = np.unique(facts.twin, return_index=True)
        alone = (facts.twin < 0) | np.isin(np.arange(len(edits)), first)
        left = [n for n in np.flatnonzero(alone & ~facts.dead).tolist() if edits[n] != bug.repair]
        ran = sorted([edits.index(bug.repair), *rng.sample(left, min(len(left), MOST))])
        seen = [Seen.of(one) for one in server.run_many(apply(program, edits[n]) for n in ran)]
    return Task(name, program, tests, edits, before, seen, evidence, facts, ran)


def write(path: Path, made: Iterable[Task]) -> int:
    """Add tasks to a file of JSON lines as they are made; how many."""
    n = 0
    with open(path, "a", encoding="utf-8") as file:
        for task in made:
            row = asdict(task) | {"facts": {"values": task.facts.values.tolist(), "failing": task.facts.failing}}
            file.write(json.dumps(row) + "\n")
            file.flush()
            n += 1
    return n


def read(path: Path) -> list[Task]:
    """Tasks of a file that `write` made."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        told = row["evidence"]
        told["suspicion"] = {int(key): value for key, value in told["suspicion"].items()}
        told |= {name: tuple(told[name]) for name in ("failing", "passing")}
        found.append(Task(row["name"], row["program"], row["tests"], [Edit(**one) for one in row["edits"]],
                          _seen(row["before"]), [_seen(one) for one in row["seen"]], Evidence(**row["evidence"]),
                          Facts(np.array(row["facts"]["values"]), row["facts"]["failing"]), row["ran"]))
    return found


def _seen(row: dict) -> Seen:
    return Seen(tuple(row["outcomes"]), tuple(row["messages"]), row["near"])


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.feedback_data", description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=Path, required=True, help="folder of train.jsonl and valid.jsonl, added to")
    parser.add_argument("--make", choices=("train", "valid"), required=True, help="split")
    parser.add_argument("--n", type=int, default=120, help="tasks to make")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks; another one for more of them")
    parser.add_argument("--cache", type=Path, default=LISTING.parent / "cache")
    given = parser.parse_args(arguments)
    given.tables.mkdir(parents=True, exist_ok=True)
    path = given.tables / f"{given.make}.jsonl"
    print(f"{path.name}: {write(path, tasks(given.make, given.cache, given.n, given.seed))} tasks")


if __name__ == "__main__":
    main()
