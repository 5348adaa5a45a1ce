"""A forest that reads a run's other curves too: where its loss, its accuracies and its training loss go together.

Each tree parts past curves by what was seen of them and of their companions (levels, slopes, raw forecasts); a leaf
holds by how much its curves rose from their last value to the epoch asked for. The rises in the leaves that a new curve
falls into are its forecast (a quantile regression forest). `Forest.blend` pools it with the bank's forecast as samples;
an average of their quantiles would hide by how much they differ.

Unusual: the forest is plain arrays in data/forecast/forest.safetensors, made by `python benchmarks/forecast_forest.py`;
nothing is unpickled, and a few lines of numpy read it. A node's left child is the next node; `child` is its right one.
At a leaf (feature -1) `child` is its first rise and `threshold` the number of its rises.
Source: Meinshausen 2006 (JMLR 7).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from hrm_lab.forecast_bank import quantiles
from hrm_lab.forecast_curves import KINDS
from hrm_lab.forecast_mixture import SENSIBLE, look_ahead, scaled

METRICS = ("loss", "train_loss", "token_accuracy", "exact_match")  # that the forest knows; the losses have to be there
NAMES = {  # what other trainers call them (Keras, Lightning, transformers); of each the first that a log has
    "loss": ("val_loss", "valid_loss", "eval_loss", "loss"),
    "train_loss": ("train_loss", "loss"),
    "token_accuracy": ("token_accuracy", "val_accuracy", "val_acc", "valid_acc", "eval_accuracy", "accuracy", "acc"),
    "exact_match": ("exact_match", "val_exact_match", "val_exact", "eval_exact_match")}
SHIPPED = Path(__file__).resolve().parents[1] / "data" / "forecast" / "forest.safetensors"
DRAWS = 1000  # of a companion's raw forecast, as in the bank
SHARE = 0.7  # of the forest in the pool: the best on tasks left out (CRPS, Brier's score) that holds what it should
SMALL = 1e-6  # a smaller loss is taken as this one


@dataclass(frozen=True)
class Company:
    """The metric to forecast, all METRICS of its run, each (K,) at the same epochs, and examples behind accuracies."""

    metric: str
    curves: dict[str, np.ndarray]
    n: float | None = None


def kind_of(metric: str) -> str:
    return "loss" if metric in METRICS[:2] else "accuracy"


def called(rows: list[dict]) -> dict[str, str]:
    """Which of METRICS are in these rows, and under what name: a bare loss beside val_loss is that of training."""
    seen, found = {name for row in rows for name, value in row.items() if isinstance(value, int | float)}, {}
    for metric in METRICS:
        name = next((name for name in NAMES[metric] if name in seen and name not in found.values()), None)
        found |= {metric: name} if name else {}
    return found


def company(rows: list[dict], metric: str, epochs: np.ndarray, x: str = "epoch", n=None) -> Company | None:
    """What runs beside `metric` in rows of metrics.jsonl at these epochs; None where the forest cannot read it.

    A companion counts where each epoch has a usable value: finite, not negative, a share where it is an accuracy. Rows
    of one epoch count as one. n: examples behind accuracies, (K,), one number or None.
    """
    names, at = called(rows), {}
    metric = next((ours for ours, theirs in names.items() if theirs == metric), metric)
    for row in rows:
        if isinstance(row.get(x), int | float):
            at[row[x]] = at.get(row[x], {}) | row
    known = [at.get(epoch, {}) for epoch in epochs]
    curves = {}
    for name in names:
        values = [row.get(names[name]) for row in known]
        low, high = (SMALL, np.finfo(float).max) if kind_of(name) == "loss" else (0, 1)
        if all(isinstance(v, int | float) and 0 <= v <= high for v in values) and max(values, default=0) >= low:
            curves[name] = np.array(values, float)
    if metric not in METRICS or not {metric, *METRICS[:2]} <= set(curves):
        return None
    return Company(metric, curves, None if n is None else float(np.max(n)))


def features(with_: Company, distance: np.ndarray, raw: dict[str, np.ndarray]) -> np.ndarray:
    """(S, F) what the trees ask for. distance (S,): as in `Bank.adjust`; raw: metric -> (S, 3) quantiles .05, .5, .95.

    All of it is on the scale of `forecast_mixture.scaled`, but for the levels of the losses.
    """
    here, later = [], []
    for metric in (with_.metric, *METRICS):
        if metric not in with_.curves:
            here, later = here + [0.0] * 5, later + [np.zeros((len(distance), 2))]
            continue
        values = with_.curves[metric]
        u = scaled(values, kind_of(metric))
        count, recent = len(u), max(3, len(u) // 2)
        pace, q = slope(u[-recent:]) * count, raw[metric]
        if metric == with_.metric and not here:
            first, line = slope(u[:recent]) * count, np.arange(recent) * pace / count
            here = [np.log(count), METRICS.index(metric), u[-1], u[-3:].mean(), pace, slope(u[-3:]) * count, first,
                    pace - first, u[0], u.max(), u.min(), np.abs(np.diff(u)).mean(), (u[-recent:] - line).std()]
            later = [np.log(distance)[:, None], q - u[-1]]
            continue
        ends = values[[-1, 0]]
        ends = np.log(np.maximum(ends, SMALL)) if kind_of(metric) == "loss" else ends
        here += [1.0, u[-1], pace, *ends]
        later.append(np.stack((q[:, 1] - u[-1], q[:, 2] - q[:, 0]), 1))
    held, trained = (max(with_.curves[m][-1], SMALL) for m in METRICS[:2])
    here += [np.log(held / trained), np.exp(-held), np.exp(-trained)]
    return np.concatenate((np.tile(here, (len(distance), 1)), *later), 1)


def slope(u: np.ndarray) -> float:
    return float(np.polyfit(np.arange(len(u)), u, 1)[0])


@dataclass(frozen=True)
class Forest:
    """Trees of one kind."""

    feature: np.ndarray  # (N,) of each node; -1: a leaf
    threshold: np.ndarray  # (N,)
    child: np.ndarray  # (N,)
    roots: np.ndarray  # (T,)
    rises: np.ndarray  # (M,)

    def leaves(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each row of x (S, F): by how much curves rose that fell into the same leaves; their weights (sum 1)."""
        at = np.repeat(self.roots[:, None], len(x), 1)
        while (inside := self.feature[at] >= 0).any():
            left = x[np.arange(len(x)), self.feature[at]] <= self.threshold[at]
            at = np.where(inside, np.where(left, at + 1, self.child[at]), at)
        found = []
        for leaves in at.T:
            count = self.threshold[leaves].astype(int)
            mine = np.repeat(self.child[leaves] - (count.cumsum() - count), count) + np.arange(count.sum())
            found.append((self.rises[mine].astype(float), np.repeat(1 / count, count) / len(leaves)))
        return found

    def blend(self, samples: np.ndarray, x: np.ndarray, last: float, kind: str) -> np.ndarray:
        """The bank's samples (draws, S), each rank of them moved to its place in the pool of both."""
        rank, out = (np.arange(len(samples)) + 0.5) / len(samples), np.empty_like(samples)
        low, high = SENSIBLE[kind] if kind == "loss" else (0.0, 1.0)
        banked = np.full(len(samples), (1 - SHARE) / len(samples))
        for s, (rises, weights) in enumerate(self.leaves(x)):
            values = np.concatenate((samples[:, s], (last + rises).clip(low, high)))
            order, pool = np.argsort(values), np.concatenate((banked, SHARE * weights))
            out[np.argsort(samples[:, s], kind="stable"), s] = quantiles(values[order], pool[order], rank)
        return out


def raw_quantiles(samples: np.ndarray) -> np.ndarray:
    """(S, 3) of samples (draws, S)."""
    return np.quantile(samples, (0.05, 0.5, 0.95), axis=0).T


@lru_cache(maxsize=64)
def companion(values: tuple, kind: str, n: float | None, x: tuple, distance: tuple, seed: int) -> np.ndarray:
    """(S, 3) quantiles of a companion's raw forecast; tuples, because the metrics of a run ask for each other's."""
    n = np.full(len(values), n) if n and kind == "accuracy" else None
    return raw_quantiles(look_ahead(np.array(x), scaled(np.array(values), kind), n, np.array(distance), kind, DRAWS,
                                    np.random.default_rng(seed))[0])


def with_company(samples: np.ndarray, raw: np.ndarray, with_: Company, distance: np.ndarray, x: np.ndarray,
                 seed: int) -> np.ndarray:
    """The bank's samples, blended with the forest. raw: samples (draws, S) of `look_ahead`; x (K,): epochs / last."""
    kind = kind_of(with_.metric)
    found = {metric: raw_quantiles(raw) if metric == with_.metric else
             companion(tuple(values), kind_of(metric), with_.n, tuple(x), tuple(distance), seed)
             for metric, values in with_.curves.items()}
    last = float(scaled(with_.curves[with_.metric], kind)[-1])
    return shipped()[kind].blend(samples, features(with_, distance, found), last, kind)


@lru_cache(maxsize=1)
def shipped() -> dict[str, Forest]:
    """Kind -> forest of data/forecast."""
    return read(SHIPPED)


def read(path: Path | str) -> dict[str, Forest]:
    arrays = load_file(path)
    return {kind: Forest(**{name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(kind)})
            for kind in KINDS}
