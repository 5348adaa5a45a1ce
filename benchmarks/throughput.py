"""Training throughput of HRM and TRM: steps and samples a second, GFLOP/s, share of the measured matmul peak, memory.

    python benchmarks/throughput.py [--models hrm,trm] [--sizes 128x64,512x32] [--tokens 81] [--eager | --compiled]
    python benchmarks/throughput.py --device cuda --precision bf16 --compiled --sizes 512x768 --peak-tflops 989

A size is hidden x batch. Each setting runs in a process of its own, so that its peak memory is its own, with an empty
compiler cache, so that `compile_seconds` is what a first run pays. A step is the real one: `hrm_lab.train.Trainer`
with Adam-atan2, refill, clipping and all, on random puzzles. FLOPs are those of `hrm_lab.cost`. The peak is the
fastest of several products in the same precision, the models' own shapes among them, measured once before the
settings; with --peak-tflops the stated peak takes its place (on an accelerator the share of it is the MFU). Seconds
are medians over steps after warm-up, with quartiles. On a CPU that others use, too, the share "by CPU s" says what the
share of the peak would be were every CPU second a second. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from hrm_lab import cost, onednn
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles.dataset import Meta, Split
from hrm_lab.runs import pick_device
from hrm_lab.train import DTYPES, TrainConfig, Trainer

VOCAB = 11  # Sudoku's
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 512, 1536))
BIG_SHAPES = ((8192, 8192, 8192), (16384, 4096, 4096))  # an accelerator needs more to be busy


def model_config(model: str, hidden: int, tokens: int) -> HRMConfig:
    """The models of the comparison: HRM with 2 + 2 layers, TRM with 2 shared ones, both H2 L2, RoPE, halt-only."""
    return HRMConfig(vocab_size=VOCAB, seq_len=tokens, variant=model, hidden=hidden, heads=8 if hidden >= 256 else 4,
                     H_layers=2, L_layers=2, H_cycles=2, L_cycles=2, expansion=4.0, inner_multiple=256,
                     positions="rope")


def random_puzzles(tokens: int, n: int, seed: int = 0) -> Split:
    """Puzzles without a rule: what a step costs does not depend on what is learnt."""
    rng = np.random.default_rng(seed)
    inputs, labels = rng.integers(1, VOCAB, (2, n, tokens)).astype(np.int32)
    meta = Meta(seq_len=tokens, vocab_size=VOCAB, name="random", total_groups=n)
    return Split(inputs, labels, np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.float32),
                 np.arange(n, dtype=np.int32), meta)


def synchronise(device: torch.device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def step_seconds(trainer: Trainer, seconds: float, least: int = 3) -> tuple[list[float], list[float], float]:
    """Wall and CPU seconds of each step, for `seconds` and at least `least` steps; and the first step's, apart."""
    def step() -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.advance()
        synchronise(trainer.device)
        return time.perf_counter() - wall, time.process_time() - cpu

    first = step()[0]
    step()  # allocators and caches warm up on the second step, too
    wall, cpu, began = [], [], time.perf_counter()
    while len(wall) < least or time.perf_counter() - began < seconds:
        w, p = step()
        wall.append(w)
        cpu.append(p)
    return wall, cpu, first


def matmul_peak(shapes: list, precision: str, device: torch.device, seconds: float) -> dict:
    """The fastest product (m, k) x (k, n) among the shapes, in GFLOP/s, by any library; the best repetition counts."""
    rates = {}
    for m, k, n in shapes:
        a, b = (torch.randn(size, dtype=DTYPES[precision], device=device) for size in ((m, k), (k, n)))
        out, transposed, best, began, done = torch.mm(a, b), b.t().contiguous(), float("inf"), time.perf_counter(), 0
        calls = [lambda a=a, b=b, out=out: torch.mm(a, b, out=out)]
        if precision == "fp32" and onednn.available(device):
            calls.append(lambda a=a, w=transposed: onednn.product(a, w))
        while done < 3 * len(calls) or time.perf_counter() - began < seconds / len(shapes):
            synchronise(device)
            t = time.perf_counter()
            calls[done % len(calls)]()
            synchronise(device)
            best, done = min(best, time.perf_counter() - t), done + 1
        rates[f"{m}x{k}x{n}"] = 2e-9 * m * k * n / best
    shape = max(rates, key=rates.get)
    return {"peak_gflops": rates[shape], "shape": shape, "rates": {s: round(r, 1) for s, r in rates.items()}}


def peak_rss_mb() -> float:
    """Largest resident memory of this process. VmHWM where there is one: ru_maxrss begins with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(s: dict) -> dict:
    """One setting in this process; s: model, hidden, batch, tokens, compiled, precision, threads, seconds, device."""
    torch.set_num_threads(s["threads"])
    device = pick_device(s["device"])
    c = model_config(s["model"], s["hidden"], s["tokens"])
    config = TrainConfig(steps=10**6, batch=s["batch"], precision=s["precision"], compile=s["compiled"],
                         micro_batch=s["micro_batch"])
    trainer = Trainer(c, config, random_puzzles(s["tokens"], 4 * s["batch"]), device)
    wall, cpu, first = step_seconds(trainer, s["seconds"])
    median, (low, high) = statistics.median(wall), np.quantile(wall, [0.25, 0.75])
    work = cost.work(c, s["batch"])
    found = {"samples_per_second": s["batch"] / median, "steps_per_second": 1 / median, "step_ms": 1000 * median,
             "step_ms_quartiles": [1000 * low, 1000 * high], "cpu_ms": 1000 * statistics.median(cpu),
             "gflop_per_step": work.flops / 1e9, "gflops": work.flops / 1e9 / median, "peak_rss_mb": peak_rss_mb(),
             "compile_seconds": max(0.0, first - median) if s["compiled"] else 0.0, "n": len(wall),
             "parameters": cost.parameters(c)}
    if device.type == "cuda":
        found["peak_cuda_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return {k: s[k] for k in ("model", "hidden", "tokens", "batch", "micro_batch", "compiled", "precision")} | found


def in_own_process(task: str, argument: dict) -> dict:
    """Run `measure` or `matmul_peak` in a fresh Python with an empty compiler cache."""
    with tempfile.TemporaryDirectory() as cache:
        threads = {name: str(argument["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        done = subprocess.run([sys.executable, __file__, task, json.dumps(argument)], capture_output=True, text=True,
                              env={**os.environ, **threads, "TORCHINDUCTOR_CACHE_DIR": cache})
    if done.returncode:
        raise SystemExit(f"{task} {argument}: exit status {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def child(task: str, argument: dict) -> dict:
    if task == "measure":
        return measure(argument)
    torch.set_num_threads(argument["threads"])
    return matmul_peak(argument["shapes"], argument["precision"], pick_device(argument["device"]), argument["seconds"])


def shapes_of(models: list[str], sizes: list[tuple[int, int]], tokens: list[int], big: bool) -> list:
    """(m, k, n) of every product inside the levels of the settings, and some that suit the machine."""
    shapes = {(batch * T, columns, rows) for model in models for hidden, batch in sizes for T in tokens
              for rows, columns in cost.matrices(model_config(model, hidden, T))}
    return sorted(shapes | set(SHAPES) | set(BIG_SHAPES if big else ()))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="hrm,trm")
    parser.add_argument("--sizes", default="128x64,512x32", help="hidden x batch, comma-separated")
    parser.add_argument("--tokens", default="81")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--eager", action="store_true", help="eager only (default: both)")
    which.add_argument("--compiled", action="store_true", help="compiled only (default: both)")
    parser.add_argument("--precision", choices=sorted(DTYPES), default="fp32")
    parser.add_argument("--micro-batch", type=int, default=0, help="lanes a pass (0: all at once)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="measured a setting, after warm-up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="the device's stated peak (default: measured)")
    a = parser.parse_args(arguments)
    a.models, a.tokens = a.models.split(","), [int(t) for t in a.tokens.split(",")]
    try:
        a.sizes = [tuple(int(n) for n in size.split("x")) for size in a.sizes.split(",")]
        assert all(len(size) == 2 for size in a.sizes)
    except (ValueError, AssertionError):
        parser.error(f"--sizes: got {a.sizes}, expected hidden x batch, as in 128x64,512x32")
    if unknown := set(a.models) - {"hrm", "trm"}:
        parser.error(f"--models: got {', '.join(sorted(unknown))}, expected hrm, trm or both")
    return a


def machine() -> str:
    """The processor, as the system names it."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
             if line.startswith("model name")] if info.exists() else []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} logical cores"


def main():
    a = parse()
    common = {"precision": a.precision, "threads": a.threads, "device": a.device, "micro_batch": a.micro_batch}
    shapes = shapes_of(a.models, a.sizes, a.tokens, big=a.device != "cpu")
    peak = in_own_process("peak", {**common, "shapes": shapes, "seconds": a.seconds})
    if a.peak_tflops:
        peak |= {"measured_gflops": peak["peak_gflops"], "peak_gflops": 1000 * a.peak_tflops, "shape": "as stated"}
    print(f"{machine()}; torch {torch.__version__}, {a.threads} thread(s), {a.device}, {a.precision}; "
          f"matmul peak {peak['peak_gflops']:.0f} GFLOP/s ({peak['shape']})")
    print(f"{'model':5} {'hidden':>6} {'tokens':>6} {'batch':>5} {'mode':8} {'ms/step':>9} {'quartiles':>17} "
          f"{'samples/s':>10} {'GFLOP/s':>8} {'of peak':>8} {'by CPU s':>8} {'RSS MB':>7} "
          f"{'compile s':>9} {'n':>4}", flush=True)
    results = []
    for model in a.models:
        for hidden, batch in a.sizes:
            for tokens in a.tokens:
                for compiled in [False] * (not a.compiled) + [True] * (not a.eager):
                    r = in_own_process("measure", {**common, "model": model, "hidden": hidden, "tokens": tokens,
                                                   "batch": batch, "compiled": compiled, "seconds": a.seconds})
                    share = r["gflops"] / peak["peak_gflops"]
                    by_cpu = share * r["step_ms"] * a.threads / r["cpu_ms"] if a.device == "cpu" else None
                    r |= {"peak_gflops": peak["peak_gflops"], "share_of_peak": share, "share_of_peak_cpu": by_cpu}
                    results.append(r)
                    low, high = r["step_ms_quartiles"]
                    print(f"{model:5} {hidden:6} {tokens:6} {batch:5} {'compiled' if compiled else 'eager':8} "
                          f"{r['step_ms']:9.1f} {low:8.1f}-{high:<8.1f} {r['samples_per_second']:10.1f} "
                          f"{r['gflops']:8.1f} {100 * r['share_of_peak']:6.1f} % "
                          f"{f'{100 * by_cpu:6.1f} %' if by_cpu else '-':>8} {r['peak_rss_mb']:7.0f} "
                          f"{r['compile_seconds']:9.1f} {r['n']:4}", flush=True)
    print(json.dumps({"machine": machine(), "torch": torch.__version__, "threads": a.threads, "device": a.device,
                      "peak": peak, "results": results}))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in ("measure", "peak"):
        print(json.dumps(child(sys.argv[1], json.loads(sys.argv[2]))))
    else:
        main()
