"""Fit the feedback of a search (feedback.py) on small programs with injected bugs and tests made from their behaviour.

Functions of the standard library that need nothing but builtins and quiet modules are called with values from a pool,
in the jail; what they return becomes tests. A bug is injected, every candidate is run once, and from this table any
search can be replayed. The map is a conditional logit: at points of replayed searches, the probability that the next
candidate is one that passes. Unusual: expert iteration in the strict sense, as the searches of a round are steered
by the map of the round before. No program of a benchmark is seen: the split is by module, by a hash of its name.
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
import torch

from hrm_lab.metrics import bootstrap, format_score
from hrm_lab.sources import LISTING

from . import sandbox
from .edits import Edit, apply, candidates
from .evidence import Evidence, of
from .feedback import CLASSES, RELATIONS, Feedback, Seen, State, classify
from .inject import Bug, inject
from .jail import Limits
from .linear import LinearPrior
from .orders import KindBalanced
from .package_table import PACKAGES, checkout

QUIET = ("math", "re", "string", "itertools", "functools", "collections", "operator", "bisect", "heapq")
POOL = ("0", "1", "2", "3", "5", "7", "10", "12", "-1", "-4", "0.5", "2.0", "''", "'a'", "'abc'", "'Hello World'",
        "'a1 b2'", "'racecar'", "'x-y_z'", "[]", "[1]", "[3, 1, 2]", "[1, 2, 2, 5]", "[5, 4, 1, 0, -2]", "['b', 'a']",
        "[[1, 2], [3]]", "(1, 2)", "(2, 0, 1)", "{}", "{'a': 1, 'b': 2}", "{1: 2}", "True", "False", "None")
CALLS = 60  # tried of each function
LINES = (4, 40)  # of a program
HELPERS = 4  # statements of its module that a function may need
BANNED = frozenset(("open", "exec", "eval", "input", "print", "exit", "quit", "globals", "locals", "__import__", "vars",
                    "breakpoint", "help"))
MOST = 240  # candidates of a program that are run, the repair among them
L2 = 0.001  # of the weights; chosen on the valid split
LIMITS = Limits(cpu_seconds=0.3, fuel=20_000)


@dataclass(frozen=True)
class Task:
    """A program with a bug, its tests, and what every candidate does to them."""

    name: str
    program: str
    tests: str
    edits: list[Edit]
    before: Seen
    seen: list[Seen]
    evidence: Evidence


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


def tasks(split: str, cache: Path, n: int, seed: int = 0, per_function: int = 3):
    """Up to n tasks of a split, in an order drawn by `seed`."""
    rng, made = random.Random(f"{seed}/{split}"), 0
    pool = list(functions(split, cache))
    rng.shuffle(pool)
    for name, program, function, given in pool:
        known = behaviour(program, function, given, rng)
        if len(known) < 4:
            continue
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
    """Run the repair and other candidates, MOST in all, drawn evenly; None if no test fails."""
    program = bug.code
    with sandbox.Server(tests, limits=LIMITS) as server:
        result = server.run(program, trace=True)
        before = Seen.of(result)
        if before.resolved:
            return None
        others = [edit for edit in candidates(program) if edit != bug.repair]
        edits = [bug.repair, *rng.sample(others, min(len(others), MOST - 1))]
        edits.sort(key=lambda edit: (edit.start, edit.end))
        seen = [Seen.of(one) for one in server.run_many(apply(program, edit) for edit in edits)]
    return Task(name, program, tests, edits, before, seen, of(program, result))


# ---------------------------------------------------------------- the fit


def points(task: Task, prior: np.ndarray, feedback: Feedback | None, rng: np.random.Generator, steps: int = 60,
           kept: int = 6, choices: int = 256):
    """Moments of one replayed search: (features (m, f), prior (m,), passes (m,) bool) of candidates not yet tried.

    Candidates that pass are passed over, so that the search goes on; m is `choices`, all that pass among them.
    """
    state, good = State(task.program, task.edits), np.array([one.resolved for one in task.seen])
    kinds = [classify(task.before, one) for one in task.seen]
    left = ~good
    wanted = set(rng.choice(steps, kept, replace=False).tolist())
    for step in range(min(steps, int(left.sum()))):
        scores = prior if feedback is None else feedback.update(prior, state)
        if step in wanted and step:
            others = np.flatnonzero(left)
            m = min(len(others), choices)
            # the most probable are what the search would take; the rest stand for all
            top = others[np.argsort(-scores[others])[:m // 2]]
            rest = rng.choice(np.setdiff1d(others, top), min(m - len(top), len(others) - len(top)), replace=False)
            chosen = np.concatenate([np.flatnonzero(good)[:16], top, rest])
            yield state.features()[chosen], prior[chosen], good[chosen]
        chosen = int(np.argmax(np.where(left, scores, -np.inf)))
        left[chosen] = False
        state.observe(chosen, kinds[chosen])


def fit(given: list[tuple], l2: float = L2, iterations: int = 60) -> Feedback:
    """The map that makes those that pass most probable; `given` as from `points`."""
    width, n = len(RELATIONS) * len(CLASSES), max(len(prior) for _, prior, _ in given)
    features, prior = torch.zeros(len(given), n, width), torch.full((len(given), n), -1e9)
    bad = torch.full((len(given), n), -1e9)  # added to keep those that pass
    for row, (f, p, good) in enumerate(given):
        features[row, :len(p)], prior[row, :len(p)] = torch.from_numpy(f), torch.from_numpy(p).float()
        bad[row, :len(p)][torch.from_numpy(good)] = 0
    weights = torch.zeros(width, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        scores = prior + features @ weights
        total = (scores.logsumexp(1) - (scores + bad).logsumexp(1)).mean() + l2 * (weights ** 2).sum()
        total.backward()
        return total

    optimiser.step(loss)
    return Feedback(weights.detach().numpy())


def train(given: list[Task], prior, noise: float = 2.0, rounds: int = 2) -> Feedback:
    """Fit to searches by a prior, each round to those that the map of the round before steers.

    noise: scale of Gumbel noise on the prior, as it is right less often of people's bugs than of injected ones.
    """
    feedback = None
    for turn in range(rounds):
        found = []
        for n, task in enumerate(given):
            rng = np.random.default_rng((turn, n))
            scores = prior.scores(task.program, task.edits, task.evidence, "python")
            scores = scores + noise * rng.gumbel(size=len(scores))
            found += points(task, scores, feedback, rng)
        feedback = fit(found)
    return feedback


def executions(task: Task, prior, feedback: Feedback | None) -> int:
    """Executions of a replayed search to the first candidate that passes."""
    scores = prior.scores(task.program, task.edits, task.evidence, "python")
    state, order = State(task.program, task.edits), scores
    left = np.ones(len(order), bool)
    while True:
        chosen = int(np.argmax(np.where(left, order, -np.inf)))
        left[chosen] = False
        if task.seen[chosen].resolved or not left.any():
            return int((~left).sum())
        state.observe(chosen, classify(task.before, task.seen[chosen]))
        order = scores if feedback is None else feedback.update(scores, state)


def write(path: Path, made: Iterable[Task]) -> int:
    """Add tasks to a file of JSON lines as they are made; how many."""
    n = 0
    with open(path, "a", encoding="utf-8") as file:
        for task in made:
            file.write(json.dumps(asdict(task)) + "\n")
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
                          _seen(row["before"]), [_seen(one) for one in row["seen"]], Evidence(**row["evidence"])))
    return found


def _seen(row: dict) -> Seen:
    return Seen(tuple(row["outcomes"]), tuple(row["messages"]), row["near"])


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.feedback_train", description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=Path, required=True, help="folder of train.jsonl and valid.jsonl")
    parser.add_argument("--make", choices=("train", "valid"), help="make the tables of this split first")
    parser.add_argument("--n", type=int, default=120, help="tasks to make")
    parser.add_argument("--cache", type=Path, default=LISTING.parent / "cache")
    parser.add_argument("--out", type=Path, help="fit, and write the weights to this file")
    parser.add_argument("--linear", type=Path, help="weights of the linear prior that searches go by; default: kinds")
    given = parser.parse_args(arguments)
    given.tables.mkdir(parents=True, exist_ok=True)
    if given.make:
        path = given.tables / f"{given.make}.jsonl"
        print(f"{path.name}: {write(path, tasks(given.make, given.cache, given.n))} tasks")
    if given.out:
        prior = LinearPrior.load(given.linear) if given.linear else KindBalanced(0)
        feedback = train(read(given.tables / "train.jsonl"), prior)
        feedback.save(given.out)
        logs = [np.log(executions(task, prior, feedback) / executions(task, prior, None))
                for task in read(given.tables / "valid.jsonl")]
        ratio = bootstrap(np.array(logs), "x", lambda values: float(np.exp(values.mean())))
        print(f"executions against the same prior without feedback, valid split: {format_score(ratio)}")


if __name__ == "__main__":
    main()
