"""Learning curves of past runs as one CSV: what forecasts are calibrated on.

One line a curve: task, run, metric, kind (loss or accuracy), n (examples behind an accuracy, 0: unknown) and values,
one an epoch from epoch 1 on, separated by spaces. Plain text, so that a user's own runs can be added with any tool.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrm_lab.files import write_atomic

KINDS = ("loss", "accuracy")
FIELDS = ("task", "run", "metric", "kind", "n", "values")


@dataclass(frozen=True)
class Curve:
    """One metric of one run; values at epochs 1, 2, ..."""

    task: str
    run: str
    metric: str
    kind: str
    n: int
    values: tuple[float, ...]


def read(path: Path | str) -> list[Curve]:
    """The curves of a file; ValueError names the line and the field that is not as it should be."""
    path, curves = Path(path), []
    rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    head = next(rows, [])
    if tuple(head) != FIELDS:
        raise ValueError(f"{path}: line 1: got {','.join(head)[:60]!r}, expected {','.join(FIELDS)}")
    for row in rows:
        where = f"{path}: line {rows.line_num}"
        if len(row) != len(FIELDS):
            raise ValueError(f"{where}: got {len(row)} fields, expected {len(FIELDS)}")
        task, run, metric, kind, n, values = row
        if kind not in KINDS:
            raise ValueError(f"{where}: kind: got {kind!r}, expected {' or '.join(KINDS)}")
        try:
            curve = Curve(task, run, metric, kind, int(n), tuple(map(float, values.split())))
        except ValueError as error:
            raise ValueError(f"{where}: {error}; expected n and values as numbers") from None
        low, high = 0.0, 1.0 if kind == "accuracy" else np.inf
        bad = ["none"] * (not curve.values) + [v for v in curve.values if not (low <= v <= high and np.isfinite(v))]
        if bad:
            raise ValueError(f"{where}: values: got {bad[0]}, expected numbers in [{low:g}, {high:g}]")
        curves.append(curve)
    return curves


def write(path: Path | str, curves: list[Curve]):
    """The whole file or none."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(FIELDS)
    rows.writerows((c.task, c.run, c.metric, c.kind, c.n, " ".join(f"{v:.4g}" for v in c.values)) for c in curves)
    write_atomic(path, out.getvalue())


def from_history(rows: list[dict], task: str, run: str, kinds: dict[str, str], n: int = 0) -> list[Curve]:
    """Curves of a run's metrics.jsonl; `kinds`: metric -> kind. Metrics that are missing anywhere are left out."""
    return [Curve(task, run, metric, kind, n, tuple(float(r[metric]) for r in rows)) for metric, kind in kinds.items()
            if all(isinstance(r.get(metric), int | float) for r in rows)]
