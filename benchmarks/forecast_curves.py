"""Train many small models for 50 epochs each and keep their learning curves, to calibrate and to judge forecasts.

    python benchmarks/forecast_curves.py --set design --out data/forecast/design.csv [--shared earlier.json ...]
    python benchmarks/forecast_curves.py --set held-out --cache data/cache --out data/forecast/held_out.csv
    python benchmarks/forecast_curves.py --set held-out-2 --cache data/cache --out data/forecast/held_out_2.csv

The tasks of the sets are different ones: no curve of a held-out set was looked at before the design that it judges was
fixed. The second set judges the design that was made, on the design set alone, after the first set had been judged.
Models: HRMs of this repository (hidden 16 to 48) and MLPs, several of which train in lock step as one batched product.
Rate, schedule, width, optimiser, weight decay and label noise are drawn for each run; nothing is thrown away. A second
call goes on where the first was stopped. --shared takes earlier runs in their JSON format. Real text is that of
Python's own `pydoc_data`; real tables are those of the pinned statsmodels sdist. The last line is one JSON object.
"""

import argparse
import csv
import io
import json
import math
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hrm_lab import act, runs, sources  # noqa: E402
from hrm_lab.forecast_curves import Curve, read, write  # noqa: E402
from hrm_lab.model import HRMConfig  # noqa: E402
from hrm_lab.puzzles import mazes, sudoku_build, toys  # noqa: E402
from hrm_lab.puzzles.layout import Meta, Split  # noqa: E402
from hrm_lab.train import TrainConfig, Trainer  # noqa: E402

EPOCHS, EVALUATED = 50, 200
# task -> runs; those of an HRM name a puzzle, those of an MLP a table
DESIGN = {"hrm": {"copy-increment": 6, "sort": 5, "add": 5, "parity": 5, "mode": 4, "maze-4x4": 5},
          "mlp": {"circles": 12, "spiral": 12, "checkerboard": 12, "parity-5": 12, "teacher": 12, "markov": 12,
                  "mixture-8": 12}}
HELD_OUT = {"hrm": {"sudoku-4x4": 14, "maze-6x6": 10, "brackets": 10},
            "mlp": {"text": 12, "fair": 12, "randhie": 12, "anes96": 12}}
HELD_OUT_2 = {"hrm": {"rule-110": 10, "cummax": 10, "substitute": 10},
              "mlp": {"xor-gauss": 12, "sine": 12, "glyphs": 12, "code": 12, "modechoice": 12}}
SETS = {"design": DESIGN, "held-out": HELD_OUT, "held-out-2": HELD_OUT_2}


# ---------------------------------------------------------------- tasks


def toy(task: str, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Token sequences and their labels, tokens from 1; the label has the length of the input."""
    if task == "sort":
        x = rng.integers(1, 9, (n, 8))
        return x, np.sort(x, 1)
    if task == "parity":  # of all bits up to here
        x = rng.integers(0, 2, (n, 10))
        return x + 1, x.cumsum(1) % 2 + 1
    if task == "mode":  # the most frequent token, everywhere
        x = rng.integers(1, 5, (n, 9))
        return x, np.repeat((x[:, :, None] == np.arange(1, 5)).sum(1).argmax(1)[:, None] + 1, 9, 1)
    if task == "add":  # two numbers of four digits, least digit first; the sum's fifth digit is lost
        a, b = rng.integers(0, 10, (2, n, 4))
        total = ((a + b) * 10 ** np.arange(4)).sum(1)
        digits = total[:, None] // 10 ** np.arange(4) % 10
        return np.concatenate((a, b), 1) + 1, np.concatenate((digits, digits), 1) + 1
    if task == "brackets":  # depth after each bracket, cut to 0..5
        x = rng.integers(0, 2, (n, 12))
        depth = np.zeros((n, 12), np.int64)
        level = np.zeros(n, np.int64)
        for i in range(12):
            level = (level + 2 * x[:, i] - 1).clip(0, 5)
            depth[:, i] = level
        return x + 1, depth + 1
    if task == "rule-110":  # two steps of the cellular automaton, on a ring
        x = y = rng.integers(0, 2, (n, 12))
        for _ in range(2):
            y = 110 >> (4 * np.roll(y, 1, 1) + 2 * y + np.roll(y, -1, 1)) & 1
        return x + 1, y + 1
    if task == "cummax":
        x = rng.integers(1, 10, (n, 10))
        return x, np.maximum.accumulate(x, 1)
    if task == "substitute":  # a table of five symbols, then seven of them to look up
        codes, keys = rng.permuted(np.tile(np.arange(5), (n, 1)), axis=1), rng.integers(0, 5, (n, 7))
        answers = np.take_along_axis(codes, keys, 1)
        return np.concatenate((codes, keys), 1) + 1, np.concatenate((codes, answers), 1) + 1
    raise SystemExit(f"no task {task!r}")


def puzzles(task: str, seed: int) -> tuple[Split, Split]:
    """Training and held-out puzzles."""
    if task.startswith("sudoku"):
        return sudoku_build.sudoku(4, 600, EVALUATED, seed)
    if task.startswith("maze"):
        size = int(task[-1])
        return mazes.mazes(size, size, 300, EVALUATED, seed)
    if task == "copy-increment":
        return toys.copy_increment(600, EVALUATED, seed, True)
    rng = np.random.default_rng(seed)
    x, y = (a.astype(np.int32) for a in toy(task, 600 + EVALUATED, rng))
    meta = Meta(seq_len=x.shape[1], vocab_size=int(max(x.max(), y.max())) + 1, name=task)

    def split(part):
        zero = np.zeros(len(x[part]), np.int32)
        return Split(x[part], y[part], zero, zero, zero.astype(np.float32), np.arange(len(zero), dtype=np.int32), meta)

    return split(slice(600)), split(slice(600, None))


def table(task: str, rng: np.random.Generator, cache: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and classes (N,)."""
    n = 1000
    if task == "circles":
        y = rng.integers(0, 3, n)
        angle, radius = rng.uniform(0, 2 * np.pi, n), 1 + y + 0.3 * rng.standard_normal(n)
        return np.stack((radius * np.cos(angle), radius * np.sin(angle)), 1), y
    if task == "spiral":
        y, r = rng.integers(0, 3, n), rng.uniform(0.1, 1, n)
        angle = 6 * r + 2 * np.pi * y / 3 + 0.15 * rng.standard_normal(n)
        return np.stack((r * np.cos(angle), r * np.sin(angle)), 1), y
    if task == "checkerboard":
        x = rng.uniform(0, 4, (n, 2))
        return x, np.floor(x).sum(1).astype(int) % 2
    if task == "parity-5":  # of five of ten bits: nothing is learnt for a while
        x = rng.integers(0, 2, (n, 10))
        return x, x[:, :5].sum(1) % 2
    if task == "teacher":  # labels of a random network, a tenth of them wrong
        x = rng.standard_normal((n, 12))
        y = (np.tanh(x @ rng.standard_normal((12, 16))) @ rng.standard_normal((16, 5))).argmax(1)
        return x, np.where(rng.random(n) < 0.1, rng.integers(0, 5, n), y)
    if task == "markov":
        chain, text = rng.dirichlet(np.full(10, 0.3), (10, 10)), [0, 1]
        while len(text) < 4 * n:
            text.append(int(rng.choice(10, p=chain[text[-2], text[-1]])))
        return windows(np.array(text), 3, 10)
    if task == "mixture-8":
        centres, y = 1.5 * rng.standard_normal((24, 6)), rng.integers(0, 24, n)
        return centres[y] + rng.standard_normal((n, 6)), y % 8
    if task == "text":
        from pydoc_data import topics

        letters = "".join(topics.topics[k] for k in sorted(topics.topics)).lower()
        known = " abcdefghijklmnopqrstuvwxyz.,\n"
        start = int(rng.integers(0, 300_000))
        return windows(np.array([max(known.find(c), 0) for c in letters[start:start + 4 * n]]), 4, len(known))
    if task == "code":
        known = " \nabcdefghijklmnopqrstuvwxyz_()[]{}.,:='\"#0123456789"
        source, start = Path(argparse.__file__).read_text().lower(), int(rng.integers(0, 60_000))
        return windows(np.array([max(known.find(c), 0) for c in source[start:start + 4 * n]]), 4, len(known))
    if task == "xor-gauss":
        x = rng.standard_normal((n, 6))
        return x + 0.2 * rng.standard_normal((n, 6)), ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int)
    if task == "sine":
        x = rng.uniform(-2, 2, (n, 2))
        return x, (x[:, 1] > np.sin(3 * x[:, 0]) + 0.2 * rng.standard_normal(n)).astype(int)
    if task == "glyphs":  # ten pictures of 6 x 6, a fifth of their points wrong
        glyphs, y = rng.integers(0, 2, (10, 36)), rng.integers(0, 10, n)
        return glyphs[y] ^ (rng.random((n, 36)) < 0.2), y
    columns = {"fair": "affairs", "randhie": "mdvis", "anes96": "vote", "modechoice": "choice"}
    path = sources.fetch("statsmodels", cache)
    with tarfile.open(path) as tar:
        name = f"{path.name.removesuffix('.tar.gz')}/statsmodels/datasets/{task}/{task}.csv"
        text = tar.extractfile(name).read().decode()
    delimiter = next(mark for mark in "\t;," if mark in text.splitlines()[0])
    rows = list(csv.DictReader(io.StringIO(text.replace("'", "")), delimiter=delimiter))
    names = [c for c in rows[0] if c != columns[task]]
    x = np.array([[float(r[c]) for c in names] for r in rows])
    y = (np.array([float(r[columns[task]]) for r in rows]) > 0).astype(int)
    kept = rng.permutation(len(x))[:n]
    return x[kept], y[kept]


def windows(text: np.ndarray, width: int, symbols: int) -> tuple[np.ndarray, np.ndarray]:
    """One-hot contexts and the symbol that follows."""
    seen = np.lib.stride_tricks.sliding_window_view(text[:-1], width)
    return np.eye(symbols)[seen].reshape(len(seen), -1), text[width:]


# ---------------------------------------------------------------- models


def train_hrm(task: str, run: int) -> dict[str, list[float]]:
    rng = np.random.default_rng(abs(hash_of(task, run)))
    data, valid = puzzles(task, int(rng.integers(1000)))
    steps = int(rng.integers(4, 10))  # an epoch
    model = HRMConfig(data.meta.vocab_size, data.meta.seq_len, variant=str(rng.choice(["hrm", "trm"])),
                      hidden=int(rng.choice([16, 32, 48])), heads=2, H_layers=1, L_layers=int(rng.integers(1, 3)),
                      H_cycles=1, L_cycles=int(rng.integers(1, 3)), inner_multiple=16, expansion=2.0,
                      halt_max_steps=int(rng.integers(1, 4)))
    recipe = TrainConfig(steps=steps * EPOCHS, batch=32, lr=float(10 ** rng.uniform(-3.2, -1.7)), warmup=steps,
                         optimizer=str(rng.choice(["adam-atan2", "muon"])), lr_min_ratio=float(rng.choice([0.1, 1.0])),
                         weight_decay=float(rng.choice([0.0, 0.1, 1.0])), ema=float(rng.choice([0.0, 0.9])),
                         label_noise=float(rng.choice([0.0, 0.0, 0.1])), seed=run)
    return followed(Trainer(model, recipe, data, torch.device("cpu")), valid, steps)


def followed(trainer: Trainer, valid: Split, steps: int) -> dict[str, list[float]]:
    """Curves of all epochs, each of so many steps and evaluated with the averaged weights if there are any."""
    found = {name: [] for name in ("loss", "train_loss", "token_accuracy", "exact_match")}
    for _ in range(EPOCHS):
        found["train_loss"].append(float(np.mean([float(trainer.advance()["loss"]) for _ in range(steps)])))
        if trainer.config.ema:
            trainer.swap_average()
        seen = act.evaluate(trainer.model, valid, full=False)
        if trainer.config.ema:
            trainer.swap_average()
        for name, values in (("loss", seen.loss), ("token_accuracy", seen.token_accuracy), ("exact_match", seen.exact)):
            found[name].append(float(values.mean()))
    return found


def train_mlps(task: str, runs_: list[int], cache: str) -> list[dict[str, list[float]]]:
    """MLPs of one width in lock step: every weight has a leading dimension of R runs, with a rate and decay each."""
    rng, R = np.random.default_rng(abs(hash_of(task, runs_[0]))), len(runs_)
    torch.manual_seed(int(rng.integers(2**31)))
    x, y = table(task, rng, cache)
    order = rng.permutation(len(x))
    x, y = (x[order] - x.mean(0)) / (x.std(0) + 1e-6), y[order]
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    held = min(EVALUATED * 2, len(x) // 3)
    xv, yv, x, y = x[:held], y[:held], x[held:], y[held:]
    classes, hidden, depth = int(y.max()) + 1, int(rng.choice([8, 24, 64])), int(rng.integers(1, 4))
    batch, adam = int(rng.choice([32, 64, 128])), bool(rng.random() < 0.7)
    rate = torch.tensor(10 ** rng.uniform(-3.7, -1.7, R), dtype=torch.float32) * (1 if adam else 10)
    decay = torch.tensor(rng.choice([0.0, 0.01, 0.1], R), dtype=torch.float32)
    cosine, noise = torch.tensor(rng.random(R) < 0.5), torch.tensor(rng.choice([0.0, 0.0, 0.15], R))
    labels = torch.where(torch.rand(R, len(y)) < noise[:, None], torch.randint(classes, (R, len(y))), y)
    sizes = [x.shape[1], *[hidden] * depth, classes]
    weights = [torch.randn(R, a, b) * (2 / a) ** 0.5 for a, b in zip(sizes, sizes[1:], strict=False)]
    biases = [torch.zeros(R, 1, b) for b in sizes[1:]]
    params = [p.requires_grad_() for p in weights + biases]
    first, second = ([torch.zeros_like(p) for p in params] for _ in range(2))

    def logits(h):
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            h = torch.baddbmm(b, h.relu() if i else h, w)
        return h

    def losses(out, target):
        return torch.nn.functional.cross_entropy(out.transpose(1, 2), target, reduction="none").mean(1)

    found, step, total = [], 0, EPOCHS * math.ceil(len(x) / batch)
    for _ in range(EPOCHS):
        order, seen = torch.rand(R, len(x)).argsort(1), []
        for start in range(0, len(x), batch):
            rows = order[:, start:start + batch]
            loss = losses(logits(x[rows]), labels.gather(1, rows))
            seen.append(loss.detach())
            grads = torch.autograd.grad(loss.sum(), params)
            step += 1
            now = rate * torch.where(cosine, 0.5 * (1 + math.cos(math.pi * step / total)), 1.0)
            with torch.no_grad():
                for p, g, m, v in zip(params, grads, first, second, strict=True):
                    pace = now[:, None, None]
                    p -= pace * decay[:, None, None] * p
                    m.lerp_(g, 0.1)
                    if adam:
                        v.lerp_(g * g, 0.01)
                        p -= pace * (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)).sqrt() + 1e-8)
                    else:
                        p -= pace * m
        with torch.no_grad():
            out = logits(xv.expand(R, -1, -1))
            right = (out.argmax(-1) == yv).float().mean(1)
            found.append(torch.stack((losses(out, yv.expand(R, -1)), torch.stack(seen).mean(0), right)))
    curves = torch.stack(found).permute(2, 1, 0).double().numpy()  # (R, 3, epochs)
    return [dict(zip(("loss", "train_loss", "token_accuracy"), map(list, c), strict=True)) for c in curves]


def hash_of(task: str, run: int) -> int:
    """The same on every machine and in every process."""
    return int.from_bytes(f"{task}/{run}".encode(), "big") % (2**61 - 1)


def as_curves(task: str, run: str, n: int, found: dict[str, list[float]]) -> list[Curve]:
    """Curves that are finite; a run that diverged has none, which is said by the caller."""
    return [Curve(task, run, name, "loss" if "loss" in name else "accuracy", 0 if "loss" in name else n,
                  tuple(float(f"{v:.4g}") for v in values))
            for name, values in found.items() if np.isfinite(values).all() and min(values) >= 0]


def shared_curves(files: list[str]) -> list[Curve]:
    names = {"val_loss": "loss", "train_loss": "train_loss", "val_acc": "token_accuracy", "val_exact": "exact_match"}
    rows = [row for file in files for row in json.loads(Path(file).read_text())]
    return [curve for i, row in enumerate(rows) for curve in as_curves(
        f"{row['kind']}-{row['task']}", f"earlier-{i}", 0, {new: row[old] for old, new in names.items() if old in row})]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--shared", nargs="*", default=[], metavar="FILE.json", help="earlier runs, for the design set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", default=str(ROOT / "data" / "cache"))
    parser.add_argument("--runs", type=int, default=10**6, help="at most so many runs a task")
    parser.add_argument("--only", nargs="*", metavar="TASK", help="these tasks alone")
    args = parser.parse_args()
    runs.set_threads()
    began = time.process_time()
    plan = {model: {task: count for task, count in tasks.items() if not args.only or task in args.only}
            for model, tasks in SETS[args.set].items()}
    curves = read(args.out) if args.out.exists() else shared_curves(args.shared)
    done = {(c.task, c.run) for c in curves}
    for task, count in plan["mlp"].items():
        for start in range(0, min(count, args.runs), 6):
            mine = list(range(start, min(start + 6, count, args.runs)))
            if (task, str(start)) not in done:
                for i, found in zip(mine, train_mlps(task, mine, args.cache), strict=True):
                    curves += as_curves(task, str(i), 2 * EVALUATED, found)
                write(args.out, curves)
                print(f"{task} {mine[0]}-{mine[-1]}: {time.process_time() - began:.0f} CPU-s", flush=True)
    for task, count in plan["hrm"].items():
        for i in range(min(count, args.runs)):
            if (task, str(i)) not in done:
                curves += as_curves(task, str(i), EVALUATED, train_hrm(task, i))
                write(args.out, curves)
        print(f"{task}: {time.process_time() - began:.0f} CPU-s", flush=True)
    print(json.dumps({"set": args.set, "tasks": len({c.task for c in curves}), "curves": len(curves),
                      "runs": len({(c.task, c.run) for c in curves}), "bytes": args.out.stat().st_size,
                      "cpu_seconds": round(time.process_time() - began, 1)}))


if __name__ == "__main__":
    main()
