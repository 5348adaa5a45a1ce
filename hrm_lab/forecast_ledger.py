"""Every forecast kept, and scored when its epoch arrives: the only ground for "confidence: high".

A ledger is a file of JSON lines to which lines are only added, each flushed to disk: `made` (a forecast or a
probability) and `came` (what the metric was then). The same forecast is not recorded twice, so a resumed run adds
nothing new. Scores: coverage of the 90 and the 50 % interval, CRPS (Gneiting and Raftery 2007) from the five stored
quantiles, in units of the metric (for losses: of its first value), and Brier's for the targets.
"""

import json
import os
from pathlib import Path

import numpy as np

from hrm_lab import metrics
from hrm_lab.forecast import LEVELS, Forecast
from hrm_lab.forecast_targets import Outlook, Target, series

PROVEN = 20  # forecasts scored before anything is said of their quality
HIGH = (0.85, 0.95)  # coverage of the 90 % interval that deserves the word


def read(ledger: Path | str) -> list[dict]:
    """Its lines; a last one cut by a crash is left out, any other bad line is a ValueError."""
    path = Path(ledger)
    if not path.exists():
        return []
    lines, found = path.read_text(encoding="utf-8").split("\n"), []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            if number == len(lines):  # no newline after it: the write was cut
                break
            row = None
        if not isinstance(row, dict) or row.get("event") not in ("made", "came"):
            raise ValueError(f"{path}: line {number}: got {line[:40]!r}, expected an object with event made or came")
        found.append(row)
    return found


def append(ledger: Path | str, rows: list[dict]):
    """Add lines, on disk when this returns; what a crash left of a line before them is cut off."""
    path = Path(ledger)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as f:
        f.seek(0)
        rest = f.read().rpartition(b"\n")[2]
        if rest:
            f.truncate(f.tell() - len(rest))
        f.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode())
        f.flush()
        os.fsync(f.fileno())


def key(row: dict) -> tuple:
    return row["run"], row["metric"], row["seen"], row["at"], row["x"]


def record(ledger: Path | str, run: str, outlook: Outlook, x: str = "epoch") -> int:
    """Every forecast of an outlook with the probabilities of its targets; returns how many were new."""
    return sum(record_forecast(ledger, run, metric, f, [o for o in outlook.each if o.target.metric == metric], x)
               for metric, f in outlook.forecasts.items())


def record_forecast(ledger: Path | str, run: str, metric: str, f: Forecast, outlooks=(), x: str = "epoch") -> int:
    """One line a later step; `outlooks`: `TargetOutlook`s of this metric. Returns how many were new."""
    known, rows = {key(r) for r in read(ledger) if r["event"] == "made"}, []
    for step, q, naive in zip(f.steps, f.quantiles, f.naive, strict=True):
        targets = [{"op": o.target.op, "value": o.target.value, "p": o.p} for o in outlooks
                   if o.target.epoch == step and o.p is not None]
        rows.append({"event": "made", "run": run, "metric": metric, "kind": f.kind, "x": x, "seen": f.seen,
                     "count": f.count, "at": float(step), "quantiles": [float(v) for v in q], "last": f.last,
                     "naive": float(naive), "targets": targets, "calibration": f.calibration})
    new = [r for r in rows if key(r) not in known]
    if new:
        append(ledger, new)
    return len(new)


def settle(ledger: Path | str, run: str, rows: list[dict], x: str = "epoch") -> int:
    """Score what was forecast for epochs that have come, from the rows of metrics.jsonl; returns how many were new.

    What counts is the first evaluation at or after the epoch of the forecast.
    """
    events = read(ledger)
    done, new = {key(r) for r in events if r["event"] == "came"}, []
    for made in events:
        if made["event"] != "made" or made["run"] != run or made["x"] != x or key(made) in done:
            continue
        epochs, values, _ = series(rows, made["metric"], x)
        later = np.flatnonzero(epochs >= made["at"])
        if len(later) and np.isfinite(values[later[0]]):
            first = float(values[0]) if made["kind"] == "loss" else 1.0
            new.append({"event": "came", **{name: made[name] for name in ("run", "metric", "seen", "at", "x")},
                        "value": float(values[later[0]]), "unit": first})
    if new:
        append(ledger, new)
    return len(new)


def crps(quantiles, value: float) -> float:
    """Continuous ranked probability score of five quantiles: twice the mean pinball loss over them."""
    q, levels = np.asarray(quantiles, float), np.array(LEVELS)
    return float(2 * np.mean(np.maximum(levels * (value - q), (levels - 1) * (value - q))))


def report(ledger: Path | str) -> dict:
    """How the ledger's forecasts went: n, waiting, coverage90, coverage50, crps, crps_last, brier, confidence.

    Coverages, CRPS and Brier are scores (`hrm_lab.metrics`) or None; crps_last is that of the last value, for
    comparison. Intervals take forecasts as independent; those of one run are not, so they are narrower than they
    should be. confidence: "high" only with 20 scored forecasts and coverage of the 90 % interval in 85-95 %.
    """
    events = read(ledger)
    came = {key(r): r for r in events if r["event"] == "came"}
    made = [r for r in events if r["event"] == "made"]
    pairs = [(m, came[key(m)]) for m in made if key(m) in came]
    found = {"n": len(pairs), "waiting": len(made) - len(pairs), "coverage90": None, "coverage50": None, "crps": None,
             "crps_last": None, "brier": None, "confidence": confidence(len(pairs), None)}
    if not pairs:
        return found
    inside = {name: [m["quantiles"][a] <= c["value"] <= m["quantiles"][b] for m, c in pairs]
              for name, a, b in (("coverage90", 0, 4), ("coverage50", 1, 3))}
    found |= {name: metrics.proportion(sum(hits), len(hits)) for name, hits in inside.items()}
    found["crps"] = metrics.bootstrap([crps(m["quantiles"], c["value"]) / c["unit"] for m, c in pairs])
    found["crps_last"] = metrics.bootstrap([abs(m["last"] - c["value"]) / c["unit"] for m, c in pairs])
    brier = [(t["p"] - bool(Target(m["metric"], t["op"], t["value"], m["at"]).met(c["value"]))) ** 2
             for m, c in pairs for t in m["targets"]]
    found["brier"] = metrics.bootstrap(brier) if brier else None
    found["confidence"] = confidence(len(pairs), found["coverage90"]["value"])
    return found


def confidence(n: int, coverage: float | None) -> str:
    if n < PROVEN or coverage is None:
        return f"unproven ({n} of {PROVEN} forecasts scored)"
    held = f"the 90 % interval held {100 * coverage:.0f} % of {n}"
    return f"{'high' if HIGH[0] <= coverage <= HIGH[1] else 'low'} ({held})"
