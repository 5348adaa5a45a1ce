"""Reverse learning: what a tried edit did to the tests re-weighs the edits that were not tried.

Three things are kept of each candidate: how many outcomes of each class (tests mended and broken, whether the failing
ones say something else, nearer to what was expected or not) there were in each RELATION to it (where and what the tried
edit was), beyond what the whole search had; what tests said of edits that give them the same values (probe.py), which
is as good as a run of this one; how near any edit came at its place or of its kind. `Feedback` is a linear map of these
with a gate, fitted as a conditional logit on searches in synthetic bugs (feedback_train.py). Unusual: only surprise
counts. Plain counts also learn to leave a place after many failures, which helps as much with the outcomes shuffled and
costs executions where the prior is right.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from .edits import Edit
from .evidence import lines_at
from .probe import CRASH, Facts
from .sandbox import Result
from .symptoms import EQUAL, comparison

CLASSES = ("same", "crash", "broke", "away", "moved", "closer", "mixed", "mended")
MEMORY = ("a failing test fails", "a passing test breaks", "failing tests pass", "all failing tests pass", "tests fail",
          "passing tests pass")
RELATIONS = ("span", "nested", "line", "near", "far", "line and kind", "kind", "text", "span and kind")
PLACES = (("span", "nested"), ("span", "nested", "line"), ("kind", "line and kind", "span and kind"))
WIDTH = len(RELATIONS) * len(CLASSES) + len(MEMORY) + 2 * len(PLACES)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
CLOSER = 0.02  # change of closeness that counts
DOUBT = 4  # outcomes that a relation must have before a surprise has half its weight


# ---------------------------------------------------------------- outcomes


def closeness(message: str) -> float:
    """How near a failing comparison is to what was expected, 0 to 1; an exception is 0, what cannot be read 0.1."""
    found = comparison(message)
    if not found or found[1] not in EQUAL:
        return 0.1 if message.startswith("AssertionError") else 0.0
    got, _, wanted = found
    if NUMBER.fullmatch(got) and NUMBER.fullmatch(wanted):
        a, b = float(got), float(wanted)
        return 0.2 + 0.7 / (1 + abs(a - b) / (1 + abs(b)) * 4) if abs(a) < 1e300 and abs(b) < 1e300 else 0.2
    a, b = (re.findall(r"\w+|[^\w\s]", text)[:60] for text in (got, wanted))
    return 0.2 + 0.7 * SequenceMatcher(None, a, b, autojunk=False).ratio()


@dataclass(frozen=True)
class Seen:
    """What the tests said of one program, in a form that compares: outcomes and messages in the order of the tests."""

    outcomes: tuple[str, ...]
    messages: tuple[str, ...]
    near: float  # mean over tests: 1 passed, else closeness

    @classmethod
    def of(cls, result: Result) -> "Seen":
        return cls.from_lists(result.tests.values(), (result.messages.get(name, "") for name in result.tests))

    @classmethod
    def from_lists(cls, outcomes: Iterable[str], messages: Iterable[str]) -> "Seen":
        outcomes, messages = tuple(outcomes), tuple(messages)
        near = [1.0 if outcome == "passed" else closeness(message)
                for outcome, message in zip(outcomes, messages, strict=True)]
        return cls(outcomes, messages, sum(near) / max(1, len(near)))

    @property
    def passed(self) -> int:
        return self.outcomes.count("passed")

    @property
    def resolved(self) -> bool:
        return self.passed == len(self.outcomes) > 0


def changes(before: Seen, after: Seen) -> tuple[int, int]:
    """(tests mended, tests broken)."""
    pairs = [(a == "passed", b == "passed") for a, b in zip(before.outcomes, after.outcomes, strict=True)]
    return pairs.count((False, True)), pairs.count((True, False))


def reward(before: Seen, after: Seen) -> float:
    """Share of the failing tests mended, less half the share of the passing ones broken: -0.5 to 1."""
    mended, broken = changes(before, after)
    passing = before.passed
    return mended / max(1, len(before.outcomes) - passing) - 0.5 * broken / max(1, passing)


def classify(before: Seen, after: Seen) -> int:
    """Index into CLASSES."""
    mended, broken = changes(before, after)
    if mended:
        return CLASSES.index("mixed" if broken else "mended")
    if after == before:
        return CLASSES.index("same")
    bad = [i for i, outcome in enumerate(before.outcomes) if outcome != "passed"]
    if all(after.outcomes[i] != "failed" and after.messages[i] != before.messages[i] for i in bad):
        return CLASSES.index("crash")
    if broken:
        return CLASSES.index("broke")
    gain = after.near - before.near
    return CLASSES.index("closer" if gain > CLOSER else "away" if gain < -CLOSER else "moved")


# ---------------------------------------------------------------- the state of a search, and the map


class State:
    """What was tried in one program, seen from each of its candidates.

    `counts` (n_relations, n_classes, n_edits) of outcomes; `told` (n_edits, n_tests) int8: 1 or -1 where an edit that
    gives the same values in a test (`probe.Facts`) was seen to pass or to fail it, else 0. `best` (n_gains, n_places,
    n_edits): the most that an edit at the same place, or of the same kind, came nearer, and its most reward.
    Without `before`, what the tests say of the program, there are only counts. Raises ValueError: facts of other tests.
    """

    def __init__(self, program: str, edits: list[Edit], facts: Facts | None = None, before: Seen | None = None):
        self.start, self.end = (np.array([getattr(edit, name) for edit in edits]) for name in ("start", "end"))
        self.line = np.array(lines_at(program, self.start.tolist()))
        self.kind, self.text = (numbers([getattr(edit, name) for edit in edits]) for name in ("kind", "text"))
        self.counts = np.zeros((len(RELATIONS), len(CLASSES), len(edits)), np.float32)
        self.mix = np.ones(len(CLASSES), np.float32)  # outcomes of the whole search, and one of each before it
        self.before, self.best = before, np.zeros((2, len(PLACES), len(edits)), np.float32)
        facts = Facts(np.zeros((len(edits), 0), int), 0) if facts is None or before is None else facts
        self.values, self.failing, self.told = facts.values, facts.failing, np.zeros(facts.values.shape, np.int8)
        bad = np.array([outcome != "passed" for outcome in before.outcomes], bool) if before else np.zeros(0, bool)
        passing = facts.values.shape[1] - facts.failing
        self.tests = np.concatenate([np.flatnonzero(bad)[:facts.failing], np.flatnonzero(~bad)[:passing]])
        if len(self.tests) != facts.values.shape[1]:
            raise ValueError(f"facts: of {facts.failing} failing and {passing} passing tests; the run shows "
                             f"{bad.sum()} and {(~bad).sum()}")

    def related(self, tried: int) -> np.ndarray:
        """Which candidates stand to the tried one in each relation: (n_relations, n_edits) bool."""
        start, end, line = self.start[tried], self.end[tried], self.line[tried]
        span = (self.start == start) & (self.end == end)
        inner, outer = (self.start >= start) & (self.end <= end), (self.start <= start) & (self.end >= end)
        nested, same = (inner | outer) & ~span, self.line == line
        outside = ~same & ~nested
        near = (abs(self.line - line) <= 2) & outside
        kind = self.kind == self.kind[tried]
        return np.stack([span, nested, same & ~span & ~nested, near, outside & ~near, same & kind & ~span, kind & ~same,
                         (self.text == self.text[tried]) & ~span, span & kind])

    def observe(self, tried: int, outcome: int, after: Seen | None = None):
        """outcome: index into CLASSES. after: what the tests said, if it is to be told of other edits."""
        related = self.related(tried)
        self.counts[:, outcome] += related
        self.mix[outcome] += 1
        if after is None or self.before is None:
            return
        gains = np.array([after.near - self.before.near, reward(self.before, after)], np.float32)
        for n, names in enumerate(PLACES):
            place = related[[RELATIONS.index(name) for name in names]].any(0)
            self.best[:, n] = np.where(place, np.maximum(self.best[:, n], gains[:, None]), self.best[:, n])
        for test in np.flatnonzero(self.values[tried] > CRASH):
            passed = after.outcomes[self.tests[test]] == "passed"
            self.told[self.values[:, test] == self.values[tried, test], test] = 1 if passed else -1

    def memory(self) -> np.ndarray:
        """(n_edits, n_memory): what is known of a candidate's own outcome, as others did the same before it."""
        bad, good = self.told[:, :self.failing], self.told[:, self.failing:]
        fails, breaks, mends = bad < 0, good < 0, bad > 0
        return np.stack([fails.any(1), breaks.any(1), mends.sum(1) / max(1, bad.shape[1]),
                         mends.all(1) & (bad.shape[1] > 0), np.log1p(fails.sum(1) + breaks.sum(1)),
                         (good > 0).sum(1) / max(1, good.shape[1])], 1)

    def surprise(self) -> np.ndarray:
        """(n_relations, n_classes, n_edits): counts beyond what the search's mix of outcomes would give, in deviations.

        Zero on average if outcomes say nothing of place and kind, however many were seen.
        """
        each = self.counts.sum(1, keepdims=True)
        return (self.counts - each * (self.mix / self.mix.sum())[:, None]) / np.sqrt(each + DOUBT)

    def features(self) -> np.ndarray:
        """(n_edits, WIDTH): surprise, memory, best."""
        n = self.counts.shape[2]
        return np.concatenate([self.surprise().reshape(-1, n).T, self.memory(), self.best.reshape(-1, n).T], 1)


def numbers(texts: list[str]) -> np.ndarray:
    """(n,) the number of each text, by first appearance."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(text, len(known)) for text in texts], int)


@dataclass(frozen=True)
class Feedback:
    """log p(candidate) = trust * prior + gate * features @ weights, up to a constant."""

    weights: np.ndarray  # (WIDTH,)
    gate: float = 1.0
    trust: float = 1.0

    def update(self, prior: np.ndarray, state: State) -> np.ndarray:
        """Scores (n_edits,) of the candidates after what was seen."""
        return self.trust * prior + self.gate * (state.features() @ self.weights)

    def save(self, path: Path):
        save_file({"weights": self.weights.astype(np.float32),
                   "scalars": np.array([self.gate, self.trust], np.float32)}, path)

    @classmethod
    def load(cls, path: Path) -> "Feedback":
        """Raises ValueError: weights of other relations or classes."""
        found = load_file(path)
        if found["weights"].shape != (WIDTH,):
            raise ValueError(f"{path}: weights have shape {found['weights'].shape}; expected ({WIDTH},)")
        return cls(found["weights"], *map(float, found["scalars"]))


def insight(prior: np.ndarray, state: State, feedback: Feedback) -> dict[str, float]:
    """What the outcomes changed in the plan, a distribution over line and kind.

    insight_strength: root mean square over candidates of the ungated update, centred; integration_gate: the gate;
    feedback_magnitude: norm of the gated update / norm of the prior's log-probabilities, both centred;
    planning_refinement: KL in nats of the plan after from the plan before.
    """
    update = state.features() @ feedback.weights
    update, centred = update - update.mean(), prior - prior.mean()
    place = np.unique(np.stack([state.line, state.kind]), axis=1, return_inverse=True)[1].ravel()

    def plan(scores):
        mass = np.bincount(place, np.exp(scores - scores.max()))
        return mass / mass.sum()

    before, after = plan(prior), plan(feedback.update(prior, state))
    kept = after > 0
    return {"insight_strength": float(np.sqrt((update ** 2).mean())), "integration_gate": feedback.gate,
            "feedback_magnitude": float(feedback.gate * np.linalg.norm(update) / max(1e-9, np.linalg.norm(centred))),
            "planning_refinement": float((after[kept] * np.log(after[kept] / before[kept].clip(1e-12))).sum())}
