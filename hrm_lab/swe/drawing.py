"""Draw one bug of one function of a package, and judge it by the package's tests.

Unusual: edits see the function alone, dedented as `textwrap.dedent` would, and not its file: ten times faster, and a
repair that the search can find needs no name from elsewhere. `enumerable` and `placed` lead there and back.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from hrm_lab.swe import diffs
from hrm_lab.swe.complexity import complexity
from hrm_lab.swe.dedup import change
from hrm_lab.swe.domain import classify
from hrm_lab.swe.edits import apply
from hrm_lab.swe.inject import inject
from hrm_lab.swe.instances import Instance
from hrm_lab.swe.package_table import Function, Package
from hrm_lab.swe.packages import PackageServer
from hrm_lab.swe.sandbox import Result
from hrm_lab.swe.statement import problem_statement
from hrm_lab.swe.tool_plan import ochiai, plan

SEVERAL = 0.15  # share of attempts that draw two or three bugs; about two thirds of them hold
MAX_LINES, MIN_LINES = 80, 3  # of a function that is broken
SUSPECTS = 5  # functions named by the plan's `locate`


@dataclass(frozen=True)
class Drawn:
    """A bug that no test has seen yet; texts as in the file. steps: the program after each edit, the last is all."""

    function: Function
    program: str
    kinds: tuple[str, ...]  # of the repairs, in the order in which they undo the bugs
    steps: tuple[str, ...]
    change: frozenset


def indentation(text: str) -> str:
    return text[:len(text) - len(text.lstrip())]


def enumerable(text: str) -> str:
    """A function as edits see it: without the indentation of its class."""
    margin = len(indentation(text))
    return "\n".join(line[margin:] if line.strip() else line for line in text.split("\n"))


def placed(code: str, margin: str) -> str:
    """The inverse of `enumerable`, given `indentation` of the text."""
    return "\n".join(margin + line if line.strip() else line for line in code.split("\n"))


def fits(function: Function) -> bool:
    """Whether a function can be broken and put back: of fair size, and no string of it sticks out to the left."""
    margin, lines = indentation(function.text), function.text.split("\n")
    return (MIN_LINES <= len(lines) <= MAX_LINES
            and all(line.startswith(margin) for line in lines if line.strip()))


def draw(function: Function, rng: random.Random) -> Drawn | None:
    """One bug, or with a chance of 15 % two or three; None if none could be made."""
    margin, code = indentation(function.text), enumerable(function.text)
    count = rng.choice((2, 3)) if rng.random() < SEVERAL else 1
    kinds, steps = [], []
    for _ in range(count):
        bug = inject(code, rng)
        if bug is None or apply(bug.code, bug.repair) == bug.code:
            return None
        code = bug.code
        kinds.insert(0, bug.repair.kind)
        steps.append(placed(code, margin))
    if code == enumerable(function.text):
        return None
    return Drawn(function, steps[-1], tuple(kinds), tuple(steps), change(steps[-1], function.text))


def reason(server: PackageServer, drawn: Drawn, gold: Result) -> tuple[Result | None, str]:
    """(result of the bug if it is fit for an instance, "valid" or why it is not). gold: result of the repair.

    The last run is in the reverse order: a bug may spoil what one test leaves behind for the next.
    """
    function, tests, seen = drawn.function, list(gold.tests), None
    for program in drawn.steps:
        result = server.run(function.file, function.name, program, tests)
        if result.outcome == "passed":
            return None, "no test fails"
        if result.outcome != "failed" or not set(result.tests.values()) <= {"passed", "failed", "error"}:
            return None, result.outcome
        if result.tier in ("unparsed", "parses"):
            return None, "does not compile"
        if seen == (result.tests, result.output):
            return None, "one of several bugs changes nothing"
        seen = result.tests, result.output
    again = server.run(function.file, function.name, drawn.program, list(result.tests)[::-1])
    return (result, "valid") if again.tests == result.tests else (None, "depends on the order of the tests")


def instance(package: Package, version: str, text: str, drawn: Drawn, number: int, bug: Result, gold: Result,
             suspects: Sequence[str]) -> Instance:
    """The record of a valid bug. text: the whole pristine file; suspects: what `locate` found."""
    function = drawn.function
    failing = tuple(test for test, outcome in bug.tests.items() if outcome != "passed")
    program, fixed = enumerable(drawn.program), enumerable(function.text)
    buggy = text[:function.start] + drawn.program + text[function.end:]
    steps = plan(file=function.file, program=program, fixed=fixed, language="python", before=bug, after=gold,
                 located="\n".join(suspects))
    return Instance(
        instance_id=f"{package.name}__{version}.{number:06d}", repo=package.name, version=version,
        problem_statement=problem_statement(f"`{function.name}` in `{function.file}`",
                                            [(failing[0], bug.output), *((test, "") for test in failing[1:])],
                                            drawn.program, function.text),
        patch=diffs.make(buggy, text, function.file), test_patch="", FAIL_TO_PASS=failing,
        PASS_TO_PASS=tuple(test for test in bug.tests if test not in failing), language="python",
        domain=classify(function.text, text, function.file),
        complexity=complexity(program, fixed, "python", len(failing)), tool_plan=steps, file=function.file,
        function=function.name, program=drawn.program, fixed=function.text, tests="",
        kinds=drawn.kinds, source="synthetic", split=package.split)


def suspects(server: PackageServer, bug: Result) -> list[str]:
    """Functions that failing tests reach and passing ones do not, the most suspicious first, by Ochiai's formula."""
    runs = [(outcome == "passed", server.profile.reached[test]) for test, outcome in bug.tests.items()]
    return [f"{file}: {name} ({score:.2f})" for (file, name, _), score in ochiai(runs)[:SUSPECTS]]
