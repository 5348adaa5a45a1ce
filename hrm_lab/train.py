"""The training loop: deep supervision, EMA, schedule, early stop, checkpoints, exact resume.

`train` writes a run directory (see `hrm_lab.runs`): run.json, metrics.jsonl, best/, final/, resume/ and
training_history.json. Resuming after `kill -9` at any moment ends with the same bits as an uninterrupted
run, on a CPU with the same thread count and compile setting: all randomness (data, exploration) and every
decision depends on the step alone. The one exception is `max_seconds`, which depends on the clock.
The same loop runs in every process of a multi-process run (`hrm_lab.ranks`): `batch` is the global batch, the first
process evaluates, decides and writes while the others wait, and a checkpoint holds the lanes of all, so that another
number of processes can go on with it. N processes resume to the bits of N uninterrupted ones.

Validation, early stopping and `best/` use `valid`, never the test split.
"""

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hrm_lab import act, metrics, optim, runs
from hrm_lab.checks import (
    check_fit,
    check_weights,
    code_fingerprint,
    config_from,
    differences,
    fingerprint,
    open_run,
)
from hrm_lab.model import HRM, HRMConfig
from hrm_lab.puzzles.dataset import Sampler, Split
from hrm_lab.ranks import Ranks, share

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PRECISIONS = (*DTYPES, "auto")


@dataclass(frozen=True)
class TrainConfig:
    """How one model is trained. Steps are optimiser steps: one segment on every lane."""

    steps: int = 1000
    batch: int = 64
    micro_batch: int = 0  # lanes a forward and backward pass; gradients add up (0: all lanes of a process at once)
    optimizer: str = "adam-atan2"
    lr: float = 1e-3
    lr_min_ratio: float = 0.1  # the cosine ends at lr * lr_min_ratio
    warmup: int = 50  # steps
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    puzzle_lr: float = 1e-2
    ema: float = 0.0  # decay of the weight average that is evaluated and saved; 0: off
    clip: float = 1.0  # largest gradient norm; 0: off
    precision: str = "fp32"  # of activations and products, weights are fp32; auto: bf16 where the device is fast in it
    compile: bool = False
    eval_every: int = 50  # steps
    eval_n: int = 256  # validation puzzles an evaluation, 0: all
    target: float = 0.0  # stop when exact match on validation reaches this at `target_evals` evaluations running
    target_evals: int = 1
    patience: int = 0  # stop after this many evaluations without a better one; 0: off
    max_seconds: float = 0.0  # 0: no limit
    augment: bool = True
    label_noise: float = 0.0
    input_noise: float = 0.0
    balance: str = "none"
    curriculum: float = 0.0  # start with the easiest 1 - curriculum of the puzzles ...
    curriculum_examples: int = 0  # ... and widen to all of them over this many examples
    seed: int = 0
    start: str = ""  # folder of a trained model (its `best/`) to begin with; "": random weights

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"TrainConfig.precision: got {self.precision!r}, expected one of {', '.join(PRECISIONS)}")
        for name, least in (("steps", 1), ("batch", 1), ("micro_batch", 0), ("eval_every", 1), ("target_evals", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"TrainConfig.{name}: got {getattr(self, name)}, expected at least {least}")


def resolved(config: TrainConfig, device: torch.device) -> TrainConfig:
    """With `precision: auto` replaced by what the device is fast in."""
    if config.precision != "auto":
        return config
    return replace(config, precision="bf16" if runs.fast_in_bf16(device) else "fp32")


def learning_rate(c: TrainConfig, step: int) -> float:
    """Factor on the rate at a step: linear warm-up, then cosine down to lr_min_ratio."""
    if step < c.warmup:
        return (step + 1) / c.warmup
    done = (step - c.warmup) / max(1, c.steps - c.warmup)
    return c.lr_min_ratio + (1 - c.lr_min_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Trainer:
    """Everything that a step changes, so that saving and loading it is saving and loading the run."""

    def __init__(self, model_config: HRMConfig, config: TrainConfig, data: Split, device: torch.device,
                 ranks: Ranks | None = None):
        torch.manual_seed(config.seed)
        config = resolved(config, device)
        self.config, self.device, self.ranks, self.dtype = config, device, ranks or Ranks(), DTYPES[config.precision]
        self.model = HRM(model_config).to(device)
        if config.start:
            tensors = load_model(Path(config.start)).state_dict()
            check_weights(Path(config.start) / "model.safetensors", tensors, model_config)
            self.model.load_state_dict(tensors)
        if config.compile:
            self.model.compile_levels()
        self.params = dict(self.model.named_parameters())
        self.optimizers = optim.build(config.optimizer, self.model, config.lr, config.weight_decay, config.betas,
                                      config.puzzle_lr)
        self.base_rates = [g["lr"] for o in self.optimizers for g in o.param_groups]
        self.average = [p.detach().clone() for p in self.params.values()] if config.ema else []
        self.carry = act.initial_carry(self.model, share(config.batch, self.ranks.count), device, self.dtype)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.sampler = Sampler(data, seed=config.seed, augment=config.augment, label_noise=config.label_noise,
                               input_noise=config.input_noise, balance=config.balance, curriculum=config.curriculum,
                               curriculum_examples=config.curriculum_examples)
        self.step = 0
        self.best, self.best_step, self.evals_since_best, self.evals_at_target = -math.inf, 0, 0, 0

    def advance(self) -> dict[str, torch.Tensor]:
        """One optimiser step; returns the parts of the loss over this process's lanes."""
        c = self.config
        act.refill(self.model, self.carry, self.ranks.take(self.sampler.take, self.carry.halted))
        parts = act.learn(self.model, self.carry, self.generator, self.ranks.rank, self.ranks.count, c.micro_batch)
        self.ranks.average([p.grad for p in self.params.values() if p.grad is not None])
        if c.clip:
            parts["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.params.values(), c.clip)
        groups = [g for o in self.optimizers for g in o.param_groups]
        for group, rate in zip(groups, self.base_rates, strict=True):
            group["lr"] = rate * learning_rate(c, self.step)
        for o in self.optimizers:
            o.step()
        for p in self.params.values():
            p.grad = None
        self.step += 1
        if c.ema:
            decay = min(c.ema, (1 + self.step) / (10 + self.step))  # a short memory while the weights still rush
            torch._foreach_lerp_(self.average, [p.detach() for p in self.params.values()], 1 - decay)
        return parts

    def swap_average(self):
        """Exchange the weights and their average; calling it twice restores both."""
        with torch.no_grad():
            for p, a in zip(self.params.values(), self.average, strict=True):
                kept = p.clone()
                p.copy_(a)
                a.copy_(kept)

    def tensors(self) -> tuple[dict[str, torch.Tensor], dict]:
        """The whole state as named tensors and JSON-able metadata."""
        out = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        out |= {f"ema/{i}": a for i, a in enumerate(self.average)}
        out |= {f"carry/{k}": self.ranks.gather(v) for k, v in vars(self.carry).items()}  # the lanes of all processes
        out["rng"] = self.generator.get_state()
        for i, o in enumerate(self.optimizers):
            for j, p in enumerate(parameters(o)):
                out |= {f"optimizer/{i}/{j}/{k}": v for k, v in o.state[p].items()}
        return out, {"step": self.step, "sampler": self.sampler.state(), "best": self.best, "best_step": self.best_step,
                     "evals_since_best": self.evals_since_best, "evals_at_target": self.evals_at_target}

    def load(self, tensors: dict[str, torch.Tensor], meta: dict):
        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {k[len(prefix):]: v.to(self.device) for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model/"))
        self.average = [part("ema/")[str(i)] for i in range(len(self.average))]
        self.carry = act.Carry(**{k: self.ranks.mine(v).clone() for k, v in part("carry/").items()})
        self.generator.set_state(tensors["rng"])
        for i, o in enumerate(self.optimizers):
            for j, p in enumerate(parameters(o)):
                o.state[p] = part(f"optimizer/{i}/{j}/")
        self.sampler.load_state(meta["sampler"])
        for name in ("step", "best", "best_step", "evals_since_best", "evals_at_target"):
            setattr(self, name, meta[name])


def parameters(o: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """In the order of its groups. (`state_dict` would number them too, but imports the compiler on its first call.)"""
    return [p for group in o.param_groups for p in group["params"]]


def train(model_config: HRMConfig, config: TrainConfig, data: Split, valid: Split, run: Path,
          resume: bool | str = False, device: str = "auto", progress: bool = True, stop_after: int = 0,
          ranks: Ranks | None = None) -> dict:
    """Train one model into the directory `run`; returns the last validation row with `reason` and `seconds`.

    resume: False refuses a directory that already holds a run; True goes on from its last checkpoint
    (or starts, if there is none); "previous" goes on from the checkpoint before the last; "same" goes on with
    an unfinished run of the same data, configuration and code, and otherwise clears the directory and starts.
    stop_after: leave off cleanly after this step with a checkpoint (0: run to the end).
    ranks: this process among those that train the model together (`hrm_lab.distributed`); all but the first
    return an empty dict.
    Raises ValueError on data that does not fit the model or a batch that the processes cannot share evenly,
    CheckpointError on a bad checkpoint, FloatingPointError when the loss is no longer finite.
    """
    run, began, ranks = Path(run), time.perf_counter(), ranks or Ranks()
    check_fit(model_config, data, valid)
    where = runs.pick_device(device)
    trainer = Trainer(model_config, config, data, where, ranks)
    config = trainer.config
    configs = {"model": asdict(model_config), "train": asdict(config),
               "data": {"train": fingerprint(data), "valid": fingerprint(valid)}}
    if ranks.chief:
        open_run(run, configs, resume)
    ranks.wait()  # until the directory is as it should be
    checkpoint = run / "resume" / "state.safetensors"
    spent, reason = {"wall": 0.0, "cpu": 0.0}, ""
    if resume and checkpoint.exists():
        path = runs.previous(checkpoint) if resume == "previous" else checkpoint
        tensors, meta = runs.load_checkpoint(path)
        if meta["configs"] != json.loads(json.dumps(configs)):
            other = differences(meta["configs"], configs)
            raise runs.CheckpointError(f"{path}: made by another configuration: {other}")
        trainer.load(tensors, meta)
        spent, reason = meta["spent"], meta["reason"]
    clock = runs.Clock(spent["wall"], spent["cpu"] if ranks.chief else 0.0)
    facts = {**runs.facts(where), "processes": ranks.count, "setup_seconds": round(time.perf_counter() - began, 3)}
    record = {**configs, **facts, "code": code_fingerprint(), "dataset": data.meta.name, "status": "running",
              "n_train": len(data.inputs), "n_valid": len(valid.inputs)}
    row = {}
    if ranks.chief:
        runs.rewind_metrics(run, trainer.step)
        runs.write_json(run / "run.json", record)
        row = (runs.read_metrics(run) or [{}])[-1]
    bar = tqdm(total=config.steps, initial=trainer.step, disable=not (progress and ranks.chief), unit="step",
               mininterval=1.0)
    try:
        while not reason:
            parts = trainer.advance()
            if trainer.step % config.eval_every == 0 or trainer.step == config.steps:
                ranks.same(list(trainer.params.values()), trainer.step)
                seen = ranks.table([float(parts["loss"]), float(parts["token_accuracy"]), clock.cpu])
                if not np.isfinite(seen).all():
                    raise FloatingPointError(
                        f"{run}: the loss is {seen[:, 0].mean()} at step {trainer.step}; expected a finite number "
                        f"(a lower lr than {config.lr} or a tighter clip than {config.clip} may help)")
                if ranks.chief:
                    row = evaluate_and_log(trainer, valid, run, seen, clock)
                    reason = why_stop(trainer, row, clock)
                    bar.update(trainer.step - bar.n)
                    bar.set_postfix_str(f"loss {row['loss']:.3f} exact {100 * row['exact_match']:.1f} %")
                save_resume(trainer, checkpoint, configs, clock, reason)
                if ranks.chief_says(bool(reason)):
                    reason = reason or "the first process says so"
                elif stop_after and trainer.step >= stop_after:
                    return {**row, "reason": "", "seconds": clock.wall} if ranks.chief else {}
    except BaseException as error:
        if ranks.chief:
            failed = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
            runs.write_json(run / "run.json", {**record, **failed})
        raise
    finally:
        bar.close()
    cpu = ranks.table([clock.cpu]).sum()
    if not ranks.chief:
        return {}
    save_weights(trainer, run / "final")
    history = runs.read_metrics(run)
    runs.write_json(run / "training_history.json", history)
    runs.write_json(run / "run.json", {**record, "status": "ok", "reason": reason, "steps": trainer.step,
                                       "best_step": trainer.best_step, "seconds": round(clock.wall, 3),
                                       "cpu_seconds": round(cpu, 3)})
    return {**row, "reason": reason, "seconds": clock.wall, "cpu_seconds": cpu, "best_step": trainer.best_step}


def evaluate_and_log(trainer: Trainer, valid: Split, run: Path, seen: np.ndarray, clock: runs.Clock) -> dict:
    """Score the (averaged) weights on validation, append the row, keep the best weights.

    seen (processes, 3): training loss, token accuracy and CPU-seconds of each.
    """
    c = trainer.config
    if c.ema:
        trainer.swap_average()
    found = act.evaluate(trainer.model, valid, full=False, limit=c.eval_n, dtype=trainer.dtype)
    exact = metrics.per_task("exact_match", found.exact, valid.tasks[:len(found.exact)], valid.meta.tasks)
    row = {"step": trainer.step, "epoch": round(trainer.sampler.drawn / len(trainer.sampler.split.inputs), 4),
           "seconds": round(clock.wall, 3), "cpu_seconds": round(float(seen[:, 2].sum()), 3), "split": "valid",
           "lr": c.lr * learning_rate(c, trainer.step - 1), "train_loss": float(seen[:, 0].mean()),
           "train_token_accuracy": float(seen[:, 1].mean()), "loss": float(found.loss.mean()),
           "token_accuracy": float(found.token_accuracy.mean()), "halting_steps": float(found.steps.mean()),
           **{k: v["value"] for k, v in exact.items()}, "n": len(found.exact)}
    runs.append_metrics(run, row)
    # exact match first, then tokens (while it is still zero), then the loss (once it is 100 %)
    merit = row["exact_match"] + 1e-3 * row["token_accuracy"] - 1e-6 * row["loss"]
    if merit > trainer.best:
        trainer.best, trainer.best_step, trainer.evals_since_best = merit, trainer.step, 0
        save_weights(trainer, run / "best", swapped=True)
    else:
        trainer.evals_since_best += 1
    hit = c.target and row["exact_match"] >= c.target
    trainer.evals_at_target = trainer.evals_at_target + 1 if hit else 0
    if c.ema:
        trainer.swap_average()
    return row


def why_stop(trainer: Trainer, row: dict, clock: runs.Clock) -> str:
    """The reason to stop now, or an empty string."""
    c = trainer.config
    if c.target and trainer.evals_at_target >= c.target_evals:
        return (f"target reached: exact match {100 * row['exact_match']:.1f} % >= {100 * c.target:.1f} % on {row['n']} "
                f"validation puzzles, {c.target_evals} evaluations running, at step {trainer.step}")
    if trainer.step >= c.steps:
        return f"all {c.steps} steps done"
    if c.patience and trainer.evals_since_best >= c.patience:
        return f"no better validation score in {c.patience} evaluations; the best was at step {trainer.best_step}"
    if c.max_seconds and clock.wall >= c.max_seconds:
        return f"time limit of {c.max_seconds:g} s reached at step {trainer.step}"
    return ""


def save_resume(trainer: Trainer, path: Path, configs: dict, clock: runs.Clock, reason: str):
    """The run so far, by the first process; `reason` is why it ends here, if it does, so that no step is added."""
    tensors, meta = trainer.tensors()
    spent = {"wall": clock.wall, "cpu": float(trainer.ranks.table([clock.cpu]).sum())}
    if trainer.ranks.chief:
        runs.save_checkpoint(path, tensors, {**meta, "configs": configs, "spent": spent, "reason": reason},
                             keep_previous=True)


def save_weights(trainer: Trainer, folder: Path, swapped: bool = False):
    """model.safetensors and config.json; the averaged weights where there is an average."""
    if trainer.average and not swapped:
        trainer.swap_average()
    config = asdict(trainer.model.config)
    runs.save_checkpoint(folder / "model.safetensors", trainer.model.state_dict(), {"config": config,
                                                                                  "step": trainer.step})
    runs.write_json(folder / "config.json", config)
    if trainer.average and not swapped:
        trainer.swap_average()


def load_model(folder: Path, device: str = "cpu") -> HRM:
    """The model of a `best/` or `final/` folder. CheckpointError if it is missing, cut or altered."""
    path = Path(folder) / "model.safetensors"
    tensors, meta = runs.load_checkpoint(path)
    if not isinstance(meta, dict) or not isinstance(meta.get("config"), dict):
        raise runs.CheckpointError(f"{path}: metadata without a config; expected the one of a model")
    config = config_from(meta["config"])
    check_weights(path, tensors, config)
    model = HRM(config)
    model.load_state_dict(tensors)
    return model.to(device).eval()
