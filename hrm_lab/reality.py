"""What was predicted when, and what came: the section that every training notebook ends with.

    reality.show(runs.read_metrics(run), steps)

The forecasts are those that `hrm_lab.live` shows while training runs: each is made from the rows known by then. What is
unusual is only that they are kept: the same figure has all of them beside what happened, and the share of later
evaluations that fell into their 90 % intervals is a score with its n, though the evaluations of one run err together.
Epochs are fiftieths of the run.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from hrm_lab import alarms, metrics, plan, plots
from hrm_lab.ablation_results import points
from hrm_lab.forecast import Forecast, forecast, kind_of
from hrm_lab.forecast_bank import shipped
from hrm_lab.forecast_forest import company
from hrm_lab.forecast_targets import series
from hrm_lab.plots_forecast import fan_alt, forecast_fan

MADE = (5, 10, 15, 25, 35, 45)  # epochs at which forecasts are looked back at
AHEAD = 12  # later evaluations that a forecast is made for, at most


@dataclass(frozen=True)
class Past:
    """A forecast as it was made at `epoch`, or why there was none."""

    epoch: float
    forecast: Forecast | None
    reason: str = ""


def predicted(history: list[dict], steps: int, metric: str, made: tuple = MADE) -> list[Past]:
    """The forecasts of one metric that the rows known at the epochs `made` gave, for later evaluations of the run.

    An epoch by which nothing new was known since the one before is left out.
    """
    rows = alarms.plan_rows(history, steps)
    epochs, values, n = series(rows, metric, "epoch")
    found, before = [], 0
    for point in made:
        known = epochs <= point + 1e-9
        later = epochs[~known]
        if known.sum() > before and len(later):
            before = known.sum()
            later = later[np.unique(np.linspace(0, len(later) - 1, AHEAD).round().astype(int))]
            try:
                kind = kind_of(metric, values[known])
                seen = forecast(epochs[known], values[known], None if n is None else n[known], later, kind=kind,
                                bank=shipped("hrm"),
                                company=company(rows, metric, epochs[known], n=None if n is None else n[known]))
                found.append(Past(float(point), seen))
            except ValueError as error:
                found.append(Past(float(point), None, str(error)))
    return found


def table(history: list[dict], steps: int, metric: str, past: list[Past]) -> list[dict]:
    """One row a forecast: made at, what it said of the last evaluation, the last value then, what came, inside."""
    epochs, values, _ = series(alarms.plan_rows(history, steps), metric, "epoch")
    rows = []
    for one in past:
        if one.forecast is None:
            continue
        low, middle, high = one.forecast.quantiles[-1][[0, 2, 4]]
        rows.append({"made at epoch": f"{one.epoch:g}", "for epoch": f"{epochs[-1]:g}", "forecast": f"{middle:.3g}",
                     "90 % interval": f"{low:.3g}\u00a0to\u00a0{high:.3g}",
                     "last value then": f"{one.forecast.last:.3g}", "naive fit": f"{one.forecast.naive[-1]:.3g}",
                     "what came": f"{values[-1]:.3g}", "inside": "yes" if low <= values[-1] <= high else "no"})
    return rows


def inside(history: list[dict], steps: int, metric: str, past: list[Past]) -> dict | None:
    """The share of later evaluations in the forecasts' 90 % intervals, with its interval; None without a forecast."""
    epochs, values, _ = series(alarms.plan_rows(history, steps), metric, "epoch")
    hits = [low <= value <= high for one in past if one.forecast is not None
            for (low, *_, high), value in zip(one.forecast.quantiles, np.interp(one.forecast.steps, epochs, values),
                                              strict=True)]
    return metrics.proportion(sum(hits), len(hits)) if hits else None


def show_plan(planned: plan.Plan, history: list[dict], recipe, model, n_train: int, ceiling: float = 1.0):
    """Show each phase's targets beside what was reached, and what was seen and proposed at each intervention point."""
    if rows := plan.reached(planned, history, recipe.steps):
        told = [row | {"value": "not there yet" if row["value"] is None else f"{row['value']:.3g}",
                       "met": {True: "yes", False: "no", None: "–"}[row["met"]]} for row in rows]
        display(pd.DataFrame(told).set_index("phase"))
    if not (looked := plan.looked_at(planned, history, recipe, model, n_train, ceiling)):
        display(Markdown("No intervention point has been reached."))
        return
    display(pd.DataFrame([{"at epoch": row["epoch"], "step": row["step"],
                           "alarms on": "; ".join(f"{a.rule} since step {a.since:,}" for a in row["alarms"]) or "none",
                           "the table proposes": "; ".join(p.action for p in row["proposals"]) or "nothing"}
                          for row in looked]).set_index("at epoch"))


def show_effects(branches: list[dict], valid) -> dict[str, dict]:
    """Show what the forks of `plan.follow` did; returns flat scores `plan/<branch>/minus_parent`."""
    found = plan.effects(branches, valid)
    if not found:
        display(Markdown("No alarm that the table has a change for was on at a point of the plan: nothing was forked."))
        return {}
    display(pd.DataFrame([{"fork": one["branch"], "of": one["parent"], "at step": one["step"], "alarm": one["rule"],
                           "change": one["action"], "exact match minus the parent's, in points": points(one["effect"])}
                          for one in found]).set_index("fork"))
    return {f"plan/{one['branch']}/minus_parent": one["effect"] for one in found}


def show(history: list[dict], steps: int | None = None, names: tuple[str, ...] = ("exact_match", "loss"),
         targets=(), made: tuple = MADE) -> dict[str, dict]:
    """Show for each metric all forecasts beside what came, as a figure, a table and a sentence.

    history: rows with `step` and the metrics; steps: of the whole run (default: the last row's). Returns flat scores
    `forecast/<metric>/inside_90` for `notebooks.finish`; metrics with too few evaluations share one sentence.
    """
    scores, without = {}, {}
    if not history:
        display(Markdown("No evaluation was made before the end: nothing was forecast."))
        return scores
    steps = steps or history[-1]["step"]
    rows = alarms.plan_rows(history, steps)
    for metric in names:
        past = predicted(history, steps, metric, made)
        told = table(history, steps, metric, past)
        made_ones = [one.forecast for one in past if one.forecast is not None]
        title = metric.replace("_", " ")
        if not made_ones:
            without.setdefault(past[-1].reason if past else "too few evaluations", []).append(title)
            continue
        epochs, values, _ = series(rows, metric, "epoch")
        wanted = [target for target in targets if target.metric == metric]
        figure = forecast_fan(epochs, values, made_ones, wanted, title)
        ax = figure.axes[0]
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles, [label.partition(":")[0] for label in labels], loc="upper left", bbox_to_anchor=(0, -0.18),
                  ncols=3, title="forecasts: median, 50 and 90 % interval", alignment="left")
        ax.set_xlabel("epoch (fiftieths of the run)")
        plots.show(figure, fan_alt(epochs, values, made_ones, title))
        display(pd.DataFrame(told).set_index("made at epoch"))
        score = scores[f"forecast/{metric}/inside_90"] = inside(history, steps, metric, past)
        intervals = f"intervals of the {len(made_ones)} forecasts" if len(made_ones) > 1 else "interval of the forecast"
        display(Markdown(f"**{title.capitalize()}:** {metrics.format_score(score)} of the later evaluations fell into "
                         f"the 90 % {intervals} ({made_ones[-1].calibration}). The "
                         "evaluations of one run err together, so this interval is too narrow."))
    for reason, titles in without.items():
        display(Markdown(f"No forecast of {' or '.join(titles)} was made: {reason}."))
    return scores
