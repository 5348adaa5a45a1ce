"""What a hyperparameter sweep tries, and how one cell of it is trained, stage by stage.

What is unusual:
- A trial is a *cell* (one setting) with several seeds, and a cell is finished only when all of them are. They do not
  start together: the first seed alone runs in the race (`hrm_lab.sweep_race`), the others of a cell that has won it.
  Each stage ends with a checkpoint, so that a cell can wait there for the others, and go on in any process.
- On the way `eval_n` puzzles are enough; a finished seed is judged by exact match on the whole validation split, at its
  last step, not at its best. The test split is looked at by finished seeds only, and chooses nothing.
- All cells get the same number of examples: half the batch, twice the steps. An epoch is a fiftieth of a run.

The study, its workers and the command are in `hrm_lab.sweep_study`.
"""

import itertools
import math
import time
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from hrm_lab import act, runs
from hrm_lab.alarms import EPOCHS
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles import dataset
from hrm_lab.sweep_race import CUTS, METRIC, Stage, checked, stages
from hrm_lab.train import TrainConfig, Trainer

SAMPLERS = ("grid", "tpe")
CURVES = (METRIC, "loss", "token_accuracy")
SAVE_AFTER = 60.0  # seconds of training after which a checkpoint is written within a stage
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
    trials: int = 0  # tpe: how many cells are tried, in races of sweep_study.BATCH
    cuts: tuple[tuple[int, float], ...] = CUTS  # of the race: (epoch, share of its cells that go on); (): no pruning

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
        checked(self.cuts)

    @property
    def stages(self) -> list[Stage]:
        return stages(self.cuts, self.seeds)

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
    return Sweep(**{k: tuple(map(tuple, v)) if k == "cuts" else v for k, v in settings.items()})


# ---------------------------------------------------------------- one cell


def train_stage(sweep: Sweep, cell: dict, found: dict | None, stage: Stage, checkpoints: Path) -> dict:
    """Bring the first `stage.seeds` seeds of a cell to epoch `stage.epoch`.

    found: what the stage before returned, None for a new cell; checkpoints: a path whose name each seed adds to.
    Returns `curves`, metric -> a list of values for each seed, as long as it has been trained; `valid` and `test`, the
    outcomes of finished seeds, packed eight puzzles a byte; `diverged`, the epoch or None; CPU-seconds.
    """
    splits = {name: dataset.load(sweep.data, name) for name in ("train", "valid", "test")}
    found = found or {"curves": {name: [] for name in CURVES}, "diverged": None, "cpu_seconds": 0.0,
                      **{name: {"n": len(splits[name]), "exact": []} for name in ("valid", "test")}}
    for seed in range(stage.seeds):
        known = found["curves"][METRIC][seed] if seed < len(found["curves"][METRIC]) else []
        if len(known) < stage.epoch and found["diverged"] is None:
            trainer = Trainer(*sweep.configs(cell, seed, splits["train"].meta), splits["train"], torch.device("cpu"))
            curves, spent = train_seed(trainer, splits["valid"], stage.epoch, checkpoint_of(checkpoints, seed))
            for name, curve in curves.items():
                found["curves"][name][seed:seed + 1] = [plain(curve)]
            found["cpu_seconds"] = round(found["cpu_seconds"] + spent, 3)
            if not math.isfinite(curves["loss"][-1]):
                found["diverged"] = len(curves["loss"])
            elif stage.epoch == EPOCHS:
                for name in ("valid", "test"):
                    exact = act.evaluate(averaged(trainer), splits[name], full=False).exact
                    averaged(trainer)  # the other weights come back
                    found[name]["exact"].append(np.packbits(exact).tobytes().hex())
    return found


def checkpoint_of(checkpoints: Path, seed: int) -> Path:
    return checkpoints.with_name(f"{checkpoints.name}-{seed}.safetensors")


def train_seed(trainer: Trainer, valid: dataset.Split, until: int, checkpoint: Path) -> tuple[dict, float]:
    """Train one seed from its checkpoint, if there is one, to epoch `until`, or to where its loss is no number.

    Returns its curves from epoch 1 on, and the CPU-seconds that this call took.
    """
    curves = {name: [] for name in CURVES}
    if checkpoint.exists():
        tensors, saved = runs.load_checkpoint(checkpoint)
        trainer.load(tensors, saved["trainer"])
        curves = saved["curves"]
    clock, written = time.process_time(), time.monotonic()
    while (epoch := len(curves["loss"])) < until and (not epoch or math.isfinite(curves["loss"][-1])):
        for name, value in advance(trainer, valid).items():
            curves[name].append(value)
        if epoch + 1 == until or time.monotonic() - written > SAVE_AFTER:
            tensors, state = trainer.tensors()
            runs.save_checkpoint(checkpoint, tensors, {"trainer": state, "curves": curves})
            written = time.monotonic()
    return curves, time.process_time() - clock


def plain(curve: list[float]) -> list[float | None]:
    """For JSON: None where a loss has diverged."""
    return [value if math.isfinite(value) else None for value in curve]


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
