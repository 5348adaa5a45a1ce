"""What is checked before a step is trained: that data fit the model, and that a run directory is this very run's.

A run is known by its configurations, the SHA-256 of its data and the SHA-256 of the code that trains it, so
that "go on with it" never mixes two experiments.
"""

import hashlib
import json
import shutil
from pathlib import Path

from hrm_lab import runs
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles.dataset import Split


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


def same_run(run: Path, configs: dict) -> bool:
    """Whether `run` holds an unfinished run of these data and configurations by this very code."""
    try:
        record = runs.read_json(run / "run.json")
    except (OSError, ValueError):
        return False
    return (record["status"] != "ok" and record.get("code") == code_fingerprint()
            and {part: record.get(part) for part in configs} == json.loads(json.dumps(configs)))


def differences(a: dict, b: dict) -> str:
    """Which settings differ between two nested configs, for an error message."""
    found = [f"{part}.{k}: {a[part].get(k)!r} then, {b[part].get(k)!r} now"
             for part in a for k in sorted({*a[part], *b[part]})
             if json.dumps(a[part].get(k)) != json.dumps(b[part].get(k))]
    return "; ".join(found)
