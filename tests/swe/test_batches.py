"""Batches of other languages: the verdict of each candidate is its own, whoever else is in the batch."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_toolchains import ROWS

from hrm_lab.swe import batches, corpus
from hrm_lab.swe.batches import run_batch
from hrm_lab.swe.jail import Limits
from hrm_lab.swe.toolchains import available, run_tests

LIMITS = Limits(cpu_seconds=0.3, wall_seconds=5)
LOOP = {"javascript": "for (;;) {}", "java": "while (true) { if (a == 1 << 30) break; }",
        "cpp": "for (volatile int i = 0;; i = i + 1) {}", "rust": "loop {}",
        "go": "for { if a == 1<<30 { break } }"}
CRASH = {"javascript": "return require('process').abort();", "java": "if (a == 1) Runtime.getRuntime().halt(3);",
         "cpp": "*(volatile int*)0 = 1;", "rust": "unsafe { *(8 as *mut i32) = 1; }",
         "go": "var p *int; *p = 1"}
EXIT = {"javascript": "require('process').exit(0);", "java": "System.exit(0);", "cpp": "exit(0);",
        "rust": "std::process::exit(0);", "go": "os.Exit(0)"}
LEAK = {"javascript": "Array.prototype.add = 1; globalThis.add = () => 3;", "java": "System.out.close();",
        "cpp": 'freopen("main0", "w", stdout);', "rust": 'std::env::set_var("PATH", "");',
        "go": "go func() { for { } }()"}


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
    assert outcomes["loop"][1] == "cpu" and outcomes["crash"][1] in (
        ("failed",) if language == "go" else ("killed", "exited"))  # a panic is how Go's tests fail
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


# ---------------------------------------------------------------- benchmarks/languages.py

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/languages.py"


def row(task, bug="a - b", example="const t = () => {\n  console.assert(add(1, 2) === 3)\n}\nt()\n"):
    head = "const add = (a, b) => {\n"
    return {"task_id": task, "prompt": "/* Adds. */\n" + head, "declaration": head,
            "buggy_solution": f"  return {bug};\n}}\n", "canonical_solution": "  return a + b;\n}\n",
            "example_test": example, "test": example + "console.assert(add(5, 0) === 5)\n"}


def test_the_benchmark_solves_a_row_and_goes_on_after_a_torn_line(tmp_path):
    if not available()["javascript"]:
        pytest.skip("javascript: no toolchain on this machine")
    rows = [row("JavaScript/0"), row("JavaScript/2", example=""), row("JavaScript/4", bug="a + b")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    torn = {"task": "JavaScript/2", "shown": False, "candidates": 0, "outcomes": "", "kind": None, "solved": False}
    (tmp_path / "out.jsonl").write_text(json.dumps(torn) + '\n{"task": "JavaScr')
    command = [sys.executable, str(SCRIPT), "--rows", str(tmp_path / "rows.jsonl"), "--prior", "kinds", "--out",
               str(tmp_path / "out.jsonl")]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"}, capture_output=True,
                          text=True)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["n"], last["shown"]) == (3, 1) and last["solved@300"]["value"] == pytest.approx(1 / 3), done.stderr
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["task"] for one in found] == ["JavaScript/2", "JavaScript/0", "JavaScript/4"]
    assert found[1]["outcomes"][-1] == "P" and found[1]["solved"] and "JavaScript/2" not in done.stdout


def test_rust_sees_the_first_half_of_its_assertions():
    first_half = runpy.run_path(str(SCRIPT))["first_half"]
    tests = "mod tests {\n  #[test]\n  fn t() {\n    assert!(f(1) == 2);\n    assert_eq!(f(2), 3);\n" \
            "    assert!(f(3) == 4);\n  }\n}\n"
    assert [f"f({n})" in first_half(tests) for n in (1, 2, 3)] == [True, True, False]
    assert first_half(tests).count("{") == first_half(tests).count("}")


def test_a_program_among_the_training_functions_is_found(tmp_path):
    body = "  let total = 0;\n  for (const x of a) {\n    if (x > b) total += x * b - 1;\n  }\n  return total;\n}\n"
    one = row("JavaScript/0") | {"canonical_solution": body, "buggy_solution": body.replace(">", "<")}
    copy = corpus.Snippet("p", "1", "MIT", "javascript", "a.js", "f", one["declaration"].replace("add", "f") + body)
    other = replace(copy, text="function g(xs) {\n  return xs.map(x => x.name).filter(n => n.length).join('-');\n}\n")
    corpus.write(tmp_path / "c.jsonl", [copy, other])
    assert runpy.run_path(str(SCRIPT))["leaks"](tmp_path / "c.jsonl", [one], "javascript") == ["p a.js f"]
