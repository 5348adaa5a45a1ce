"""Grow the forest that ships, and say how it did on tasks that its trees had not seen.

    python benchmarks/forecast_forest.py [--judge]      (data/forecast/design.csv -> forest.safetensors)

Needs the bank's lines of these curves (`benchmarks/forecast_bank.py`): their raw forecasts are not made again. --judge
grows nine more forests instead, each without a ninth of the tasks, and prints how they forecast these, blended with the
forecasts of a bank without the task; nothing is written.
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


def lines(curves: list, bank: forecast_bank.Bank, judge: bool = False) -> list[dict]:
    """One for each curve, count of points seen and epoch looked ahead to; to judge, with the bank's forecasts."""
    runs, known, found = {}, {}, []
    for c in curves:
        runs.setdefault((c.task, c.run), {})[c.metric] = c
    for key, numbers in zip(map(tuple, bank.keys), bank.numbers, strict=True):
        known.setdefault((*key[:3], int(numbers[0])), []).append(numbers)
    without = {task: bank.without(task) for task in {c.task for c in curves}} if judge else {}
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
            x, banked = forest.features(with_, at / count, raw), [None] * len(at)
            if judge:  # the bank asks for three quantiles of the samples, and for their order
                samples = [np.interp(rank, (0, 0.05, 0.5, 0.95, 1), q[[0, 0, 1, 2, 2]]) for q in raw[c.metric]]
                samples = without[c.task].adjust(np.stack(samples, 1), u, at / count, c.kind)
                banked = np.quantile(samples, forecast_bank.LEVELS, axis=0).T
            found += [{"task": c.task, "kind": c.kind, "count": count, "end": at[s] == len(c.values), "last": u[-1],
                       "near": at[s] / count < NEAR, "truth": truth[int(at[s]) - 1], "x": x[s],
                       "banked": banked[s]} for s in range(len(at))]
    return found


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
    y = forest.share(truth, rows[0]["kind"]) - forest.share(last, rows[0]["kind"])
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


def judged(rows: list[dict], rng: np.random.Generator) -> list[dict]:
    """Forecasts of the end of curves of tasks that no tree had seen, beside the bank's: one line a count."""
    kind, task, found = rows[0]["kind"], np.array([r["task"] for r in rows]), []
    last, truth, banked = (np.array([r[name] for r in rows]) for name in ("last", "truth", "banked"))
    rises = np.empty_like(banked)
    for out in np.array_split(rng.permutation(np.unique(task)), FOLDS):
        mine = np.isin(task, out)
        grown = forest.Forest(**forest_of([r for r in rows if r["task"] not in out], TREES, rng))
        rises[mine] = grown.quantiles(np.array([r["x"] for r in rows if r["task"] in out]))
    q = forest.share(forest.halves(banked, last[:, None] + rises, np.array(forecast_bank.LEVELS), kind), kind)
    truth = forest.share(truth, kind)
    error, alone = np.abs(q[:, 3] - truth), np.abs(forest.share(banked[:, 3], kind) - truth)
    inside = [(q[:, i] - 1e-9 <= truth) & (truth <= q[:, -1 - i] + 1e-9) for i in (1, 2)]
    for count in (5, 10, 20):
        mine = np.array([r["end"] and r["count"] == count for r in rows])
        found.append({"kind": kind, "count": count, "n": int(mine.sum()), "mae": metrics.bootstrap(error[mine]),
                      "mae_bank": metrics.bootstrap(alone[mine]),
                      "difference": metrics.bootstrap((error - alone)[mine]),
                      "coverage90": metrics.proportion(int(inside[0][mine].sum()), int(mine.sum())),
                      "coverage50": metrics.proportion(int(inside[1][mine].sum()), int(mine.sum()))})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", action="store_true", help="how forests do that have not seen the task")
    args, began, told = parser.parse_args(), time.process_time(), {}
    curves = forecast_curves.read(ROOT / "data" / "forecast" / "design.csv")
    every, arrays = lines(curves, forecast_bank.shipped(), args.judge), {}
    for kind in forecast_curves.KINDS:
        rng, rows = np.random.default_rng(0), [r for r in every if r["kind"] == kind]
        if args.judge:
            told[kind] = judged(rows, rng)
            for line in told[kind]:
                print(f"{kind:8s} k={line['count']:<2d} n={line['n']:<3d} " + "  ".join(
                    f"{name} {line[name]['value']:.3f} ({line[name]['low']:.3f} to {line[name]['high']:.3f})"
                    for name in ("mae", "mae_bank", "difference", "coverage90", "coverage50")))
        else:
            arrays |= {f"{kind}/{name}": array for name, array in forest_of(rows, TREES, rng).items()}
    if not args.judge:
        write_atomic(forest.SHIPPED, save(arrays))
    print(json.dumps({"forecasts": len(every), "bytes": forest.SHIPPED.stat().st_size, "judged": told,
                      "cpu_seconds": round(time.process_time() - began, 1)}))


if __name__ == "__main__":
    main()
