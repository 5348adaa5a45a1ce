"""Feature files to canonical records: one a scenario, its background in front, its prose as the requirement.

Unusual: what does not parse is not repaired but counted, with the parser's reason: some of it was written to fail.
"""

import re
from collections import Counter
from collections.abc import Iterator

from . import gherkin
from .records import LONGEST, Record

STEPS = range(2, 13)  # steps of a useful example
WORDS = 3  # of a scenario's name, at least


def table(rows: list[dict], indent: str) -> list[str]:
    return [indent + "| " + " | ".join(cell["value"].replace("\\", "\\\\").replace("|", "\\|").replace("\n", "\\n")
                                       for cell in row["cells"]) + " |" for row in rows]


def written(feature: dict, scenario: dict, background: list[dict]) -> str:
    """One scenario as a feature of its own, in canonical spacing; tags and comments are left out."""
    outline = bool(scenario["examples"])
    lines = [f"Feature: {feature['name']}".rstrip(),
             f"  Scenario{' Outline' if outline else ''}: {scenario['name']}".rstrip()]
    for step in [*background, *scenario["steps"]]:
        lines.append(f"    {step['keyword'].strip()} {step['text']}".rstrip())
        if "dataTable" in step:
            lines += table(step["dataTable"]["rows"], "      ")
        if "docString" in step:
            mark = '"""' if '"""' not in step["docString"]["content"] else "```"
            lines += [f"      {mark}", *("      " + line for line in step["docString"]["content"].splitlines()),
                      f"      {mark}"]
    for examples in scenario["examples"]:
        if "tableHeader" in examples:
            lines += ["    Examples:", *table([examples["tableHeader"], *examples["tableBody"]], "      ")]
    return "\n".join(lines) + "\n"


def steps_of(children: list[dict]) -> list[dict]:
    """The steps of a background among children; a first And or But there stays what it is."""
    return [step for child in children if "background" in child for step in child["background"]["steps"]]


def prose(feature: dict, scenario: dict) -> str:
    """What the author says in words: feature, the first paragraph of its description, scenario."""
    about = [(held.get("description") or "").strip().split("\n\n")[0] for held in (feature, scenario)]
    parts = [feature["name"], about[0], scenario["name"], about[1]]
    return ". ".join(text for text in (" ".join(part.split()).rstrip(".") for part in parts) if text) + "."


def records(text: str, *, source: str, licence: str, domain: str, family: str, group: str,
            counts: Counter | None = None) -> list[Record]:
    """The useful scenarios of one feature file; `counts` gets what was found and why the rest was left out.

    Raises `GherkinError`: a text that does not parse (counted as "does not parse").
    """
    counts = Counter() if counts is None else counts
    try:
        found = gherkin.document(text)
    except gherkin.GherkinError:
        counts["does not parse"] += 1
        raise
    feature = found.get("feature")
    if not feature:
        counts["no feature"] += 1
        return []
    made = []
    for scenario, background in with_background(feature):
        counts["scenarios"] += 1
        reason, record = _one(feature, scenario, background, source=source, licence=licence, domain=domain,
                              family=family, group=group)
        counts[reason] += 1
        made += [record] if record else []
    return made


def with_background(feature: dict) -> Iterator[tuple[dict, list[dict]]]:
    """Each scenario of a feature, those in rules too, with the background steps that come before its own."""
    shared = steps_of(feature["children"])
    for outer in feature["children"]:
        inner = outer["rule"]["children"] if "rule" in outer else [outer]
        background = shared + (steps_of(inner) if "rule" in outer else [])
        yield from ((child["scenario"], background) for child in inner if "scenario" in child)


def _one(feature, scenario, background, *, source, licence, domain, family, group) -> tuple[str, Record | None]:
    if feature.get("language", "en") != "en":
        return "not in English", None
    if len(re.findall(r"\w+", scenario["name"])) < WORDS:
        return "a name of fewer than three words", None
    if len(background) + len(scenario["steps"]) not in STEPS:
        return "fewer than 2 or more than 12 steps", None
    said, target = prose(feature, scenario), written(feature, scenario, background)
    if len(said) > LONGEST["input"] or len(target) > LONGEST["target"]:
        return "over-long", None
    if reason := gherkin.valid(target):
        return "no Then" if "Then" in reason else "does not parse alone", None
    line = scenario["location"]["line"]
    return "useful", Record(f"{group}#{line}", group, f"{source}:{line}", licence, domain, family, said, target)
