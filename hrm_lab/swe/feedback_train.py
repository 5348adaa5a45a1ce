"""Fit the feedback of a search (feedback.py) to replayed searches (feedback_data.py).

    python -m hrm_lab.swe.feedback_train --tables data/built/feedback --linear linear.safetensors --out feedback

The map is a conditional logit: at points of replayed searches, the probability that the next candidate is one that
passes. Unusual: a prior is right more often of injected bugs than of people's, and wrong for a reason that many of its
candidates share; so a search is steered by a prior that has lost a random share of its features (`dropped`), and what
is learnt is how to recover from that. It is expert iteration in the strict sense, too: the searches of a round are
steered by the map of the round before.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hrm_lab.metrics import bootstrap, format_score

from .feedback import WIDTH, Feedback, State, classify
from .feedback_data import Task, read
from .linear import LinearPrior

L2 = 0.001  # of the weights
DROPPED = (0.5, 0.8)  # shares of features that priors lose; each task is searched once with each
STEPS = 40  # executions of a replayed search
KEPT = 5  # points of it
CHOICES = 120  # candidates of a point


def dropped(prior: LinearPrior, share: float, seed) -> LinearPrior:
    """The prior without a random share of its features."""
    kept = np.random.default_rng(seed).random(prior.weights.shape) >= share
    return LinearPrior(prior.weights * kept)


class Replay:
    """A search of a task whose outcomes are known: what `search` does without a tree, in milliseconds.

    `steer` is what re-weighs the candidates, anything with `.update(prior, state)`, or None.
    """

    def __init__(self, task: Task, prior):
        self.task, self.ran = task, np.array(task.ran)
        edits, facts = [task.edits[n] for n in task.ran], replace(task.facts, values=task.facts.values[self.ran])
        scores = np.asarray(prior.scores(task.program, task.edits, task.evidence, "python"), float)
        self.prior = (scores + task.facts.weights(scores))[self.ran]
        self.state = State(task.program, edits, facts)
        passed = np.array([[outcome == "passed" for outcome in one.outcomes] for one in task.seen])
        before = np.array([outcome == "passed" for outcome in task.before.outcomes])
        order = np.concatenate([np.flatnonzero(~before), np.flatnonzero(before)])
        self.passed = passed[:, order[:facts.values.shape[1]]]
        self.good = passed.all(1)
        self.kinds = np.array([classify(task.before, one) for one in task.seen])
        self.left, self.scores = np.ones(len(edits), bool), self.prior

    def step(self, steer, outcome: int | None = None) -> int:
        """Try the next candidate, and return it. outcome: another candidate whose outcome it is said to have had."""
        chosen = int(np.argmax(np.where(self.left, self.scores, -np.inf)))
        self.left[chosen] = False
        if steer is not None:
            told = chosen if outcome is None else outcome
            self.state.observe(chosen, self.kinds[told], self.passed[told])
            self.scores = steer.update(self.prior, self.state)
        return chosen


def executions(task: Task, prior, steer=None, shuffled: int | None = None) -> int:
    """Executions of a replayed search to the first candidate that passes. shuffled: seed of outcomes exchanged."""
    replay = Replay(task, prior)
    others = np.flatnonzero(~replay.good)
    rng = np.random.default_rng(shuffled)
    while replay.left.any():
        drawn = int(rng.choice(others)) if shuffled is not None and len(others) else None
        if replay.good[replay.step(steer, drawn)]:
            break
    return int((~replay.left).sum())


# ---------------------------------------------------------------- the fit


def points(task: Task, prior, steer, rng: np.random.Generator):
    """Moments of one replayed search: (features (m, f), prior (m,), passes (m,) bool) of candidates not yet tried.

    Candidates that pass are passed over, so that the search goes on; m is CHOICES at most.
    """
    replay = Replay(task, prior)
    replay.left &= ~replay.good
    steps = min(STEPS, int(replay.left.sum()))
    wanted = set(rng.choice(steps, min(KEPT, steps), replace=False).tolist())
    blind = Feedback(np.zeros(WIDTH, np.float32)) if steer is None else steer
    for step in range(steps):
        if step in wanted and step:
            others = np.flatnonzero(replay.left)
            # the most probable are what the search would take; the rest stand for all
            top = others[np.argsort(-replay.scores[others])[:CHOICES // 2]]
            rest = np.setdiff1d(others, top)
            rest = rng.choice(rest, min(len(rest), CHOICES - len(top)), replace=False)
            chosen = np.concatenate([np.flatnonzero(replay.good)[:16], top, rest])
            yield replay.state.features()[chosen], replay.prior[chosen], replay.good[chosen]
        replay.step(blind)


def fit(given: list[tuple], l2: float = L2, iterations: int = 60) -> np.ndarray:
    """Weights (f,) that make those that pass most probable; `given` as from `points`."""
    width, n = given[0][0].shape[1], max(len(prior) for _, prior, _ in given)
    features, prior = torch.zeros(len(given), n, width), torch.full((len(given), n), -1e9)
    bad = torch.full((len(given), n), -1e9)  # added to keep those that pass
    for row, (f, p, good) in enumerate(given):
        features[row, :len(p)], prior[row, :len(p)] = torch.from_numpy(f).float(), torch.from_numpy(p).float()
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
    return weights.detach().numpy()


def train(given: list[Task], prior: LinearPrior, rounds: int = 2) -> Feedback:
    """Fit to searches by priors that lack features, each round to those that the map of the round before steers."""
    feedback = None
    for turn in range(rounds):
        found = []
        for n, task in enumerate(given):
            for share in DROPPED:
                rng = np.random.default_rng((turn, n))
                found += points(task, dropped(prior, share, (turn, n)), feedback, rng)
        feedback = Feedback(fit(found))
    return feedback


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.feedback_train", description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=Path, required=True, help="folder of train.jsonl and valid.jsonl")
    parser.add_argument("--linear", type=Path, required=True, help="weights of the linear prior that searches go by")
    parser.add_argument("--out", type=Path, required=True, help="file for the weights")
    given = parser.parse_args(arguments)
    prior = LinearPrior.load(given.linear)
    feedback = train(read(given.tables / "train.jsonl"), prior)
    feedback.save(given.out)
    valid = read(given.tables / "valid.jsonl")
    for share in (0.0, *DROPPED):
        logs = [np.log(executions(task, one, feedback) / executions(task, one))
                for n, task in enumerate(valid) for one in [dropped(prior, share, n)]]
        ratio = bootstrap(np.array(logs), "x", lambda values: float(np.exp(values.mean())))
        print(f"valid split, {share:.0%} of the prior's features lost: executions with / without feedback "
              f"{format_score(ratio)}")


if __name__ == "__main__":
    main()
