"""Does the race of a sweep find the best cell of a grid, and for how many epochs?

    python benchmarks/pruning.py                                       # replay the recorded grids of data/sweep
    python benchmarks/pruning.py --random data/forecast/held_out_2.csv     # the runs of each task as a random search
    python benchmarks/pruning.py --record DATA NAME --steps 500        # train a grid in full and record it there

A recorded grid has the validation curves of every cell and seed, trained to the end, and what each seed reached on the
whole validation split. Replaying lets `hrm_lab.sweep_race` decide from them; which seed of a cell comes first is drawn
anew each time, and of a random search (one seed) three quarters of the runs. A rule has *found* the best cell if the
finished cell with the best validation is the best of the full grid or within its 95 % interval: of a grid the one that
sweeps state (`ablation_results.share`, over seeds and puzzles), of one seed Wilson's. Rules: `race` (what ships: cells
ranked by their last token accuracies), the same race ranked by the `forecast` of token accuracy, by the forecast of
`exact` match, by the last `loss`, or by the exact match `now`; `median` (all seeds together, cells one after the other,
stopped below the median of the earlier ones at that epoch: Optuna's MedianPruner), `all`. Prints one JSON object last.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from hrm_lab import forecast_curves, metrics, runs
from hrm_lab.ablation_results import share
from hrm_lab.alarms import EPOCHS
from hrm_lab.forecast import forecast
from hrm_lab.forecast_bank import shipped
from hrm_lab.puzzles import dataset
from hrm_lab.sweep import Sweep, train_stage
from hrm_lab.sweep_race import CUTS, LEADING, METRIC, Stage, survivors
from hrm_lab.sweep_results import outcomes

FOLDER = Path(__file__).parent.parent / "data" / "sweep"
GRID = {"lr": [1e-4, 5e-4, 1e-3], "hidden": [128, 256], "batch": [4, 8]}
MODEL = {"variant": "hrm", "heads": 4, "H_layers": 1, "L_layers": 1, "H_cycles": 1, "L_cycles": 1, "inner_multiple": 64,
         "expansion": 2, "halt_max_steps": 2, "halt_confidence": 0.9, "q_bias": 0}
RANKS = {"forecast": (LEADING, True), "exact": (METRIC, True), "loss": ("loss", False), "now": (METRIC, False)}
RULES = ("race", *RANKS, "median", "all")
MEDIAN_RUNGS = (5, 10, 15, 20, 25, 30, 40)
LEAST = 8  # runs of a task that make a search
SOLVED = 0.05  # a search whose best run ends below this has no best cell to find


def record(data: str, name: str, steps: int, eval_n: int, seeds: int, hidden: list[int], rates: list[float]):
    """Train every cell of a grid to the end and write data/sweep/<name>.json; goes on where it was cut."""
    grid = dataset.load(data, "train").meta.grid
    model = MODEL | ({"variant": "trm", "positions": "grid", "L_cycles": 2} if grid else {})
    recipe = {"steps": steps, "batch": 8, "optimizer": "adam-atan2", "warmup": 10, "ema": 0.9, "eval_n": eval_n}
    sweep, path = Sweep(data, model, recipe, GRID | {"hidden": hidden, "lr": rates}, seeds), FOLDER / f"{name}.json"
    told = {"n": eval_n, "model": model, "train": recipe}
    before = runs.read_json(path) if path.exists() else {}
    same = all(before.get(k) == v for k, v in told.items())
    found, spent = (before["cells"], before["cpu_seconds"]) if same else ([], 0.0)
    for cell in [cell for cell in sweep.cells() if cell not in [one["cell"] for one in found]]:
        done = train_stage(sweep, cell, None, Stage(seeds, EPOCHS), FOLDER / f".{name}")
        for path_ in FOLDER.glob(f".{name}-*.safetensors"):
            path_.unlink()
        if done["diverged"]:
            raise ValueError(f"{name}: {cell} diverged at epoch {done['diverged']}, expected a grid that trains")
        spent += done["cpu_seconds"]
        reached = outcomes(done, "valid").mean(1).round(5).tolist()
        curves = {metric: np.round(own, 5).tolist() for metric, own in done["curves"].items()}
        found.append({"cell": cell, "reached": reached, "valid": done["valid"], "curves": curves})
        print(f"{cell}: {np.mean(reached):.3f}, {done['cpu_seconds']:.1f} CPU-s", flush=True)
        runs.write_atomic(path, json.dumps(told | {"cpu_seconds": round(spent, 1), "cells": found}) + "\n")


def race(curves: dict, final: np.ndarray, first: np.ndarray, score: dict | None) -> tuple[int, int]:
    """(epochs trained over all seeds, chosen cell).

    curves: metric -> (cells, seeds, epochs); final (cells, seeds): what each seed is worth when finished; first
    (cells,): the seed that begins; score: (cell, seed, epoch) -> what cells are ranked by, None: the race as it ships.
    """
    cells, seeds = final.shape
    live, spent, before = list(range(cells)), 0, 0
    for epoch, part in CUTS:
        spent, before = spent + len(live) * (epoch - before), epoch
        if epoch == EPOCHS and seeds == 1:
            break
        seen = [{LEADING: curves[LEADING][c, first[c], :epoch] if score is None or epoch == EPOCHS else
                 np.array([score[c, first[c], epoch]])} for c in live]
        ended = [final[c, first[c]] for c in live] if epoch == EPOCHS else None
        live = [live[i] for i in survivors(seen, part, cells, ended)]
    spent += len(live) * (EPOCHS - before + EPOCHS * (seeds - 1))
    return spent, live[int(final[live].mean(1).argmax())]


def median(curves: dict, final: np.ndarray, order: np.ndarray) -> tuple[int, int]:
    """(epochs, chosen cell) of the median rule, cells in `order`, all seeds in step."""
    mean, seen, spent, done = curves[METRIC].mean(1), {rung: [] for rung in MEDIAN_RUNGS}, 0, []
    for cell in order:
        ended = EPOCHS
        for rung in MEDIAN_RUNGS:
            if len(seen[rung]) >= 2 and mean[cell, rung - 1] < np.median(seen[rung]):
                ended = rung
                break
            seen[rung].append(mean[cell, rung - 1])
        spent += final.shape[1] * ended
        done += [cell] * (ended == EPOCHS)
    return spent, done[int(final[done].mean(1).argmax())]


def searches(path: str) -> dict[str, dict]:
    """Recorded curves as random searches: task -> a record like a grid's, a run a cell, of tasks with LEAST runs."""
    found = {}
    for curve in forecast_curves.read(path):
        if len(curve.values) == EPOCHS:
            found.setdefault(curve.task, {}).setdefault(curve.run, {})[curve.metric] = curve
    records = {}
    for task, own in found.items():
        rows = {run: c for run, c in own.items() if LEADING in c and "loss" in c}
        if len(rows) >= LEAST:
            told = {run: c.get(METRIC, c[LEADING]) for run, c in rows.items()}
            records[task] = {"n": max(1, min(c.n for c in told.values())), "cpu_seconds": None, "cells": [
                {"cell": {"run": run}, "reached": [told[run].values[-1]],
                 "curves": {METRIC: [told[run].values], LEADING: [c[LEADING].values], "loss": [c["loss"].values]}}
                for run, c in rows.items()]}
    return records


def scored(curves: dict, n: int, metric: str, ahead: bool, bank) -> dict:
    """(cell, seed, epoch) -> what a cell is ranked by at the cuts before the end."""
    found, sign = {}, -1 if metric == "loss" else 1
    for cell, seed in np.ndindex(curves[metric].shape[:2]):
        for epoch in (epoch for epoch, _ in CUTS if epoch < EPOCHS):
            values = curves[metric][cell, seed, :epoch]
            if ahead:
                values = forecast(np.arange(1, epoch + 1), values, n, [EPOCHS], "accuracy", bank).samples.mean(0)
            found[cell, seed, epoch] = sign * float(values[-1])
    return found


def judge(name: str, told: dict, draws: int, bank) -> dict:
    """All rules on one recorded grid or search."""
    curves = {metric: np.array([cell["curves"][metric] for cell in told["cells"]], float)
              for metric in (METRIC, LEADING, "loss")}
    if curves[METRIC].ndim != 3 or curves[METRIC].shape[2] != EPOCHS:
        raise ValueError(f"{name}: got curves of shape {curves[METRIC].shape}, expected (cells, seeds, {EPOCHS})")
    final = np.array([cell["reached"] for cell in told["cells"]])  # (cells, seeds) on the whole validation split
    cells, seeds = final.shape
    scores = {rule: scored(curves, told["n"], *how, bank) for rule, how in RANKS.items()} | {"race": None}
    lows = [(share(outcomes(cell, "valid")) if "valid" in cell else
             metrics.proportion(round(cell["reached"][0] * told["n"]), told["n"]))["low"] for cell in told["cells"]]
    rng, rows = np.random.default_rng(0), {rule: [] for rule in RULES}
    for _ in range(draws):
        kept = np.arange(cells) if seeds > 1 else np.sort(rng.permutation(cells)[:round(0.75 * cells)])
        first, order = rng.integers(0, seeds, len(kept)), rng.permutation(len(kept))
        part, own = {metric: curve[kept] for metric, curve in curves.items()}, final[kept]
        top = int(own.mean(1).argmax())
        for rule in RULES:
            score = scores.get(rule)
            score = score and {(i, s, e): score[c, s, e] for i, c in enumerate(kept) for s in range(seeds)
                               for e, _ in CUTS if e < EPOCHS}
            spent, chosen = (median(part, own, order) if rule == "median" else (own.size * EPOCHS, top)
                             if rule == "all" else race(part, own, first, score))
            rows[rule].append((spent / (own.size * EPOCHS), own[chosen].mean() >= lows[kept[top]] - 1e-9,
                               own[top].mean() - own[chosen].mean(), chosen == top))
    rules = {}
    for rule, found in rows.items():
        epochs, inside, regret, same = np.array(found, float).T
        rules[rule] = {"epochs": float(epochs.mean()), "regret": float(regret.mean()), "same_cell": float(same.mean()),
                       "best_or_within": metrics.proportion(int(inside.sum()), draws)}
    best = int(final.mean(1).argmax())
    return {"grid": name, "cells": cells, "seeds": seeds, "n": told["n"], "best": told["cells"][best]["cell"],
            "best_value": float(final[best].mean()), "best_low": lows[best],
            "cpu_seconds_in_full": told["cpu_seconds"], "rules": rules}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", nargs=2, metavar=("DATA", "NAME"), help="folder of a dataset, name of the record")
    parser.add_argument("--random", metavar="CURVES", help="replay the runs of each task of a CSV of curves instead")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these recorded grids or tasks alone")
    parser.add_argument("--steps", type=int, default=500, help="at batch 8; half the batch, twice the steps")
    parser.add_argument("--hidden", type=int, nargs="*", default=GRID["hidden"])
    parser.add_argument("--rates", type=float, nargs="*", default=GRID["lr"])
    parser.add_argument("--eval-n", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    if given.record:
        record(*given.record, given.steps, given.eval_n, given.seeds, given.hidden, given.rates)
    try:
        records = (searches(given.random) if given.random else
                   {path.stem: runs.read_json(path) for path in sorted(FOLDER.glob("*.json"))})
        records = {name: told for name, told in records.items() if not given.only or name in given.only}
        bank = {1: shipped(), 3: shipped("hrm")}
        found = [judge(name, told, given.draws, bank[1 if given.random else 3]) for name, told in records.items()]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    flat = [grid["grid"] for grid in found if grid["best_value"] < SOLVED]
    found = [grid for grid in found if grid["grid"] not in flat]
    if not found:
        parser.error(f"{given.random or FOLDER.name}: nothing to replay, expected a recorded grid (--record)")
    for grid in found:
        print(f"{grid['grid']}: best {grid['best']} {100 * grid['best_value']:.1f} %")
        for rule, told in grid["rules"].items():
            print(f"    {rule:9} {100 * told['epochs']:5.1f} % of the epochs; best or within its interval: "
                  f"{metrics.format_score(told['best_or_within'])}; the best {100 * told['same_cell']:.0f} %; regret "
                  f"{100 * told['regret']:.2f} points")
    mean = {rule: {what: float(np.mean([g["rules"][rule][what] for g in found])) for what in ("epochs", "regret")}
            | {"best_or_within": metrics.bootstrap([g["rules"][rule]["best_or_within"]["value"] for g in found])}
            for rule in RULES}
    for rule, told in mean.items():
        print(f"mean of {len(found)}: {rule:9} {100 * told['epochs']:5.1f} %, found "
              f"{metrics.format_score(told['best_or_within'])}, regret {100 * told['regret']:.2f} points")
    print(json.dumps({"draws": given.draws, "cuts": CUTS, "left_out": flat, "mean": mean, "grids": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
