"""Fit reverse learning (feedback.py) and the coordinator (agents.py) to replayed searches (feedback_data.py).

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
from hrm_lab.runs import set_threads

from .agents import EDITORS, SIGNS, Coordinator, editors, signs, team
from .features import features
from .feedback import WIDTH, Feedback, State, classify
from .feedback_data import Task, read
from .linear import LinearPrior, log_softmax
from .probe import SURE, WEIGHTS

L2 = 0.0005  # of the weights of feedback
L2_TEAM = 0.006  # of the coordinator's; both chosen on the valid split
DROPPED = (0.0, 0.5, 0.8)  # shares of features that priors lose; each task is searched once with each
GATES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
STEPS = 60  # executions of a replayed search
KEPT = 5  # points of it
CHOICES = 120  # candidates of a point


def dropped(prior: LinearPrior, wide: np.ndarray, share: float, seed) -> np.ndarray:
    """Scores (n_edits,) of edits by the prior without a random share of its features. wide: `features` of the edits.

    What is left weighs more, so that the scores differ as much as before: such a prior is wrong, and sure of itself.
    """
    kept = np.random.default_rng(seed).random(prior.weights.shape) >= share
    return log_softmax((prior.weights * kept)[wide].sum(1) / np.sqrt(1 - share))


def wide(task: Task) -> np.ndarray:
    return features(task.program, task.edits, task.evidence)


class Replay:
    """A search of a task whose outcomes are known: what `search` does with the probe, without a tree.

    scores (n_edits,): of a prior. `step` takes what re-weighs the candidates: anything with `.update(prior, state)`.
    """

    def __init__(self, task: Task, scores: np.ndarray):
        self.seen, ran = task.seen, np.array(task.ran)
        self.prior = self.scores = (SURE * scores + task.facts.weights(scores))[ran]
        self.state = State(task.program, [task.edits[n] for n in task.ran],
                           replace(task.facts, values=task.facts.values[ran]), task.before)
        self.kinds = [classify(task.before, one) for one in task.seen]
        self.good = np.array([one.resolved for one in task.seen])
        self.left = np.ones(len(ran), bool)

    def step(self, steer=None, told: int | None = None) -> int:
        """Try the next candidate, and return it. told: another candidate whose outcome it is said to have had."""
        chosen = int(np.argmax(np.where(self.left, self.scores, -np.inf)))
        self.left[chosen] = False
        if steer is not None:
            told = chosen if told is None else told
            self.state.observe(chosen, self.kinds[told], self.seen[told])
            self.scores = steer.update(self.prior, self.state)
        return chosen


def executions(task: Task, scores: np.ndarray, steer=None, shuffled: int | None = None) -> int:
    """Executions of a replayed search to the first candidate that passes. shuffled: seed of outcomes exchanged."""
    replay, rng = Replay(task, scores), np.random.default_rng(shuffled)
    others = np.flatnonzero(~replay.good)
    while replay.left.any():
        told = int(rng.choice(others)) if shuffled is not None and len(others) else None
        if replay.good[replay.step(steer, told)]:
            break
    return int((~replay.left).sum())


# ---------------------------------------------------------------- the fit


def points(task: Task, scores: np.ndarray, steer, rng: np.random.Generator):
    """Moments of one replayed search: (features (m, f), prior (m,), passes (m,) bool) of candidates not yet tried.

    Candidates that pass are passed over, so that the search goes on; m is CHOICES at most.
    """
    replay = Replay(task, scores)
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


def starts(task: Task, scores: np.ndarray, told: np.ndarray, rng: np.random.Generator):
    """The first choice of a search, as a point. scores (n_edits,), features `told` (n_edits, f)."""
    good = np.array([one.resolved for one in task.seen])
    rest = np.flatnonzero(~good)
    rest = rng.choice(rest, min(len(rest), CHOICES), replace=False)
    chosen = np.concatenate([np.flatnonzero(good)[:16], rest])
    rows = np.array(task.ran)[chosen]
    return told[rows], scores[rows], good[chosen]


def fit_facts(given: list[Task], known: list[np.ndarray], prior: LinearPrior) -> dict[str, float]:
    """What `probe.WEIGHTS` should be. known: `wide` of each task."""
    found = [starts(task, dropped(prior, known[n], share, n), task.facts.features(), np.random.default_rng(n))
             for n, task in enumerate(given) for share in DROPPED]
    return {name: round(float(weight), 1) for name, weight in zip(WEIGHTS, fit(found), strict=True)}


def fit_coordinator(given: list[Task], known: list[np.ndarray], prior: LinearPrior) -> Coordinator:
    """Fit to the first choices of searches by priors that lack features. known: `wide` of each task."""
    found = []
    for n, task in enumerate(given):
        for share in DROPPED:
            scores = dropped(prior, known[n], share, n) + task.facts.features() @ np.array(list(WEIGHTS.values()))
            found.append(starts(task, scores, team(task.edits, task.evidence), np.random.default_rng(n)))
    return Coordinator(prior, fit(found, L2_TEAM).reshape(len(EDITORS), len(SIGNS)))


def train(given: list[Task], known: list[np.ndarray], prior: LinearPrior, rounds: int = 2) -> Feedback:
    """Fit to searches by priors that lack features, each round to those that the map of the round before steers."""
    feedback = None
    for turn in range(rounds):
        found = []
        for n, task in enumerate(given):
            for share in DROPPED:
                found += points(task, dropped(prior, known[n], share, (turn, n)), feedback,
                                np.random.default_rng((turn, n)))
        feedback = Feedback(fit(found))
    return feedback


def fit_gate(given: list[Task], known: list[np.ndarray], prior: LinearPrior, feedback: Feedback) -> Feedback:
    """The feedback with that gate of GATES that needs fewest executions, in the geometric mean, of tasks not fitted."""
    def needs(gate):
        return np.mean([np.log(executions(task, dropped(prior, known[n], share, n), replace(feedback, gate=gate)))
                        for n, task in enumerate(given) for share in DROPPED])

    return replace(feedback, gate=min(GATES, key=needs))


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.feedback_train", description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=Path, required=True, help="folder of train.jsonl and valid.jsonl")
    parser.add_argument("--linear", type=Path, required=True, help="weights of the linear prior that searches go by")
    parser.add_argument("--out", type=Path, required=True, help="folder for {feedback,coordinator}.safetensors")
    given = parser.parse_args(arguments)
    set_threads()
    prior, tasks, valid = LinearPrior.load(given.linear), *(read(given.tables / f"{split}.jsonl")
                                                            for split in ("train", "valid"))
    given.out.mkdir(parents=True, exist_ok=True)
    known = [wide(task) for task in tasks]
    print(f"{len(tasks)} tasks; probe.WEIGHTS: {fit_facts(tasks, known, prior)}", flush=True)
    coordinator, feedback = fit_coordinator(tasks, known, prior), train(tasks, known, prior)
    tested = [wide(task) for task in valid]
    feedback = fit_gate(valid, tested, prior, feedback)
    coordinator.save(given.out / "coordinator.safetensors")
    feedback.save(given.out / "feedback.safetensors")
    for share in DROPPED:
        found = {name: [] for name in ("coordinator", "feedback", "both", "feedback, shuffled")}
        for n, task in enumerate(valid):
            plain = dropped(prior, tested[n], share, n)
            mixed = plain + (coordinator.weights @ signs(task.evidence))[editors(task.edits)]
            runs = [executions(task, *one) for one in ((mixed,), (plain, feedback), (mixed, feedback),
                                                       (plain, feedback, n))]
            for name, one in zip(found, runs, strict=True):
                found[name].append(np.log(one / executions(task, plain)))
        for name, logs in found.items():
            ratio = bootstrap(np.array(logs), "x", lambda values: float(np.exp(values.mean())))
            print(f"valid split, {share:.0%} of the prior's features lost: executions with / without {name} "
                  f"{format_score(ratio)}", flush=True)


if __name__ == "__main__":
    main()
