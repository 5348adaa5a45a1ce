"""All numbers of all runs as two files beside the pages: metrics.json and metrics.csv."""

import csv
import io
import json
from pathlib import Path

from hrm_lab.files import write_atomic
from hrm_lab.notebooks import METRIC_FIELDS, checked_metrics

FILES = ("metrics.csv", "metrics.json")


def rows(runs_dir: Path | str) -> list[dict]:
    """One row a metric of every finished run in `runs_dir`: run, metric, value, n, low, high, unit.

    A run without a sound metrics.json (failed, under way, cut short) has no rows: the index says what happened to it.
    """
    found = []
    for path in sorted(Path(runs_dir).glob("*/metrics.json")):
        try:
            record = checked_metrics(json.loads(path.read_text(encoding="utf-8")), path.name)
        except (OSError, ValueError):
            continue
        found += [{"run": path.parent.name, "metric": name} | score for name, score in record["metrics"].items()]
    return found


def write(runs_dir: Path | str, reports_dir: Path | str):
    """Write FILES into `reports_dir`, whole or not at all."""
    found = rows(runs_dir)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, ("run", "metric", *METRIC_FIELDS), lineterminator="\n")
    table.writeheader()
    table.writerows(found)
    write_atomic(Path(reports_dir) / "metrics.csv", text.getvalue())
    write_atomic(Path(reports_dir) / "metrics.json", json.dumps(found, indent=1) + "\n")
