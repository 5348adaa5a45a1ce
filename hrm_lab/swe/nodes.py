"""A node of a search: a program, its candidates by where -> kind -> text, and which of them is next.

PUCT (Rosin 2011, doi 10.1007/s10472-011-9258-6; as in Silver et al. 2017) descends from line to kind by
Q + C * P * sqrt(1 + N) / (1 + n): P the share of the probability that is not yet tried, n the runs below, Q their mean
reward (`feedback.reward`), the node's mean where there is none; below a kind the most probable text is next.
"""

from collections.abc import Callable

import numpy as np

from .edits import Edit, candidates
from .evidence import Evidence
from .feedback import Feedback, Seen, State
from .probe import SURE, Facts

C = 1.0  # PUCT's exploration
DOUBT = 0.3  # of the scores' mass that all candidates share alike: scores are surer than they should be
ASKED = 6000  # most probable candidates that are probed; a long function has five times as many


def most_likely(nodes: list["Node"]) -> "Node | None":
    """The node whose next execution is most likely to end the search, the older of equals; None if none is left."""
    best = max(nodes, key=Node.chance)
    return best if best.left.any() else None


def evenly(nodes: list["Node"]) -> "Node | None":
    """The node with the fewest executions: a control that knows nothing of chances."""
    return min((node for node in nodes if node.left.any()), key=lambda node: node.tried, default=None)


class Node:
    """`path`: the edits that led here from the given program; `step`: the execution that did, -1 for none.

    `worth`: how much more likely than the given program this one is to be an edit away from passing.
    """

    def __init__(self, code: str, seen: Seen, evidence: Evidence, prior, language: str, path: tuple[Edit, ...] = (),
                 step: int = -1, edits: list[Edit] | None = None, within: tuple[int, int] | None = None,
                 worth: float = 1.0):
        self.code, self.seen, self.evidence, self.worth = code, seen, evidence, worth
        self.path, self.step, self.within = path, step, within
        self.edits = candidates(code, language, within) if edits is None else edits
        n = len(self.edits)
        self.prior = np.asarray(prior.scores(code, self.edits, evidence, language), float) if n else np.zeros(0)
        if self.prior.shape != (n,) or not np.isfinite(self.prior).all():
            raise ValueError(f"prior: scores have shape {self.prior.shape}; expected ({n},) finite numbers")
        self.facts, self.told = None, []  # of the probe; of each execution here (candidate, class, outcomes)
        self.state = State(code, self.edits, self.facts, seen)
        self.left = np.ones(n, bool)
        self.gains = np.zeros(n)
        self.scores = self.prior

    @property
    def tried(self) -> int:
        return int((~self.left).sum())

    def chance(self) -> float:
        """How likely the next execution here is to end the search, up to what all nodes share; 0 if none is left."""
        if not self.left.any():
            return 0.0
        top = self.scores.max()
        share = float(np.exp(self.scores[self.left].max() - top) / np.exp(self.scores - top).sum())
        return self.worth * ((1 - DOUBT) * share + DOUBT / len(self.edits))

    def ask(self, probe: Callable[[str, list[Edit], Evidence], Facts], feedback: Feedback | None) -> int:
        """Weigh the candidates by what the probe tells of them, too; how many executions it took."""
        asked = np.argsort(-self.prior, kind="stable")[:ASKED]
        told = probe(self.code, [self.edits[n] for n in asked], self.evidence)
        self.facts = told.among(asked, len(self.edits))
        self.prior = SURE * self.prior + self.facts.weights(self.prior)
        self.state = State(self.code, self.edits, self.facts, self.seen)
        for one in self.told:
            self.state.observe(*one)
        self.scores = self.prior if feedback is None else feedback.update(self.prior, self.state)
        return self.facts.runs

    def take(self, tree: bool, noise: np.ndarray) -> int:
        """Index of the next candidate, which is then no longer left; ties fall as `noise` (n_edits,) has it."""
        below = np.ones(len(self.edits), bool)
        if tree:
            shares = np.where(self.left, np.exp(self.scores - self.scores[self.left].max()), 0.0)
            for labels in (self.state.line, self.state.kind):
                below = self._descend(below, labels, shares)
        among = np.flatnonzero(below & self.left)
        best = among[self.scores[among] >= self.scores[among].max() - 1e-12]
        chosen = int(best[np.argmax(noise[best])])
        self.left[chosen] = False
        return chosen

    def _descend(self, below: np.ndarray, labels: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Which candidates (n_edits,) bool lie below the label that PUCT takes, of those `below` the node above."""
        size = int(labels.max()) + 1
        open_, runs, gains, mass = (np.bincount(labels[below], values[below], size)
                                    for values in (self.left, ~self.left, self.gains, shares))
        total = runs.sum()
        mean = gains.sum() / max(1, total)
        value = np.where(runs > 0, gains / np.maximum(1, runs), mean)
        score = value + C * mass / max(1e-300, mass.sum()) * np.sqrt(1 + total) / (1 + runs)
        return below & (labels == np.argmax(np.where(open_ > 0, score, -np.inf)))

    def learn(self, tried: int, outcome: int, gain: float, after: Seen, feedback: Feedback | None):
        """Take in what a run showed: its class (index), reward and outcomes."""
        self.gains[tried] = gain
        self.told.append((tried, outcome, after))
        self.state.observe(tried, outcome, after)
        if feedback is not None:
            self.scores = feedback.update(self.prior, self.state)
