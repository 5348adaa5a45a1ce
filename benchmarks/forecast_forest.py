"""Grow the forest that ships, and say how it did on tasks that its trees had not seen.

    python benchmarks/forecast_forest.py      (data/forecast/design.csv -> forest.safetensors)
    python benchmarks/forecast_forest.py --judge tasks      (or runs)

Needs the bank's lines of these curves (`benchmarks/forecast_bank.py`): their raw forecasts are not made again. --judge
grows nine more forests instead, each without a ninth of the tasks (or of the runs), and prints how they forecast these,
pooled with the forecasts of a bank without the task (or the run): all, and those of the 45 earlier runs, whose kind the
goals were set on. Losses are shares of the first, targets for Brier's score as in `benchmarks/forecast.py`. Nothing is
written then.
The last line is one JSON object.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hrm_lab import forecast_bank, forecast_curves, metrics  # noqa: E402
from hrm_lab import forecast_forest as forest  # noqa: E402
from hrm_lab.files import write_atomic  # noqa: E402
from hrm_lab.forecast_mixture import scaled  # noqa: E402

TREES, DRAWN, LEAF, TRIED = 100, 1500, 4, 16  # trees; lines drawn for each, least lines of a leaf, features tried
NEAR, NEAR_WEIGHT = 1.4, 0.35  # lines that look ahead less far are many and easy
FOLDS = 9  # of tasks
JUDGED = (5, 10, 20)  # points seen
TARGETS = {"accuracy": (0.8, 0.95), "loss": (0.3, 0.1)}  # of the first loss
GROUPS = {"all": "", "earlier runs": "earlier-"}  # by the beginning of a run's name


def lines(curves: list, bank: forecast_bank.Bank, judge: str | None = None) -> list[dict]:
    """One for each curve, count of points seen and epoch looked ahead to; to judge, the bank's samples of the ends.

    judge: what of a curve the bank must not know, its "tasks" or its "runs".
    """
    runs, known, found = {}, {}, []
    for c in curves:
        runs.setdefault((c.task, c.run), {})[c.metric] = c
    for key, numbers in zip(map(tuple, bank.keys), bank.numbers, strict=True):
        known.setdefault((*key[:3], int(numbers[0])), []).append(numbers)
    without = {key: bank.without(*key) for key in {apart((c.task, c.run), judge) for c in curves}} if judge else {}
    rank = (np.arange(400) + 0.5) / 400
    for c in curves:
        run = runs[c.task, c.run]
        for count in forecast_bank.COUNTS:
            mine = known.get((c.task, c.run, c.metric, count), [])
            with_ = forest.Company(c.metric, {m: np.array(run[m].values[:count]) for m in forest.METRICS if m in run})
            if not mine or not {*forest.METRICS[:2]} <= set(run):
                continue
            at = np.array([n[1] for n in mine])
            raw = {m: np.array([n[4:7] for n in known[c.task, c.run, m, count]]) for m in with_.curves}
            u, truth = scaled(with_.curves[c.metric], c.kind), scaled(np.array(c.values), c.kind, count)
            x = forest.features(with_, at / count, raw)
            found += [{"task": c.task, "run": c.run, "kind": c.kind, "count": count, "last": u[-1], "x": x[s],
                       "end": at[s] == len(c.values), "near": at[s] / count < NEAR, "truth": truth[int(at[s]) - 1]}
                      for s in range(len(at))]
            if judge and count in JUDGED and found[-1]["end"]:
                # the bank asks for three quantiles of the samples, and for their order
                raw_samples = np.interp(rank, (0, 0.05, 0.5, 0.95, 1), raw[c.metric][-1, [0, 0, 1, 2, 2]])[:, None]
                found[-1]["banked"] = without[apart((c.task, c.run), judge)].adjust(
                    raw_samples, u, at[-1:] / count, c.kind)
                found[-1]["first"] = max(c.values[:count]) / c.values[0] if c.kind == "loss" else 1.0
    return found


def apart(run: tuple[str, str], judge: str) -> tuple[str, ...]:
    """What is left out together: (task,) or (task, run)."""
    return run[:1] if judge == "tasks" else run


def share(u: np.ndarray, kind: str) -> np.ndarray:
    """From the scale of the forecasts to plain shares."""
    return u if kind == "accuracy" else np.exp(u)


def grow(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """One tree: feature, threshold and child of its nodes, left before right, and the lines (M,) of its leaves.

    At a node each of TRIED features is cut at one of its values, drawn at random; the cut that makes the squares of y
    least is taken.
    """
    nodes, members = [], []

    def part(mine: np.ndarray) -> int:
        me = len(nodes)
        nodes.append([-1, len(mine), sum(map(len, members))])
        here = x[mine]
        asked = rng.permutation(np.flatnonzero(here.max(0) > here.min(0)))[:TRIED]
        if len(mine) >= 2 * LEAF and len(asked):
            values = here[:, asked]
            at = values[rng.integers(len(mine), size=len(asked)), np.arange(len(asked))]
            at = np.where(at < values.max(0), at, (values.min(0) + values.max(0)) / 2)
            left, total = values <= at, y[mine].sum()
            count, half = left.sum(0), y[mine] @ left
            gain = half**2 / np.maximum(count, 1) + (total - half) ** 2 / np.maximum(len(mine) - count, 1)
            gain[(count < LEAF) | (len(mine) - count < LEAF)] = -np.inf
            best = int(gain.argmax())
            if np.isfinite(gain[best]):
                part(mine[left[:, best]])
                nodes[me] = [asked[best], at[best], part(mine[~left[:, best]])]
                return me
        members.append(mine)
        return me

    part(np.arange(len(y)))
    feature, threshold, child = map(np.array, zip(*nodes, strict=True))
    return feature, threshold, child, np.concatenate(members)


def forest_of(rows: list[dict], trees: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays of `forest.Forest` of rows of one kind; tasks count by the root of their lines."""
    x, last, truth = (np.array([r[name] for r in rows]) for name in ("x", "last", "truth"))
    y = share(truth, rows[0]["kind"]) - share(last, rows[0]["kind"])
    _, task, size = np.unique([r["task"] for r in rows], return_inverse=True, return_counts=True)
    weight = np.where([r["near"] for r in rows], NEAR_WEIGHT, 1) / np.sqrt(size[task])
    parts, node, rise = [], 0, 0
    for _ in range(trees):
        drawn = rng.choice(len(rows), DRAWN, p=weight / weight.sum())
        feature, threshold, child, members = grow(x[drawn], y[drawn], rng)
        parts.append((feature, threshold, child + np.where(feature >= 0, node, rise), (truth - last)[drawn][members],
                      [node]))
        node, rise = node + len(feature), rise + len(members)
    feature, threshold, child, rises, roots = (np.concatenate(part) for part in zip(*parts, strict=True))
    return {"feature": feature.astype(np.int16), "threshold": threshold.astype(np.float32),
            "child": child.astype(np.int32), "rises": rises.astype(np.float16), "roots": roots.astype(np.int32)}


def judged(rows: list[dict], judge: str, rng: np.random.Generator) -> list[dict]:
    """Forecasts of the end of curves of tasks or runs that no tree had seen, beside the bank's: one line a count."""
    kind, told, found = rows[0]["kind"], {}, []
    keys = [apart((r["task"], r["run"]), judge) for r in rows]
    for out in np.array_split(rng.permutation(np.unique(keys, axis=0)), FOLDS):
        out = set(map(tuple, out))
        grown = forest.Forest(**forest_of([r for r, key in zip(rows, keys, strict=True) if key not in out], TREES, rng))
        for r, key in zip(rows, keys, strict=True):
            if "banked" in r and key in out:
                both = r["first"] * share(grown.blend(r["banked"], r["x"][None], r["last"], kind), kind)
                known = (r["truth"], r["last"], np.median(r["banked"]))
                truth, last, bank = (r["first"] * share(u, kind) for u in known)
                low, *middle, high = np.quantile(both, (0.05, 0.25, 0.5, 0.75, 0.95))
                hit = np.less_equal if kind == "loss" else np.greater_equal
                ties = np.isclose(both, truth, atol=1e-6)
                rank = np.mean((both < truth) & ~ties) + rng.random() * np.mean(ties)
                line = (abs(middle[1] - truth), abs(bank - truth), abs(last - truth),
                        np.mean([(hit(both, t).mean() - hit(truth, t)) ** 2 for t in TARGETS[kind]]),
                        low - 1e-9 <= truth <= high + 1e-9, 0.25 <= rank <= 0.75)
                for group, start in GROUPS.items():
                    if r["run"].startswith(start):
                        told.setdefault((group, r["count"]), []).append(line)
    for (group, count), lines_ in sorted(told.items()):
        error, bank, last, brier, inside90, inside50 = np.array(lines_, float).T
        found.append({"kind": kind, "runs": group, "count": count, "n": len(error), "mae": metrics.bootstrap(error),
                      "mae_last": metrics.bootstrap(last), "minus_bank": metrics.bootstrap(error - bank),
                      "brier": metrics.bootstrap(brier),
                      "coverage90": metrics.proportion(int(inside90.sum()), len(error)),
                      "coverage50": metrics.proportion(int(inside50.sum()), len(error))})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", choices=("tasks", "runs"), help="how forests do that have not seen the task or run")
    args, began, told = parser.parse_args(), time.process_time(), {}
    curves = forecast_curves.read(ROOT / "data" / "forecast" / "design.csv")
    every, arrays = lines(curves, forecast_bank.shipped(), args.judge), {}
    for kind in forecast_curves.KINDS:
        rng, rows = np.random.default_rng(0), [r for r in every if r["kind"] == kind]
        if args.judge:
            told[kind] = judged(rows, args.judge, rng)
            for line in told[kind]:
                print(f"{kind:8s} {line['runs']} k={line['count']:<2d} n={line['n']:<3d} " + "  ".join(
                    f"{name} {line[name]['value']:.3f} ({line[name]['low']:.3f} to {line[name]['high']:.3f})"
                    for name in ("mae", "mae_last", "minus_bank", "brier", "coverage90", "coverage50")))
        else:
            arrays |= {f"{kind}/{name}": array for name, array in forest_of(rows, TREES, rng).items()}
    if not args.judge:
        write_atomic(forest.SHIPPED, save(arrays))
    print(json.dumps({"forecasts": len(every), "bytes": forest.SHIPPED.stat().st_size, "judged": told,
                      "cpu_seconds": round(time.process_time() - began, 1)}))


if __name__ == "__main__":
    main()
