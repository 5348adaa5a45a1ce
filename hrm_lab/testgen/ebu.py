"""Real requirements with real tests, judged only: the conformance list of the EBU-TT-Live toolkit (BSD-3-Clause).

`SPEC-CONFORMANCE.md` of that toolkit lists the normative statements of EBU Tech 3370 with the feature files that test
them. The folder is a parameter; nothing of it is in this repository and nothing is trained on it. Unusual: there is
no reference to run here, so what is reported (chrF, steps that fit the step library) is likeness, not correctness,
and ranks models differently from people (arXiv 2603.04729): report it, never tune or gate on it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrm_lab import metrics

from . import feature_files, gherkin

ROW = re.compile(r"^\|\s*(R\d+[a-z]?)\s*\|([^|]*)\|(.*)\|([^|]*)\|\s*$")
STRUCK = re.compile(r"~~.*?~~")
PATH = re.compile(r"[\w/+.-]+\.feature")
VALUE = re.compile(r"<[^<>]*>|\"[^\"]*\"|'[^']*'|`[^`]*`|\b[\d:.,]*\d[\w:.]*\b")


@dataclass(frozen=True)
class Pair:
    """A requirement in the words of the standard, and the scenarios that its authors test it with."""

    id: str
    section: str
    requirement: str
    scenarios: tuple[str, ...]


def read(folder: Path | str) -> tuple[list[Pair], frozenset[str], dict[str, int]]:
    """(pairs, step library, counts) of a checkout's `testing` folder.

    Raises ValueError: no conformance list there, or not one row in its form.
    """
    folder = Path(folder)
    listing = folder / "SPEC-CONFORMANCE.md"
    if not listing.is_file():
        raise ValueError(f"{listing}: not there; expected the conformance list of the toolkit")
    counts = dict.fromkeys(("statements", "struck out", "without a feature file", "file does not parse", "pairs"), 0)
    by_file, library, pairs = {}, set(), []
    for path in sorted((folder / "bdd" / "features").rglob("*.feature")):
        try:
            by_file[path.name] = _scenarios(path.read_text(encoding="utf-8-sig"))
        except (gherkin.GherkinError, UnicodeDecodeError):
            counts["file does not parse"] += 1
    for scenarios in by_file.values():
        library |= {shape(words) for _, text in scenarios for words in steps(text)}
    for line in listing.read_text(encoding="utf-8").splitlines():
        if not (match := ROW.match(line)):
            continue
        counts["statements"] += 1
        said = " ".join(STRUCK.sub(" ", match[3]).replace("`", "").replace("\\_", "_").split())
        if not re.search(r"\w{3}", said) or "deprecated" in match[4].lower():
            counts["struck out"] += 1
            continue
        found = _tests(match[4], by_file)
        if not found:
            counts["without a feature file"] += 1
            continue
        pairs.append(Pair(match[1], match[2].strip(), said, tuple(found)))
        counts["pairs"] += len(found)
    if not counts["statements"]:
        raise ValueError(f"{listing}: no row |R1|section|statement|files|; expected the conformance list")
    return pairs, frozenset(library), counts


def _scenarios(text: str) -> list[tuple[str, str]]:
    feature = gherkin.document(text).get("feature")
    return [(scenario["name"], feature_files.written(feature, scenario, background))
            for scenario, background in feature_files.with_background(feature)] if feature else []


def _tests(cell: str, by_file: Mapping[str, list[tuple[str, str]]]) -> list[str]:
    """The scenarios that a cell names: by name where one fits, else all of the file."""
    found = []
    for path in PATH.findall(cell):
        scenarios = by_file.get(path.rpartition("/")[2], [])
        named = [text for name, text in scenarios if name and name.lower() in cell.lower()]
        found += named or [text for _, text in scenarios]
    return list(dict.fromkeys(found))


def steps(text: str) -> list[str]:
    """The step texts of a test, without keywords; of one that does not parse, none."""
    try:
        return [step["text"] for scenario in gherkin.scenarios(gherkin.document(text)) for step in scenario["steps"]]
    except gherkin.GherkinError:
        return []


def shape(words: str) -> str:
    """A step with its values taken out, as a step definition sees it."""
    return " ".join(VALUE.sub("*", words).lower().split())


def compare(pairs: list[Pair], library: frozenset[str],
            writers: Mapping[str, Callable[[list[str]], list[str]]]) -> dict[str, dict[str, dict]]:
    """writer -> `score` of the tests that it writes for the requirements of the pairs."""
    texts = {name: write([pair.requirement for pair in pairs]) for name, write in writers.items()}
    return {name: score(pairs, {pair.id: text for pair, text in zip(pairs, own, strict=True)}, library)
            for name, own in texts.items()}


def score(pairs: Iterable[Pair], texts: Mapping[str, str], library: frozenset[str]) -> dict[str, dict]:
    """chrF (0..1, the best scenario of each requirement), share of steps in the library, share valid; with intervals.

    `texts` maps requirement ids to generated tests. Raises ValueError: a requirement without a text, or none at all.
    """
    from sacrebleu.metrics import CHRF

    pairs, chrf = list(pairs), CHRF()
    if lost := [pair.id for pair in pairs if pair.id not in texts] or (["none"] if not pairs else []):
        raise ValueError(f"score: no text for requirement {lost[0]}; expected one for each")
    best = [max(chrf.sentence_score(texts[pair.id], [text]).score for text in pair.scenarios) / 100 for pair in pairs]
    fit = [np.mean([shape(words) in library for words in found]) if (found := steps(texts[pair.id])) else 0.0
           for pair in pairs]
    right = [not gherkin.valid(texts[pair.id]) for pair in pairs]
    return {"chrf": metrics.bootstrap(np.array(best), "share"),
            "step_match": metrics.bootstrap(np.array(fit), "share"),
            "valid": metrics.proportion(sum(right), len(right))}
