"""Seconds a step against sequence length, width, cycles and batch: measured, fitted, tested on what was held out.

    python benchmarks/cost_model.py [--threads 1] [--accelerator-tflops 989 --mfu 0.4] [--plot file.png]

Measures small settings (eager, fp32, real `Trainer` steps), fits `hrm_lab.cost.TimeModel`, and prints: each setting's
error when the fit did not see it; the errors on the quarter with the most FLOPs by a fit to the rest (as far as one
can test extrapolation); what the papers' runs would take on this CPU and on an accelerator of the stated rate; and
what halting early is worth. Seconds are CPU seconds over the threads, medians over steps, so that other processes
disturb them little; they are wall seconds on a quiet machine. The last line is one JSON object.
"""

import argparse
import json
import statistics

import numpy as np
import torch
from throughput import VOCAB, machine, random_puzzles, step_seconds

from hrm_lab import cost
from hrm_lab.metrics import format_score
from hrm_lab.model import HRMConfig
from hrm_lab.train import TrainConfig, Trainer

BASE = dict(tokens=36, hidden=64, batch=16, heads=4, H_layers=2, L_layers=2, H_cycles=2, L_cycles=2, variant="hrm",
            positions="rope", mixer="attention", q_continue=False)
CHANGES = [
    {}, {"tokens": 17}, {"tokens": 81}, {"tokens": 144, "batch": 8}, {"hidden": 32}, {"hidden": 128},
    {"hidden": 256, "batch": 8}, {"hidden": 256, "tokens": 81, "batch": 8}, {"batch": 2}, {"batch": 64},
    {"H_cycles": 1, "L_cycles": 1}, {"H_cycles": 3, "L_cycles": 6, "variant": "trm"}, {"variant": "trm"},
    {"hidden": 128, "tokens": 81, "mixer": "mlp", "positions": "none", "variant": "trm"},
    {"hidden": 128, "tokens": 81}, {"q_continue": True, "tokens": 49},
]
MEANS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def config_of(setting: dict) -> HRMConfig:
    rest = {k: v for k, v in setting.items() if k not in ("tokens", "batch")}
    return HRMConfig(vocab_size=VOCAB, seq_len=setting["tokens"], **rest)


def measure(setting: dict, seconds: float, threads: int) -> dict:
    c, batch = config_of(setting), setting["batch"]
    data = random_puzzles(setting["tokens"], 4 * batch)
    trainer = Trainer(c, TrainConfig(steps=10**6, batch=batch), data, torch.device("cpu"))
    _, cpu, _ = step_seconds(trainer, seconds)
    return {**setting, "seconds": statistics.median(cpu) / threads, "n": len(cpu)}


def name_of(setting: dict) -> str:
    return (f"{setting['variant']} {setting['mixer']:9} T{setting['tokens']:<4} D{setting['hidden']:<4} "
            f"B{setting['batch']:<3} H{setting['H_cycles']} L{setting['L_cycles']}{' Q' * setting['q_continue']}")


def summary(errors: np.ndarray) -> dict:
    size = np.abs(errors)
    return {"median": float(np.median(size)), "max": float(size.max()), "n": len(size)}


def published_table(works: list, seconds: np.ndarray, device: cost.TimeModel) -> list[dict]:
    rows = []
    for name, s in cost.published().items():
        asked = cost.work(s.model, s.batch)
        here = cost.predict(works, seconds, asked)
        rows.append({"name": name, "source": s.source, "batch": s.batch, "steps": s.steps, "step_seconds": here,
                     "parameters": cost.parameters(s.model), "tflop_per_step": asked.flops / 1e12,
                     "exaflop": asked.flops * s.steps / 1e18, "days_here": here["value"] * s.steps / 86400,
                     "accelerator_hours": device.seconds(asked) * s.steps / 3600,
                     "memory_gb": cost.training_bytes(s.model, s.batch) / 1e9})
    return rows


def draw(measured: list[dict], errors: np.ndarray, halting: list[dict], path: str):
    """Held-out predictions against measurements, and what each halting policy saves."""
    import matplotlib.pyplot as plt

    from hrm_lab import plots
    fig, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.6))
    seconds = np.array([m["seconds"] for m in measured])
    left.loglog(1000 * seconds, 1000 * seconds * (1 + errors), "o", color=plots.BLUE)
    ends = 1000 * np.array([seconds.min(), seconds.max()])
    left.loglog(ends, ends, color=plots.MUTED, linestyle="--")
    left.set(title="Milliseconds a step, held out", xlabel="measured", ylabel="predicted")
    means = [row["mean"] for row in halting]
    for i, policy in enumerate(cost.POLICIES[1:]):
        scores = [row[f"saving/{policy}"] for row in halting]
        right.plot(means, [s["value"] for s in scores], color=plots.PALETTE[i], linestyle=plots.DASHES[i], label=policy)
        right.fill_between(means, [s["low"] for s in scores], [s["high"] for s in scores], color=plots.PALETTE[i],
                           alpha=0.2, linewidth=0)
    right.set(title="Times cheaper than full depth", xlabel="mean segments before halting", ylim=(0, None))
    right.legend()
    plots.save(fig, path, f"Left: predicted against measured time of {len(measured)} held-out settings, median error "
               f"{100 * summary(errors)['median']:.0f} percent. Right: saving of waiting, compacting and refilling "
               f"lanes over full depth; at a mean of {means[0]:g} segments compacting is "
               f"{halting[0]['saving/compact']['value']:.1f} times cheaper.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--settings", type=int, default=len(CHANGES), help="measure only the first so many (>= 6)")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured a setting, after warm-up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accelerator-tflops", type=float, default=989.0, help="matmul peak (H100/H200, dense bf16)")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of it that is reached")
    parser.add_argument("--block-us", type=float, default=50.0, help="microseconds to launch one block's kernels there")
    parser.add_argument("--plot", help="draw the errors and the worth of halting into this PNG")
    a = parser.parse_args()
    if a.settings < 6:
        parser.error(f"--settings: got {a.settings}, expected at least 6 (five coefficients, one left out)")
    torch.set_num_threads(a.threads)
    measured = []
    print(f"{machine()}; torch {torch.__version__}, {a.threads} thread(s), fp32, eager")
    for change in CHANGES[:a.settings]:
        measured.append(measure({**BASE, **change}, a.seconds, a.threads))
        print(f"{name_of(measured[-1])}  {1000 * measured[-1]['seconds']:8.1f} ms  n = {measured[-1]['n']}", flush=True)
    works = [cost.work(config_of({k: m[k] for k in BASE}), m["batch"]) for m in measured]
    seconds = np.array([m["seconds"] for m in measured])
    model, errors = cost.fit(works, seconds), cost.held_out_errors(works, seconds)
    largest = np.argsort([w.flops for w in works])[-max(1, len(works) // 4):]
    rest = [i for i in range(len(works)) if i not in largest]
    beyond = np.zeros(0)
    if len(rest) >= 5:
        small = cost.fit([works[i] for i in rest], seconds[rest])
        beyond = np.array([small.seconds(works[i]) / seconds[i] - 1 for i in largest])
    print("\nheld out: " + ", ".join(f"{100 * e:+.0f} %" for e in errors))
    print(f"held-out error, each setting by a fit to the others: median {100 * summary(errors)['median']:.0f} %, "
          f"largest {100 * summary(errors)['max']:.0f} % (n = {len(errors)})")
    if len(beyond):
        print(f"extrapolation to the {len(beyond)} with most FLOPs by a fit to the rest: median "
              f"{100 * summary(beyond)['median']:.0f} %, largest {100 * summary(beyond)['max']:.0f} %")
    gflops, gbytes = (1e-9 / x if x else float("inf") for x in (model.per_flop, model.per_byte))
    print(f"fit: {1e3 * model.per_step:.2f} ms a step + {1e6 * model.per_block:.0f} us a block call + "
          f"products at {gflops:.0f} GFLOP/s + the rest at {gbytes:.1f} GB/s + "
          f"{1e9 * model.per_parameter_byte:.2f} ns a byte of weights updated")
    device = cost.accelerator(1e12 * a.accelerator_tflops, a.mfu)
    table = published_table(works, seconds, device)
    print(f"\nthe papers' runs: here ({a.threads} thread(s)), and at {100 * a.mfu:.0f} % of {a.accelerator_tflops:g} "
          "TFLOP/s")
    for r in table:
        print(f"{r['name']:19} {r['parameters'] / 1e6:5.1f} M  batch {r['batch']}  {r['tflop_per_step']:7.1f} "
              f"TFLOP/step x {r['steps']:,} steps: {format_score(r['step_seconds'])} a step, "
              f"{r['days_here']:,.0f} days; accelerator {r['accelerator_hours']:.1f} h; "
              f"{r['memory_gb']:.0f} GB in fp32  ({r['source']})")
    c = config_of({**BASE, "hidden": 128, "tokens": 81})  # evaluation of a Sudoku model, 64 lanes, 8 segments
    halting = cost.worth_of_halting(c, model, 64, list(MEANS))
    launching = cost.accelerator(1e12 * a.accelerator_tflops, a.mfu, 1e-6 * a.block_us)
    on_accelerator = cost.worth_of_halting(c, launching, 64, list(MEANS))
    print("\ntimes cheaper a puzzle than full depth (inference, 64 lanes, 8 segments), by mean halting depth;\n"
          f"on the accelerator with {a.block_us:g} us to launch a block, which a narrower batch does not save")
    for where, rows in (("here", halting), ("accelerator", on_accelerator)):
        for row in rows:
            savings = "  ".join(f"{p} {format_score(row[f'saving/{p}'])}" for p in cost.POLICIES[1:])
            full, *others = (1000 * row[f"solved_seconds/{p}"]["value"] for p in cost.POLICIES)
            print(f"{where:11} mean {row['mean']:.1f}, solved {100 * row['solved']['value']:3.0f} %: {savings}; "
                  f"a solved puzzle {full:.3g} ms at full depth, {min(others):.3g} ms at best")
    if a.plot:
        draw(measured, errors, halting, a.plot)
    print(json.dumps({"machine": machine(), "torch": torch.__version__, "threads": a.threads, "settings": measured,
                      "model": vars(model), "held_out": summary(errors), "held_out_errors": errors.tolist(),
                      "extrapolation": summary(beyond) if len(beyond) else None, "published": table,
                      "halting": halting, "halting_on_accelerator": on_accelerator}))


if __name__ == "__main__":
    main()
