"""Whole files or none, and the commit they came from. Imports no torch: the Snakefile and the reports use it too."""

import json
import os
import subprocess
from pathlib import Path


def write_atomic(path: Path | str, data: bytes | str):
    """Write, flush, rename; a reader, or a `kill -9`, sees the old file or the new one, never a half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path | str, value):
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False, default=str) + "\n")


def commit(folder: Path | str) -> str | None:
    """Short commit of the checkout that holds `folder`, with "+" if files differ from it; None outside git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
