"""What is checked before a step is trained: that data fit the model, that a run directory is this very run's, and that
a checkpoint's config and weights are those of a model.

A run is known by its configurations, the SHA-256 of its data and the SHA-256 of the code that trains it, so
that "go on with it" never mixes two experiments.
"""

import hashlib
import json
import shutil
from dataclasses import fields
from pathlib import Path

import torch

from hrm_lab import runs
from hrm_lab.model import HRM, HRMConfig
from hrm_lab.puzzles.dataset import Split

LARGEST = 2**20  # of any whole number in a model's config


def check_fit(c: HRMConfig, *splits: Split):
    """Refuse data whose shape or ids do not fit the model, before a step is trained."""
    for split in splits:
        m = split.meta
        if len(split.inputs) == 0:
            raise ValueError(f"{m.name}: got no puzzles, expected at least one")
        if split.inputs.shape[1] != c.seq_len:
            raise ValueError(f"{m.name}: got sequences of {split.inputs.shape[1]} tokens, "
                             f"expected seq_len = {c.seq_len} as in the model's config")
        if m.vocab_size > c.vocab_size:
            raise ValueError(f"{m.name}: got a vocabulary of {m.vocab_size}, expected at most {c.vocab_size}")
        if c.num_puzzles and int(split.puzzle_ids.max()) >= c.num_puzzles:
            raise ValueError(f"{m.name}: got puzzle id {int(split.puzzle_ids.max())}, expected below {c.num_puzzles}")


def fingerprint(split: Split) -> str:
    """SHA-256 over a split's inputs and labels, short."""
    return hashlib.sha256(split.inputs.tobytes() + split.labels.tobytes()).hexdigest()[:16]


def code_fingerprint() -> str:
    """SHA-256 over the modules that decide what training does, short."""
    here = Path(__file__).parent
    names = ["model.py", "positions.py", "act.py", "optim.py", "ranks.py", "train.py", "puzzles/dataset.py",
             "puzzles/augment.py"]
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in names)).hexdigest()[:16]


def open_run(run: Path, configs: dict, resume: bool | str):
    """Refuse a directory that holds a run unless it is to go on; resume="same" clears it if it holds another one."""
    if resume == "same" and not same_run(run, configs):
        shutil.rmtree(run, ignore_errors=True)
    if not resume and (run / "run.json").exists():
        raise ValueError(f"{run}: holds a run already; expected an empty directory, or resume=True")
    for left in run.rglob(".*.tmp") if resume else ():  # of a process that was killed while it wrote
        left.unlink(missing_ok=True)


def same_run(run: Path, configs: dict) -> bool:
    """Whether `run` holds an unfinished run of these data and configurations by this very code."""
    try:
        record = runs.read_json(run / "run.json")
    except (OSError, ValueError):
        return False
    return (isinstance(record, dict) and record.get("status") in ("running", "failed")
            and record.get("code") == code_fingerprint()
            and {part: record.get(part) for part in configs} == json.loads(json.dumps(configs)))


def differences(a: dict, b: dict) -> str:
    """Which settings differ between two nested configs, for an error message."""
    found = [f"{part}.{k}: {a[part].get(k)!r} then, {b[part].get(k)!r} now"
             for part in a for k in sorted({*a[part], *b[part]})
             if json.dumps(a[part].get(k)) != json.dumps(b[part].get(k))]
    return "; ".join(found)


def config_from(values: dict) -> HRMConfig:
    """HRMConfig from its JSON form. ValueError names an unknown key, or a value that is none of a model."""
    known = {f.name: f for f in fields(HRMConfig)}
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"config: unknown keys {', '.join(unknown)}; expected only {', '.join(sorted(known))}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for name, field in known.items():
        value = values.get(name, field.default)
        least = 0 if field.default == 0 else 1  # a default of 0 says "without"
        if field.type is int:
            good, want = type(value) is int and least <= value <= LARGEST, f"a whole number, {least} to {LARGEST}"
        elif field.type is float:
            good, want = type(value) in (int, float) and abs(value) < 1e9, "a number"
        elif name == "grid":
            good = value is None or isinstance(value, tuple) and len(value) == 4 and all(
                type(v) is int and 1 <= v <= LARGEST for v in value)
            want = "None or four whole numbers"
        else:
            good, want = type(value) is field.type, field.type.__name__
        if not good:
            raise ValueError(f"config: {name} is {str(value)[:40]!r}; expected {want}")
    return HRMConfig(**values)


def check_weights(path: Path, tensors: dict[str, torch.Tensor], config: HRMConfig):
    """Raises CheckpointError where tensors are missing, too many or of other shapes than `config` gives a model."""
    with torch.device("meta"):  # shapes alone: a config must not ask for memory that the weights do not fill
        wanted = {name: tuple(t.shape) for name, t in HRM(config).state_dict().items()}
    for name in sorted({*wanted, *tensors}):
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        if found != wanted.get(name):
            raise runs.CheckpointError(f"{path}: {name}: got {found}, expected {wanted.get(name, 'no such weights')} "
                                       "by its config")
