"""`hrm-lab forecast metrics.jsonl --epoch 50 --targets targets.json`: will this run get there? Imports no torch.

Exit codes: 0 answered, 2 the question was wrong (one line on stderr says how). With --ledger, past forecasts of the run
are scored by what has come since, the new ones are added, and the ledger's own record is printed beside them.
"""

import argparse
import json
import sys
from pathlib import Path

from hrm_lab import forecast_bank, forecast_curves, forecast_ledger
from hrm_lab.forecast import describe, forecast, kind_of
from hrm_lab.forecast_forest import NAMES, called, company
from hrm_lab.forecast_targets import Outlook, outlook, read_targets, series
from hrm_lab.metrics import format_score


def add(commands):
    """The subcommand's options."""
    one = commands.add_parser("forecast", help="where a run's metrics are going, and P(target)", description="""
        Forecast metrics of a run from its metrics.jsonl: median, 90 % interval, the last value and a naive fit beside
        them, the probability of each target and of all of them.""")
    one.add_argument("history", metavar="METRICS.JSONL", help="one JSON object a line, or a folder that holds it")
    one.add_argument("--epoch", type=float, default=50, help="forecast for this epoch (default: 50)")
    one.add_argument("--targets", metavar="FILE.json", help='such as {"loss": "<0.3", "exact_match": ">0.9"}')
    one.add_argument("--x", default="epoch", metavar="FIELD", help="the field that --epoch counts (default: epoch)")
    one.add_argument("--examples", type=int, metavar="N", help="examples behind each accuracy, where rows have no n")
    one.add_argument("--model", choices=("hrm", "all"), default="hrm",
                     help="calibrate on past curves of HRMs, or of MLPs too (default: hrm)")
    one.add_argument("--curves", metavar="FILE.csv", help="own past curves, added to the bank that ships")
    one.add_argument("--ledger", metavar="FILE.jsonl", help="keep the forecasts, score those whose epoch has come")
    one.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    one.set_defaults(run=main)


def read_rows(path: Path | str) -> list[dict]:
    """The rows of metrics.jsonl; a last line cut by a crash is left out, any other bad one is a ValueError."""
    path = Path(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    lines, rows = path.read_text(encoding="utf-8").split("\n"), []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            if number == len(lines):
                break
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number}: got {line[:40]!r}, expected one JSON object")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: got no rows, expected one JSON object a line")
    return rows


def answer(arguments: argparse.Namespace) -> tuple[Outlook | None, dict, list[str]]:
    """The outlook where there are targets, the JSON object, and the lines for a terminal."""
    rows = read_rows(arguments.history)
    if not any(isinstance(r.get(arguments.x), int | float) for r in rows):
        raise ValueError(f"{arguments.history}: no row has the field {arguments.x!r}; expected it to count the epochs "
                         "(--x names another)")
    bank = forecast_bank.shipped(arguments.model)
    if arguments.curves:
        bank = bank.plus(forecast_curves.read(arguments.curves))
    if arguments.targets:
        found = outlook(rows, read_targets(arguments.targets, arguments.epoch), arguments.x, bank, arguments.examples)
        targets = [{"metric": o.target.metric, "target": f"{o.target.op}{o.target.value:g}", "epoch": o.target.epoch,
                    "required": o.target.required, "p": o.p, "last": o.last, "reason": o.reason} for o in found.each]
        made = {name: as_json(f) for name, f in found.forecasts.items()}
        return found, {"seen": found.seen, "targets": targets, "p_all": found.p_all, "forecasts": made}, found.lines()
    made, lines = {}, []
    names = called(rows)
    for metric in (theirs for ours, theirs in names.items() if ours != "train_loss"):
        epochs, values, n = series(rows, metric, arguments.x)
        if len(values):
            kind = kind_of(metric, values)
            n = arguments.examples if n is None else n
            f = forecast(epochs, values, n if kind == "accuracy" else None, [arguments.epoch], kind, bank,
                         company=company(rows, metric, epochs, arguments.x, n))
            made[metric], lines = as_json(f), lines + describe(f, metric)
    if not made:
        known = dict.fromkeys(name for ours, theirs in NAMES.items() if ours != "train_loss" for name in theirs)
        raise ValueError(f"{arguments.history}: no row has one of {', '.join(known)}; expected one, or --targets")
    return None, {"forecasts": made}, lines


def as_json(f) -> dict:
    return {"at": f.steps.tolist(), "quantiles": f.quantiles.tolist(), "last": f.last, "naive": f.naive.tolist(),
            "kind": f.kind, "calibration": f.calibration}


def main(arguments: argparse.Namespace) -> int:
    try:
        found, data, lines = answer(arguments)
        if arguments.ledger:
            if found is None:
                raise ValueError("--ledger: got no --targets, expected them: a ledger keeps forecasts of targets")
            run = str(Path(arguments.history).resolve().parent.name)
            forecast_ledger.settle(arguments.ledger, run, read_rows(arguments.history), arguments.x)
            forecast_ledger.record(arguments.ledger, run, found, arguments.x)
            data["ledger"] = forecast_ledger.report(arguments.ledger)
            lines.append(ledger_line(data["ledger"]))
    except (ValueError, OSError) as error:
        print(f"hrm-lab forecast: {error}", file=sys.stderr)
        return 2
    print(json.dumps(data, indent=1) if arguments.json else "\n".join(lines))
    return 0


def ledger_line(report: dict) -> str:
    """`confidence: unproven (3 of 20 forecasts scored)`, with what is known."""
    parts = [f"confidence: {report['confidence']}"]
    parts += [f"{name} {format_score(report[key])}" for name, key in (("50 % interval held", "coverage50"),
                                                                      ("Brier", "brier")) if report[key]]
    return "; ".join(parts)
