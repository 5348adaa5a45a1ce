"""What a study of generated tests shows: goals, findings in words, samples, failures, and the report's three files.

Every sentence is computed from numbers, so that a report cannot say what its run did not show.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from hrm_lab import metrics
from hrm_lab.files import write_atomic, write_json
from hrm_lab.testgen import scores
from hrm_lab.testgen.store import Promotion
from hrm_lab.testgen.study import Data, Rival

FILES = ("FINE_TUNING_REPORT.md", "training_results.json", "evaluation_results.json")
SHOWN = ("correct", "mutation", "valid", "slots", "executable", "duplicates")


def samples(data: Data, rivals: dict[str, Rival], each: int = 1) -> list[dict]:
    """The first requirements of each axis with every rival's test and what the judge says of it."""
    made = []
    for axis, records in data.held.items():
        some = records[:each]
        texts = {name: rival.write([r.input for r in some]) for name, rival in rivals.items()}
        found = {name: scores.verdicts(some, own, data.domain) for name, own in texts.items()}
        made += [{"axis": axis, "requirement": r.input, "tests": {name: own[n].text for name, own in texts.items()},
                  "verdicts": {name: told(own[n]) for name, own in found.items()}} for n, r in enumerate(some)]
    return made


def told(verdict) -> str:
    """A verdict in words."""
    if verdict.correct:
        return f"correct, mutation score {verdict.mutation:.2f}"
    return f"{'valid' if verdict.valid else 'not valid'}, not correct: {verdict.reason}"


def failures(rival: Rival, data: Data, axis: str, most: int) -> list[dict]:
    """Requirements of an axis whose test is not correct, with the reason."""
    records = data.held[axis]
    found = scores.verdicts(records, rival.write([r.input for r in records]), data.domain)
    return [{"requirement": r.input, "family": r.family, "why not": v.reason}
            for r, v in zip(records, found, strict=True) if not v.correct][:most]


def flat(tables: dict[str, dict[str, dict]]) -> dict:
    """writer -> axis -> scores as one mapping of names to scores, for metrics.json; families only of the first writer.
    """
    first = next(iter(tables))
    return {f"{name}/{axis}/{key}".replace(" ", "_").replace(",", ""): score for name, own in tables.items()
            for axis, table in own.items() for key, score in table.items()
            if "/" not in key or (name == first and axis in ("paraphrase", "family"))}


def goals(table: dict[str, dict]) -> list[dict]:
    """The issue's numbers beside what was reached, for the fine-tuned model: axis -> scores."""
    wanted = [("valid, constrained", "values", "valid", 1.0)]
    wanted += [(f"correct, {axis}", axis, "correct", least)
               for axis, least in (("values", 0.95), ("paraphrase", 0.85), ("names", 0.75))]
    wanted += [(f"mutation, {axis}", axis, "mutation", least)
               for axis, least in (("values", 0.90), ("paraphrase", 0.80), ("names", 0.70))]
    return [{"goal": name, "at least": least, **table[axis][key], "met": table[axis][key]["value"] >= least}
            for name, axis, key, least in wanted]


def findings(tables: dict[str, dict[str, dict]], recursive: str, control: str) -> list[str]:
    """What the tables show, as markdown sentences computed from their numbers; `recursive` and `control`: the two arms.
    """
    mine, base = tables["fine-tuned"], tables["base"]
    out = []
    for axis, table in mine.items():
        rest = {name: own[axis]["correct"]["value"] for name, own in tables.items()
                if name not in ("fine-tuned", "fine-tuned, free", recursive, control) and axis in own}
        best = max(rest, key=rest.get)
        gap = 100 * (table["correct"]["value"] - rest[best])
        out.append(f"**{axis}:** correct {metrics.format_score(table['correct'])}, mutation score "
                   f"{metrics.format_score(table['mutation'])}; the best baseline is {best} "
                   f"({100 * rest[best]:.1f} % correct), {abs(gap):.1f} points {'below' if gap >= 0 else '**above**'}.")
    change = 100 * (mine["values"]["perplexity"]["value"] / base["values"]["perplexity"]["value"] - 1)
    others = {name: own["values"] for name, own in tables.items()
              if name not in ("fine-tuned", "fine-tuned, free", recursive, control, "base")}
    lower = [name for name, table in others.items() if "perplexity" in table
             and table["perplexity"]["value"] <= mine["values"]["perplexity"]["value"]]
    out.append(f"Perplexity a target token changes by {change:+.2f} % from the base to the fine-tuned model; "
               + (f"{', '.join(lower)} is as low." if lower else "every baseline is higher."))
    flagged, why = scores.guard(base["values"], mine["values"])
    out.append(f"**Flagged: {why}.**" if flagged else f"The guard finds nothing: {why}.")
    both = [metrics.format_score(tables[name]["paraphrase"]["correct"]) for name in (recursive, control)]
    out.append(f"Recursion against its control without, paraphrases: {both[0]} against {both[1]}.")
    return out


def gated(gates: Mapping[str, Promotion]) -> str:
    """What the gate decided, in words."""
    sides = {said: [name for name, found in gates.items() if found.promoted == held]
             for said, held in (("promoted", True), ("kept out", False))}
    return "The gate: " + "; ".join(f"{said} {', '.join(names) or 'none'}" for said, names in sides.items()) + "."


def likened(likeness: Mapping[str, dict]) -> list[str]:
    """Likeness to real tests (`ebu.compare`), in words."""
    if not likeness:
        return ["Real pairs: none were judged in this run, as the toolkit's folder is not there."]
    return [f"Real pairs, {name}: chrF {metrics.format_score(own['chrf'])}, steps with a definition "
            f"{metrics.format_score(own['step_match'])}, valid {metrics.format_score(own['valid'])}."
            for name, own in likeness.items()]


def write_report(out: Path | str, config: dict, history: list[dict], tables: dict, sentences: list[str],
                 samples: list[dict]) -> list[Path]:
    """FINE_TUNING_REPORT.md, training_results.json and evaluation_results.json in the folder `out`; their paths."""
    report, training, evaluation = (Path(out) / name for name in FILES)
    rows = ["# Fine-tuning report", "", *[f"- {sentence}" for sentence in sentences], "", "## Configuration", "",
            "```json", json.dumps(config, indent=1, default=str), "```", "", "## Epochs", "",
            "| epoch | training loss | validation loss | perplexity | valid | correct |", "| --- " * 6 + "|"]
    rows += [f"| {r['epoch']} | {r['train_loss']:.4f} | {r['loss']:.4f} | {r['perplexity']:.3f} | {r['valid']:.3f} | "
             f"{r['correct']:.3f} |" for r in history]
    for axis in next(iter(tables.values())):
        rows += ["", f"## {axis}", "", "| writer | perplexity | bits a byte | " + " | ".join(SHOWN) + " |",
                 "| --- " * (3 + len(SHOWN)) + "|"]
        for name, own in tables.items():
            table = own[axis]
            cells = [metrics.format_score(table[key]) if key in table else "-"
                     for key in ("perplexity", "bits_per_byte", *SHOWN)]
            rows.append(f"| {name} | {' | '.join(cells)} |")
    for sample in samples:
        rows += ["", f"## Sample: {sample['requirement']}", ""]
        for name, text in sample["tests"].items():
            rows += [f"{name}:", "", "```gherkin", text.rstrip() or "(nothing)", "```", ""]
    write_atomic(report, "\n".join(rows) + "\n")
    write_json(training, {"config": config, "history": history})
    write_json(evaluation, {"tables": tables, "findings": sentences})
    return [report, training, evaluation]
