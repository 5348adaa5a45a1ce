"""Gherkin by its official parser: a text to the concrete cases that a runner would execute.

Unusual: outlines, backgrounds and rules are expanded by the official compiler of "pickles", so that a plain scenario
and an outline with a table are judged alike. Source: the `gherkin-official` package of the Cucumber project.
"""

import re
from dataclasses import dataclass

from gherkin.errors import CompositeParserException, ParserError
from gherkin.parser import Parser
from gherkin.pickles.compiler import Compiler

LONGEST = 60_000  # characters of one document
KINDS = {"Context": "given", "Action": "when", "Outcome": "then", "Unknown": "", "Conjunction": ""}


class GherkinError(ValueError):
    """A text that is no valid Gherkin; one line."""


@dataclass(frozen=True)
class Case:
    """One scenario, or one row of an outline, with its steps as (given | when | then, text)."""

    name: str
    tags: tuple[str, ...]
    steps: tuple[tuple[str, str], ...]
    tables: int  # steps that carry a table or a text block


def document(text: str) -> dict:
    """The syntax tree of the official parser. Raises `GherkinError`: over-long, or it does not parse."""
    if len(text) > LONGEST:
        raise GherkinError(f"{len(text):,} characters; expected at most {LONGEST:,}")
    try:
        return Parser().parse(text)
    except CompositeParserException as error:
        first = error.errors[0]
        more = f" (and {len(error.errors) - 1} more)" if len(error.errors) > 1 else ""
        raise GherkinError(f"line {first.location['line']}: {short(first)}{more}") from None
    except ParserError as error:
        raise GherkinError(short(error)) from None
    except (RecursionError, IndexError, KeyError, AttributeError) as error:  # what the parser lets through
        raise GherkinError(f"the parser failed with {type(error).__name__}") from None


def short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def cases(text: str) -> list[Case]:
    """All cases of a document, in order; an outline without rows has none. Raises `GherkinError`."""
    found = document(text)
    if not found.get("feature"):
        return []
    try:
        pickles = Compiler().compile(found | {"uri": ""})
    except re.error as error:  # it reads a column's name as a pattern
        raise GherkinError(f"a column that the compiler cannot take: {error}") from None
    made = []
    for pickle in pickles:
        steps, kind = [], ""
        for step in pickle["steps"]:
            kind = KINDS.get(step.get("type", "Unknown"), "") or kind
            steps.append((kind, step["text"]))
        made.append(Case(pickle["name"], tuple(tag["name"] for tag in pickle["tags"]), tuple(steps),
                         sum("argument" in step for step in pickle["steps"])))
    return made


def scenarios(found: dict) -> list[dict]:
    """The scenarios of a syntax tree, those inside rules too."""
    children = (found.get("feature") or {}).get("children", [])
    inner = [child for outer in children for child in (outer["rule"]["children"] if "rule" in outer else [outer])]
    return [child["scenario"] for child in inner if "scenario" in child]


def valid(text: str) -> str:
    """Why a text is no acceptable test: "" if it parses, and has a feature, a scenario, and a Then with words."""
    try:
        found = document(text)
        if not found.get("feature"):
            return "no feature"
        if not scenarios(found):
            return "no scenario"
        if any(s["examples"] and not any(e["tableBody"] for e in s["examples"]) for s in scenarios(found)):
            return "an Examples table without rows"
        if not (made := cases(text)):
            return "no case: an outline without examples"
    except GherkinError as error:
        return str(error)
    if any(not any(kind == "then" and words.strip() for kind, words in case.steps) for case in made):
        return "a scenario without Then"
    return ""


def layout(text: str) -> str:
    """Gherkin with the usual indentation; `flat` takes it away. The model writes no indentation."""
    depth = {"Feature": 0, "Rule": 0, "Background": 2, "Scenario": 2, "Example": 2, "Scenario Outline": 2,
             "Scenario Template": 2, "Examples": 4, "Scenarios": 4}
    lines, inside = [], False
    for line in text.rstrip("\n").split("\n"):
        head = line.split(":")[0].strip()
        indent = depth[head] if head in depth and ":" in line else 6 if line.startswith("|") else 4
        if line.startswith("@"):
            indent = 2 if inside else 0
        inside = inside or head == "Feature"
        lines.append(" " * indent + line)
    return "\n".join(lines) + "\n"


def flat(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())
