"""Warnings about a training run, from its history alone: what was seen, when, and for how long it lasted.

What is unusual: an alarm has a beginning and an end, and what came after it has been counted on recorded runs
(`benchmarks/alarms.py`). The rule of the field report (less than 10 % off the loss in 5 epochs after epoch 10) is kept
because people know it, but it fires in nearly every run. The rules look at validation rows, never at the test split.
An *epoch* here is a fiftieth of the run (`EPOCHS`), so that the report's epochs 10, 15 and 50 mean the same in a run of
200 steps and in one of 20,000. No torch.

    slow       less than 10 % off the loss in 5 epochs, after epoch 10
    chance     the forecast gives a required target less than 10 %
    band       two evaluations running outside the 99 % band of an earlier forecast
    overfit    the validation loss was lowest 8 epochs ago or more, is 5 % above that, and the training loss still falls
    gap        most tokens are right, few answers are, and the share of whole answers has not moved for 5 epochs
    task       one task has not moved for 5 epochs while the mean over tasks rises
    loss       over 20 epochs the loss falls by a fifth and the task's metric does not move
    ceiling    the data do not allow a higher score (from the audit, before a step is trained)
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

EPOCHS = 50  # of a whole run
WINDOW, LONG_WINDOW, SETTLED, SINCE_BEST = 5.0, 20.0, 10.0, 8.0  # epochs
SLOW, FALL, ABOVE_BEST = 0.10, 0.20, 0.05  # relative changes of a loss
STILL, RISE, GAP, HALF = 0.01, 0.02, 0.20, 0.50  # shares
UNLIKELY = 0.10  # probability of a required target
SOLVED = 0.95  # share of the ceiling from which nothing is stuck
RULES = ("slow", "chance", "band", "overfit", "gap", "task", "loss", "ceiling")


@dataclass(frozen=True)
class Alarm:
    """`rule` of RULES held from the evaluation at step `since` to the one at `until`; None: at the last one too."""

    rule: str
    since: int
    until: int | None
    text: str

    def __str__(self):
        lasted = "still on" if self.until is None else f"over at step {self.until:,}"
        return f"step {self.since:,}, {self.rule}: {self.text} ({lasted})"


@dataclass(frozen=True)
class Band:
    """What a forecast made at step `made` expects of `metric` at later steps: its 99 % band, arrays of equal length."""

    metric: str
    made: int
    steps: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Chance:
    """The probability that a forecast made at step `made` gives the required target `name`, such as `loss < 0.3`."""

    name: str
    made: int
    probability: float


def check(history: list[dict], steps: int, ceiling: float = 1.0, metric: str = "exact_match",
          chances: Iterable[Chance] = (), bands: Iterable[Band] = ()) -> list[Alarm]:
    """All alarms of a run of `steps` steps in the order of their beginning.

    history: rows of metrics.jsonl with `step`, `loss`, `metric` and, where the run has them, `train_loss`,
    `token_accuracy` and `<metric>/<task>`; a rule whose columns are missing says nothing. ceiling: the best `metric`
    that the data allow. A row at step 0, before training, is left out. Raises ValueError on rows out of order.
    """
    history = [row for row in history if row["step"] != 0]
    at = np.array([row["step"] for row in history], float)
    if steps < 1 or (np.diff(at, prepend=0) <= 0).any():
        raise ValueError(f"alarms: got steps {at.astype(int).tolist()} of {steps}, expected positive increasing ones")
    found = [Alarm("ceiling", 0, None, f"no model can pass {100 * ceiling:.1f} % {metric.replace('_', ' ')} on these "
                   "data: equal inputs have different targets")] if ceiling < 1 else []
    epochs = at * EPOCHS / steps
    column = {name: np.array([row[name] for row in history], float) for name in history[0]
              if all(isinstance(row.get(name), int | float) for row in history)} if history else {}
    for rule, (flags, text) in spans(epochs, column, metric, ceiling).items():
        found += held(rule.split("/")[0], at, flags, text)
    for name in {c.name: None for c in chances}:
        own = [c for c in chances if c.name == name]
        low = next((c for c in own if c.probability < UNLIKELY), None)
        if low:
            found += held("chance", np.array([c.made for c in own]), [c.probability < UNLIKELY for c in own],
                          f"{name} has a probability of {100 * low.probability:.0f} %, as forecast then")
    for band in bands:
        found += outside(band, at, column)
    return sorted(found, key=lambda alarm: (alarm.since, RULES.index(alarm.rule)))


def plan_rows(history: list[dict], steps: int) -> list[dict]:
    """The rows with `epoch` in fiftieths of a run of `steps` steps, as plans, targets and forecasts count."""
    return [{**row, "epoch": row["step"] * EPOCHS / steps} for row in history]


def change(epochs: np.ndarray, values: np.ndarray, window: float) -> tuple[np.ndarray, np.ndarray]:
    """The value `window` epochs before each evaluation (interpolated; NaN before the first one), and the change since.

    A window that holds no other evaluation is widened to the one before: rows far apart are compared with each other.
    """
    before = np.minimum(epochs - window, np.concatenate(([-np.inf], epochs[:-1])))
    then = np.where(before >= epochs[0], np.interp(before, epochs, values), np.nan)
    return then, values - then


def spans(epochs: np.ndarray, column: dict[str, np.ndarray], metric: str, ceiling: float) -> dict:
    """Rule -> (flags (K,), text) of the rules that need the history only."""
    found, score = {}, column.get(metric)
    open_ = score < SOLVED * ceiling if score is not None else None
    if "loss" in column:
        then, moved = change(epochs, column["loss"], WINDOW)
        found["slow"] = ((epochs > SETTLED) & (then > 0) & (-moved < SLOW * then),
                         f"the loss fell by less than {100 * SLOW:.0f} % in {WINDOW:g} epochs")
        if "train_loss" in column:
            _, trained = change(epochs, column["train_loss"], SINCE_BEST)
            loss, best = column["loss"], np.minimum.accumulate(column["loss"])
            since = epochs - epochs[[int(np.argmin(loss[:i + 1])) for i in range(len(loss))]]
            found["overfit"] = ((trained < 0) & (since >= SINCE_BEST) & (loss > (1 + ABOVE_BEST) * best),
                                f"the training loss falls, and the validation loss has been above its best for "
                                f"{SINCE_BEST:g} epochs, now by {100 * ABOVE_BEST:.0f} % or more")
    if score is None or len(score) == 0:
        return found
    _, moved = change(epochs, score, WINDOW)
    if "token_accuracy" in column:
        tokens = column["token_accuracy"]
        found["gap"] = (open_ & (tokens >= HALF) & (tokens - score >= GAP) & (moved <= STILL),
                        f"half of the tokens or more are right; {metric.replace('_', ' ')} is {GAP:g} or more below "
                        f"that and has not moved in {WINDOW:g} epochs")
    for name in (name for name in column if name.startswith(f"{metric}/")):
        _, own = change(epochs, column[name], WINDOW)
        found[f"task/{name}"] = ((own <= STILL) & (moved >= RISE) & (score - column[name] >= GAP),
                                 f"{name.split('/', 1)[1]} stands still while the mean rises")
    if "loss" in column:
        then, lost = change(epochs, column["loss"], LONG_WINDOW)
        _, moved = change(epochs, score, LONG_WINDOW)
        found["loss"] = (open_ & (-lost >= FALL * then) & (moved <= STILL),
                         f"in {LONG_WINDOW:g} epochs the loss fell by {100 * FALL:.0f} % or more and "
                         f"{metric.replace('_', ' ')} did not move")
    return found


def held(rule: str, steps: np.ndarray, flags, text: str) -> list[Alarm]:
    """One alarm for each unbroken stretch of flags; steps and flags (K,)."""
    edges = np.diff(np.asarray(flags, int), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [Alarm(rule, int(steps[a]), int(steps[b]) if b < len(steps) else None, text)
            for a, b in zip(starts, ends, strict=True)]


def outside(band: Band, at: np.ndarray, column: dict[str, np.ndarray]) -> list[Alarm]:
    """The alarms of one forecast: two evaluations running that it did not expect."""
    inside = (at >= band.steps[0]) & (at <= band.steps[-1])
    if band.metric not in column or inside.sum() < 2:
        return []
    steps, values = at[inside], column[band.metric][inside]
    off = (values < np.interp(steps, band.steps, band.low)) | (values > np.interp(steps, band.steps, band.high))
    return held("band", steps, off & (np.roll(off, 1) & (np.arange(len(off)) > 0)),
                f"{band.metric} is outside the 99 % band of the forecast made at step {band.made:,}")


def active(alarms: list[Alarm]) -> list[Alarm]:
    """Those that held at the last evaluation."""
    return [alarm for alarm in alarms if alarm.until is None]
