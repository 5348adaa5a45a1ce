"""Search for a patch: run candidate edits, the most promising first, until all tests pass or the budget is spent.

Candidates are taken by score, or with `tree` by PUCT (nodes.py) with the real outcomes as rewards; with `feedback`
(feedback.py) each outcome re-weighs the scores of the rest. A candidate that mends some tests and breaks none becomes a
node of its own, so that two bugs are mended one after the other; the same text is never run twice. The next execution
goes to the node where it is most likely to end the search: the share of its best candidate left x the node's worth.
Unusual: nothing is simulated and no value is guessed. A visit is a run of the tests, the only cost that counts: an
execution is a run of the tests on one candidate (twice if it needs more fuel), or the run that probes the others
(probe.py) after the first failed. The run on the program as it is, which gives the evidence, comes on top.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from hrm_lab.metrics import bootstrap, proportion

from .edits import Edit, apply
from .evidence import Evidence, of
from .feedback import CLASSES, Feedback, Seen, classify, insight, reward
from .jail import Limits
from .nodes import Node, most_likely
from .probe import Facts
from .probe import probe as probe_edits
from .sandbox import Result, Server

LIMITS = Limits(cpu_seconds=0.5)
FUEL = 200_000  # of a candidate at least; more if the given program needs much, or if it mends tests
UNASKED = 1  # executions on a program before its candidates are probed: what the probe itself counts as
STEP = 0.1  # worth of a program that an edit mended in part, of that of the one before: few repairs take two edits
NODES = 4  # such programs at most
TOP = 20  # of the ranking
CONVERGED = 100  # executions


@dataclass(frozen=True)
class Step:
    """One execution. `parent`: index of the step whose program was edited, -1 for the given one."""

    parent: int
    edit: Edit
    line: int
    score: float  # when it was chosen: log-probability, re-weighed by feedback
    outcome: str  # of feedback.CLASSES, against the parent
    reward: float
    tests: tuple[str, ...]  # outcomes in the order of the tests
    messages: tuple[str, ...]

    @property
    def resolved(self) -> bool:
        return set(self.tests) == {"passed"}


@dataclass(frozen=True)
class Outcome:
    """What a search came to. `program`: the patched text if resolved, else the given one; `edits` lead to it.

    `ranking`: the given program's best candidates by the scores at the end, [{kind, start, end, text, line, score,
    passes}]; passes is None if it was not run. `tests_before`, `tests_after`: test -> outcome. `stopped`: "resolved",
    "budget", "seconds", "exhausted" (no candidate left) or "nothing fails". `insight`: see `feedback.insight`.
    """

    resolved: bool
    executions: int
    seconds: float
    edits: tuple[Edit, ...]
    program: str
    ranking: list[dict]
    trace: list[Step]
    tests_before: dict[str, str]
    tests_after: dict[str, str]
    candidates: int
    stopped: str
    evidence: Evidence
    ruled_out: int = 0  # candidates of the given program, by the probe
    insight: dict[str, float] = field(default_factory=dict)


def search(program: str, tests: str | Server | Callable[[str], Result], prior, *, budget: int = 1000,
           seconds: float | None = None, seed: int = 0, tree: bool = True, feedback: Feedback | None = None,
           probe: bool | Callable[[str, list[Edit], Evidence], Facts] = True, depth: int = 2,
           more: int = 0, workers: int = 1, language: str = "python",
           turn: Callable[[list[Node]], Node | None] = most_likely,
           evidence: Evidence | None = None, edits: list[Edit] | None = None, within: tuple[int, int] | None = None,
           resume: list[Step] | None = None, watch: Callable[[Step], None] | None = None) -> Outcome:
    """Repair `program` so that all tests pass. The same arguments give the same executions, unless `seconds` end it.

    tests: text (see `sandbox.Server`), a server, or any judge of a program's text (then give `evidence`).
    prior: `.scores(program, edits, evidence, language)` -> log-probabilities (n_edits,).
    probe: rule edits out by one run (Python, tests that are run here), or what does so. depth: edits at most.
    turn: which program's candidate is next, of those with edits to try: what spends the budget.
    more: executions after the first patch that passes, to find others; the most probable is taken, of equals the
    smallest. workers: candidates that run at once, each in its own server (tests as text only).
    edits: the candidates if they are known. within: characters of the program that may change. resume: the trace of an
    ended search with the same arguments, whose executions are not made again. watch: is called with each step.
    Raises ValueError: tests that cannot be run, a program that does not parse, a prior of another shape.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        if isinstance(tests, str):
            tests = [stack.enter_context(Server(tests, limits=LIMITS)) for _ in range(workers)]
        elif workers != 1:
            raise ValueError(f"workers: {workers}; expected 1 unless tests are a text")
        else:
            tests = [tests]
        if isinstance(tests[0], Server):
            before = tests[0].run(program, trace=True)
            evidence = evidence or of(program, before)
            judges = [Judge(server, before) for server in tests]
        else:
            before = tests[0](program)
            judges = [lambda code: (tests[0](code), 1)]
        evidence = evidence or Evidence.none()
        if probe is True:
            probe = _prober(tests[0].suite) if isinstance(tests[0], Server) and language == "python" else False
        seen = Seen.of(before)
        root = Node(program, seen, evidence, prior, language, edits=edits, within=within)
        run = _Search(root, before, judges, prior, evidence, language, seed, tree, feedback, depth, more, watch)
        run.known_steps, run.probe, run.choose = list(resume or ()), probe, turn
        pool = stack.enter_context(ThreadPoolExecutor(workers)) if workers > 1 else None
        stopped = run.until(budget, started + seconds if seconds else np.inf, pool)
        return run.outcome(stopped, started)


def _prober(suite):
    return lambda program, edits, evidence: probe_edits(program, edits, suite, evidence)


class Judge:
    """Runs candidates with little fuel first: (result, executions).

    A loop without end is the commonest way for a candidate to cost time. One that ran out of fuel gets all of it if
    it mended a test before that and failed none.
    """

    def __init__(self, server: Server, before: Result):
        self.server, self.full = server, server.limits
        need = FUEL if before.ticks >= self.full.fuel else max(FUEL, 50 * before.ticks)
        self.short = replace(self.full, fuel=min(self.full.fuel, need))
        self.before = list(before.tests.values())

    def __call__(self, program: str) -> tuple[Result, int]:
        self.server.limits = self.short
        result = self.server.run(program)
        self.server.limits = self.full
        after = list(result.tests.values())
        mended = any(a != "passed" == b for a, b in zip(self.before, after, strict=True))
        if result.outcome == "fuel" and mended and set(after) <= {"passed", "fuel"} and self.short != self.full:
            return self.server.run(program), 2
        return result, 1


class _Search:
    """The state of one search."""

    def __init__(self, root, before, judges, prior, evidence, language, seed, tree, feedback, depth, more, watch):
        self.root, self.before, self.judges, self.prior, self.evidence = root, before, judges, prior, evidence
        self.language, self.tree, self.feedback, self.depth, self.more = language, tree, feedback, depth, more
        self.watch, self.rng, self.known_steps, self.probe = watch, np.random.default_rng(seed), [], False
        self.choose = most_likely
        self.nodes, self.noise = [root], [self.rng.random(len(root.edits))]
        self.trace, self.passing, self.partial, self.known, self.spent = [], [], [], {root.code}, 0

    def until(self, budget: int, deadline: float, pool) -> str:
        """Run to the end, and say what ended it."""
        if self.root.seen.resolved:
            return "nothing fails"
        while self.spent < budget:
            if time.monotonic() > deadline:
                return "seconds"
            node = self.turn()
            if self.probe and node is not None and node.facts is None and node.tried >= UNASKED:
                self.spent += node.ask(self.probe, self.feedback)
                continue
            batch = self.batch(min(len(self.judges), budget - self.spent))
            if not batch:
                return "resolved" if self.passing else "exhausted"
            for job, (seen, tests, runs) in zip(batch, self.results(batch, pool), strict=True):
                self.spent += runs
                self.take_in(*job, seen, tests)
                if len(self.passing) == 1 and self.passing[0][3] == len(self.trace):
                    budget = min(budget, self.spent + self.more)
            self.grow()
        return "resolved" if self.passing else "budget"

    def batch(self, size: int) -> list[tuple[Node, int, str]]:
        """The next candidates: (node, index, text); none twice."""
        found = []
        while len(found) < size and (node := self.turn()) is not None:
            chosen = node.take(self.tree, self.noise[self.nodes.index(node)])
            code = apply(node.code, node.edits[chosen])
            if code not in self.known:
                self.known.add(code)
                found.append((node, chosen, code))
        return found

    def turn(self) -> Node | None:
        return self.choose(self.nodes)

    def results(self, batch, pool) -> list[tuple[Seen, dict[str, str], int]]:
        """What the runs show, from the trace to resume while it lasts."""
        names = list(self.before.tests)
        at = len(self.trace)
        old = self.known_steps[at:at + len(batch)]
        if len(old) == len(batch) and all(step.edit == node.edits[chosen]
                                          for step, (node, chosen, _) in zip(old, batch, strict=True)):
            return [(Seen.from_lists(step.tests, step.messages), dict(zip(names, step.tests, strict=True)), 1)
                    for step in old]
        codes = [code for _, _, code in batch]
        done = [self.judges[0](codes[0])] if pool is None else list(
            pool.map(lambda judge, code: judge(code), self.judges[:len(codes)], codes))
        return [(Seen.of(result), result.tests, runs) for result, runs in done]

    def take_in(self, node: Node, chosen: int, code: str, seen: Seen, tests: dict[str, str]):
        kind, gain = classify(node.seen, seen), reward(node.seen, seen)
        self.trace.append(Step(node.step, node.edits[chosen], int(node.state.line[chosen]),
                               float(node.scores[chosen]), CLASSES[kind], gain, seen.outcomes, seen.messages))
        node.learn(chosen, kind, gain, seen, self.feedback)
        if seen.resolved:
            self.passing.append((node, chosen, code, len(self.trace), tests))
        elif CLASSES[kind] == "mended" and len(node.path) + 1 < self.depth:
            self.partial.append((-gain, -float(node.prior[chosen]), len(self.trace) - 1, node, chosen, code, seen))
        if self.watch:
            self.watch(self.trace[-1])

    def grow(self):
        """Make a node of the program that is mended most."""
        if not self.partial or self.passing or len(self.nodes) > NODES:
            return
        best = min(self.partial, key=lambda one: one[:3])
        self.partial.remove(best)
        _, _, step, node, chosen, code, seen = best
        names, edit = list(self.before.tests), node.edits[chosen]
        split = {True: [], False: []}
        for name, outcome in zip(names, seen.outcomes, strict=True):
            split[outcome == "passed"].append(name)
        evidence = replace(self.evidence, failing=tuple(split[False]), passing=tuple(split[True]),
                           messages={n: m for n, m in zip(names, seen.messages, strict=True) if m})
        within = node.within and (node.within[0], node.within[1] + len(code) - len(node.code))
        self.nodes.append(Node(code, seen, evidence, self.prior, self.language, (*node.path, edit), step,
                               within=within, worth=STEP * node.worth))
        self.noise.append(self.rng.random(len(self.nodes[-1].edits)))

    def outcome(self, stopped: str, started: float) -> Outcome:
        root = self.root
        best = min(self.passing, default=None, key=lambda one: (
            len(one[0].path), -one[0].prior[one[1]], _size(one[0].edits[one[1]]), one[3]))
        ran = {step.edit: step.resolved for step in self.trace if step.parent == -1}
        ranking = [{**asdict(root.edits[i]), "line": int(root.state.line[i]), "score": float(root.scores[i]),
                    "passes": ran.get(root.edits[i])} for i in np.argsort(-root.scores, kind="stable")[:TOP]]
        node, chosen, code, _, tests = best or (root, None, root.code, 0, self.before.tests)
        return Outcome(best is not None, self.spent, time.monotonic() - started,
                       (*node.path, node.edits[chosen]) if best else (), code, ranking, self.trace, self.before.tests,
                       tests, len(root.edits), stopped, self.evidence,
                       int(root.facts.dead.sum()) if root.facts else 0,
                       insight(root.prior, root.state, self.feedback) if self.feedback and len(root.edits) else {})


def _size(edit: Edit) -> int:
    return edit.end - edit.start + len(edit.text)


# ---------------------------------------------------------------- scores of searches


def search_score(outcome: Outcome) -> float:
    """1 - log(executions) / log(candidates) of a resolved search, 0 of another: 1 is the first try, 0 the last."""
    if not outcome.resolved:
        return 0.0
    return max(0.0, 1 - np.log(max(1, outcome.executions)) / np.log(max(2, outcome.candidates)))


def efficiency(outcome: Outcome) -> float:
    """Gain per execution: share of the failing tests that the patch mends / executions."""
    failing = [test for test, found in outcome.tests_before.items() if found != "passed"]
    mended = sum(outcome.tests_after[test] == "passed" for test in failing)
    return mended / max(1, len(failing)) / max(1, outcome.executions)


def summary(outcomes: list[Outcome]) -> dict:
    """Scores of several searches: search score, efficiency, iterations (executions), candidates, convergence rate.

    The convergence rate is the share that reach all tests within CONVERGED executions.
    """
    return {"search_score": bootstrap([search_score(one) for one in outcomes]),
            "efficiency": bootstrap([efficiency(one) for one in outcomes], "tests / execution"),
            "iterations": bootstrap([one.executions for one in outcomes], "executions", np.median),
            "candidates": bootstrap([one.candidates for one in outcomes], "", np.median),
            "convergence_rate": proportion(sum(one.resolved and one.executions <= CONVERGED for one in outcomes),
                                           len(outcomes))}
