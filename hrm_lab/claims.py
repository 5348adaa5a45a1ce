"""What the lab says of itself, checked against the numbers that the runs left: met, not met, or not measured.

`notebooks/claims.yaml` lists the claims: a metric of a run, the value that it should reach, and the metric that it must
stand beside (a baseline). Nothing here knows a result: a claim whose metric is missing is shown as not measured, and
one that fails stands in the same table as those that hold.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.metrics import DIFFERENCE
from hrm_lab.notebooks import checked_metrics, shown_metric
from hrm_lab.runs import read_json

CLAIMS = ROOT / "notebooks" / "claims.yaml"
FIELDS = {"track", "says", "run", "metric", "at_least", "at_most", "beside", "above"}
VERDICTS = MET, NARROW, FAILED, MISSING = "met", "met, but not beyond chance", "not met", "not measured"


@dataclass(frozen=True)
class Claim:
    """One line of the list: `metric` of `run` should be at least (or at most) a number, or above another metric."""

    track: str
    says: str
    run: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    beside: str | None = None  # shown beside it: a baseline of the same run
    above: str | float | None = None  # a number or a metric of the same run that it must exceed

    @property
    def wanted(self) -> tuple[str, float | str]:
        """The one condition of the claim: ("at_least", 0.95), ("at_most", ...) or ("above", name)."""
        given = [(name, getattr(self, name)) for name in ("at_least", "at_most", "above")
                 if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"claim {self.says!r}: got {len(given)} conditions, "
                             "expected one of at_least, at_most, above")
        return given[0]


def claims(path: Path = CLAIMS) -> list[Claim]:
    """All claims. ValueError naming the entry and field that is not in the format."""
    found = []
    for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), 1):
        if not isinstance(entry, dict) or set(entry) - FIELDS or not {"track", "says", "run", "metric"} <= set(entry):
            raise ValueError(f"{path.name}: entry {number}: got {entry!r}, expected track, says, run, metric and a "
                             f"condition, out of {', '.join(sorted(FIELDS))}")
        found.append(Claim(**entry))
        _ = found[-1].wanted
    return found


def collected(root: Path) -> dict[str, dict]:
    """The metrics of every finished run in folder `root`: run -> name -> score; the runs that failed are absent."""
    found = {}
    for path in sorted(Path(root).glob("*/metrics.json")):
        found[path.parent.name] = checked_metrics(read_json(path), str(path))["metrics"]
    return found


def costs(root: Path) -> dict[str, dict]:
    """What each finished run in `root` cost: run -> seconds by the clock, CPU-seconds, peak memory, threads, kJ."""
    found = {}
    for path in sorted(Path(root).glob("*/metrics.json")):
        spent, record = read_json(path).get("cost", {}), read_json(path.with_name("run.json"))
        found[path.parent.name] = {"seconds": record.get("seconds"), "CPU-seconds": spent.get("cpu_seconds"),
                                   "peak memory, GB": spent.get("peak_gb"), "threads": record.get("threads"),
                                   "energy, kJ": round(record["joules"] / 1000, 2) if record.get("joules") else None}
    return found


def judge(claim: Claim, scores: dict[str, dict]) -> str:
    """MET where the whole 95 % interval is on the right side, NARROW where only the value is; see the constants."""
    own = scores.get(claim.run, {})
    if claim.metric not in own:
        return MISSING
    score, (condition, bound) = own[claim.metric], claim.wanted
    if isinstance(bound, str):
        if bound not in own:
            return MISSING
        bound = own[bound]["value"]
    low, high = (score[k] if score[k] is not None else score["value"] for k in ("low", "high"))
    if condition == "at_most":
        return MET if high <= bound else NARROW if score["value"] <= bound else FAILED
    held = low > bound if condition == "above" else low >= bound
    reached = score["value"] > bound if condition == "above" else score["value"] >= bound
    return MET if held else NARROW if reached else FAILED


def table(found: list[Claim], scores: dict[str, dict]) -> list[dict]:
    """One row a claim, as people read it, each with the page that made the number."""
    rows = []
    for claim in found:
        own = scores.get(claim.run, {})
        value, interval, n = shown_metric(own[claim.metric]) if claim.metric in own else ("", "", "")
        condition, bound = claim.wanted
        unit = own.get(claim.metric, {}).get("unit", "")
        sign = {"at_least": "≥", "at_most": "≤", "above": ">"}[condition]
        if isinstance(bound, str):
            wanted = f"{sign}\u00a0{shown_metric(own[bound])[0] if bound in own else bound.replace('_', ' ')}"
        else:
            wanted = f"{sign}\u00a0{shown_bound(bound, unit)}"
        beside = claim.beside or (bound if isinstance(bound, str) else None)
        rows.append({"track": claim.track, "claim": claim.says, "wanted": wanted, "value": value,
                     "95 % interval": interval, "n": n,
                     "baseline": shown_metric(own[beside])[0] if beside in own else "",
                     "verdict": judge(claim, scores), "page": f"{claim.run}.html"})
    return rows


def summary(rows: list[dict]) -> list[str]:
    """One sentence a track: how many of its claims are met beyond chance, in value only, and not at all; markdown."""
    lines = []
    for track in dict.fromkeys(row["track"] for row in rows):
        own = [row for row in rows if row["track"] == track]
        parts = {verdict: [f"{row['claim']} ({row['value'] or 'no value'}; wanted {row['wanted']})" for row in own
                           if row["verdict"] == verdict] for verdict in VERDICTS}
        line = f"**{track.capitalize()}**: {len(parts[MET])} of {len(own)} claims met beyond chance"
        line += f", {len(parts[NARROW])} in value only." if parts[NARROW] else "."
        for verdict in (FAILED, MISSING):
            line += f" {verdict.capitalize()}: {'; '.join(parts[verdict])}." if parts[verdict] else ""
        lines.append(line)
    return lines


def line(row: dict) -> str:
    """One claim, as a list item of markdown that links to the page that made its number."""
    text = f"- [{row['claim']}]({row['page']}): **{row['value']}** ("
    text += ("" if row["95 % interval"] == "–" else f"{row['95 % interval']}, ") + f"n = {row['n']})"
    text += f", wanted {row['wanted']}" + (f", baseline {row['baseline']}" if row["baseline"] else "")
    return text


def shown_bound(bound: float, unit: str) -> str:
    """A wanted value in the unit of its metric: 0.95 of a share is "95 %"."""
    name = {"share": "%", DIFFERENCE: "points"}.get(unit)
    return f"{100 * bound:g}\u202f{name}" if name else f"{bound:g}\u202f{unit}".rstrip("\u202f")
