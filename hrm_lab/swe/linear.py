"""A linear prior over repairs: a softmax over a program's candidates of one weight for each hashed feature.

    python -m hrm_lab.swe.linear --data data/built/policy --out runs/linear

Seconds to train, and the bar that a network has to clear. Unusual: nothing but `features` and one vector.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hrm_lab.runs import load_checkpoint, save_checkpoint, set_threads
from hrm_lab.swe.edits import Edit
from hrm_lab.swe.features import SIZE, features
from hrm_lab.swe.policy_data import Example, load


class LinearPrior:
    """`weights` (SIZE,) float32, the first of them zero."""

    def __init__(self, weights: np.ndarray):
        if weights.shape != (SIZE,):
            raise ValueError(f"LinearPrior.weights: got shape {weights.shape}, expected ({SIZE},)")
        self.weights = weights.astype(np.float32)

    def scores(self, program: str, edits: list[Edit], evidence=None, language: str = "python") -> np.ndarray:
        """(n_edits,) log-probabilities that an edit is the repair."""
        return log_softmax(self.weights[features(program, edits, evidence, language)].sum(1))

    @classmethod
    def fit(cls, examples: list[Example], epochs: int = 4, rate: float = 0.01, decay: float = 0.02, batch: int = 16,
            seed: int = 0) -> "LinearPrior":
        """AdamW on the cross-entropy of the repair among its rivals; the mean of the last epochs' weights."""
        rng = np.random.default_rng(seed)
        w = torch.zeros(SIZE, requires_grad=True)
        adam = torch.optim.AdamW([w], lr=rate, weight_decay=decay, betas=(0.9, 0.99))
        steps = epochs * -(-len(examples) // batch)
        mean, count, step = torch.zeros(SIZE), 0, 0
        for _ in range(epochs):
            order = rng.permutation(len(examples))
            for at in range(0, len(order), batch):
                wide, weight = padded([examples[n] for n in order[at:at + batch]])
                loss = -torch.log_softmax(w[wide].sum(-1) + weight, -1)[:, 0].mean()
                adam.zero_grad()
                loss.backward()
                w.grad[0] = 0
                for group in adam.param_groups:
                    group["lr"] = rate * (1 - step / steps)
                adam.step()
                step += 1
                if step > steps // 2:
                    mean, count = mean + w.detach(), count + 1
        return cls((mean / count).numpy())

    def save(self, path: str | Path, **meta):
        save_checkpoint(Path(path), {"weights": torch.from_numpy(self.weights)}, meta)

    @classmethod
    def load(cls, path: str | Path) -> "LinearPrior":
        """Raises CheckpointError: no such file, or altered."""
        return cls(load_checkpoint(Path(path))[0]["weights"].numpy())


def padded(examples: list[Example]) -> tuple[Tensor, Tensor]:
    """Features (B, N, WIDTH) int64 and log-weights (B, N) of a batch; -inf where an example has no more edits."""
    n = max(len(e.weight) for e in examples)
    wide = np.zeros((len(examples), n, examples[0].wide.shape[1]), np.int64)
    weight = np.full((len(examples), n), -np.inf, np.float32)
    for row, e in enumerate(examples):
        wide[row, :len(e.weight)], weight[row, :len(e.weight)] = e.wide, e.weight
    return torch.from_numpy(wide), torch.from_numpy(weight)


def log_softmax(x: np.ndarray) -> np.ndarray:
    top = x - x.max()
    return top - np.log(np.exp(top).sum())


def rank(scores: np.ndarray) -> float:
    """Place of the repair, row 0, from 1; ties count half."""
    return 1 + float((scores[1:] > scores[0]).sum() + 0.5 * (scores[1:] == scores[0]).sum())


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.linear", description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder with train-*.npz and valid-*.npz of policy_data")
    parser.add_argument("--out", required=True, help="folder for linear.safetensors")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--decay", type=float, default=0.02)
    given = parser.parse_args(arguments)
    set_threads()
    train, valid = ([e for path in sorted(Path(given.data).glob(f"{split}-*.npz")) for e in load(path)]
                    for split in ("train", "valid"))
    started = time.monotonic()
    prior = LinearPrior.fit(train, given.epochs, decay=given.decay)
    prior.save(Path(given.out) / "linear.safetensors", examples=len(train))
    ranks = np.array([rank(prior.weights[e.wide].sum(1)) for e in valid])
    print(f"{len(train)} examples, {time.monotonic() - started:.0f} s; rank of the repair on {len(valid)}: "
          f"median {np.median(ranks):.0f}, first {np.mean(ranks <= 1):.2f}, in 10 {np.mean(ranks <= 10):.2f}, "
          f"in 30 {np.mean(ranks <= 30):.2f}, in 100 {np.mean(ranks <= 100):.2f}")


if __name__ == "__main__":
    main()
