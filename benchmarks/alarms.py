"""How often does each warning fire on real runs, and what came after it?

    python benchmarks/alarms.py [--curves data/forecast/held_out.csv]

Every run of the recorded curves (50 epochs each) is given to `hrm_lab.alarms.check`; only the first alarm of a rule in
a run counts. An alarm was *right* if what it warns of came true by the end: `slow`, the loss fell by less than another
10 %; `overfit`, the validation loss never got below where it stood; `gap` and `loss`, the task's metric ended no more
than 5 points above. Beside it stands the share of all runs (for `gap` and `loss`: those not solved by then) of which
the same is true from the alarm's median epoch on: what it must beat to mean anything. `band` (outside of what an
earlier forecast expected with 99 %) is only counted: it says that a forecast was wrong. Prints one JSON object last.
"""

import argparse
import json
import sys

import numpy as np

from hrm_lab import alarms, forecast_curves, foresight, metrics

RULES = ("slow", "overfit", "gap", "loss")
FURTHER, POINTS = 0.10, 0.05


def runs_of(path: str) -> list[tuple[str, list[dict], str]]:
    """(task, rows, metric) of each run with a loss and an accuracy; exact match where it is known."""
    found = {}
    for curve in forecast_curves.read(path):
        if len(curve.values) == alarms.EPOCHS:
            found.setdefault((curve.task, curve.run), {})[curve.metric] = curve.values
    out = []
    for (task, _), columns in found.items():
        metric = next((m for m in ("exact_match", "token_accuracy") if m in columns), None)
        if metric and "loss" in columns:
            rows = [{"step": i + 1, **{m: c[i] for m, c in columns.items()}} for i in range(alarms.EPOCHS)]
            out.append((task, rows, metric))
    return out


def right(rule: str, rows: list[dict], metric: str, at: int) -> bool:
    """Whether the warning of `rule` at epoch `at` came true by the end."""
    now, later = rows[at - 1], rows[at:]
    if not later:
        return True
    if rule == "slow":
        return later[-1]["loss"] > (1 - FURTHER) * now["loss"]
    if rule == "overfit":
        return min(row["loss"] for row in later) >= now["loss"]
    return later[-1][metric] <= now[metric] + POINTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", default="data/forecast/held_out.csv")
    given = parser.parse_args()
    try:
        runs = runs_of(given.curves)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    first = [{a.rule: a.since for a in reversed(alarms.check(
                rows, alarms.EPOCHS, metric=metric, bands=foresight.bands(rows, alarms.EPOCHS, ("loss", metric))))}
             for _, rows, metric in runs]
    left = [found["band"] for found in first if "band" in found]
    told = {"band": {"fired": metrics.proportion(len(left), len(runs)),
                     "median_epoch": int(np.median(left)) if left else None}}
    print(f"band: fires in {metrics.format_score(told['band']['fired'])}")
    for rule in RULES:
        # `gap` compares tokens with whole answers: it needs both
        own = [i for i, (_, rows, metric) in enumerate(runs) if rule != "gap" or metric == "exact_match"]
        fired = [i for i in own if rule in first[i]]
        when = int(np.median([first[i][rule] for i in fired])) if fired else None
        true = [right(rule, runs[i][1], runs[i][2], first[i][rule]) for i in fired]
        base = [right(rule, rows, metric, when) for _, rows, metric in (runs[i] for i in own)
                if rule in ("slow", "overfit") or rows[when - 1][metric] < alarms.SOLVED] if fired else []
        told[rule] = {"fired": metrics.proportion(len(fired), len(own)), "median_epoch": when,
                      "right": metrics.proportion(sum(true), len(true)) if true else None,
                      "anyway": metrics.proportion(sum(base), len(base)) if base else None}
        print(f"{rule}: fires in {metrics.format_score(told[rule]['fired'])}" + (
            f", median epoch {when}; right {metrics.format_score(told[rule]['right'])}" if fired else "") + (
            f"; anyway {metrics.format_score(told[rule]['anyway'])}" if base else ""))
    print(json.dumps({"curves": given.curves, "runs": len(runs), "tasks": len({task for task, *_ in runs}),
                      "rules": told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
