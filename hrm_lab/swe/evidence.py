"""What the tests say about a program before anything is tried: who fails, what they say, which lines are suspect.

One traced run in the jail gives all of it. A line's suspicion is Ochiai's coefficient (Abreu et al. 2007,
doi 10.1109/TAIC.PART.2007.13): failing tests that run it / sqrt(failing tests x tests that run it). Unusual: lines
that run at import (signatures, constants) count as run by every test, and the lines of a statement share its value.
"""

import ast
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

from .sandbox import Result, Server


@dataclass(frozen=True)
class Evidence:
    """What is known of a program. `suspicion`: line (1-based) -> 0 to 1; a line that is not there was not run."""

    failing: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    messages: dict[str, str] = field(default_factory=dict)  # failing test -> "AssertionError: assert 5 == 4"
    suspicion: dict[int, float] = field(default_factory=dict)
    executions: int = 0

    @classmethod
    def none(cls) -> "Evidence":
        """Nothing is known, as in self-supervised training."""
        return cls()


def gather(program: str, tests: str | Server) -> Evidence:
    """Run the tests once on the program and say what they show. Raises ValueError: tests that cannot be run."""
    if isinstance(tests, str):
        with Server(tests) as server:
            return gather(program, server)
    return of(program, tests.run(program, trace=True))


def of(program: str, result: Result) -> Evidence:
    """The evidence in one traced result."""
    failing = tuple(name for name, outcome in result.tests.items() if outcome != "passed")
    passing = tuple(name for name, outcome in result.tests.items() if outcome == "passed")
    messages = {name: result.messages.get(name, result.output[-200:] if not result.lines else result.tests[name])
                for name in failing}
    return Evidence(failing, passing, messages, suspicion(program, result.lines, failing), 1)


def suspicion(program: str, lines: dict[str, tuple[int, ...]], failing: tuple[str, ...]) -> dict[int, float]:
    """Ochiai of each line that ran. `lines`: test (or "import") -> lines; tests that it lacks did not get to run."""
    every = set(lines.get("import", ()))
    ran = {test: every | set(found) for test, found in lines.items() if test != "import"}
    bad = [ran[test] for test in failing if test in ran]
    if not bad:
        return {}
    good = [found for test, found in ran.items() if test not in failing]
    found = {}
    for line in set().union(*bad, *good):
        failed, passed = sum(line in one for one in bad), sum(line in one for one in good)
        found[line] = failed / sqrt(len(bad) * (failed + passed))
    try:
        statements = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.stmt)
                      and not hasattr(node, "body")]
    except (SyntaxError, ValueError):
        return found
    for node in statements:
        first, last = node.lineno, node.end_lineno
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.pop(first, None)  # a docstring: the fuel point of its function stands on its line
        elif last > first:
            shared = [found[line] for line in range(first, last + 1) if line in found]
            found |= dict.fromkeys(range(first, last + 1), max(shared)) if shared else {}
    return found


def line_starts(code: str) -> list[int]:
    """Offset of the first character of each line."""
    return [0, *(i + 1 for i, character in enumerate(code) if character == "\n")]


def offsets(code: str) -> Callable[[int, int], int]:
    """What tells a character's offset from a syntax tree's line (1-based) and column, which counts bytes."""
    starts, lines = line_starts(code), code.split("\n")

    def offset(line: int, column: int) -> int:
        text = lines[line - 1]
        if not text.isascii():
            column = len(text.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "surrogatepass"))
        return starts[line - 1] + column

    return offset


def lines_at(code: str, offsets) -> list[int]:
    """The line (1-based) of each offset."""
    starts = line_starts(code)
    return [bisect_right(starts, offset) for offset in offsets]
