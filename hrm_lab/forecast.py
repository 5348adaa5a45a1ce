"""What a learning curve will show at later epochs: quantiles, joint samples, and how much to believe them.

`forecast` takes the evaluations so far and a bank of past curves. The raw answer is a Bayesian average over families
of curves (`hrm_lab.forecast_mixture`); the bank (`hrm_lab.forecast_bank`) draws its median towards the last value and
widens its intervals to what past forecasts would have needed. Where the run's other curves are given too, it is pooled
with a forest that reads them (`hrm_lab.forecast_forest`). Without a bank, or with a small one, the forecast says
"uncalibrated".

Unusual: the last value and a naive fit (exponential for a loss, logistic for an accuracy) always stand beside the
forecast, since late in a run the last value is hard to beat; samples are joint over the epochs asked for, so that
"A by epoch 20 and B by epoch 50" has a coherent probability.
"""

from dataclasses import dataclass

import numpy as np

from hrm_lab.forecast_bank import Bank
from hrm_lab.forecast_curves import KINDS
from hrm_lab.forecast_forest import Company, with_company
from hrm_lab.forecast_mixture import SENSIBLE, look_ahead, scaled, unscaled

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
LEAST_POINTS = 5
HALF_EXAMPLE = 0.5 / 200  # most of the bank's accuracies are of 200 examples
LOSSES = ("loss", "perplexity", "nll", "cross_entropy", "bits_per_byte", "error")  # in a metric's name


@dataclass(frozen=True)
class Forecast:
    """What evaluations at the later `steps` may show, in the metric's own units."""

    steps: np.ndarray  # (S,)
    quantiles: np.ndarray  # (S, 5) at LEVELS
    samples: np.ndarray  # (draws, S) joint over the steps
    last: float  # the last value: the forecast to beat
    naive: np.ndarray  # (S,) exponential fit of a loss, logistic fit of an accuracy
    families: dict[str, float]  # posterior probability of each family of curves
    kind: str
    seen: float  # step of the last value
    count: int  # values seen
    calibration: str = "uncalibrated"

    @property
    def band99(self) -> np.ndarray:
        """(S, 2): outside of it a curve has left its forecast."""
        return np.quantile(self.samples, (0.005, 0.995), axis=0).T


def forecast(epochs, values, n, at, kind: str = "accuracy", bank: Bank | None = None, draws: int = 2000,
             seed: int = 0, company: Company | None = None) -> Forecast:
    """Predict a metric at later epochs (or steps: any increasing positive numbers).

    epochs (K,), values (K,): a "loss" is positive, on any scale; an "accuracy" is a share in [0, 1]. n: examples behind
    each accuracy, (K,), one number or None (unknown: no sampling noise is added). at (S,): later epochs, increasing.
    bank: past curves, see `forecast_bank.shipped`. company: this metric and the run's others at the same epochs, see
    `forecast_forest.company`; not looked at without a bank. ValueError (one line) on fewer than five points, NaN or
    infinity, values out of range and epochs out of order. A constant or a ragged curve gets an answer like any other.
    """
    epochs, values, n, at = check(epochs, values, n, at, kind)
    u, distance = scaled(values, kind), at / epochs[-1]
    raw, families = look_ahead(epochs / epochs[-1], u, n, distance, kind, draws, np.random.default_rng(seed))
    samples, says = raw, "uncalibrated"
    if bank is not None:
        samples, says = bank.adjust(raw, u, distance, kind), bank.says(kind)
        if company is not None and says != "uncalibrated":
            samples = with_company(samples, raw, company, distance, epochs / epochs[-1], seed)
            says += ", with the run's other curves"
    if kind == "loss":
        samples = unscaled(held_back(samples, u), values, kind)
    elif says != "uncalibrated":
        samples = at_the_ends(samples, float(values[-1]))
    return Forecast(at, np.quantile(samples, LEVELS, axis=0).T, samples, float(values[-1]),
                    naive_fit(epochs, values, at, kind), families, kind, float(epochs[-1]), len(values), says)


def held_back(samples: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Samples (draws, S) of a scaled loss, drawn to the last value by as much as the loss has risen above its first.

    Priors and past curves are of losses that fall. Of a loss that stood four times as high as at first, half of the
    median's move is kept; where the first was the highest, u[0] = 0, all of it.
    """
    moved = samples + (1 - np.exp(u[0] / 2)) * (u[-1] - np.median(samples, axis=0))
    return np.minimum(moved, SENSIBLE["loss"][1])


def at_the_ends(samples: np.ndarray, last: float) -> np.ndarray:
    """Samples (draws, S) of an accuracy, 0 or 1 where they are as near to it as HALF_EXAMPLE.

    A fifth of the bank's HRM curves end at exactly 0 or 1, and averages of quantiles lie just beside. An end that the
    last value stands as near to, and not at, is left alone: a larger evaluation sees between.
    """
    for end in (0.0, 1.0):
        if not 0 < abs(end - last) <= HALF_EXAMPLE:
            samples = np.where(np.abs(samples - end) <= HALF_EXAMPLE, end, samples)
    return samples


def check(epochs, values, n, at, kind: str) -> tuple[np.ndarray, ...]:
    """The arguments of `forecast` as float arrays; ValueError where they cannot be used."""
    if kind not in KINDS:
        raise ValueError(f"forecast: kind: got {kind!r}, expected {' or '.join(KINDS)}")
    epochs, values, at = (np.asarray(a, float) for a in (epochs, values, at))
    if values.ndim != 1 or epochs.shape != values.shape or len(values) < LEAST_POINTS:
        raise ValueError(f"forecast: got {epochs.size} steps and {values.size} values, "
                         f"expected at least {LEAST_POINTS} of each")
    high = 1.0 if kind == "accuracy" else np.inf
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0) & (values <= high)))
    if len(bad):
        expected = "a share in [0, 1]" if kind == "accuracy" else "a finite number of at least 0"
        raise ValueError(f"forecast: values[{bad[0]}]: got {values[bad[0]]:g}, expected {expected}")
    if kind == "loss" and values[0] == 0:
        raise ValueError("forecast: values[0]: got 0, expected a first loss above 0: the others are shares of it")
    if not (np.isfinite(epochs).all() and epochs[0] > 0 and (np.diff(epochs) > 0).all()):
        raise ValueError(f"forecast: got steps {epochs.tolist()}, expected positive and increasing numbers")
    if n is not None:
        n = np.broadcast_to(np.asarray(n, float), values.shape)
        if not (np.isfinite(n).all() and n.min() >= 1):
            raise ValueError(f"forecast: n: got {n.min():g}, expected at least 1 example behind each value, or None")
    if at.ndim != 1 or len(at) == 0 or not np.isfinite(at).all() or (np.diff(at, prepend=epochs[-1]) <= 0).any():
        raise ValueError(f"forecast: at: got {at.tolist()}, expected increasing steps after the last, {epochs[-1]:g}")
    return epochs, values, n, at


def naive_fit(epochs: np.ndarray, values: np.ndarray, at: np.ndarray, kind: str) -> np.ndarray:
    """(S,) the straight line through log loss or through log odds of the accuracy, carried on: what is often drawn."""
    if kind == "loss":
        slope, height = np.polyfit(epochs, np.log(np.maximum(values / values[0], 1e-4)), 1)
        return values[0] * np.exp(np.minimum(height + slope * at, 20))
    p = values.clip(0.005, 0.995)
    slope, height = np.polyfit(epochs, np.log(p / (1 - p)), 1)
    return 1 / (1 + np.exp(-(height + slope * at).clip(-50, 50)))


def kind_of(metric: str, values) -> str:
    """"loss" where the name says so, "accuracy" where all values are shares; ValueError for anything else."""
    if any(word in metric.lower() for word in LOSSES):
        return "loss"
    values = np.asarray(values, float)
    bad = values[~((values >= 0) & (values <= 1))]
    if len(bad):
        raise ValueError(f"{metric}: got {bad[0]:g}, expected shares in [0, 1], or a name with one of "
                         f"{', '.join(LOSSES)}")
    return "accuracy"


def describe(f: Forecast, name: str = "value") -> list[str]:
    """One line a step: the median with its 90 % interval, beside the last value and the naive fit."""
    fit = "exponential" if f.kind == "loss" else "logistic"
    return [f"{name} at {step:g}: {q[2]:.3g} (90 % interval {q[0]:.3g}-{q[4]:.3g}, {f.calibration}); last value "
            f"{f.last:.3g}, {fit} fit {naive:.3g}"
            for step, q, naive in zip(f.steps, f.quantiles, f.naive, strict=True)]
