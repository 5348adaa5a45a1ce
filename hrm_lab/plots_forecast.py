"""Figures of forecasts: the curve with its fans and targets, and what a ledger's forecasts were worth. No torch.

Unusual: several forecasts of one curve can stand in one figure, each beginning where it was made, so that "what was
predicted when" is seen beside what came.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hrm_lab.forecast import Forecast
from hrm_lab.plots import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, RED, SKY, WIDTH, log_axis

FANS = (ORANGE, PURPLE, SKY, RED, INK, MUTED)
MARKERS = ("s", "^", "D", "v", "P", "X")


def short(step: float) -> str:
    """An epoch or a step to one decimal: where fiftieths of a run fall between evaluations, more would be noise."""
    return f"{round(float(step), 1):.12g}"


def forecast_fan(steps, values, forecasts: Forecast | list[Forecast], targets=(), name: str = "value",
                 x: str = "epoch", title: str = "") -> Figure:
    """A metric over the evaluations so far, with what was forecast for later, from one or several earlier moments.

    steps (K,), values (K,): all evaluations known by now; those after the first forecast was made are hollow. A
    forecast at one step only is drawn as a bar. targets: `forecast_targets.Target`s of this metric.
    """
    forecasts = [forecasts] if isinstance(forecasts, Forecast) else list(forecasts)
    if not forecasts:
        raise ValueError("forecasts: got none, expected at least one Forecast")
    steps, values = np.asarray(steps, float), np.asarray(values, float)
    fig, ax = plt.subplots(figsize=(WIDTH, 3.8))
    alone = len(forecasts) == 1
    for i, f in enumerate(forecasts):
        q, colour, when = f.quantiles.T, FANS[i % len(FANS)], "" if alone else f" from {x} {short(f.seen)}"
        if len(f.steps) == 1 or not alone:  # several fans would cover each other: bars at their last step
            place = f.steps[-1] + (0 if alone else (i - (len(forecasts) - 1) / 2) * 0.02 * (f.steps[-1] - steps[0]))
            ax.vlines(place, q[0, -1], q[4, -1], color=colour, linewidth=2)
            ax.vlines(place, q[1, -1], q[3, -1], color=colour, linewidth=6, alpha=0.6)
            ax.plot(place, q[2, -1], color=colour, marker=MARKERS[i % len(MARKERS)], markersize=8, linestyle="none",
                    label=f"forecast{when}: median, 50 % and 90 % interval")
            ax.plot([f.seen, place], [f.last, q[2, -1]], color=colour, linestyle="--", linewidth=1)
        else:
            ax.fill_between(f.steps, q[0], q[4], color=colour, alpha=0.18, label="forecast, 90 % interval")
            ax.fill_between(f.steps, q[1], q[3], color=colour, alpha=0.35, label="50 % interval")
            ax.plot(f.steps, q[2], color=colour, linestyle="--", label="median")
        if alone:
            ax.hlines(f.last, f.seen, f.steps[-1], color=INK, linestyle=":", linewidth=1.2, label="last value seen")
    before = steps <= forecasts[0].seen
    ax.plot(steps[before], values[before], color=BLUE, marker="o", markersize=4, label="seen")
    if not before.all():
        ax.plot(steps[~before], values[~before], color=BLUE, marker="o", markersize=5, markerfacecolor="none",
                linestyle="none", label="came afterwards")
    for i, target in enumerate(targets):
        ax.hlines(target.value, steps[0], target.epoch, color=GREEN, linewidth=1.6, linestyle=(0, (6, 2)),
                  label="target" if i == 0 else None)
        ax.annotate(f"{target.op} {target.value:g}", (steps[0], target.value), xytext=(2, 3), color=GREEN, fontsize=10,
                    textcoords="offset points")
    kind = forecasts[0].kind
    tops = [np.nanmax(values), *[f.quantiles.max() for f in forecasts]]
    lows = [np.nanmin(values), *[f.quantiles[:, 0].min() for f in forecasts]]
    if kind == "accuracy":
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif min(lows) > 0 and max(tops) / min(lows) > 30:
        log_axis(ax.yaxis)
    ax.set(title=title, xlabel=x, ylabel=name if kind == "accuracy" else f"{name} (nats)" if name == "loss" else name)
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.18), ncols=3 if alone else 2, columnspacing=1.2)
    return fig


def fan_alt(steps, values, forecasts: Forecast | list[Forecast], name: str = "value", x: str = "epoch") -> str:
    """The figure in words, with its numbers."""
    forecasts = [forecasts] if isinstance(forecasts, Forecast) else list(forecasts)
    said = [f"after {x} {short(f.seen)} the forecast for {x} {short(f.steps[-1])} was {f.quantiles[-1][2]:.3g} "
            f"(90 % interval {f.quantiles[-1][0]:.3g} to {f.quantiles[-1][4]:.3g}, last value {f.last:.3g})"
            for f in forecasts]
    how = "; ".join(dict.fromkeys(f.calibration for f in forecasts))
    return (f"{name} from {x} {short(steps[0])} to {short(steps[-1])}, now {values[-1]:.3g}; " + "; ".join(said)
            + f". Intervals: {how}.")


def calibration_plot(rows: list[dict], title: str = "") -> Figure:
    """How often intervals held what came: rows with label, coverage50 and coverage90, both scores of `metrics`."""
    fig, ax = plt.subplots(figsize=(WIDTH, 0.45 * len(rows) + 1.3))
    for i, row in enumerate(rows):
        for key, colour, marker, label in (("coverage50", ORANGE, "s", "50 % interval"),
                                           ("coverage90", BLUE, "o", "90 % interval")):
            s = row[key]
            ax.hlines(i, s["low"], s["high"], color=colour, linewidth=1.5)
            ax.plot(s["value"], i, marker=marker, color=colour, linestyle="none", label=label if i == 0 else None)
    for low, high, colour in ((0.4, 0.6, ORANGE), (0.85, 0.95, BLUE)):
        ax.axvspan(low, high, color=colour, alpha=0.12, linewidth=0)
    ax.set(title=title, xlabel="share of outcomes inside (shaded: wanted)", xlim=(0, 1.02))
    ax.set_yticks(range(len(rows)), [row["label"] for row in rows])
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.22), ncols=2)
    return fig
