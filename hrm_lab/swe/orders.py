"""Priors that know nothing of repairs: what a learned one must beat.

A prior is any object with `scores(program, edits, evidence, language)` -> log-probabilities (n_edits,); a search tries
edits by it. Unusual: with a seed these return weights with Gumbel noise, so that sorting by them draws candidates
without replacement in proportion to the weights (Kool et al. 2019, arXiv 1903.06059); without one, the weights alone.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from .edits import Edit
from .evidence import Evidence, lines_at
from .scope import program as read

FLOOR = 0.05  # weight of a line that no failing test runs; the most suspect line has 1
POWER = 3  # of suspicion: a line of 0.7 gets a third of the weight
BOUND = 3.0  # log-weight of one more or one less at a bound of `range`


def normalised(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities of any finite scores (n,)."""
    if len(scores) == 0:
        return scores
    scores = scores - scores.max()
    return scores - np.log(np.exp(scores).sum())


def drawn(weights: np.ndarray, seed: int | None) -> np.ndarray:
    """Log-weights (n,) as log-probabilities, with noise if there is a seed."""
    noise = 0 if seed is None else np.random.default_rng(seed).gumbel(size=len(weights))
    return normalised(weights + noise)


def localisation(program: str, edits: list[Edit], evidence: Evidence) -> np.ndarray:
    """Log-weight (n_edits,) of the line where each edit starts, by suspicion; 0 where nothing is known."""
    if not evidence.suspicion:
        return np.zeros(len(edits))
    found = [evidence.suspicion.get(line, 0.0) for line in lines_at(program, [edit.start for edit in edits])]
    return np.log(FLOOR + (1 - FLOOR) * np.array(found) ** POWER)


@dataclass(frozen=True)
class Uniform:
    """Every candidate alike."""

    seed: int | None = None

    def scores(self, program, edits, evidence, language="python") -> np.ndarray:
        return drawn(np.zeros(len(edits)), self.seed)


@dataclass(frozen=True)
class KindBalanced:
    """Every kind alike and every candidate of a kind; `localise`: times the suspicion of its line."""

    seed: int | None = None
    localise: bool = True

    def scores(self, program, edits, evidence, language="python") -> np.ndarray:
        counts = Counter(edit.kind for edit in edits)
        weights = -np.log(np.array([counts[edit.kind] for edit in edits]))
        return drawn(weights + localisation(program, edits, evidence) * self.localise, self.seed)


@dataclass(frozen=True)
class Counting:
    """Another prior for Python that people wrote, who get the bounds of `range` wrong.

    Packages, which the bugs of the training data are made of, hardly count, so that a prior has not learnt it there.
    """

    prior: object

    def scores(self, program, edits, evidence, language="python") -> np.ndarray:
        p, found = read(program, language), self.prior.scores(program, edits, evidence, language)
        bounds = {(node.start, node.end) for node in p.nodes
                  if node.parent is not None and node.parent.role == "args" and p.callee(node.parent.parent) == "range"}
        off = np.array([edit.kind == "off-by-one" and (edit.start, edit.end) in bounds for edit in edits], float)
        return normalised(np.asarray(found, float) + BOUND * off)
