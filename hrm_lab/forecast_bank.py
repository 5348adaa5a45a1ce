"""Past curves that forecasts are held against: how far off they were sets how wide the next one is.

Each past curve was forecast from its first 5, 7, 10, 14, 20 and 30 points, and how that went is one line of the table:
the raw quantiles of `hrm_lab.forecast_mixture`, the last value, and what came. A new forecast is adjusted in two
steps, from the lines that looked ahead from about as many points about as far (a Gaussian kernel in log points and log
distance; for an accuracy in the last value too, as one near 0 may yet take off and one near 1 cannot): its median
becomes last value + a (median - last value) + b recent slope, with the a and b that made past errors least (a stack),
and its spread is scaled so that past intervals held what came (split conformal prediction, each side apart).

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
WIDTH = 0.35  # of the kernel, in log points and log distance
LEVEL = 0.15  # of the kernel in the last value of an accuracy
GRID = (0.1, 0.05)  # of log distance and of the last value: what is learnt from the bank is learnt once a place
LEVELS = (0.005, 0.05, 0.25, 0.75, 0.95, 0.995)  # at which the spread is set; the median is 0.5
NUMBERS = ("count", "at", "last", "slope", "q05", "q50", "q95", "truth")
FIELDS = ("task", "run", "metric", "kind", *NUMBERS)
SHIPPED = Path(__file__).resolve().parents[1] / "data" / "forecast" / "scores.csv"


@dataclass(frozen=True)
class Bank:
    """How past forecasts went: keys (L, 4) of task, run, metric, kind, and numbers (L, 8) in the order of NUMBERS."""

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
        count, at, _, _, low, middle, high, truth = self.numbers.T
        luck = (truth - middle) / np.maximum(high - low, FLOOR) * np.where(self.keys[:, 3] == "loss", -1, 1)
        groups = {}
        for key, k, end, value in zip(map(tuple, self.keys), count, at, luck, strict=True):
            groups.setdefault((*key[:2], k, end), {})[key[2]] = value
        pairs = np.array([(a, b) for g in groups.values() for i, a in g.items() for j, b in g.items() if i != j])
        if len(pairs) < LEAST_CURVES:
            return 0.0
        ranks = np.argsort(np.argsort(pairs, axis=0, kind="stable"), axis=0)
        return float(max(0.0, np.corrcoef(ranks.T)[0, 1]))

    def adjust(self, samples: np.ndarray, u: np.ndarray, distance: np.ndarray, kind: str) -> np.ndarray:
        """Samples (draws, S) on the scale of `forecast_mixture.scaled`, moved as past forecasts should have been.

        u (K,): the values seen, scaled; distance (S,): later epochs as multiples of the last one seen. Unchanged
        without enough curves.
        """
        if self.curves(kind) < LEAST_CURVES:
            return samples
        return self.tables[kind].adjust(samples, float(u[-1]), recent_slope(u), len(u), distance)


class Table:
    """The lines of one kind, and what adjustments from about as many points about as far have in common."""

    def __init__(self, keys: np.ndarray, numbers: np.ndarray, kind: str):
        count, at, self.last, self.slope, low, self.middle, high, self.truth = numbers.T
        self.kind, self.place = kind, np.log(np.stack((count, at / count), 1))  # (L, 2)
        self.curves, self.tasks = len({tuple(k) for k in keys[:, :3]}), len(set(keys[:, 0]))
        self.up, self.down = np.maximum(high - self.middle, FLOOR), np.maximum(self.middle - low, FLOOR)
        self.known = {}

    def near(self, count: int, distance: float, last: float) -> tuple[np.ndarray, np.ndarray]:
        """(2,) weights of the median and of the slope, (7,) half-widths to the LEVELS, the median in their midst."""
        level = round(last / GRID[1]) if self.kind == "accuracy" else 0
        place = (count, round(np.log(distance) / GRID[0]), level)
        if place not in self.known:
            gap = ((np.array((np.log(count), GRID[0] * place[1])) - self.place) ** 2).sum(1) / WIDTH**2
            if self.kind == "accuracy":
                gap += ((GRID[1] * level - self.last) / LEVEL) ** 2
            weights = np.exp(-0.5 * (gap - gap.min()))  # the nearest lines where none is near
            mine = weights > 1e-3
            self.known[place] = self.learnt(mine, weights[mine])
        return self.known[place]

    def learnt(self, mine: np.ndarray, weights: np.ndarray):
        last, truth = self.last[mine], self.truth[mine]
        moves = np.stack((self.middle[mine] - last, self.slope[mine]), 1)
        stack = least_errors(moves, truth, last, weights, self.kind)
        missed = truth - last - moves @ stack
        far = missed / np.where(missed > 0, self.up[mine], self.down[mine])
        order = np.argsort(far)
        share = weights[order].cumsum() - 0.5 * weights[order]
        reach = np.interp(LEVELS, share / weights.sum(), far[order])
        return stack, np.concatenate((np.minimum(reach[:3], 0), [0.0], np.maximum(reach[3:], 0)))

    def adjust(self, samples: np.ndarray, last: float, slope: float, count: int, distance: np.ndarray) -> np.ndarray:
        out, rank = np.empty_like(samples), (np.arange(len(samples)) + 0.5) / len(samples)
        for s, away in enumerate(distance):
            stack, far = self.near(count, away, last)
            low, raw, high = np.quantile(samples[:, s], (0.05, 0.5, 0.95))
            reach = far * np.where(far > 0, max(high - raw, FLOOR), max(raw - low, FLOOR))
            moved = last + stack @ (raw - last, slope) + np.concatenate((1.2 * reach[:1], reach, 1.2 * reach[-1:]))
            order = np.argsort(samples[:, s], kind="stable")
            out[order, s] = np.interp(rank, (0, *LEVELS[:3], 0.5, *LEVELS[3:], 1), moved)
        low, high = forecast_mixture.SENSIBLE[self.kind]
        return out.clip(0, 1) if self.kind == "accuracy" else out.clip(low, high)


def least_errors(moves: np.ndarray, truth: np.ndarray, last: np.ndarray, weights: np.ndarray, kind: str) -> np.ndarray:
    """(2,) how far to go from the last value by each of the moves (L, 2), for the least mean absolute error.

    Errors of a loss count on its plain scale, where those of small losses hardly matter. Reweighted least squares,
    drawn a little towards the raw median (1, 0).
    """
    prior = np.array((1.0, 0.0))
    stack = prior
    for _ in range(15):
        guess = last + moves @ stack
        missed = np.abs(truth - guess) + 1e-3
        plain = 1.0 if kind == "accuracy" else np.abs(np.exp(truth) - np.exp(guess)) / missed + 1e-3
        w = weights * plain / missed
        gram = (moves * w[:, None]).T @ moves
        pull = 0.1 * np.diag(gram).mean() * np.eye(2) + 1e-12 * np.eye(2)
        stack = prior + np.linalg.solve(gram + pull, (moves * w[:, None]).T @ (truth - last - moves @ prior))
    return stack


def recent_slope(u: np.ndarray) -> float:
    """Rise of the later half of the points (at least three), over as many points as were seen."""
    recent = u[-max(3, len(u) // 2):]
    return float(np.polyfit(np.arange(len(recent)), recent, 1)[0] * len(u))


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
            for at, q in zip(ats, np.quantile(samples, (0.05, 0.5, 0.95), axis=0).T, strict=True):
                keys.append((c.task, c.run, c.metric, c.kind))
                numbers.append((k, at, u[k - 1], recent_slope(u[:k]), *q, u[at - 1]))
    return Bank(np.array(keys).reshape(-1, 4), np.array(numbers, float).reshape(-1, len(NUMBERS)))


def write(path: Path | str, bank: Bank):
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(FIELDS)
    rows.writerows((*key, *(f"{v:.3g}" for v in values)) for key, values in zip(bank.keys, bank.numbers, strict=True))
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
