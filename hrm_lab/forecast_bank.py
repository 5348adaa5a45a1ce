"""Past curves that forecasts are held against: how far off they were sets how wide the next one is.

Each past curve was forecast from its first 5, 7, 10, 14, 20 and 30 points, and how that went is one line of the table:
the raw quantiles of `hrm_lab.forecast_mixture`, the last value, and what came. A new forecast is adjusted in two
steps, from the lines that looked ahead from about as many points about as far (a Gaussian kernel in log points and log
distance): its median is drawn towards the last value by the weight that made past medians best (a stack of two), and
its spread is scaled so that past intervals would have held what came (split conformal prediction).

Unusual: the shape of the joint distribution over epochs is kept, only each epoch's values are moved, rank by rank. The
bank that ships (data/forecast) has runs of small HRMs and MLPs; `Bank.plus` adds a user's own.
Sources: Vovk et al. 2005 and Romano et al. 2019 (arXiv 1905.03222) for the scaling, Wolpert 1992 for the stack.
"""

import csv
import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from hrm_lab import forecast_mixture
from hrm_lab.files import write_atomic
from hrm_lab.forecast_curves import KINDS, Curve

COUNTS = (5, 7, 10, 14, 20, 30)  # points seen
DISTANCES = (1.5, 3.0)  # looked ahead to, as multiples of the points seen; and the curve's end
LEAST_CURVES = 20  # of a kind; a smaller bank calibrates nothing
FLOOR = 0.005  # least half-width, on the scale of `forecast_mixture.scaled`
LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
STACK = np.linspace(0, 1, 21)  # weights of the last value that are tried
WIDTH = 0.35  # of the kernel, in log points and log distance
NUMBERS = ("count", "at", "last", "q05", "q25", "q50", "q75", "q95", "truth")
FIELDS = ("task", "run", "metric", "kind", *NUMBERS)
SHIPPED = Path(__file__).resolve().parents[1] / "data" / "forecast" / "scores.csv"


@dataclass(frozen=True)
class Bank:
    """How past forecasts went: keys (L, 4) of task, run, metric, kind, and numbers (L, 9) in the order of NUMBERS."""

    keys: np.ndarray
    numbers: np.ndarray

    def plus(self, curves: list[Curve]) -> "Bank":
        """With the user's own past curves; each takes about 0.2 s."""
        other = scored(curves)
        return Bank(np.concatenate((self.keys, other.keys)), np.concatenate((self.numbers, other.numbers)))

    def without(self, task: str) -> "Bank":
        kept = self.keys[:, 0] != task
        return Bank(self.keys[kept], self.numbers[kept])

    @cached_property
    def tables(self) -> dict[str, "Table"]:
        return {kind: Table(self.keys[mine], self.numbers[mine], kind) for kind in KINDS
                if (mine := self.keys[:, 3] == kind).any()}

    def curves(self, kind: str) -> int:
        return self.tables[kind].curves if kind in self.tables else 0

    def says(self, kind: str) -> str:
        """`calibrated on 240 curves of 20 tasks`, or `uncalibrated`."""
        if self.curves(kind) < LEAST_CURVES:
            return "uncalibrated"
        return f"calibrated on {self.curves(kind)} curves of {self.tables[kind].tasks} tasks"

    @cached_property
    def agreement(self) -> float:
        """Rank correlation, at least 0, of how much better than forecast two metrics of one run came out."""
        count, at, _, low, _, middle, _, high, truth = self.numbers.T
        luck = (truth - middle) / np.maximum(high - low, FLOOR) * np.where(self.keys[:, 3] == "loss", -1, 1)
        groups = {}
        for key, k, end, value in zip(map(tuple, self.keys), count, at, luck, strict=True):
            groups.setdefault((*key[:2], k, end), {})[key[2]] = value
        pairs = np.array([(a, b) for g in groups.values() for i, a in g.items() for j, b in g.items() if i != j])
        if len(pairs) < LEAST_CURVES:
            return 0.0
        ranks = np.argsort(np.argsort(pairs, axis=0, kind="stable"), axis=0)
        return float(max(0.0, np.corrcoef(ranks.T)[0, 1]))

    def adjust(self, samples: np.ndarray, last: float, count: int, distance: np.ndarray, kind: str) -> np.ndarray:
        """Samples (draws, S) on the scale of `forecast_mixture.scaled`, moved as past forecasts should have been.

        count: points seen; distance (S,): later epochs as multiples of the last one seen. Unchanged without enough
        curves.
        """
        if self.curves(kind) < LEAST_CURVES:
            return samples
        return self.tables[kind].adjust(samples, last, count, distance)


class Table:
    """The lines of one kind, with what every adjustment needs of them, computed once."""

    def __init__(self, keys: np.ndarray, numbers: np.ndarray, kind: str):
        count, at, last, low, _, middle, _, high, truth = numbers.T
        self.kind, self.place = kind, np.log(np.stack((count, at / count), 1))  # (L, 2)
        self.curves, self.tasks = len({tuple(k) for k in keys[:, :3]}), len(set(keys[:, 0]))
        medians = STACK * last[:, None] + (1 - STACK) * middle[:, None]  # (L, W)
        missed = truth[:, None] - medians
        up, down = np.maximum(high - middle, FLOOR)[:, None], np.maximum(middle - low, FLOOR)[:, None]
        self.far = np.abs(missed) / np.where(missed > 0, up, down)  # (L, W) in half-widths
        self.order = np.argsort(self.far, axis=0)
        back = (lambda u: u) if kind == "accuracy" else np.exp
        self.errors = np.abs(back(truth)[:, None] - back(medians))  # (L, W)

    def near(self, count: int, distance: np.ndarray) -> np.ndarray:
        """(S, L) weights of past lines: alike in points seen and in distance; the nearest ones where none is near."""
        here = np.stack((np.full(len(distance), np.log(count)), np.log(distance)), 1)
        gap = ((here[:, None] - self.place) ** 2).sum(-1) / WIDTH**2
        return np.exp(-0.5 * (gap - gap.min(1, keepdims=True)))

    def adjust(self, samples: np.ndarray, last: float, count: int, distance: np.ndarray) -> np.ndarray:
        out = np.empty_like(samples)
        for s, weights in enumerate(self.near(count, distance)):
            w = int(np.argmin(weights @ self.errors))
            raw = np.quantile(samples[:, s], LEVELS)
            middle = STACK[w] * last + (1 - STACK[w]) * raw[2]
            up, down = max(raw[4] - raw[2], FLOOR), max(raw[2] - raw[0], FLOOR)
            half, most, extreme = self.reach(weights, w)
            out[np.argsort(samples[:, s], kind="stable"), s] = np.interp(
                (np.arange(len(samples)) + 0.5) / len(samples), (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1),
                (middle - extreme * down, middle - most * down, middle - half * down, middle,
                 middle + half * up, middle + most * up, middle + extreme * up))
        low, high = forecast_mixture.SENSIBLE[self.kind]
        return out.clip(0, 1) if self.kind == "accuracy" else out.clip(low, high)

    def reach(self, weights: np.ndarray, w: int) -> tuple[float, float, float]:
        """Half-widths that held 50, 90 and 99 % of what came, one more line counted as missed."""
        order = self.order[:, w]
        share = weights[order].cumsum()
        total = share[-1] + weights.max()
        far = self.far[order, w]
        found = [far[min(np.searchsorted(share, q * total), len(far) - 1)] for q in (0.5, 0.9, 0.99)]
        return found[0], max(found[0], found[1]), max(found[1], found[2]) * 1.1


def scored(curves: list[Curve], draws: int = 1000) -> Bank:
    """How forecasts of these curves went, from each of COUNTS points."""
    keys, numbers = [], []
    for i, c in enumerate(curves):
        values, end = np.array(c.values), len(c.values)
        if len(values) < COUNTS[0] + 1 or values[0] == 0 and c.kind == "loss":
            continue
        u = forecast_mixture.scaled(values, c.kind)
        for k in COUNTS:
            ats = sorted({round(k * d) for d in DISTANCES if k * d < end} | {end})
            if k >= end:
                break
            x, n = np.arange(1, k + 1) / k, np.full(k, float(c.n)) if c.n else None
            samples, _ = forecast_mixture.look_ahead(x, u[:k], n, np.array(ats) / k, c.kind, draws,
                                                     np.random.default_rng((i, k)))
            for at, q in zip(ats, np.quantile(samples, LEVELS, axis=0).T, strict=True):
                keys.append((c.task, c.run, c.metric, c.kind))
                numbers.append((k, at, u[k - 1], *q, u[at - 1]))
    return Bank(np.array(keys).reshape(-1, 4), np.array(numbers, float).reshape(-1, len(NUMBERS)))


def write(path: Path | str, bank: Bank):
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(FIELDS)
    rows.writerows((*key, *(f"{v:.4g}" for v in values)) for key, values in zip(bank.keys, bank.numbers, strict=True))
    write_atomic(path, out.getvalue())


def read(path: Path | str) -> Bank:
    """A bank from its CSV; ValueError names the line that is not as it should be."""
    path = Path(path)
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    if not rows or tuple(rows[0]) != FIELDS:
        raise ValueError(f"{path}: line 1: got {','.join(rows[0] if rows else [])[:60]!r}, expected {','.join(FIELDS)}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(FIELDS) or row[3] not in KINDS:
            raise ValueError(f"{path}: line {number}: got {','.join(row)[:60]!r}, expected {len(FIELDS)} fields, "
                             f"the fourth {' or '.join(KINDS)}")
    try:
        numbers = np.array([row[4:] for row in rows[1:]], float).reshape(-1, len(NUMBERS))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected numbers after the fourth field") from None
    return Bank(np.array([row[:4] for row in rows[1:]]).reshape(-1, 4), numbers)


@lru_cache(maxsize=1)
def shipped() -> Bank:
    """The bank of data/forecast."""
    return read(SHIPPED)
