"""Search for a patch: run candidate edits, the most promising first, until all tests pass or the budget is spent.

A program is a node; its candidates hang below it by where -> kind -> text. Without `tree` candidates are taken by score.
With it PUCT descends (Rosin 2011; Silver et al. 2017): Q + C * P * sqrt(N) / (1 + n), P the share of the prior's mass
that is not yet tried, Q the mean reward of `feedback.reward`. With `feedback` each outcome re-weighs the scores first.
A candidate that mends some tests and breaks none becomes a node of its own, so that two bugs can be mended one after
the other. Unusual: nothing is simulated. A visit is a run of the tests, the only cost that counts.
An execution is a run of the tests on one candidate; the run on the program as it is comes on top.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from hrm_lab.metrics import bootstrap, proportion

from .edits import Edit, apply, candidates
from .evidence import Evidence, of
from .feedback import CLASSES, Feedback, Seen, State, classify, insight, reward
from .jail import Limits
from .sandbox import Result, Server

C = 1.0  # PUCT's exploration
FIRST = 50  # executions before a second edit is tried
NODES = 4  # partly mended programs that are looked into
TOP = 20  # of the ranking
CONVERGED = 100  # executions


@dataclass(frozen=True)
class Step:
    """One execution. `parent`: index of the step whose program was edited, -1 the given one."""

    parent: int
    edit: Edit
    line: int
    score: float  # when it was chosen: log-probability, re-weighed by feedback
    outcome: str  # of CLASSES, against the parent
    reward: float
    tests: str  # a character a test: P passed, - not
    resolved: bool


@dataclass(frozen=True)
class Outcome:
    """What a search came to. `program` is the patched text if resolved, else the given one; `edits` lead to it.

    `ranking`: candidates of the given program by their scores at the end, [{edit, line, score, passes}]; passes is
    None if it was not run. `tests_before`, `tests_after`: test -> outcome. `insight`: see `feedback.insight`.
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
    candidates: int = 0
    stopped: str = ""  # "resolved", "budget", "seconds", "exhausted", "nothing fails"
    evidence: Evidence = field(default_factory=Evidence.none)
    insight: dict[str, float] = field(default_factory=dict)


class Node:
    """A program, its candidates, and what is known of them."""

    def __init__(self, code, seen, evidence, prior, path, step, language, edits=None):
        self.code, self.seen, self.path, self.step = code, seen, path, step
        self.edits = candidates(code, language) if edits is None else edits
        self.prior = np.asarray(prior.scores(code, self.edits, evidence, language), float)
        self.state = State(code, self.edits)
        self.left = np.ones(len(self.edits), bool)
        self.visits, self.gains = np.zeros(len(self.edits)), np.zeros(len(self.edits))
        self.order = self.prior

    def weigh(self, feedback: Feedback | None):
        self.order = self.prior if feedback is None else feedback.update(self.prior, self.state)

    def choose(self, tree: bool, noise: np.ndarray) -> int:
        """Index of the next candidate; ties fall as `noise` has it."""
        among = np.flatnonzero(self.left)
        if tree:
            shares = np.exp(self.order - self.order[among].max()) * self.left
            for labels in (self.state.line, self.state.kind):
                among = self._descend(among, labels, shares)
        scores = self.order[among]
        best = among[scores >= scores.max() - 1e-12]
        return int(best[np.argmax(noise[best])])

    def _descend(self, among: np.ndarray, labels: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Those of the candidates `among` that lie below the label that PUCT takes."""
        inside = np.isin(labels, labels[among]) & self._below
        mass, visits, gains = (np.bincount(labels[inside], values[inside])
                               for values in (shares, self.visits, self.gains))
        total = visits.sum()
        value = np.divide(gains, visits, out=np.full_like(gains, gains.sum() / max(1, total)), where=visits > 0)
        score = value + C * mass / mass.sum() * np.sqrt(1 + total) / (1 + visits)
        score[np.setdiff1d(np.arange(len(score)), labels[among])] = -np.inf
        kept = labels == np.argmax(score)
        self._below = self._below & kept
        return among[kept[among]]

    def take(self, tree: bool, noise: np.ndarray) -> int:
        self._below = np.ones(len(self.edits), bool)
        chosen = self.choose(tree, noise)
        self.left[chosen] = False
        self.visits[chosen] = 1  # a visit without gain until the result is there: a virtual loss
        return chosen


def search(program: str, tests: str | Server | Callable[[str], Result], prior, *, budget: int = 1000,
           seconds: float | None = None, seed: int = 0, tree: bool = True, feedback: Feedback | None = None,
           depth: int = 2, more: int = 0, workers: int = 1, language: str = "python",
           evidence: Evidence | None = None, within: tuple[int, int] | None = None,
           edits: list[Edit] | None = None, watch: Callable[[Step], None] | None = None) -> Outcome:
    """Repair `program` so that all tests pass. The same arguments give the same executions, `seconds` apart.

    tests: text (see `sandbox.Server`), a server, or any judge of a program text (then give `evidence`).
    prior: `.scores(program, edits, evidence, language)` -> log-probabilities (n_edits,).
    more: executions after the first passing patch to look for others; of those that pass the most probable is taken,
    of equals the smallest. depth: edits at most. workers: candidates run at once, each in its own server (text only).
    within: characters of the program that may change. edits: the candidates, if they are known. watch: sees each step.
    Raises ValueError: tests that cannot be run, a program that does not parse.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        judges = _judges(tests, workers, stack)
        if isinstance(judges[0], Server):
            before = judges[0].run(program, trace=True)
            evidence = evidence or of(program, before)
            run = [server.run for server in judges]
        else:
            before, run = judges[0](program), judges
            evidence = evidence or Evidence.none()
        if isinstance(judges[0], Server) and before.ticks:  # a patch may take longer, but not for ever
            for server in judges:
                server.limits = replace(server.limits, fuel=max(200_000, min(server.limits.fuel, 50 * before.ticks)))
        seen = Seen.of(before)
        if within and edits is None:
            edits = candidates(program, language, within)
        root = Node(program, seen, evidence, prior, (), -1, language, edits)
        pool = stack.enter_context(ThreadPoolExecutor(len(run))) if len(run) > 1 else None
        return _run(root, before, run, pool, prior, started, budget, seconds, seed, tree, feedback, depth, more,
                    language, evidence, watch)


def _judges(tests, workers: int, stack: ExitStack) -> list:
    if isinstance(tests, str):
        return [stack.enter_context(Server(tests, limits=Limits())) for _ in range(workers)]
    if workers > 1:
        raise ValueError(f"workers: {workers}; expected 1 unless tests are a text")
    return [tests]


def _run(root, before, run, pool, prior, started, budget, seconds, seed, tree, feedback, depth, more, language,
         evidence, watch) -> Outcome:
    rng = np.random.default_rng(seed)
    nodes, partial, trace, passing, known = [root], [], [], [], {root.code}
    noise = {id(root): rng.random(len(root.edits))}
    spent, last, stopped = 0, budget, "budget"
    if root.seen.resolved:
        last, stopped = 0, "nothing fails"
    while spent < last:
        if seconds is not None and time.monotonic() - started > seconds:
            stopped = "seconds"
            break
        batch = []
        while len(batch) < min(len(run), last - spent):
            node = _next(nodes, spent + len(batch))
            if node is None:
                break
            if not isinstance(node.left, np.ndarray):
                raise AssertionError
            chosen = node.take(tree, noise[id(node)])
            code = apply(node.code, node.edits[chosen])
            if code in known:
                continue
            known.add(code)
            batch.append((node, chosen, code))
        if not batch:
            stopped = "exhausted"
            break
        results = [run[0](batch[0][2])] if pool is None else list(
            pool.map(lambda job: job[0](job[1]), zip(run, [code for _, _, code in batch], strict=False)))
        for (node, chosen, code), result in zip(batch, results, strict=True):
            spent += 1
            after, edit = Seen.of(result), node.edits[chosen]
            kind, gain = classify(node.seen, after), reward(node.seen, after)
            trace.append(Step(node.step, edit, int(node.state.line[chosen]), float(node.order[chosen]), CLASSES[kind],
                              gain, "".join("P" if one == "passed" else "-" for one in after.outcomes),
                              after.resolved))
            node.state.observe(chosen, kind)
            node.gains[chosen] = gain
            if watch:
                watch(trace[-1])
            if after.resolved:
                passing.append((node, chosen, code, result))
                last = min(last, spent + more)
                stopped = "resolved"
            elif CLASSES[kind] == "mended" and len(node.path) + 1 < depth:
                partial.append((-gain, -float(node.prior[chosen]), spent, node, chosen, code, after, result))
            node.weigh(feedback)
        if partial and not passing and spent >= FIRST and len(nodes) <= NODES:
            partial.sort(key=lambda one: one[:3])
            _, _, at, node, chosen, code, after, result = partial.pop(0)
            child = Node(code, after, replace(evidence, failing=tuple(n for n, o in result.tests.items()
                                                                      if o != "passed"),
                                              passing=tuple(n for n, o in result.tests.items() if o == "passed"),
                                              messages=result.messages),
                         prior, (*node.path, node.edits[chosen]), at - 1, language)
            nodes.append(child)
            noise[id(child)] = rng.random(len(child.edits))
    best = min(passing, key=lambda one: (-one[0].prior[one[1]], _size(one[0].edits[one[1]]), one[2]), default=None)
    ran = {(step.edit.start, step.edit.end, step.edit.text): step.resolved for step in trace if step.parent == -1}
    ranking = [{**asdict(root.edits[i]), "line": int(root.state.line[i]), "score": float(root.order[i]),
                "passes": ran.get((root.edits[i].start, root.edits[i].end, root.edits[i].text))}
               for i in np.argsort(-root.order, kind="stable")[:TOP]]
    node, chosen, code, result = best or (root, None, root.code, before)
    return Outcome(best is not None, spent, time.monotonic() - started,
                   (*node.path, node.edits[chosen]) if best else (), code, ranking, trace, before.tests, result.tests,
                   len(root.edits), stopped, evidence, insight(root.prior, root.state, feedback) if feedback else {})


def _size(edit: Edit) -> int:
    return edit.end - edit.start + len(edit.text)


def _next(nodes: list[Node], spent: int) -> Node | None:
    """The node whose turn it is: every second execution is the root's, the others share the rest."""
    able = [node for node in nodes if node.left.any()]
    if not able:
        return None
    if able[0] is nodes[0] and (len(able) == 1 or spent % 2 == 0):
        return able[0]
    rest = able[1:] if able[0] is nodes[0] else able
    return min(rest, key=lambda node: node.visits.sum())


# ---------------------------------------------------------------- scores of searches


def search_score(outcome: Outcome) -> float:
    """1 - log(executions) / log(candidates) of a resolved search, 0 of another: 1 is the first try, 0 the last."""
    return 0.0 if not outcome.resolved else max(0.0, 1 - np.log(outcome.executions) / np.log(max(2, outcome.candidates)))


def efficiency(outcome: Outcome) -> float:
    """Share of the failing tests mended in the end, less half the share of those broken, for each execution."""
    before, after = ([test == "passed" for test in tests.values()] for tests in (outcome.tests_before,
                                                                               outcome.tests_after))
    mended = sum(b and not a for a, b in zip(before, after, strict=True))
    return mended / max(1, len(before) - sum(before)) / max(1, outcome.executions)


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
