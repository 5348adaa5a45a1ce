"""How hard a repair looks, in [0, 1): the mean of four counts, each pressed by x / (x + half).

    size        lines with code of the program that edits are enumerated on, half at 30
    cyclomatic  decisions + 1 (McCabe 1976): branches, loops, cases, handlers, `and` / `or`, comprehension filters; at 8
    edit        tokens between the buggy and the repaired text (Levenshtein), half at 5; 0 if the repair is unknown
    failing     tests that the repair must turn, half at 4

More of any one never makes it smaller (tested). The halves are round numbers near the medians of single-function bugs,
not fitted to anything: the number orders instances and makes bins, it does not predict who solves them.
"""

import re
import textwrap
from dataclasses import dataclass

from hrm_lab.swe.languages import normalise, root

HALVES = {"lines": 30, "cyclomatic": 8, "edit": 5, "failing": 4}
BRANCHES = frozenset(("if", "elif", "for", "while", "ternary", "ifclause", "forclause"))  # roles, languages.py
CASES = frozenset(re.findall(r"\w+", """
    case_clause except_clause switch_case catch_clause do_statement expression_case type_case communication_case
    switch_block_statement_group switch_rule case_statement match_arm loop_expression
    for_range_loop enhanced_for_statement"""))  # node types without such a role
LOGIC = frozenset(("and", "or", "&&", "||", "??"))


@dataclass(frozen=True)
class Measures:
    """The four counts."""

    lines: int
    cyclomatic: int
    edit: int
    failing: int


def cyclomatic(code: str, language: str) -> int:
    """Decisions + 1 of a function, method or file, summed over nested functions; at least 1."""
    nodes = root(textwrap.dedent(code), language).walk()
    return 1 + sum(node.role in BRANCHES or node.type in CASES or (not node.named and node.type in LOGIC)
                   for node in nodes)


def edit_distance(a: str, b: str, language: str) -> int:
    """Tokens to insert, delete or replace between two texts, layout and comments apart."""
    old, new = normalise(a, language).split(), normalise(b, language).split()
    while old and new and old[-1] == new[-1]:
        old.pop(), new.pop()
    start = next((i for i, (x, y) in enumerate(zip(old, new, strict=False)) if x != y), min(len(old), len(new)))
    old, new = old[start:], new[start:]
    row = list(range(len(new) + 1))
    for i, x in enumerate(old, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(new, 1):
            previous, row[j] = row[j], min(previous + (x != y), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def measure(program: str, fixed: str, language: str, failing: int) -> Measures:
    """The counts of an instance. fixed may be ""; failing: number of FAIL_TO_PASS."""
    lines = len([line for line in program.splitlines() if line.strip()])
    edit = edit_distance(program, fixed, language) if fixed else 0
    return Measures(lines, cyclomatic(program, language), edit, failing)


def score(measures: Measures) -> float:
    """Complexity of the counts, with three decimals."""
    parts = [count / (count + HALVES[name]) for name, count in vars(measures).items()]
    return round(sum(parts) / len(parts), 3)


def complexity(program: str, fixed: str, language: str, failing: int) -> float:
    """Complexity in [0, 1) of an instance; see `measure` and `score`."""
    return score(measure(program, fixed, language, failing))
