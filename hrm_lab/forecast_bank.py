"""Past curves that forecasts are held against: how far off they were sets how wide the next one is.

Each past curve was forecast from its first 5, 7, 10, 14, 20 and 30 points, and how that went is one line of the table:
the raw quantiles of `hrm_lab.forecast_mixture`, the last value, and what came. A new forecast is held against the lines
that looked ahead from about as many points about as far (a Gaussian kernel in log points and the log of how far beyond
them), in two ways that are pooled:
- a stack: last value + a (raw median - last value) + b recent slope, with the a and b that made past errors least, and
  the raw spread scaled to what past errors would have needed, each side apart (conformal prediction, local weights);
- the neighbours: by how much past curves rose that were alike in last value, slope and raw median.

Unusual: a curve unlike the bank's is held against ever less similar ones, until these come from several tasks; else one
odd neighbour would make its interval as narrow as that of a sure forecast. The two ways are pooled as samples, since an
average of their quantiles would hide by how much they differ. The shape of the joint distribution over epochs is kept,
only each epoch's values are moved, rank by rank. The bank that ships (data/forecast) has runs of small HRMs and MLPs;
`Bank.plus` adds a user's own.
Sources: Romano et al. 2019 (arXiv 1905.03222) and Guan 2023 (arXiv 1908.08558) for the scaling, Wolpert 1992 for the
stack, Gneiting and Ranjan 2013 (Electronic Journal of Statistics 7) for the width of pools.
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
DISTANCES = (1.1, 1.25, 1.5, 3.0)  # looked ahead to, as multiples of the points seen; and the curve's end
NEAREST = 0.05  # a distance of less than 1.05 is taken as this far beyond the last point
LEAST_CURVES = 20  # of a kind; a smaller bank calibrates nothing
FLOOR = 0.005  # least half-width, on the scale of `forecast_mixture.scaled`
WIDTHS = np.array((0.35, 0.8))  # of the kernel, in log points and log (distance - 1)
# widths of the kernel in last value, raw median less last value, and slope: curves that are alike
ALIKE = {"accuracy": np.array((0.15, 0.15, 0.1)), "loss": np.array((0.6, 0.6, 0.5))}
WIDER = 1.25 ** np.arange(11)  # times these widths, until ALIKE_TASKS are near, or half of those there are
ALIKE_TASKS = {"accuracy": 3, "loss": 8}
STACKED = {"accuracy": 0.5, "loss": 0.65}  # the stack's part of the pool
GRID = 0.1  # of log (distance - 1): lines near a place are looked up once
LEVELS = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)
# Where the LEVELS of a loss are read off the pool, so that its intervals hold what they should on tasks left out: it is
# too wide in the middle, and a new task may be farther off than the farthest of a few.
POOLED = {"accuracy": LEVELS, "loss": (0.0035, 0.035, 0.28, 0.5, 0.72, 0.965, 0.9965)}
NUMBERS = ("count", "at", "last", "slope", "q05", "q50", "q95", "truth")
FIELDS = ("task", "run", "metric", "kind", *NUMBERS)
HRM_TASKS = (  # and seq-...; the others are of MLPs
    "add", "copy-increment", "maze-4x4", "mode", "parity", "sort", "mirror", "interleave", "maximum", "occurrence",
    "square", "neighbours", "rank", "threshold", "equal-first", "times-first", "dedupe", "lookup")
SHIPPED = Path(__file__).resolve().parents[1] / "data" / "forecast" / "scores.csv"


@dataclass(frozen=True)
class Bank:
    """How past forecasts went: keys (L, 4) of task, run, metric, kind, and numbers (L, 8) in the order of NUMBERS."""

    keys: np.ndarray
    numbers: np.ndarray

    def plus(self, curves: list[Curve]) -> "Bank":
        """With the user's own past curves; each takes about 0.05 s."""
        other = scored(curves)
        return Bank(np.concatenate((self.keys, other.keys)), np.concatenate((self.numbers, other.numbers)))

    def without(self, task: str, run: str | None = None) -> "Bank":
        """Without a task, or without one run of it."""
        kept = (self.keys[:, 0] != task) | (run is not None and self.keys[:, 1] != run)
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
    """The lines of one kind."""

    def __init__(self, keys: np.ndarray, numbers: np.ndarray, kind: str):
        count, at, last, slope, low, middle, high, truth = numbers.T
        self.kind, self.place = kind, np.log(np.stack((count, at / count - 1), 1)) / WIDTHS  # (L, 2)
        self.curves, self.tasks = len({tuple(k) for k in keys[:, :3]}), len(set(keys[:, 0]))
        self.past = np.stack((last, middle - last, slope), 1)  # (L, 3)
        self.rose, self.up, self.down = truth - last, np.maximum(high - middle, FLOOR), np.maximum(middle - low, FLOOR)
        self.task = np.unique(keys[:, 0], return_inverse=True)[1]
        self.known = {}  # places: looked up once

    def near(self, count: int, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Lines (M,) that looked ahead from about as many points about as far, and their weights."""
        if (count, place) not in self.known:
            gap = ((np.array((np.log(count), GRID * place)) / WIDTHS - self.place) ** 2).sum(1)
            weights = np.exp(-0.5 * (gap - gap.min()))  # the nearest lines where none is near
            mine = np.flatnonzero(weights > 1e-3)
            self.known[count, place] = mine, weights[mine]
        return self.known[count, place]

    def alike(self, mine: np.ndarray, weights: np.ndarray, here: np.ndarray) -> np.ndarray:
        """(M,) weights of these lines by how much their curves were like one at `here` (see `past`)."""
        gap = (((self.past[mine] - here) / ALIKE[self.kind]) ** 2).sum(1)
        wanted = min(ALIKE_TASKS[self.kind], 0.5 * effective(weights, self.task[mine]))
        for times in WIDER:
            found = weights * (1e-4 + np.exp(-0.5 * gap / times**2))
            if effective(found, self.task[mine]) >= wanted:
                break
        return found

    def stack(self, mine: np.ndarray, weights: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
        """(2,) weights of raw median and slope; and what was missed with them, in raw half-widths, (M,)."""
        past, rose = self.past[mine], self.rose[mine]
        if self.kind == "accuracy":
            weights = weights * np.exp(-0.5 * ((past[:, 0] - last) / ALIKE[self.kind][0]) ** 2)
        stack = least_errors(past[:, 1:], rose, past[:, 0], weights, self.kind)
        missed = rose - past[:, 1:] @ stack
        return stack, missed / np.where(missed > 0, self.up[mine], self.down[mine])

    def adjust(self, samples: np.ndarray, last: float, slope: float, count: int, distance: np.ndarray) -> np.ndarray:
        out, rank = np.empty_like(samples), (np.arange(len(samples)) + 0.5) / len(samples)
        rank = np.interp(rank, (0, *LEVELS, 1), (0, *POOLED[self.kind], 1))
        places, stacks = np.round(np.log(np.maximum(distance - 1, NEAREST)) / GRID).astype(int), {}
        for s, place in enumerate(places):
            mine, weights = self.near(count, place)
            if place not in stacks:
                stacks[place] = self.stack(mine, weights, last)
            stack, missed = stacks[place]
            low, raw, high = np.quantile(samples[:, s], (0.05, 0.5, 0.95))
            alike = self.alike(mine, weights, np.array((last, raw - last, slope)))
            # a wilder curve than any of the bank's says nothing by its wildness
            known = np.clip((raw - last, slope), self.past[mine, 1:].min(0), self.past[mine, 1:].max(0))
            moved = stack @ known + missed * np.where(missed > 0, max(high - raw, FLOOR), max(raw - low, FLOOR))
            part, values = STACKED[self.kind], np.concatenate((moved, self.rose[mine]))
            order, pool = np.argsort(values), np.concatenate((part * alike, (1 - part) * alike))
            out[np.argsort(samples[:, s], kind="stable"), s] = last + quantiles(values[order], pool[order], rank)
        low, high = forecast_mixture.SENSIBLE[self.kind]
        return out.clip(0, 1) if self.kind == "accuracy" else out.clip(low, high)


def effective(weights: np.ndarray, task: np.ndarray) -> float:
    """Over how many tasks the weights are spread: their number where all weigh alike."""
    each = np.bincount(task, weights)
    return float(each.sum() ** 2 / (each**2).sum())


def quantiles(values: np.ndarray, weights: np.ndarray, levels=LEVELS) -> np.ndarray:
    """Weighted quantiles of values in their order."""
    share = weights.cumsum()
    return np.interp(levels, (share - 0.5 * weights) / share[-1], values)


def least_errors(moves: np.ndarray, rose: np.ndarray, last: np.ndarray, weights: np.ndarray, kind: str) -> np.ndarray:
    """(2,) how far to go from the last value by each of the moves (L, 2), for the least mean absolute error.

    Errors of a loss count on its plain scale, where those of small losses hardly matter. Reweighted least squares,
    drawn a little towards the raw median (1, 0).
    """
    prior = np.array((1.0, 0.0))
    stack = prior
    for _ in range(10):
        guess = moves @ stack
        missed = np.abs(rose - guess) + 1e-3
        plain = 1.0 if kind == "accuracy" else np.exp(last) * np.abs(np.exp(rose) - np.exp(guess)) / missed + 1e-3
        w = weights * plain / missed
        gram = (moves * w[:, None]).T @ moves
        pull = (0.1 * np.diag(gram).mean() + 1e-12) * np.eye(2)
        stack = prior + np.linalg.solve(gram + pull, (moves * w[:, None]).T @ (rose - moves @ prior))
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
        for k in COUNTS:
            ats = sorted({round(k * d) for d in DISTANCES if k * d < end} | {end})
            if k >= end:
                break
            u = forecast_mixture.scaled(values, c.kind, k)
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


@lru_cache(maxsize=2)
def shipped(model: str = "all") -> Bank:
    """The bank of data/forecast: "all" its curves, or those of "hrm" models alone, which jump more than MLPs do.

    On curves of HRMs the second one's intervals hold what they should, those of the first are too narrow.
    """
    if model not in ("all", "hrm"):
        raise ValueError(f"shipped: model: got {model!r}, expected all or hrm")
    bank = read(SHIPPED)
    mine = np.array([model == "all" or task in HRM_TASKS or task.startswith("seq-") for task in bank.keys[:, 0]])
    return Bank(bank.keys[mine], bank.numbers[mine])
