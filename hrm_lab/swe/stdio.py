"""Tests of programs that read stdin and print: cases as JSON in `Instance.tests`, each run of a program jailed apart.

The comparison is LiveCodeBench's in spirit: the same tokens line by line, blank lines at the end ignored, numbers equal
as decimals ("1.0" is "1"). Unusual: Python only, because a case pays a new process and such rows are in Python.
"""

import json
import sys
from decimal import Decimal, InvalidOperation

from hrm_lab.swe.sandbox import Limits, Result, run_command, tier

MARK = "stdin"


def pack(cases: list[tuple[str, str, str]]) -> str:
    """`Instance.tests` of (id, input, expected output) cases."""
    return json.dumps({MARK: [{"id": name, "input": given, "output": wanted} for name, given, wanted in cases]})


def unpack(tests: str) -> list[tuple[str, str, str]] | None:
    """The cases of `pack`; None if these are other tests."""
    if not tests.startswith(f'{{"{MARK}":'):
        return None
    return [(case["id"], case["input"], case["output"]) for case in json.loads(tests)[MARK]]


def _same_token(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        return Decimal(a) == Decimal(b)
    except InvalidOperation:
        return False


def same(printed: str, wanted: str) -> bool:
    """Whether two outputs are equal, token by token and line by line."""
    lines = [[line.split() for line in text.rstrip().split("\n")] for text in (printed, wanted)]
    return len(lines[0]) == len(lines[1]) and all(
        len(a) == len(b) and all(map(_same_token, a, b)) for a, b in zip(*lines, strict=True))


def run_cases(program: str, tests: str, limits: Limits = Limits()) -> Result:  # noqa: B008 (frozen)
    """The result of a program on each case; `output` says what the first failing one printed."""
    try:
        compile(program, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Result("unparsed", "failed", output=f"{type(error).__name__}: {error}")
    outcomes, seconds, output, ended, kind = {}, 0.0, "", "", ""
    for name, given, wanted in unpack(tests):
        one = run_command([sys.executable, "-s", "solution.py"], {"solution.py": program}, limits, given)
        right = one.outcome == "passed" and same(one.output, wanted)
        outcomes[name] = "passed" if right else "failed" if one.outcome == "passed" else (
            "error" if one.outcome == "failed" else one.outcome)
        seconds, kind = seconds + one.seconds, one.jail
        if not right:
            output = output or f"{name}: expected {wanted.strip()!r:.400}, printed {one.output.strip()!r:.800}"
            ended = ended or (one.outcome if one.outcome not in ("passed", "failed") else "")
    outcome = ended or ("passed" if set(outcomes.values()) == {"passed"} else "failed")
    return Result(tier(outcomes.values()), outcome, outcomes, seconds, output[:limits.output_bytes], kind)
