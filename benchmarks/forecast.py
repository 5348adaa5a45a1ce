"""Back-test of the forecasts: are the intervals right, and is it better than the last value?

    python benchmarks/forecast.py --curves data/forecast/held_out.csv [--company] [--plot calibration.png]
    python benchmarks/forecast.py --curves data/forecast/design.csv --leave-out     (while designing)
    python benchmarks/forecast.py --curves data/forecast/held_out.csv data/forecast/held_out_2.csv --model hrm --company
    python benchmarks/forecast.py --lcdb 1000 --cache data/cache

Each curve is forecast at its end from its first 5, 10 and 20 points, with the bank that ships. --company
gives each forecast the run's other curves up to there too. --leave-out forecasts each curve of the design set with a
bank that lacks its task. --model hrm: runs of HRMs alone (those with an exact match), by their bank. --ahead 1.1:
instead of the end, the epoch a tenth farther than was seen. Losses are shares of the first loss. Targets for Brier's
score: accuracy >= .8 and .95, loss <= .3 and .1 of the first. --lcdb takes learning curves over training set sizes
from the Learning Curve Database (Mohr et al. 2022), whose points are sizes and not epochs. Intervals of coverages are
over curves; curves of one run are not independent. The last line is one JSON object.
"""

import argparse
import json
import sys
import tarfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hrm_lab import forecast_bank, forecast_curves, metrics, sources  # noqa: E402
from hrm_lab.forecast import forecast  # noqa: E402
from hrm_lab.forecast_forest import METRICS, Company  # noqa: E402
from hrm_lab.forecast_ledger import crps  # noqa: E402

COUNTS = (5, 10, 20)
TARGETS = {"accuracy": (0.8, 0.95), "loss": (0.3, 0.1)}
GOALS = {"loss": {"mae": (0.20, 0.12, 0.09), "brier": (0.17, 0.10, 0.07)},
         "accuracy": {"mae": (0.11, 0.08, 0.035), "brier": (0.17, 0.10, 0.07)}}


def lcdb_curves(count: int, cache: str, seed: int = 0) -> list[SimpleNamespace]:
    """`count` curves over training set size, half accuracies and half log losses: means over seeds, validation data.

    Sizes are 16 and then mostly half an octave apart: the step of a size is 1 + 2 log2(size / 16). Pairs of data set
    and learner with at least 12 sizes are drawn at random; an accuracy counts with the size of its test set.
    """
    path, rng, found = sources.fetch("lcdb", cache), np.random.default_rng(seed), []
    with tarfile.open(path) as tar:
        for kind, name in (("accuracy", "accuracy"), ("loss", "logloss")):
            file = tar.extractfile(f"{path.name.removesuffix('.tar.gz')}/lcdb/database-{name}.csv")
            columns = ["openmlid", "learner", "size_train", "size_test", "score_valid"]
            rows = pd.read_csv(file, usecols=columns)
            means = rows.groupby(columns[:3]).agg({"score_valid": "mean", "size_test": "first"}).reset_index()
            curves = [(key, group) for key, group in means.groupby(columns[:2]) if len(group) >= 12
                      and np.isfinite(group.score_valid).all() and group.score_valid.iloc[0] > 0]
            for i in rng.permutation(len(curves))[:count // 2]:
                (data, learner), group = curves[i]
                found.append(SimpleNamespace(
                    task=f"{data}", run=learner, kind=kind, n=int(group.size_test.iloc[0]) if kind == "accuracy" else 0,
                    values=tuple(group.score_valid), steps=1 + 2 * np.log2(group.size_train.to_numpy() / 16)))
    return found


def beside(curves: list, count: int) -> Company:
    """The first curve, and all of its run's."""
    found = {c.metric: np.array(c.values[:count]) for c in curves if c.metric in METRICS}
    return Company(curves[0].metric, found, max(c.n for c in curves) or None)


def judge(curve, count: int, bank, draws: int = 2000, company: Company | None = None) -> dict:
    """One forecast of one curve's end."""
    steps = curve.steps if hasattr(curve, "steps") else np.arange(1, len(curve.values) + 1)
    values, unit = np.array(curve.values), curve.values[0] if curve.kind == "loss" else 1.0
    began = time.process_time()
    f = forecast(steps[:count], values[:count], curve.n or None, [steps[-1]], curve.kind, bank, draws,
                 company=company)
    seconds, q, truth = time.process_time() - began, f.quantiles[0], values[-1]
    hit = np.less_equal if curve.kind == "loss" else np.greater_equal
    brier = [(np.mean(hit(f.samples[:, 0] / unit, t)) - hit(truth / unit, t)) ** 2 for t in TARGETS[curve.kind]]
    drawn = np.random.default_rng((count, zlib.crc32(values.tobytes()))).random()  # another place among ties each time
    hard = [float(hit(f.last / unit, t) != hit(truth / unit, t)) for t in TARGETS[curve.kind]]
    return {"task": curve.task, "kind": curve.kind, "count": count, "in90": bool(q[0] <= truth <= q[4]),
            "in50": bool(q[1] <= truth <= q[3]), "error": abs(q[2] - truth) / unit, "last": abs(f.last - truth) / unit,
            "naive": abs(f.naive[0] - truth) / unit, "width": (q[4] - q[0]) / unit, "crps": crps(q, truth) / unit,
            "brier": float(np.mean(brier)), "brier_last": float(np.mean(hard)), "seconds": seconds,
            "rank": float(np.mean(f.samples[:, 0] < truth) + drawn * np.mean(f.samples[:, 0] == truth))}


def table(rows: list[dict]) -> list[dict]:
    """One line a kind and count, with the goals beside."""
    found = []
    for kind in ("loss", "accuracy"):
        for i, count in enumerate(COUNTS):  # a mean over all tasks; `per_task` has them apart
            mine = [r for r in rows if r["kind"] == kind and r["count"] == count]
            if not mine:
                continue

            def mean(name, mine=mine):
                return metrics.bootstrap([r[name] for r in mine])

            ranks = np.array([r["rank"] for r in mine])
            middle = int(((ranks >= 0.25) & (ranks <= 0.75)).sum())
            line = {"kind": kind, "count": count, "n": len(mine), "tasks": len({r["task"] for r in mine}),
                    "coverage90": metrics.proportion(sum(r["in90"] for r in mine), len(mine)),
                    "coverage50": metrics.proportion(sum(r["in50"] for r in mine), len(mine)),
                    "coverage50_randomised": metrics.proportion(middle, len(mine)),
                    "mae": mean("error"), "mae_last": mean("last"),
                    "mae_beyond_last": metrics.bootstrap([r["error"] - r["last"] for r in mine]),
                    "mae_naive": mean("naive"), "crps": mean("crps"),
                    "brier": mean("brier"), "brier_last": mean("brier_last"),
                    "width": float(np.median([r["width"] for r in mine])),
                    "ms": 1000 * float(np.median([r["seconds"] for r in mine]))}
            line["met"] = {"coverage90": 0.85 <= line["coverage90"]["value"] <= 0.95,
                           "coverage50": 0.40 <= line["coverage50"]["value"] <= 0.60,
                           "mae": line["mae"]["value"] <= GOALS[kind]["mae"][i],
                           "brier": line["brier"]["value"] <= GOALS[kind]["brier"][i],
                           "last": line["mae"]["value"] <= line["mae_last"]["value"] + 0.01, "ms": line["ms"] <= 100}
            found.append(line)
    return found


def per_task(rows: list[dict]) -> dict:
    """MAE and coverage of each task over all counts, because a mean hides a failure."""
    return {f"{kind}/{task}": {"n": len(mine), "coverage90": round(float(np.mean([r["in90"] for r in mine])), 3),
                               "mae": round(float(np.mean([r["error"] for r in mine])), 3),
                               "mae_last": round(float(np.mean([r["last"] for r in mine])), 3)}
            for kind in ("loss", "accuracy") for task in sorted({r["task"] for r in rows})
            if (mine := [r for r in rows if r["task"] == task and r["kind"] == kind])}


def show(line: dict) -> str:
    def share(s):
        return f"{100 * s['value']:3.0f} ({100 * s['low']:.0f}-{100 * s['high']:.0f})"

    missed = [name for name, met in line["met"].items() if not met]
    return (f"{line['kind']:8s} k={line['count']:<2d} n={line['n']:<3d} 90 %: {share(line['coverage90'])}  50 %: "
            f"{share(line['coverage50'])} [{share(line['coverage50_randomised'])}]  MAE {line['mae']['value']:.3f} "
            f"last {line['mae_last']['value']:.3f} naive {line['mae_naive']['value']:.3f}  Brier "
            f"{line['brier']['value']:.3f} last {line['brier_last']['value']:.3f}  width {line['width']:.2f}  "
            f"{line['ms']:.0f} ms  missed: {', '.join(missed) or '-'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, nargs="+", help="files of benchmarks/forecast_curves.py")
    parser.add_argument("--lcdb", type=int, metavar="N", help="N curves of the LCDB instead")
    parser.add_argument("--cache", default=str(ROOT / "data" / "cache"), help="where the LCDB is fetched to")
    parser.add_argument("--company", action="store_true", help="forecast with the run's other curves at hand")
    parser.add_argument("--model", choices=("all", "hrm"), default="all", help="which of the shipped banks, and runs")
    parser.add_argument("--ahead", type=float, metavar="TIMES", help="look so far, in epochs seen; default: the end")
    parser.add_argument("--leave-out", action="store_true", help="forecast each task with a bank that lacks it")
    parser.add_argument("--raw", action="store_true", help="without a bank: the uncalibrated average")
    parser.add_argument("--tasks", action="store_true", help="print each task too")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="coverages as a figure")
    args = parser.parse_args()
    if (args.curves is None) == (args.lcdb is None):
        parser.error("expected --curves or --lcdb")
    if args.ahead is not None and (args.lcdb or args.ahead <= 1):
        parser.error(f"--ahead: got {args.ahead:g}, expected more than 1, and --curves")
    if args.company and (args.lcdb or args.raw or args.leave_out):
        parser.error("--company: got --lcdb, --raw or --leave-out beside it, expected held-out runs and the whole bank")
    began, shipped = time.process_time(), forecast_bank.shipped(args.model)
    curves = lcdb_curves(args.lcdb, args.cache) if args.lcdb else [
        c for path in args.curves for c in forecast_curves.read(path)]
    if args.model == "hrm" and args.curves:
        hrms = {(c.task, c.run) for c in curves if c.metric == "exact_match"}
        curves = [c for c in curves if (c.task, c.run) in hrms]
    banks = {task: shipped.without(task) if args.leave_out else None if args.raw else shipped
             for task in {c.task for c in curves}}
    runs = {}
    for c in curves:
        runs.setdefault((c.task, c.run), []).append(c)

    def end(c, k):
        return c if args.ahead is None else replace(c, values=c.values[:max(k + 1, round(k * args.ahead))])

    rows = [judge(end(c, k), k, banks[c.task], company=beside([c, *runs[c.task, c.run]], k) if args.company else None)
            for c in curves for k in COUNTS if k < len(c.values)]
    lines = table(rows)
    for line in lines:
        print(show(line))
    if args.plot:
        from hrm_lab import plots, plots_forecast

        labels = [{**line, "label": f"{line['kind']}, {line['count']} points"} for line in lines]
        plots.save(plots_forecast.calibration_plot(labels), args.plot, "Coverage of the 50 and 90 % intervals.")
    tasks = per_task(rows)
    if args.tasks:
        for name, found in tasks.items():
            print(name, found)
    print(json.dumps({"curves": len(curves), "tasks": len(banks), "runs": len({(c.task, c.run) for c in curves}),
                      "bank": "none" if args.raw else shipped.says("loss"), "lines": lines, "per_task": tasks,
                      "cpu_seconds": round(time.process_time() - began, 1)}))


if __name__ == "__main__":
    main()
