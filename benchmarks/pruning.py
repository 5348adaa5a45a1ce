"""Does pruning by the forecast find the best cell of a grid, and for how many epochs?

    python benchmarks/pruning.py                                   # replay the recorded grids of data/sweep
    python benchmarks/pruning.py --random data/forecast/held_out.csv   # the runs of each task as a random search
    python benchmarks/pruning.py --record DATA NAME --steps 500    # train a grid in full and record it there

A recorded grid has the validation curve of every cell and seed, trained to the end, and what it reached on the whole
validation split. Replaying visits its cells in many random orders and lets a rule stop each one early, as
`hrm_lab.sweep` would: the first cell is always finished. A rule has *found* the best cell if the finished cell with the
best validation is the best of the full grid or within its 95 % interval (over seeds; with one seed, Wilson's over the
puzzles). Rules: `forecast` (behind the best finished cell at that epoch and a chance below 20 % to end above its
interval, or below 2 %), `forecast alone` (that chance below 5 %), `behind` (only that), `median` (below the median of
the earlier cells at that epoch), `halving`
(successive halving: on to the next rung only in the best third so far), `all`. Prints one JSON object last. Sources:
Optuna's MedianPruner and SuccessiveHalvingPruner.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from hrm_lab import forecast_curves, metrics, runs
from hrm_lab.alarms import EPOCHS
from hrm_lab.forecast_bank import shipped
from hrm_lab.puzzles import dataset
from hrm_lab.sweep import HOPELESS, METRIC, RUNGS, Sweep, at_the_end, train_cell
from hrm_lab.sweep_results import outcomes

FOLDER = Path(__file__).parent.parent / "data" / "sweep"
GRID = {"lr": [1e-4, 5e-4, 1e-3], "hidden": [128, 256], "batch": [4, 8]}
MODEL = {"variant": "hrm", "heads": 4, "H_layers": 1, "L_layers": 1, "H_cycles": 1, "L_cycles": 1, "inner_multiple": 64,
         "expansion": 2, "halt_max_steps": 2, "halt_confidence": 0.9, "q_bias": 0}
BELOW, ALONE = 0.2, 0.05
RULES = ("forecast", "forecast alone", "behind", "median", "halving", "all")
LEAST = 8  # runs of a task that make a search


def record(data: str, name: str, steps: int, eval_n: int, seeds: int):
    """Train every cell of the reported grid to the end and write data/sweep/<name>.json; goes on where it was cut."""
    grid = dataset.load(data, "train").meta.grid
    model = MODEL | ({"variant": "trm", "positions": "grid", "L_cycles": 2} if grid else {})
    recipe = {"steps": steps, "batch": 8, "optimizer": "adam-atan2", "warmup": 10, "ema": 0.9, "eval_n": eval_n}
    sweep, path = Sweep(data, model, recipe, GRID, seeds), FOLDER / f"{name}.json"
    told = {"n": eval_n, "model": model, "train": recipe}
    before = runs.read_json(path) if path.exists() else {}
    same = all(before.get(k) == v for k, v in told.items())
    found, spent = (before["cells"], before["cpu_seconds"]) if same else ([], 0.0)
    for cell in [cell for cell in sweep.cells() if cell not in [one["cell"] for one in found]]:
        done = train_cell(sweep, cell, lambda *_: None, FOLDER / f".{name}.safetensors")
        spent += done["cpu_seconds"]
        reached = outcomes(done, "valid").mean(1).round(5).tolist()
        found.append({"cell": cell, "reached": reached, "curves": np.round(done["curves"][METRIC], 5).tolist()})
        print(f"{cell}: {np.mean(reached):.3f}, {done['cpu_seconds']:.1f} CPU-s", flush=True)
        runs.write_atomic(path, json.dumps(told | {"cpu_seconds": round(spent, 1), "cells": found}) + "\n")


def replay(curves: np.ndarray, reached: np.ndarray, high: np.ndarray, ahead: dict, order: np.ndarray,
           rule: str, below: float = BELOW) -> tuple[int, int]:
    """(epochs trained over all seeds, chosen cell).

    curves (cells, seeds, epochs); reached, high (cells,): what a cell is worth when finished, and the upper end of its
    interval; ahead: (cell, rung) -> samples.
    """
    seeds, epochs = curves.shape[1:]
    mean, best, spent, seen = curves.mean(1), None, 0, {rung: [] for rung in RUNGS}
    for cell in order:
        ended = epochs
        for rung in RUNGS:
            value, before = mean[cell, rung - 1], seen[rung]
            if best is not None and (
                    rule == "forecast" and (ahead[cell, rung] > high[best]).mean() < (
                        below if value < mean[best, rung - 1] else HOPELESS)
                    or rule == "forecast alone" and (ahead[cell, rung] > high[best]).mean() < ALONE
                    or rule == "behind" and value < mean[best, rung - 1]
                    or rule == "median" and len(before) >= 2 and value < np.median(before)
                    or rule == "halving" and len(before) >= 2 and (np.array(before) > value).mean() > 1 / 3):
                ended = rung
                break
            before.append(value)
        spent += seeds * ended
        if ended == epochs and (best is None or reached[cell] > reached[best]):
            best = cell
    return spent, int(best)


def searches(path: str) -> dict[str, dict]:
    """Recorded curves as random searches: task -> a record like a grid's, a run a cell, of tasks with LEAST runs."""
    found = {}
    for curve in forecast_curves.read(path):
        if len(curve.values) == EPOCHS and curve.metric in ("exact_match", "token_accuracy"):
            found.setdefault(curve.task, {}).setdefault(curve.run, {})[curve.metric] = curve
    records = {}
    for task, own in found.items():
        chosen = [(run, c.get("exact_match") or c["token_accuracy"]) for run, c in own.items()]
        if len(chosen) >= LEAST:
            records[task] = {"n": max(1, min(c.n for _, c in chosen)), "cpu_seconds": None, "cells": [
                {"cell": {"run": run}, "reached": [c.values[-1]], "curves": [list(c.values)]} for run, c in chosen]}
    return records


def judge(name: str, told: dict, orders: int) -> dict:
    """All rules on one recorded grid or search."""
    curves = np.array([cell["curves"] for cell in told["cells"]])  # (cells, seeds, epochs)
    if curves.ndim != 3 or curves.shape[2] != EPOCHS:
        raise ValueError(f"{name}: got curves of shape {curves.shape}, expected (cells, seeds, {EPOCHS})")
    cells, seeds, _ = curves.shape
    final = np.array([cell["reached"] for cell in told["cells"]])  # (cells, seeds) on the whole validation split
    top = int(final.mean(1).argmax())
    scores = [metrics.bootstrap(own) if seeds > 1 else metrics.proportion(round(own[0] * told["n"]), told["n"])
              for own in final]
    low, high = scores[top]["low"], np.array([s["high"] for s in scores])
    bank, ahead = shipped(), {}
    for cell in range(cells):
        for rung in RUNGS:
            seen = at_the_end(curves[cell, :, :rung], told["n"], bank)
            ahead[cell, rung] = np.ones(1) * np.inf if seen is None else seen.samples[:, -1]
    rng, rules = np.random.default_rng(0), {}
    drawn = [rng.permutation(cells) for _ in range(orders)]
    for rule in RULES:
        spent, chosen = zip(*(replay(curves, final.mean(1), high, ahead, order, rule) for order in drawn), strict=True)
        share = np.array(spent) / (cells * seeds * EPOCHS)
        found = np.array([final[c].mean() >= low - 1e-9 for c in chosen])
        rules[rule] = {"epochs": float(share.mean()), "epochs_5_95": np.quantile(share, [0.05, 0.95]).tolist(),
                       "best_or_within": metrics.proportion(int(found.sum()), orders),
                       "same_cell": float(np.mean([c == top for c in chosen])),
                       "regret": float(np.mean([final[top].mean() - final[c].mean() for c in chosen]))}
    return {"grid": name, "cells": cells, "seeds": seeds, "n": told["n"],
            "best": told["cells"][top]["cell"], "best_value": float(final[top].mean()), "best_low": low,
            "cpu_seconds_in_full": told["cpu_seconds"], "rules": rules}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", nargs=2, metavar=("DATA", "NAME"), help="folder of a dataset, name of the record")
    parser.add_argument("--random", metavar="CURVES", help="replay the runs of each task of a CSV of curves instead")
    parser.add_argument("--steps", type=int, default=500, help="at batch 8; half the batch, twice the steps")
    parser.add_argument("--eval-n", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=200)
    given = parser.parse_args()
    if given.record:
        record(*given.record, given.steps, given.eval_n, given.seeds)
    try:
        records = (searches(given.random) if given.random else
                   {path.stem: runs.read_json(path) for path in sorted(FOLDER.glob("*.json"))})
        found = [judge(name, told, given.orders) for name, told in records.items()]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if not found:
        parser.error(f"{given.random or FOLDER.name}: nothing to replay, expected a recorded grid (--record)")
    for grid in found:
        print(f"{grid['grid']}: best {grid['best']} {100 * grid['best_value']:.1f} %")
        for rule, told in grid["rules"].items():
            print(f"    {rule:9} {100 * told['epochs']:5.1f} % of the epochs; best or within its interval: "
                  f"{metrics.format_score(told['best_or_within'])}; regret {100 * told['regret']:.2f} points")
    mean = {rule: {what: float(np.mean([g["rules"][rule][what] for g in found])) for what in ("epochs", "regret")}
            | {"best_or_within": float(np.mean([g["rules"][rule]["best_or_within"]["value"] for g in found]))}
            for rule in found[0]["rules"]}
    print(json.dumps({"orders": given.orders, "prune_below": BELOW, "mean": mean, "grids": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
