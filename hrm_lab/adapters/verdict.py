"""What a fine-tuning run showed, in words and check marks that are computed from its numbers, never written by hand.

The guard: a run whose loss falls while its task metric stays where it was is flagged, whatever the loss says. A
published run went from 0.86 to 0.76 in loss and gave no usable call; nothing on its page had to say so. The checklist
is the one that its authors drew up afterwards, each line answered by a check.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import hypot

from hrm_lab.metrics import format_cell, format_score, proportion

from .examples import Example
from .preflight import Report
from .scoring import Verdict, compare, failures, scores

FALL = 0.2  # a loss that falls by this share counts as falling


def flat(history: Sequence[dict]) -> tuple[bool, str]:
    """(flagged, why) from the rows of metrics.jsonl: the validation loss fell and exact match did not rise.

    It rose if the interval of best minus first is above zero (Newcombe 1998, method 10: from the two Wilson intervals).
    """
    first, last = history[0], history[-1]
    best = max(history, key=lambda row: row["exact_match"])
    before, after = (proportion(round(row["exact_match"] * row["n"]), row["n"]) for row in (first, best))
    fall = 1 - last["loss"] / first["loss"]
    told = (f"validation loss {first['loss']:.2f} to {last['loss']:.2f}; exact match {format_score(before)} before, "
            f"{format_score(after)} at best (step {best['step']})")
    least = after["value"] - before["value"] - hypot(after["value"] - after["low"], before["high"] - before["value"])
    if fall >= FALL and least <= 0:
        return True, f"the loss fell and the task metric did not rise beyond chance: {told}"
    return False, told


def said(form: str, tuned: Sequence[Verdict], base: Sequence[Verdict], way: str) -> str:
    """One sentence: tuned minus base in exact match, with interval and p, called what it is."""
    return told(form, way, compare(tuned, base))


def told(form: str, way: str, found: Mapping) -> str:
    """The sentence of `said` for a comparison that `scoring.compare` made."""
    points = f"{100 * found['value']:+.1f} points ({100 * found['low']:+.1f} to {100 * found['high']:+.1f}, " \
             f"n = {found['n']}, McNemar p = {found['p']:.2g})"
    what = "better" if found["low"] > 0 else "worse" if found["high"] < 0 else "not told apart"
    return f"**{form}, {way}: {what}.** Tuned minus the untuned base: {points}."


def checklist(report: Report, hashes: Mapping[str, str], tuned: Sequence[Verdict], base: Sequence[Verdict],
              shown: int, limits: Mapping[str, int]) -> list[dict]:
    """Rows {"check", "holds", "evidence"}: whether the adapter may be used, each answered from the run.

    report: of the pre-flight check. hashes: system -> hash of all its prompts. tuned, base: verdicts, both constrained
    or both free. shown: outputs of the tuned model that the page shows. limits: system -> its limits of length.
    """
    found = {f.check for f in report.findings if f.severity == "error"}
    difference = compare(tuned, base)
    exact = proportion(sum(v.exact for v in tuned), len(tuned))

    def line(check: str, holds: bool, evidence: str) -> dict:
        return {"check": check, "holds": "yes" if holds else "NO", "evidence": evidence}

    def free_of(check: str, *names: str) -> dict:
        hits = sorted(found & set(names))
        return line(check, not hits, f"pre-flight: {', '.join(hits) or 'no error'} in {', '.join(names)}")

    return [
        free_of("tokens come from the chat template", "prefix", "template", "markers", "bos", "vocabulary"),
        free_of("training and evaluation use one format", "format", "parse", "taught", "truncation"),
        free_of("answers end, and generation stops there", "end", "stop", "max_new"),
        free_of("gold answers score 100 % by the grader that judges", "gold", "visible"),
        free_of("no test question or function in training", "leak"),
        line("held-out score above zero", exact["low"] > 0, format_score(exact)),
        line("held-out score above the untuned base", difference["low"] > 0,
             f"{100 * difference['low']:+.1f} to {100 * difference['high']:+.1f} points"),
        line("outputs were looked at", shown > 0, f"{shown} are shown above"),
        line("prompt parity: all systems saw the same bytes", len(set(hashes.values())) == 1,
             f"{len(hashes)} systems, prompts {', '.join(sorted(set(hashes.values())))}"),
        line("context parity: the same limits for all", len(set(limits.values())) == 1,
             ", ".join(sorted({f"at most {limit} new tokens" for limit in limits.values()}))),
        line("nothing was forced", not report.forced, "forced" if report.forced else "no error was overridden"),
    ]


# ---------------------------------------------------------------- tables


Systems = Mapping[str, Mapping[str, Sequence[Verdict]]]  # format -> system -> verdicts


def table(systems: Systems) -> list[dict]:
    """A row for each format and system, scores with their n and interval."""
    return table_of({form: {system: scores(found) for system, found in own.items()} for form, own in systems.items()})


SHOWN = {"exact": "exact", "arguments": "arguments", "name": "function", "valid_json": "valid JSON",
         "argument_f1": "F1 of arguments", "stopped": "ends its turn"}  # score -> head of its column


def table_of(found: Mapping[str, Mapping[str, Mapping[str, dict]]]) -> list[dict]:
    """The rows of `table` from format -> system -> score -> value."""
    return [{"format": form, "system": system, "n": own["exact"]["n"],
             **{head: format_cell(own[key]) for key, head in SHOWN.items()}}
            for form, systems in found.items() for system, own in systems.items()]


def overview(systems: Systems) -> dict[str, dict[str, str]]:
    """System -> format -> exact match."""
    found: dict[str, dict[str, str]] = {}
    for form, own in systems.items():
        for system, verdicts in own.items():
            found.setdefault(system, {})[form] = format_cell(scores(verdicts)["exact"])
    return found


def forest(systems: Systems) -> list[dict]:
    """Rows of `plots.metric_forest`: exact match of every system, the untuned ones as baselines."""
    return [{"name": f"{form}: {system}", "baseline": system.startswith("base"), **scores(found)["exact"]}
            for form, own in systems.items() for system, found in own.items()]


def difference(tuned: Sequence[Verdict], base: Sequence[Verdict]) -> dict:
    """Tuned minus base in exact match as a score: value, n, low, high, unit."""
    return {key: value for key, value in compare(tuned, base).items() if key != "p"}


def classes(found: Mapping[str, Sequence[Verdict]]) -> dict[str, dict[str, int]]:
    """Format -> class of failure -> how many."""
    return {name: dict(Counter(v.failure or "exact" for v in own).most_common()) for name, own in found.items()}


def examples(found: Sequence[Verdict], asked: Sequence[Example], most: int = 6) -> list[dict]:
    """The first right answer, and one answer of each class of failure, the commonest first."""
    said_by_user = {e.id: e.turns[-1]["content"] for e in asked}

    def row(name: str, i: str, expected: str, got: str) -> dict:
        return {"class": name, "asked": said_by_user[i][:300], "expected": expected, "got": got[:300], "id": i}

    right = [row("exact", v.id, v.expected, v.got) for v in found if v.exact][:1]
    seen: dict[str, dict] = {}
    for f in failures(found):
        seen.setdefault(f["failure"], row(f["failure"], f["id"], f["expected"], f["got"]))
    return [*right, *seen.values()][:most]


def fault_rows(measured: Sequence[Mapping]) -> list[dict]:
    """Rows of `experiments.fault_table` as people read them."""
    rows = []
    for row in measured:
        own = {"fault": row["fault"], "pre-flight says": row["preflight"],
               "training loss": " to ".join(dict.fromkeys(f"{x:.2f}" for x in row["train_loss"])),
               "validation loss": " to ".join(f"{x:.2f}" for x in row["loss"]),
               **{head: format_cell(row[key]) for key, head in (("exact", "exact"), ("arguments", "arguments"),
                                                           ("stopped", "ends its turn"))}}
        if "minus_sound" in row:
            d = row["minus_sound"]
            own["exact minus sound"] = (f"{100 * d['value']:+.1f} ({100 * d['low']:+.1f} to {100 * d['high']:+.1f}), "
                                        f"p = {d['p']:.2g}")
        rows.append(own)
    return rows


def fault_forest(measured: Sequence[Mapping], field: str = "exact") -> list[dict]:
    """Rows of `plots.metric_forest`; the sound arm is the baseline."""
    return [{"name": row["fault"], "baseline": row["fault"] == "sound", **row[field]} for row in measured]
