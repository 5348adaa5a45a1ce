"""What a hyperparameter sweep tries, how one cell of it is trained, and when the forecast says to stop.

What is unusual:
- A trial is a *cell* (one setting), not a run: its seeds train in lockstep, so that the curve which is forecast is
  their mean, and no cell is judged by one lucky seed. On the way `eval_n` puzzles are enough; a finished cell is judged
  by exact match on the whole validation split, at its last step, not at its best.
- Pruning asks what people ask: how likely is it that this cell, at the end, beats the best finished one by more than
  that one's own 95 % interval? It stops where that is below `prune_below` and the cell is behind the best one at the
  same epoch, or below `HOPELESS`; its forecast stands in its place in the heat map. (The forecast alone is too unsure
  to save much, being behind alone too hasty: `benchmarks/pruning.py`.) The test split is looked at by finished cells
  only, and chooses nothing.
- All cells get the same number of examples: half the batch, twice the steps. An epoch is a fiftieth of a run.

The study, its workers and the command are in `hrm_lab.sweep_study`.
Source: Domhan et al. 2015 (IJCAI) for pruning by extrapolated curves.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from hrm_lab import act, runs
from hrm_lab.alarms import EPOCHS
from hrm_lab.forecast import Forecast, forecast
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles import dataset
from hrm_lab.train import TrainConfig, Trainer

METRIC = "exact_match"
SAMPLERS = ("grid", "tpe")
RUNGS = (5, 10, 15, 20, 25, 30, 40)  # epochs at which a cell may be pruned
HOPELESS = 0.02  # probability at which a cell stops even if it is not behind
SAVE_AFTER = 60.0  # seconds of training from which a rung writes a checkpoint: quick cells just start again
MODEL_FIELDS = {f.name for f in fields(HRMConfig)} - {"vocab_size", "seq_len", "grid"}
TRAIN_FIELDS = {f.name for f in fields(TrainConfig)} - {"steps", "seed", "eval_every"}


@dataclass(frozen=True)
class Sweep:
    """What is varied around one model and recipe. `space`: setting -> its values, or (tpe) {low, high, log}."""

    data: str  # folder of the dataset
    model: dict
    train: dict  # `steps` are those at its `batch`
    space: dict = field(default_factory=dict)
    seeds: int = 3
    sampler: str = "grid"
    trials: int = 0  # tpe: how many cells are tried
    prune_below: float = 0.2  # probability of beating the best finished cell, for one that is behind; 0: no pruning
    rungs: tuple[int, ...] = RUNGS

    def __post_init__(self):
        def refuse(name, expected):
            raise ValueError(f"sweep.{name}: got {getattr(self, name)!r}, expected {expected}")

        if self.sampler not in SAMPLERS:
            refuse("sampler", f"one of {', '.join(SAMPLERS)}")
        if unknown := sorted(set(self.space) - MODEL_FIELDS - TRAIN_FIELDS):
            raise ValueError(f"sweep.space: unknown setting {', '.join(unknown)}; expected a field of HRMConfig or "
                             "TrainConfig, such as lr, hidden, batch")
        if not self.space or any(isinstance(v, dict) for v in self.space.values()) and self.sampler == "grid":
            refuse("space", "a list of values for each setting (a range needs sampler: tpe)")
        if self.seeds < 1:
            refuse("seeds", "at least 1 (3 or more for a result)")
        if self.sampler == "tpe" and self.trials < 1:
            refuse("trials", "at least 1 for sampler: tpe")
        if not 0 <= self.prune_below < 1:
            refuse("prune_below", "a probability below 1")
        if any(r < 5 or r >= EPOCHS for r in self.rungs):
            refuse("rungs", f"epochs from 5 (a forecast needs five evaluations) to {EPOCHS - 1}")

    def cells(self) -> list[dict]:
        """Every setting of a grid, in an order that does not favour any: drawn once, by a fixed seed."""
        every = [dict(zip(self.space, values, strict=True)) for values in itertools.product(*self.space.values())]
        return [every[i] for i in np.random.default_rng(0).permutation(len(every))]

    def configs(self, cell: dict, seed: int, meta) -> tuple[HRMConfig, TrainConfig]:
        """Model and recipe of a cell. `steps` follow the batch, so that all cells see as many examples."""
        model = {k: v for k, v in cell.items() if k in MODEL_FIELDS}
        recipe = {"batch": TrainConfig.batch, "steps": TrainConfig.steps} | self.train
        batch = cell.get("batch", recipe["batch"])
        each = max(1, round(recipe["steps"] * recipe["batch"] / batch / EPOCHS))  # steps an epoch
        recipe |= {k: v for k, v in cell.items() if k in TRAIN_FIELDS}
        recipe |= {"steps": each * EPOCHS, "eval_every": each, "seed": seed}
        return (HRMConfig(vocab_size=meta.vocab_size, seq_len=meta.seq_len, grid=meta.grid, **self.model | model),
                TrainConfig(**recipe))


def read(settings: dict) -> Sweep:
    """A sweep from its form in presets.yaml; an unknown key is refused."""
    if unknown := sorted(set(settings) - {f.name for f in fields(Sweep)}):
        raise ValueError(f"sweep: unknown {', '.join(unknown)}; expected {', '.join(f.name for f in fields(Sweep))}")
    return Sweep(**{k: tuple(v) if k == "rungs" else v for k, v in settings.items()})


# ---------------------------------------------------------------- one cell


def train_cell(sweep: Sweep, cell: dict, stop: Callable[[int, np.ndarray], dict | None], checkpoint: Path) -> dict:
    """Train the seeds of one cell in lockstep, all or until `stop(epoch, curves)` gives a reason.

    stop: called after every epoch with exact match so far, (seeds, epochs). Returns curves (seeds, epochs) of exact
    match, loss and token accuracy, CPU-seconds, `stopped` (what `stop` gave, None at the end) and, at the end, outcomes
    on all of validation and test, packed eight puzzles a byte.
    """
    splits = {name: dataset.load(sweep.data, name) for name in ("train", "valid", "test")}
    trainers = [Trainer(*sweep.configs(cell, seed, splits["train"].meta), splits["train"], torch.device("cpu"))
                for seed in range(sweep.seeds)]
    curves = {name: np.zeros((sweep.seeds, 0)) for name in (METRIC, "loss", "token_accuracy")}
    begun, spent, stopped = 0, 0.0, None
    if checkpoint.exists():
        begun, curves, spent = restore(trainers, checkpoint)
    clock, saved = time.process_time(), time.monotonic()
    for epoch in range(begun + 1, EPOCHS + 1):
        rows = [advance(trainer, splits["valid"]) for trainer in trainers]
        curves = {name: np.column_stack([curve, [row[name] for row in rows]]) for name, curve in curves.items()}
        if not all(np.isfinite(row["loss"]) for row in rows):
            stopped = {"why": "diverged", "epoch": epoch, "chance": 0.0, "quantiles": None}
        else:
            stopped = stop(epoch, curves[METRIC])
        if stopped:
            break
        if epoch in sweep.rungs and time.monotonic() - saved > SAVE_AFTER:
            store(trainers, checkpoint, epoch, curves, spent + time.process_time() - clock)
            saved = time.monotonic()
    found = {"curves": {name: known(curve) for name, curve in curves.items()}, "stopped": stopped,
             "cpu_seconds": round(spent + time.process_time() - clock, 3)}
    if not stopped:
        models = [averaged(trainer) for trainer in trainers]
        for name in ("valid", "test"):
            exact = [act.evaluate(model, splits[name], full=False).exact for model in models]
            found[name] = {"n": len(exact[0]), "exact": [np.packbits(e).tobytes().hex() for e in exact]}
    checkpoint.unlink(missing_ok=True)
    return found


def known(curve: np.ndarray) -> list[list[float | None]]:
    """For JSON: None where a loss has diverged."""
    return [[value if math.isfinite(value) else None for value in row] for row in curve.tolist()]


def advance(trainer: Trainer, valid: dataset.Split) -> dict:
    """One epoch of one run: its steps, then validation with the averaged weights."""
    for _ in range(trainer.config.eval_every):
        parts = trainer.advance()
    model = averaged(trainer)
    found = act.evaluate(model, valid, full=False, limit=trainer.config.eval_n)
    if trainer.average:
        trainer.swap_average()
    loss = float(found.loss.mean()) if math.isfinite(float(parts["loss"])) else math.nan
    return {"exact_match": float(found.exact.mean()), "token_accuracy": float(found.token_accuracy.mean()),
            "loss": loss}


def averaged(trainer: Trainer):
    """The model with its averaged weights, if the run averages; `swap_average` takes the others back."""
    if trainer.average:
        trainer.swap_average()
    return trainer.model


def store(trainers: list[Trainer], path: Path, epoch: int, curves: dict, spent: float):
    states = [trainer.tensors() for trainer in trainers]
    tensors = {f"{i}/{name}": t for i, (own, _) in enumerate(states) for name, t in own.items()}
    runs.save_checkpoint(path, tensors, {"epoch": epoch, "spent": spent, "meta": [meta for _, meta in states],
                                         "curves": {name: curve.tolist() for name, curve in curves.items()}})


def restore(trainers: list[Trainer], path: Path) -> tuple[int, dict, float]:
    tensors, saved = runs.load_checkpoint(path)
    for i, trainer in enumerate(trainers):
        own = {name.removeprefix(f"{i}/"): t for name, t in tensors.items() if name.startswith(f"{i}/")}
        trainer.load(own, saved["meta"][i])
    return saved["epoch"], {name: np.array(curve) for name, curve in saved["curves"].items()}, saved["spent"]


@dataclass(frozen=True)
class Rival:
    """The best finished cell: upper end of its 95 % interval, and the mean of its seeds after each epoch."""

    high: float
    curve: np.ndarray  # (EPOCHS,)


def judge(curves: np.ndarray, n: int, best: Rival, below: float, bank=None) -> dict | None:
    """Why a cell should stop now: the chance that the mean of its seeds ends above the best one's interval is too low.

    curves (seeds, epochs) in [0, 1]; n: puzzles behind each value. None: go on, also where there is no forecast.
    """
    seen = at_the_end(curves, n, bank)
    chance = 1.0 if seen is None else float((seen.samples[:, -1] > best.high).mean())
    behind = curves[:, -1].mean() < best.curve[curves.shape[1] - 1]
    if chance >= (below if behind else min(below, HOPELESS)):
        return None
    return {"why": "unlikely to be the best", "epoch": curves.shape[1], "chance": chance,
            "quantiles": seen.quantiles[-1].tolist()}


def at_the_end(curves: np.ndarray, n: int, bank=None) -> Forecast | None:
    """The mean of a cell's seeds at the last epoch, forecast from (seeds, epochs); None where there is no forecast."""
    seeds, epoch = curves.shape
    try:
        return forecast(np.arange(1, epoch + 1), curves.mean(0), seeds * n, [EPOCHS], bank=bank)
    except ValueError:
        return None
