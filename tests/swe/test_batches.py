"""Batches of other languages: the verdict of each candidate is its own, whoever else is in the batch."""

import pytest
from test_toolchains import ROWS

from hrm_lab.swe import batches
from hrm_lab.swe.batches import run_batch
from hrm_lab.swe.jail import Limits
from hrm_lab.swe.toolchains import available, run_tests

LIMITS = Limits(cpu_seconds=0.3, wall_seconds=5)
LOOP = {"javascript": "for (;;) {}", "java": "while (true) { if (a == 1 << 30) break; }",
        "cpp": "for (volatile int i = 0;; i = i + 1) {}", "rust": "loop {}"}
CRASH = {"javascript": "return require('process').abort();", "java": "if (a == 1) Runtime.getRuntime().halt(3);",
         "cpp": "*(volatile int*)0 = 1;", "rust": "unsafe { *(8 as *mut i32) = 1; }"}
EXIT = {"javascript": "require('process').exit(0);", "java": "System.exit(0);", "cpp": "exit(0);",
        "rust": "std::process::exit(0);"}
LEAK = {"javascript": "Array.prototype.add = 1; globalThis.add = () => 3;", "java": "System.out.close();",
        "cpp": 'freopen("main0", "w", stdout);', "rust": 'std::env::set_var("PATH", "");'}


def with_statement(program: str, statement: str) -> str:
    """The program with a statement before what it returns."""
    before = next(mark for mark in ("return a + b", "a + b") if mark in program)
    return program.replace(before, f"{statement}\n  {before}", 1)


@pytest.mark.parametrize("language", ROWS)
def test_each_candidate_has_its_own_verdict(language):
    program, tests = ROWS[language]
    if not available()[language]:
        assert [one.outcome for one in run_batch(language, [program] * 2, tests)] == ["no toolchain"] * 2
        return
    cases = {"right": program, "leak": with_statement(program, LEAK[language]),
             "wrong": program.replace("a + b", "a - b"), "unknown": program.replace("a + b", "a + nowhere"),
             "loop": with_statement(program, LOOP[language]), "broken": program.replace("a + b", "a +"),
             "crash": with_statement(program, CRASH[language]), "exit": with_statement(program, EXIT[language]),
             "again": program}
    found = dict(zip(cases, run_batch(language, list(cases.values()), tests, LIMITS), strict=True))
    outcomes = {name: (one.tier, one.outcome, one.tests["main"]) for name, one in found.items()}
    good, failed = ("all", "passed", "passed"), ("runs", "failed", "failed")
    assert outcomes["right"] == outcomes["again"] == good, found["right"].output
    assert outcomes["wrong"] == failed and outcomes["broken"] == ("parses", "failed", "error")
    assert outcomes["unknown"] == (failed if language == "javascript" else ("parses", "failed", "error"))
    assert outcomes["loop"][1] == "cpu" and outcomes["crash"][1] in ("killed", "exited")
    assert outcomes["exit"][1] == "exited" and outcomes["leak"][1] in ("passed", "failed")


@pytest.mark.parametrize("language", ROWS)
def test_a_batch_says_what_single_runs_say(language):
    if not available()[language]:
        pytest.skip(f"{language}: no toolchain on this machine")
    program, tests = ROWS[language]
    programs = [program, program.replace("a + b", "b - a"), program.replace("a + b", "a + ")]
    alone = [run_tests(language, one, tests) for one in programs]
    for one, other in zip(run_batch(language, programs, tests), alone, strict=True):
        assert (one.tier, one.outcome, one.tests) == (other.tier, other.outcome, other.tests), one.output


def test_lines_of_the_whole_file_stand_before_the_namespaces():
    program, tests = ROWS["cpp"]
    head, (body, _) = batches.bodies("cpp", ["using namespace std;\n" + program, program], tests)
    assert head.split("\n")[:4] == ["using namespace std;", "#include<stdio.h>", "#undef NDEBUG", "#include<assert.h>"]
    assert "#" not in body and body.rstrip().endswith("return 0; }")


def test_nothing_and_unknown_languages():
    assert run_batch("javascript", [], "") == [] or not available()["javascript"]
    with pytest.raises(ValueError, match="language: got 'cobol', expected one of"):
        run_batch("cobol", ["x"], "")
