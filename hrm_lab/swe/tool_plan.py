"""The workflow that repairs an instance, as tool calls with what they really answered.

    run_tests  the failing tests of the buggy program: what fails, and its output
    locate     the lines that failing tests execute and passing ones do not, by Ochiai's formula (Abreu et al. 2006)
    edit       the repair, and whether the result is valid
    run_tests  all tests of the repaired program

`run` makes the plan of a program that stands alone by running all of it in the sandbox, and fills in what only a run
can know: FAIL_TO_PASS, PASS_TO_PASS, complexity. `plan` only writes a plan down from results that the caller has, as
synthesis does for packages. Unusual: an instance whose bug does not fail, or whose repair does, gets an error, no plan.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace

from hrm_lab.swe import stdio
from hrm_lab.swe.complexity import complexity
from hrm_lab.swe.instances import Instance, InstanceError
from hrm_lab.swe.languages import problems
from hrm_lab.swe.sandbox import Limits, Result, Server, confirm, run_command, split_tests
from hrm_lab.swe.statement import clean, cut
from hrm_lab.swe.toolchains import run_tests

OUTPUT = 600  # characters of output in an observation
LINES = 5  # that `locate` names
TRACE_LIMITS = Limits(cpu_seconds=10.0, wall_seconds=60.0, output_bytes=1_000_000)
TRACER = """
import json, sys
code, tests = compile(open("program.py").read(), "program.py", "exec"), json.load(open("tests.json"))
class Enough(BaseException): pass
for name, body in tests:
    lines, names, left = set(), {"__name__": "program"}, [200_000]
    def trace(frame, event, _):
        if frame.f_code.co_filename != "program.py":
            return None
        left[0] -= 1
        if left[0] < 0:
            raise Enough
        if event == "line":
            lines.add(frame.f_lineno)
        return trace
    passed = False
    try:
        exec(code, names)
        sys.settrace(trace)
        exec(compile(body, "test.py", "exec"), names)
        passed = True
    except BaseException:
        pass
    finally:
        sys.settrace(None)
    print(json.dumps([name, passed, sorted(lines)]), file=sys.__stdout__, flush=True)
"""


def ochiai(runs: Sequence[tuple[bool, Sequence[int]]]) -> list[tuple[int, float]]:
    """(line, suspicion in 0..1) out of (passed, lines executed) of each test, the most suspicious first."""
    failed = sum(not passed for passed, _ in runs)
    bad, good = {}, {}
    for passed, lines in runs:
        for line in lines:
            counts = good if passed else bad
            counts[line] = counts.get(line, 0) + 1
    found = [(line, n / math.sqrt(failed * (n + good.get(line, 0)))) for line, n in bad.items()]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def locate(program: str, tests: str) -> list[tuple[int, float]]:
    """Suspicious lines of a Python program, from a run of each test under a line tracer in the jail."""
    found = run_command([sys.executable, "-s", "trace.py"], {
        "program.py": program, "trace.py": TRACER, "tests.json": json.dumps(split_tests(tests))}, TRACE_LIMITS)
    runs = []
    for line in found.output.splitlines():
        try:
            _, passed, lines = json.loads(line)
        except ValueError:  # what the program printed
            continue
        runs.append((passed, lines))
    return ochiai(runs)


def changed_lines(program: str, fixed: str) -> tuple[int, str, str]:
    """(first line, old lines, new lines) of the smallest run of lines in which two texts differ."""
    old, new = program.split("\n"), fixed.split("\n")
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    tail = 0
    while tail < min(len(old), len(new)) - start and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return start + 1, "\n".join(old[start:len(old) - tail]), "\n".join(new[start:len(new) - tail])


def _counted(tests: dict[str, str]) -> str:
    failing = [name for name, outcome in tests.items() if outcome != "passed"]
    return f"{len(tests) - len(failing)} of {len(tests)} tests passed" + (
        "; not passed: " + ", ".join(f"{name} ({tests[name]})" for name in failing[:10]) if failing else "")


def plan(*, file: str, program: str, fixed: str, language: str, before: Result, after: Result, located: str,
         begins: int = 1) -> tuple[dict, ...]:
    """A tool plan from results: before, after: tests of the buggy and the repaired program; located: what was found.

    begins: line of the file where `program` begins, so that the edit names a line of the file. Paths of this
    machine are cut out of outputs. Raises `InstanceError`: nothing failed before, or something after.
    """
    failing = tuple(name for name, outcome in before.tests.items() if outcome != "passed")
    if not failing:
        raise InstanceError(f"{file}: no test of the buggy program fails ({before.outcome}); expected one")
    if after.outcome != "passed":
        raise InstanceError(f"{file}: the repaired program ends with {after.outcome!r} ({_counted(after.tests)}); "
                            "expected passed")
    first, old, new = changed_lines(program, fixed)
    wrong = problems(fixed, language)
    return (
        {"tool": "run_tests", "args": {"tests": list(failing)},
         "observation": f"{_counted(before.tests)}\n{cut(clean(before.output), OUTPUT)}".strip()},
        {"tool": "locate", "args": {"file": file, "tests": list(failing)}, "observation": located},
        {"tool": "edit", "args": {"file": file, "line": begins - 1 + first, "old": old, "new": new},
         "observation": "; ".join(wrong) if wrong else "valid " + language},
        {"tool": "run_tests", "args": {"tests": list(after.tests)}, "observation": _counted(after.tests)})


def judge(instance: Instance, program: str, limits: Limits = Limits()) -> Result:  # noqa: B008 (frozen)
    """Result of a program on the tests of an instance that stands alone. Raises `InstanceError`: it does not."""
    if not instance.tests:
        raise InstanceError(f"{instance.instance_id}: its tests are in the repository; expected tests of its own")
    if stdio.unpack(instance.tests) is not None:
        return stdio.run_cases(program, instance.tests, limits)
    if instance.language != "python":
        return run_tests(instance.language, program, instance.tests)
    with Server(instance.tests, limits=limits) as server:
        return server.run(program)


def run(instance: Instance, limits: Limits = Limits()) -> Instance:  # noqa: B008 (frozen)
    """The instance with its plan, FAIL_TO_PASS, PASS_TO_PASS and complexity, all from running it.

    Python's repair is verified by a fresh pytest. Raises `InstanceError`: no repair is known, the bug does not fail,
    the repair fails, or there is no toolchain.
    """
    if not instance.fixed:
        raise InstanceError(f"{instance.instance_id}: no repaired program; expected one to verify")
    before = judge(instance, instance.program, limits)
    if before.outcome == "no toolchain":
        raise InstanceError(f"{instance.instance_id}: no toolchain for {instance.language}")
    own = instance.language == "python" and stdio.unpack(instance.tests) is None
    after = confirm(instance.fixed, instance.tests, limits) if own else judge(instance, instance.fixed, limits)
    lines = instance.program.split("\n")
    found = locate(instance.program, instance.tests)[:LINES] if own else []
    located = "\n".join(f"{instance.file}:{line} ({suspicion:.2f}): {lines[line - 1].strip()}"
                        for line, suspicion in found) or f"{instance.file}: {instance.function or 'whole file'}"
    made = plan(file=instance.file, program=instance.program, fixed=instance.fixed, language=instance.language,
                before=before, after=after, located=located)
    failing = tuple(name for name, outcome in before.tests.items() if outcome != "passed")
    return replace(
        instance, tool_plan=made, FAIL_TO_PASS=failing,
        PASS_TO_PASS=tuple(name for name in before.tests if name not in failing),
        complexity=complexity(instance.program, instance.fixed, instance.language, len(failing)))
