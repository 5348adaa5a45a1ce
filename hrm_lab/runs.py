"""Run directories: atomic files, self-checking checkpoints, metrics.jsonl, threads.

A checkpoint is one safetensors file that carries its JSON metadata and a SHA-256 over names, dtypes,
shapes, bytes and metadata, so that a cut or altered file is refused. Every file is written to a
temporary name, flushed to disk and renamed: after `kill -9` there is the old file or the new one,
never a half. Nothing here unpickles.
"""

import hashlib
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from hrm_lab.files import commit, write_atomic, write_json  # noqa: F401 (write_json: used as runs.write_json)


class CheckpointError(ValueError):
    """A checkpoint that is missing, cut short, altered or made for something else."""


def set_threads(threads: int | None = None) -> int:
    """Torch's thread count from the argument or the job's HRM_LAB_THREADS; says so; returns it."""
    threads = threads or int(os.environ.get("HRM_LAB_THREADS", "0"))
    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def pick_device(wanted: str = "auto") -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU; any other name is taken as it is or refused."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: got {wanted!r}, expected one that this machine has ({reason})") from None


def fast_in_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware; a CPU without such units is several times slower in it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(found.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))


def read_json(path: Path):
    try:
        return json.loads(Path(path).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}: got {error.doc[error.pos:error.pos + 20]!r}, "
                         f"expected JSON ({error.msg})") from None


def append_metrics(run: Path, row: dict):
    """One line of metrics.jsonl, on disk when this returns."""
    with open(Path(run) / "metrics.jsonl", "a") as f:
        f.write(json.dumps(row, allow_nan=False) + "\n")
        f.flush()
        os.fsync(f.fileno())


def read_metrics(run: Path) -> list[dict]:
    """The rows of metrics.jsonl; a last line cut by a crash is left out, any other bad line is an error."""
    path = Path(run) / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    rows = []
    for i, line in enumerate(lines):
        if not line:
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if i == len(lines) - 1:  # no newline after it: the write was cut
                break
            raise ValueError(f"{path}: line {i + 1}: got {line[:40]!r}, expected one JSON object") from None
    return rows


def rewind_metrics(run: Path, step: int):
    """Drop the rows after `step`, which a resumed run is about to write again."""
    path = Path(run) / "metrics.jsonl"
    if path.exists():
        write_atomic(path, "".join(json.dumps(r) + "\n" for r in read_metrics(run) if r["step"] <= step))


def digest(tensors: dict[str, torch.Tensor], meta: dict[str, str]) -> str:
    h = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in sorted(tensors):
        t = tensors[name]
        h.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b"")
    return h.hexdigest()


def save_checkpoint(path: Path, tensors: dict[str, torch.Tensor], meta: dict, keep_previous: bool = False):
    """Write tensors and JSON metadata as one self-checking safetensors file.

    keep_previous: the file that stood there stays as `<name>.previous.safetensors`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    strings = {"meta": json.dumps(meta, sort_keys=True)}
    data = save(tensors, {**strings, "sha256": digest(tensors, strings)})
    if keep_previous and path.exists():
        link = path.with_name(f".{path.name}.link")
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous(path))
    write_atomic(path, data)


def previous(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".safetensors") + ".previous.safetensors")


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and metadata of a checkpoint; CheckpointError if it is missing, cut or altered."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, "pt") as f:
            strings = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (safe_open is no dict)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: cut short or altered: {error}") from None
    expected, found = strings.pop("sha256", None), digest(tensors, strings)
    if expected != found:
        raise CheckpointError(f"{path}: cut short or altered: sha256 is {found[:12]}, "
                              f"expected {(expected or 'none')[:12]} as the file says")
    return tensors, json.loads(strings["meta"])


def facts(device: torch.device | str = "cpu") -> dict:
    """What a reader needs to repeat a run: versions, commit, machine."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "hrm_lab": version("hrm-lab") if installed("hrm-lab") else "source tree",
            "commit": commit(Path(__file__).parent) or "unknown",
            "platform": f"{platform.system()} {platform.machine()}", "device": str(device),
            "threads": torch.get_num_threads(), "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": Path(sys.argv[0]).name}


def installed(name: str) -> bool:
    try:
        return bool(version(name))
    except ImportError:
        return False


class Clock:
    """Wall and CPU seconds since the start, going on from what a resumed run had already used."""

    def __init__(self, wall: float = 0.0, cpu: float = 0.0):
        self.wall0, self.cpu0 = time.perf_counter() - wall, time.process_time() - cpu

    @property
    def wall(self) -> float:
        return time.perf_counter() - self.wall0

    @property
    def cpu(self) -> float:
        return time.process_time() - self.cpu0
