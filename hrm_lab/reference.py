"""A run beside the reference run: what got worse, and by how much. `python -m hrm_lab.reference RUNS` keeps one.

A share has regressed where its interval lies wholly below that of the reference and the values are more than MARGIN
apart; a number that may vary with the machine (seconds, bytes) is compared as a ratio and only shown. Whether more is
better is read from the name: errors, losses and counts of failures fall.
"""

import argparse
import json
import sys
from pathlib import Path

from hrm_lab.claims import collected
from hrm_lab.files import write_json
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.metrics import DIFFERENCE

MARGIN = 0.02  # of a share: two points
LESS_IS_BETTER = ("error", "loss", "perplexity", "duplicates", "failures", "flagged", "crps", "brier", "mae", "seconds",
                  "executions", "gb", "regressions")
FOLDER = ROOT / "data" / "reference"


def path_of(preset: str) -> Path:
    """Where the reference of a preset lies; only `laptop` has one."""
    return FOLDER / f"{preset}.json"


def save(root: Path, path: Path, preset: str):
    """Write the metrics of all runs in `root` but the judging ones as the reference; ValueError where there is none."""
    scores = {run: own for run, own in collected(root).items() if not run.startswith(("06", "07"))}
    if not scores:
        raise ValueError(f"{root}: got no metrics.json in it, expected the folder of a finished run, runs/notebooks")
    write_json(path, {"preset": preset, "runs": scores})


def load(path: Path) -> dict[str, dict]:
    """The reference's metrics: run -> name -> score."""
    return json.loads(Path(path).read_text(encoding="utf-8"))["runs"]


def falls(name: str) -> bool:
    """Whether less of a metric is better, by its name."""
    return any(word in name.lower() for word in LESS_IS_BETTER)


def compare(scores: dict[str, dict], reference: dict[str, dict]) -> list[dict]:
    """One row a share that both runs have, worst first: run, metric, both values, change (positive is better), verdict.

    "worse" beyond chance and MARGIN, "better" likewise, else "same"; "gone" where the new run lacks the metric.
    """
    rows = []
    for run, own in reference.items():
        for name, old in own.items():
            if old["unit"] not in ("share", DIFFERENCE):
                continue
            new = scores.get(run, {}).get(name)
            if new is None:
                rows.append({"run": run, "metric": name, "reference": old, "now": None, "change": -1.0,
                             "verdict": "gone"})
                continue
            sign = -1 if falls(name) else 1
            change = sign * (new["value"] - old["value"])
            verdict = "same"
            if abs(change) > MARGIN and apart(new, old):
                verdict = "better" if change > 0 else "worse"
            rows.append({"run": run, "metric": name, "reference": old, "now": new, "change": change,
                         "verdict": verdict})
    return sorted(rows, key=lambda row: row["change"])


def apart(a: dict, b: dict) -> bool:
    """Whether two intervals do not overlap; a number without an interval is its own."""
    low, high = ([s[k] if s[k] is not None else s["value"] for s in (a, b)] for k in ("low", "high"))
    return high[0] < low[1] or high[1] < low[0]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.reference", description="Keep a run as the reference.")
    parser.add_argument("runs", help="the folder of a finished run, runs/notebooks")
    parser.add_argument("--preset", default="laptop")
    given = parser.parse_args(argv)
    try:
        save(Path(given.runs), path_of(given.preset), given.preset)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(path_of(given.preset).relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
