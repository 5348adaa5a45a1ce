"""What does each part buy? Arms that change one thing, at equal parameters and for equal CPU-seconds.

What is unusual:
- The budget is CPU time, not steps. Before anything is trained, every arm runs a few steps in turn with the others;
  the quickest group of each gives its CPU-seconds a step, and `steps` = budget / that. So the cosine of every arm ends
  where its budget ends, all seeds of an arm do the same steps, and a busy machine favours no arm. Only training counts:
  no arm looks at validation on its way, and its averaged weights are judged once, at the end, on the test split.
- A rate tuned for the base alone would favour it: the main arms each choose theirs on validation, with a seed that is
  not among the judged ones, and an arm derived from one of them takes over its choice.
- Every finished run is one line of metrics.jsonl, found again by its settings, data and code: a killed one goes on.

    python -m hrm_lab.ablation --preset full --task sudoku-6x6 --workers 2

Sources: the questions are those of ARC Prize's analysis of HRM (2025: outer loop and augmentation matter, the hierarchy
hardly) and of TRM's ablations (arXiv 2510.04871, table 1). What came out: `hrm_lab.ablation_results`.
"""

import argparse
import hashlib
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hrm_lab import act, notebooks, runs
from hrm_lab.ablation_results import findings, outcomes, scores, table
from hrm_lab.model import HRM, HRMConfig, count_parameters
from hrm_lab.puzzles import dataset
from hrm_lab.train import TrainConfig, Trainer, code_fingerprint, fingerprint

STEM = "02_puzzle_training"
NEVER = 1 - 1e-15  # as halt_confidence: a logit of 34, which no head gives
TRIAL_SEED = 1000  # for the choice of learning rates; judged seeds are 0, 1, 2, ...
TOLERANCE = 0.02  # of equal parameters
WARM, ROUNDS, GROUP = 1, 4, 2  # steps before measuring; groups of steps that are measured


@dataclass(frozen=True)
class Arm:
    """One change of the base, and the question that it answers. `rate_from`: the main arm whose tuned rate it takes."""

    name: str
    question: str
    model: HRMConfig
    recipe: TrainConfig
    rate_from: str = "trm"
    same_size: bool = True  # False: the change needs other parameters, and the table says so


@dataclass(frozen=True)
class Study:
    """An ablation of one task: `cpu_seconds` of training for each of `arms` and each of `seeds`."""

    data: str  # folder of the dataset
    arms: tuple[Arm, ...]  # the base first
    seeds: int
    cpu_seconds: float
    rates: tuple[float, ...]  # factors on the base's learning rate that the main arms choose from
    puzzles: int = 0  # how many of a split judge a run, the first ones; 0: all


@dataclass(frozen=True)
class Job:
    """One training run, judged on one split."""

    data: str
    split: str
    arm: str
    model: HRMConfig
    recipe: TrainConfig
    puzzles: int = 0


# ---------------------------------------------------------------- what is compared


def arms(base: HRMConfig, recipe: TrainConfig) -> dict[str, Arm]:
    """All arms around `base`, a `trm` whose stack can be divided in two; ValueError if it cannot.

    The parameters stay: the stack of 2k layers that trm uses for both levels is divided into k for H and k for L in
    `hrm`, `plain` and `loop`. A *pass* is one use of that many layers: 2k for trm, k for hrm; trm does
    H_cycles (L_cycles + 1) passes a segment, `loop` two of k, so each weight is used once a segment.
    """
    for name, good in (("variant", base.variant == "trm"), ("L_layers", base.L_layers % 2 == 0),
                       ("halt_max_steps", base.halt_max_steps > 1), ("q_continue", not base.q_continue)):
        if not good:
            raise ValueError(f"ablation: base {name}: got {getattr(base, name)}, expected variant trm, an even "
                             "L_layers, halt_max_steps above 1 and no q_continue")
    half = base.L_layers // 2
    passes = base.H_cycles * (base.L_cycles + 1)
    hrm = replace(base, variant="hrm", gradient="last-cycle", H_layers=half, L_layers=half)
    loop = replace(hrm, H_cycles=1, L_cycles=1)
    deep = {"H_cycles": 1, "L_cycles": passes * base.halt_max_steps - 1}
    found = [
        Arm("trm", "the base: one stack for both levels, inner cycles, outer loop", base, recipe),
        Arm("hrm", "do separate networks for H and L help?", hrm, recipe, "hrm"),
        Arm("hrm, one-step", "and with HRM's published one-step gradient?", replace(hrm, gradient="one-step"), recipe,
            "hrm"),
        Arm("trm, one-step", "what does the gradient through the whole cycle buy?", replace(base, gradient="one-step"),
            recipe),
        Arm("trm, flat", "are more segments with z_L and z_H updated once each, to the same depth, as good?",
            replace(base, H_cycles=1, L_cycles=1, halt_max_steps=passes * base.halt_max_steps // 2), recipe),
        Arm("plain", "is one pass through the same layers, no loop at all, enough?",
            replace(hrm, variant="plain", gradient="", halt_max_steps=1), recipe, "plain"),
        Arm("loop", "is the outer loop enough: each layer once a segment, no inner cycles?", loop, recipe, "loop"),
        Arm("loop, deep", f"the same with {passes} times the segments, as deep in all as the base?",
            replace(loop, halt_max_steps=passes * base.halt_max_steps), recipe, "loop"),
        Arm("no outer loop", "are the cycles of one segment enough?", replace(base, halt_max_steps=1), recipe),
        Arm("no outer loop, deep", "or as many cycles as the base has in all, gradient through all of them?",
            replace(base, halt_max_steps=1, **deep), recipe),
        Arm("no halting", "what does halting buy in training?", replace(base, halt_confidence=NEVER), recipe),
        Arm("no EMA", "what does averaging the weights buy?", base, replace(recipe, ema=0.0)),
        *(Arm(f"{k} latents", f"does training the best of {k} states, and halting by the surest, help?",
              replace(base, latents=k), recipe, f"{k} latents") for k in (2, 4)),
        Arm("no augmentation", "what do the puzzles' symmetries buy?", base, replace(recipe, augment=False)),
        Arm("learned positions", "what does knowing the grid buy?", replace(base, positions="learned"), recipe,
            same_size=False),
        Arm("token mixing", "is an MLP over positions better than attention?",
            replace(base, mixer="mlp", positions="none", mixer_multiple=round(4 * base.hidden**2 / 3 / base.seq_len)),
            recipe),
    ]
    return {arm.name: arm for arm in found}


def check_sizes(chosen: list[Arm]):
    """ValueError for an arm whose parameters are not those of the first, within TOLERANCE."""
    size = count_parameters(HRM(chosen[0].model))
    for arm in chosen:
        other = count_parameters(HRM(arm.model))
        if arm.same_size and abs(other - size) > TOLERANCE * size:
            raise ValueError(f"ablation: arm {arm.name!r}: got {other:,} parameters, "
                             f"expected {size:,} as the base within {100 * TOLERANCE:g} %")


def plan(settings: dict, data: str) -> Study:
    """The study that a task's settings ask for under `ablation`; ValueError for an unknown key or arm.

    Keys: seeds, cpu_seconds, rates; and if wanted puzzles, model (changes of the task's own model), arms (names).
    """
    given = dict(settings["ablation"])
    names, changes, puzzles = given.pop("arms", None), given.pop("model", {}), given.pop("puzzles", 0)
    if set(given) != {"seeds", "cpu_seconds", "rates"} or not given["rates"] or given["seeds"] < 1:
        raise ValueError(f"ablation: got {given}, expected seeds (1 or more), cpu_seconds and rates, "
                         "and if wanted puzzles, arms and model")
    meta = dataset.load(data, "train").meta
    base = HRMConfig(vocab_size=meta.vocab_size, seq_len=meta.seq_len, grid=meta.grid, **settings["model"] | changes)
    known = arms(base, TrainConfig(**settings["train"]))
    chosen = [known[name] for name in names or known if name in known]
    missing = ({*(names or ()), "trm"} | {arm.rate_from for arm in chosen}) - {arm.name for arm in chosen}
    if missing:
        raise ValueError(f"ablation: arms: got {names}, without or with unknown {', '.join(sorted(missing))}; expected "
                         f"trm, and each arm with the one whose rate it takes, of {', '.join(known)}")
    chosen.sort(key=lambda arm: list(known).index(arm.name))
    check_sizes(chosen)
    return Study(data, tuple(chosen), given["seeds"], given["cpu_seconds"], tuple(given["rates"]), puzzles)


# ---------------------------------------------------------------- training


@lru_cache(maxsize=4)
def load(data: str, split: str) -> dataset.Split:
    return dataset.load(data, split)


def identity(*facts) -> str:
    """SHA-256, short, over settings, and the code that they are run by."""
    return hashlib.sha256(json.dumps([*facts, code_fingerprint()], sort_keys=True).encode()).hexdigest()[:16]


def key(job: Job) -> str:
    parts = [fingerprint(load(job.data, name)) for name in ("train", job.split)]
    return identity(parts, asdict(job.model), asdict(job.recipe), job.puzzles)


def measure(job: Job) -> dict:
    """Train one arm for its steps and judge it: one row of metrics.jsonl, outcomes packed eight puzzles a byte."""
    trainer = Trainer(job.model, job.recipe, load(job.data, "train"), torch.device("cpu"))
    began = time.process_time()
    for _ in range(job.recipe.steps):
        parts = trainer.advance()
    spent = time.process_time() - began
    if job.recipe.ema:
        trainer.swap_average()
    found = act.evaluate(trainer.model, load(job.data, job.split), limit=job.puzzles)
    return {"key": key(job), "arm": job.arm, "split": job.split, "seed": job.recipe.seed, "steps": job.recipe.steps,
            "lr": job.recipe.lr, "cpu_seconds": round(spent, 3), "parameters": count_parameters(trainer.model),
            "n": len(found.exact), "exact": np.packbits(found.exact).tobytes().hex(),
            "full_exact": np.packbits(found.full_exact).tobytes().hex(),
            "token_accuracy": float(found.token_accuracy.mean()), "segments": float(found.steps.mean()),
            "diverged": not bool(torch.isfinite(parts["loss"]))}


def step_costs(data: str, models: dict[str, tuple[HRMConfig, TrainConfig]]) -> dict[str, float]:
    """CPU-seconds that a step of each arm takes: the quickest of some groups of steps, the arms taking turns."""
    trainers = {name: Trainer(*configs, load(data, "train"), torch.device("cpu")) for name, configs in models.items()}
    costs = dict.fromkeys(trainers, float("inf"))
    for count in [WARM] + [GROUP] * ROUNDS:
        for name, trainer in trainers.items():
            began = time.process_time()
            for _ in range(count):
                trainer.advance()
            if count == GROUP:
                costs[name] = min(costs[name], (time.process_time() - began) / count)
    return costs


def start_worker():
    torch.set_num_threads(1)
    notebooks.stop_with_parent()


def collect(pool, jobs: list[Job], folder: Path, what: str) -> list[dict]:
    """A row for each job, in their order; those that `folder` holds are taken from there, the others are trained."""
    done = {row["key"]: row for row in runs.read_metrics(folder)}
    keys = [key(job) for job in jobs]
    waiting = {pool.submit(measure, job): job for k, job in dict(zip(keys, jobs, strict=True)).items() if k not in done}
    for future in tqdm(as_completed(waiting), total=len(waiting), desc=what, unit="run"):
        row = future.result()
        runs.append_metrics(folder, row)
        done[row["key"]] = row
    print(f"{what}: {len(waiting)} runs trained, {len(set(keys)) - len(waiting)} found")
    return [done[k] for k in keys]


def run(study: Study, folder: Path | str, workers: int = 1) -> dict[str, dict[str, list[dict]]]:
    """Train and judge every arm of `study` in `workers` processes of one thread; rows of an arm in order of seeds.

    Returns {"time": arm -> rows at equal CPU-seconds, "steps": main arm -> rows at the base's number of steps}.
    Goes on from what `folder`/metrics.jsonl holds of the same settings, data and code.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = runs.read_metrics(folder)  # without a last line that a kill cut short, which nothing may be appended to
    runs.write_atomic(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))
    by_name = {arm.name: arm for arm in study.arms}
    mains = sorted({arm.rate_from for arm in study.arms}, key=list(by_name).index)
    context = get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(workers, context, initializer=start_worker) as pool:
        try:
            costs = measured_costs(pool, study, folder)

            def job(arm: Arm, factor: float, seed: int, split: str, budget: float) -> Job:
                steps = max(1, round(budget / costs[arm.name]))
                recipe = replace(arm.recipe, lr=arm.recipe.lr * factor, seed=seed, steps=steps,
                                 warmup=min(arm.recipe.warmup, steps // 5))
                return Job(study.data, split, arm.name, arm.model, recipe, study.puzzles)

            trials = [job(by_name[name], factor, TRIAL_SEED, "valid", study.cpu_seconds)
                      for name in mains for factor in study.rates] if len(study.rates) > 1 else []
            tried = iter(collect(pool, trials, folder, "learning rates"))
            factors = {name: choose(study.rates, [next(tried) for _ in study.rates]) if trials else study.rates[0]
                       for name in mains}
            base = study.cpu_seconds / costs["trm"]  # steps
            jobs = {"time": [job(arm, factors[arm.rate_from], seed, "test", study.cpu_seconds)
                             for arm in study.arms for seed in range(study.seeds)],
                    "steps": [job(by_name[name], factors[name], seed, "test", base * costs[name])
                              for name in mains for seed in range(study.seeds)]}
            rows = {"time": collect(pool, jobs["time"], folder, "equal CPU-seconds"),
                    "steps": collect(pool, jobs["steps"], folder, "equal steps")}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {budget: {name: [row for row in found if row["arm"] == name] for name in by_name
                     if any(row["arm"] == name for row in found)} for budget, found in rows.items()}


def measured_costs(pool, study: Study, folder: Path) -> dict[str, float]:
    """CPU-seconds a step of each arm: as `folder` has them for this very study, else measured and kept there."""
    models = {arm.name: (arm.model, arm.recipe) for arm in study.arms}
    facts = {name: [asdict(part) for part in pair] for name, pair in models.items()}
    wanted = identity("costs", fingerprint(load(study.data, "train")), facts)
    for row in runs.read_metrics(folder):
        if row["key"] == wanted:
            return row["seconds_per_step"]
    row = {"key": wanted, "seconds_per_step": pool.submit(step_costs, study.data, models).result()}
    runs.append_metrics(folder, row)
    return row["seconds_per_step"]


def choose(factors: tuple[float, ...], rows: list[dict]) -> float:
    """The factor with the best validation: exact match, then tokens while that is zero; the smaller one of equals."""
    return min(zip(factors, rows, strict=True), key=lambda pair: (-outcomes([pair[1]]).mean(),
                                                                  -pair[1]["token_accuracy"], pair[0]))[0]


# ---------------------------------------------------------------- where it is


def elsewhere(preset: str) -> str:
    """Where the ablation of a preset is, for the page of a task that has none."""
    tasks = notebooks.presets(preset)[STEM]["tasks"]
    pages = [f"[{task}]({STEM}-{task}.html)" for task, settings in tasks.items() if "ablation" in settings]
    return (f"The ablation is on the page of {' and '.join(pages)}." if pages else
            f"No task of the preset `{preset}` has an ablation.")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.ablation", description="Run the ablation of one task.")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--task", required=True)
    parser.add_argument("--out", help="folder of metrics.jsonl (default: where the task's notebook looks for it)")
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    given = parser.parse_args(argv)
    folder = given.out or f"runs/notebooks/{STEM}-{given.task}/ablation"
    try:
        settings = notebooks.settings(STEM, given.preset, given.task, ablation=None)
        study = plan(settings, f"{settings['data_dir']}/{given.task}")
        rows = run(study, folder, given.workers)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for budget, own in rows.items():
        print(f"\nat equal {'CPU-seconds' if budget == 'time' else 'steps'}")
        found = scores(own)
        for name, line in table(study.arms, own, found).items():
            print(f"{name}: " + "; ".join(f"{k} {v}" for k, v in line.items() if k != "question"))
    print("\n".join(findings(rows["time"], scores(rows["time"]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
