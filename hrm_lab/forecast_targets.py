"""Targets of a run (`"loss": "<0.3"`), and how probable each of them and all of them are.

P(each) and P(all) are counted on the same joint samples, so that P(all) is never above the least of its parts (reports
have been seen that give 20 % to one target and 40 % to all). Unusual: metrics of one run do well together or badly
together; their samples are coupled by a Gaussian copula with the correlation that the bank's runs had.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrm_lab.forecast import Forecast, forecast, kind_of
from hrm_lab.forecast_bank import Bank
from hrm_lab.forecast_forest import company

OPERATORS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
WANTED = re.compile(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
FIELDS = {"target", "epoch", "required"}


@dataclass(frozen=True)
class Target:
    """`metric op value` at `epoch`; the probability of all targets counts the required ones."""

    metric: str
    op: str
    value: float
    epoch: float
    required: bool = True

    def met(self, values):
        """Elementwise."""
        return OPERATORS[self.op](values, self.value)

    def __str__(self) -> str:
        return f"{self.metric} {self.op} {self.value:g} at {self.epoch:g}"


@dataclass(frozen=True)
class TargetOutlook:
    target: Target
    p: float | None  # None: `reason` says why
    last: float | None
    met_now: bool | None
    reason: str = ""


@dataclass(frozen=True)
class Outlook:
    """What is known of all targets after the rows seen so far."""

    seen: float  # epoch of the last row
    each: list[TargetOutlook]
    p_all: float | None  # of the required; None where one of them has no forecast
    forecasts: dict[str, Forecast]
    calibration: str

    def lines(self) -> list[str]:
        """For a terminal."""
        out = []
        for one in self.each:
            now = "" if one.last is None else f", now {one.last:.3g}"
            out.append(f"{one.target}{'' if one.target.required else ' (optional)'}: "
                       + (f"P = {percent(one.p)}{now}" if one.p is not None else f"no forecast: {one.reason}"))
            if one.target.metric in self.forecasts:
                f = self.forecasts[one.target.metric]
                if one.target.epoch in f.steps:
                    i = int(np.flatnonzero(f.steps == one.target.epoch)[0])
                    q = f.quantiles[i]
                    out.append(f"    median {q[2]:.3g}, 90 % interval {q[0]:.3g}-{q[4]:.3g}; last value {f.last:.3g}, "
                               f"{'exponential' if f.kind == 'loss' else 'logistic'} fit {f.naive[i]:.3g}")
        total = "unknown: a required target has no forecast" if self.p_all is None else percent(self.p_all)
        return [*out, f"all required targets: {'' if self.p_all is None else 'P = '}{total} ({self.calibration})"]


def percent(p: float) -> str:
    """A share of samples; nothing that was sampled is impossible or certain."""
    return "< 1 %" if 0 < p < 0.01 else "> 99 %" if 0.99 < p < 1 else f"{100 * p:.0f} %"


def read_targets(source: str | Path | dict, epoch: float = 50) -> list[Target]:
    """Targets from the reports' JSON, a file or a dict; `epoch` where a target names none.

    {"loss": "<0.3", "exact_match": {"target": ">0.9", "epoch": 35, "required": false}}
    ValueError names the file, the metric, what was seen and what was expected.
    """
    where = "targets"
    if not isinstance(source, dict):
        where = str(source)
        try:
            source = json.loads(Path(source).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: line {error.lineno}: got {error.doc[error.pos:error.pos + 20]!r}, "
                             f"expected JSON ({error.msg})") from None
        except UnicodeDecodeError:
            raise ValueError(f"{where}: not text; expected JSON in UTF-8") from None
        if not isinstance(source, dict):
            raise ValueError(f"{where}: got {type(source).__name__}, expected an object like {{\"loss\": \"<0.3\"}}")
    if not source:
        raise ValueError(f"{where}: got no targets, expected at least one such as \"loss\": \"<0.3\"")
    return [one_target(f"{where}: {metric}", metric, wanted, epoch) for metric, wanted in source.items()]


def one_target(where: str, metric: str, wanted, epoch: float) -> Target:
    required = True
    if isinstance(wanted, dict):
        if unknown := sorted(set(wanted) - FIELDS):
            raise ValueError(f"{where}: got field {unknown[0]!r}, expected target, epoch and required")
        epoch, required, wanted = wanted.get("epoch", epoch), wanted.get("required", True), wanted.get("target")
    match = WANTED.fullmatch(wanted) if isinstance(wanted, str) else None
    if not match:
        raise ValueError(f"{where}: got {wanted!r}, expected a comparison such as \"<0.3\" or \">=0.8\"")
    if isinstance(epoch, bool) or not isinstance(epoch, int | float) or not 0 < epoch < np.inf:
        raise ValueError(f"{where}: epoch: got {epoch!r}, expected a number above 0")
    if not isinstance(required, bool):
        raise ValueError(f"{where}: required: got {required!r}, expected true or false")
    return Target(metric, match[1], float(match[2]), float(epoch), required)


def series(rows: list[dict], metric: str, x: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Epochs, values and examples behind them of one metric; rows without it are left out, those from epoch 0 too."""
    mine = [r for r in rows if all(isinstance(r.get(name), int | float) for name in (metric, x)) and r[x] > 0]
    n = [r.get("n") for r in mine]
    known = bool(mine) and all(isinstance(v, int | float) and v >= 1 for v in n)
    return (np.array([r[x] for r in mine], float), np.array([r[metric] for r in mine], float),
            np.array(n, float) if known else None)


def outlook(rows: list[dict], targets: list[Target], x: str = "epoch", bank: Bank | None = None, n=None,
            draws: int = 2000, seed: int = 0) -> Outlook:
    """How probable each target is after these rows of metrics.jsonl.

    x: the field that counts epochs (targets are in its units). n: examples behind an accuracy where rows have no "n".
    A target whose epoch has come has probability 0 or 1, by the last row up to it. Nothing is raised for a metric that
    is missing or cannot be forecast: its line says why.
    """
    seen = max((r[x] for r in rows if isinstance(r.get(x), int | float)), default=0.0)
    forecasts, problems, known = {}, {}, {}
    for metric in dict.fromkeys(t.metric for t in targets):
        epochs, values, examples = known[metric] = series(rows, metric, x)
        later = sorted({t.epoch for t in targets if t.metric == metric and t.epoch > seen})
        if not len(values):
            problems[metric] = f"no row has {metric!r}"
        elif later:
            try:
                kind = kind_of(metric, values)
                beside = company(rows, metric, epochs, x, n if examples is None else examples)
                examples = None if kind == "loss" else n if examples is None else examples
                forecasts[metric] = forecast(epochs, values, examples, later, kind, bank, draws, seed, beside)
            except ValueError as error:
                problems[metric] = str(error)
    drawn = couple(forecasts, draws, 0.0 if bank is None else bank.agreement, seed)
    each, outcomes = [], []
    for t in targets:
        epochs, values, _ = known[t.metric]
        last = float(values[-1]) if len(values) else None
        now, p, reason = None if last is None else bool(t.met(last)), None, problems.get(t.metric, "")
        past = values[epochs <= t.epoch]
        if t.epoch <= seen and len(past):
            outcome, reason = np.full(draws, bool(t.met(past[-1]))), ""
        elif t.metric in forecasts:
            outcome = t.met(drawn[t.metric][:, int(np.flatnonzero(forecasts[t.metric].steps == t.epoch)[0])])
        else:
            outcome, reason = None, reason or f"no row up to {t.epoch:g} has {t.metric!r}"
        if outcome is not None:
            p = float(np.mean(outcome))
        outcomes.append(outcome)
        each.append(TargetOutlook(t, p, last, now, reason))
    wanted = [o for o, t in zip(outcomes, targets, strict=True) if t.required]
    p_all = None if any(o is None for o in wanted) or not wanted else float(np.mean(np.all(wanted, 0)))
    said = {f.calibration for f in forecasts.values()}
    return Outlook(float(seen), each, p_all, forecasts, "; ".join(sorted(said)) or "nothing left to forecast")


def couple(forecasts: dict[str, Forecast], draws: int, correlation: float,
           seed: int) -> dict[str, np.ndarray]:
    """Samples of each metric, (draws, S), in an order in which good ones of one metric meet good ones of the others.

    Whole paths are reordered, so that every metric keeps its own distribution, over its epochs too.
    """
    rng = np.random.default_rng((seed, 1))
    shared, drawn = rng.standard_normal(draws), {}
    for metric, f in forecasts.items():
        good = np.argsort(np.argsort(f.samples, axis=0, kind="stable"), axis=0).mean(1)  # mean rank of a path
        if f.kind == "loss":
            good = -good
        luck = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.standard_normal(draws)
        place = np.empty(draws, int)
        place[np.argsort(luck, kind="stable")] = np.argsort(good, kind="stable")
        drawn[metric] = f.samples[place]
    return drawn
