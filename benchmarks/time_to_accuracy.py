"""Seconds and CPU-seconds from the start of a process to a stated exact match on held-out puzzles.

    python benchmarks/time_to_accuracy.py --task sudoku-4x4 [--seeds 5] [--budget 600] [--plot curves.png]
    python benchmarks/time_to_accuracy.py --task sudoku-4x4 --set train.lr=0.01 --set model.hidden=96 --split valid

Each seed is a process of its own, one after the other: what counts begins with the interpreter and holds imports,
reading the data, compilation, training and every evaluation on the way. Only making the puzzles comes before. Model
and recipe are those of notebook 02 (notebooks/presets.yaml) but for the length of the rate's schedule, which was
chosen for the target, on validation; at its end the rate stays.

The target is reached at the first evaluation, on a fixed grid of steps, whose exact match with early halting on the
same n held-out puzzles is not below it. As a first passage flatters, each run then goes on until it is twice as long,
and `held` is the least exact match in its last fifth. 9x9 and mazes have no target: they give the curve over --budget
seconds. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# task -> preset that has its recipe, exact match to reach, steps between evaluations, steps of the rate's schedule
TASKS = {"copy-increment": ("laptop", 1.0, 10, 100), "sudoku-4x4": ("laptop", 0.99, 20, 200),
         "sudoku-6x6": ("laptop", 0.95, 25, 450), "sudoku-9x9": ("full", None, 100, 6500),
         "maze-10x10": ("full", None, 50, 2000)}


def settings(task: str, changes: list[str]) -> tuple[dict, dict]:
    """What notebook 02's preset says about a task (model, train, ...), changed by `part.name=value`; the data's too."""
    from hrm_lab.notebooks import presets

    preset = presets(TASKS[task][0])
    found = dict(preset["02_puzzle_training"]["tasks"][task])
    found["train"] = found["train"] | {"steps": TASKS[task][3], "start": ""}  # from nothing
    for change in changes:
        place, _, value = change.partition("=")
        part, _, name = place.partition(".")
        if part not in ("model", "train") or not name or not value:
            raise SystemExit(f"--set: got {change!r}, expected model.NAME=VALUE or train.NAME=VALUE")
        found[part] = found[part] | {name: json.loads(value) if value[0] in "-.0123456789[tf" else value}
    return found, preset["01_data_preparation"]["datasets"][task]


def prepare(task: str, folder: Path, sizes: dict):
    """The puzzles, as notebook 01 makes them, unless they are there."""
    if not (folder / "test" / "dataset.json").exists():
        from hrm_lab.puzzles import dataset, generators
        from hrm_lab.puzzles.holdout import holdout

        options = {k: v for k, v in sizes.items() if k not in ("n_train", "n_valid", "n_test")}
        train, _ = generators.build(task, folder, sizes.get("n_train"), sizes.get("n_test"), **options)
        train, valid = holdout(train, sizes["n_valid"])
        dataset.save(folder, "train", train)
        dataset.save(folder, "valid", valid)


def race(job: dict) -> dict:
    """One seed, in a process that has done nothing before: when it reached the target, and whether it stayed."""

    from hrm_lab import act, metrics, runs
    from hrm_lab.puzzles import dataset
    from hrm_lab.train import TrainConfig, Trainer, config_from

    runs.set_threads()
    device = runs.pick_device(job["device"])
    data, held = (dataset.load(job["data"], split) for split in ("train", job["split"]))
    meta = data.meta
    model = config_from({"vocab_size": meta.vocab_size, "seq_len": meta.seq_len, "grid": meta.grid, **job["model"]})
    recipe = TrainConfig(**job["train"] | {"seed": job["seed"]})
    trainer = Trainer(model, recipe, data, device)
    setup, born = time.process_time(), time.time() - job["started"]  # seconds since the interpreter was started
    clock, first_step, curve, reached, last = time.perf_counter(), None, [], None, job["steps"] or sys.maxsize

    while trainer.step < last:
        trainer.advance()
        first_step = first_step or time.perf_counter() - clock
        if trainer.step % job["every"]:
            continue
        if recipe.ema:
            trainer.swap_average()
        found = act.evaluate(trainer.model, held, full=False, limit=job["n"], dtype=trainer.dtype)
        if recipe.ema:
            trainer.swap_average()
        scores = metrics.per_task("exact_match", found.exact, held.tasks[:len(found.exact)], meta.tasks)
        curve.append({"step": trainer.step, "seconds": round(born + time.perf_counter() - clock, 2),
                      "cpu_seconds": round(time.process_time(), 2),
                      **{name: round(score["value"], 4) for name, score in scores.items()}})
        if job["target"] and not reached and curve[-1]["exact_match"] >= job["target"]:
            reached = curve[-1]
            last = min(last, 2 * trainer.step)
        if not reached and curve[-1]["seconds"] > job["budget"]:
            break
    tail = [row["exact_match"] for row in curve if row["step"] > 0.8 * trainer.step]
    return {"seed": job["seed"], "reached": reached, "held": min(tail), "final": curve[-1], "curve": curve,
            "setup_cpu_seconds": round(setup, 2), "first_step_seconds": round(first_step, 2), "n": len(found.exact)}


def run(job: dict, threads: int) -> dict:
    with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
        json.dump(job | {"started": time.time()}, file)
        file.flush()
        environment = os.environ | {"HRM_LAB_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run([sys.executable, __file__, "--task", job["task"], "--job", file.name], text=True,
                              stdout=subprocess.PIPE, env=environment)
    if done.returncode:
        raise SystemExit(f"{job['task']}, seed {job['seed']}: the process ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def median(rows: list[dict], name: str) -> float | None:
    """Of the seeds that reached the target; None unless most did."""
    values = [row["reached"][name] for row in rows if row["reached"]]
    return round(statistics.median(values), 2) if 2 * len(values) > len(rows) else None


def summary(task: str, rows: list[dict], threads: int) -> dict:
    from hrm_lab import runs

    target = TASKS[task][1]
    ends = [row["reached"] or row["final"] for row in rows]
    names = [name for name in ends[0] if name.startswith("exact_match/")]
    kept = {} if target is None else {
        "median_seconds": median(rows, "seconds"), "median_cpu_seconds": median(rows, "cpu_seconds"),
        "median_steps": median(rows, "step"), "reached": sum(bool(row["reached"]) for row in rows),
        "cpu_seconds": sorted(row["reached"]["cpu_seconds"] for row in rows if row["reached"]),
        "held_least": min(row["held"] for row in rows), "held": sum(row["held"] >= target for row in rows)}
    return {"task": task, "target": target, "seeds": len(rows), "n": rows[0]["n"],
            "exact_match": statistics.median(end["exact_match"] for end in ends),
            "per_task": {name.split("/")[1]: statistics.median(end[name] for end in ends) for name in names},
            "median_seconds": None, "median_cpu_seconds": None, "reached": 0, **kept,
            "setup_cpu_seconds": statistics.median(row["setup_cpu_seconds"] for row in rows),
            "first_step_seconds": statistics.median(row["first_step_seconds"] for row in rows),
            "threads": threads, "facts": runs.facts(), "runs": rows}


def draw(task: str, rows: list[dict], file: str):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from hrm_lab import plots

    plots.use_style()
    figure, axes = pyplot.subplots(figsize=(6.4, 3.8))
    for row in rows:
        axes.plot([p["cpu_seconds"] for p in row["curve"]], [100 * p["exact_match"] for p in row["curve"]],
                  label=f"seed {row['seed']}")
    if TASKS[task][1]:
        axes.axhline(100 * TASKS[task][1], color="grey", linestyle=":", label="target")
    axes.set(xlabel="CPU-seconds since the process started", ylabel=f"exact match, %, n = {rows[0]['n']}", title=task)
    axes.legend()
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=600, help="wall seconds after which a seed gives up")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count()))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--n", type=int, default=500, help="held-out puzzles an evaluation")
    parser.add_argument("--split", choices=("test", "valid"), default="test", help="to try settings, use valid")
    parser.add_argument("--steps", type=int, default=0, help="stop after so many optimiser steps; 0: only the budget")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "built" / "benchmark", help="made if not there")
    parser.add_argument("--set", action="append", default=[], metavar="PART.NAME=VALUE", dest="changes")
    parser.add_argument("--plot", metavar="FILE.png")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        return print(json.dumps(race(json.loads(Path(args.job).read_text()))))
    found, sizes = settings(args.task, args.changes)
    prepare(args.task, args.data / args.task, sizes)
    job = {"task": args.task, "data": str(args.data / args.task), "split": args.split, "model": found["model"],
           "train": found["train"], "target": TASKS[args.task][1], "every": TASKS[args.task][2], "n": args.n,
           "budget": args.budget, "steps": args.steps, "device": args.device}
    rows = []
    for seed in range(args.seeds):
        rows.append(run(job | {"seed": seed}, args.threads))
        end = rows[-1]["reached"] or rows[-1]["final"]
        print(f"{args.task}, seed {seed}: {'reached' if rows[-1]['reached'] else 'NOT reached'}: exact match "
              f"{100 * end['exact_match']:.1f} % at step {end['step']}, {end['seconds']:.1f} s, "
              f"{end['cpu_seconds']:.1f} CPU-s; least in the last fifth {100 * rows[-1]['held']:.1f} %", flush=True)
    if args.plot:
        draw(args.task, rows, args.plot)
    print(json.dumps(summary(args.task, rows, args.threads)))


if __name__ == "__main__":
    main()
