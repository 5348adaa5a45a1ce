"""Verdicts: tests taken apart, tiers, fuel that does not depend on the machine, confirmation by pytest."""

import ast
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.swe import fuel, jail
from hrm_lab.swe.sandbox import Limits, Server, confirm, run_command, split_tests
from hrm_lab.swe.split import parts, suite

CHECK = '''
METADATA = {"author": "x"}

def check(candidate):
    base = [1, 2]
    assert candidate(base) == 3, "first"
    more = base + [4]
    for extra in more:
        assert candidate([extra]) == extra
    assert True, "says nothing"
    assert candidate(more) == 7

check(total)
'''
TOTAL = "def total(xs):\n    return sum(xs)\n"
PYTEST = '''
import math, unittest
import pytest
from adding import total

@pytest.mark.parametrize("xs, expected", [([], 0), ([1], 1)])
def test_cases(xs, expected):
    assert total(xs) == expected

@pytest.mark.parametrize("x", [1, 2])
def test_one_name(x):
    assert total([x]) == x

def test_raises():
    with pytest.raises(TypeError):
        total([None])

class TestPlain:
    def setup_method(self):
        self.xs = [1, 2]
    def test_xs(self):
        assert total(self.xs) == 3

class Unit(unittest.TestCase):
    def setUp(self):
        self.xs = [5]
    def test_equal(self):
        self.assertEqual(total(self.xs), 5)
'''
FUEL_LIMITS = Limits(fuel=10_000)


def test_each_assertion_of_a_check_is_a_test_with_what_comes_before_it():
    found = dict(split_tests(CHECK))
    assert list(found) == ["check:1", "check:2", "check:3"]
    assert "more" in found["check:2"] and "more" not in found["check:1"] and "nothing" not in str(found)
    for source in found.values():
        exec(source, {"total": sum})
        with pytest.raises(AssertionError):
            exec(source, {"total": lambda xs: -1})


def test_pytest_functions_and_classes_are_tests():
    assert [name for name, _ in split_tests(PYTEST)] == ["test_cases", "test_one_name", "test_raises",
                                                        "TestPlain::test_xs", "Unit::test_equal"]
    taken = suite(PYTEST)
    assert taken.aliases == ("adding",) and taken.module == "adding" and taken.native
    assert suite(PYTEST, module="math").module == "math"


def test_bare_assertions_are_tests():
    assert [name for name, _ in split_tests("x = 1\nassert total([x]) == 1\nassert total([]) == 0\n")] == [
        "assert:1", "assert:2"]


@pytest.mark.parametrize("tests,message", [
    ("def f(:", "line 1: invalid syntax; expected Python"),
    ("x = 1\n", "no test found; expected functions test*"),
    ("def check(f):\n    assert f(1)\n", "a called check"),
    ("def test_x(tmp_path):\n    assert tmp_path\n", "test_x takes tmp_path; expected no fixtures"),
])
def test_tests_that_cannot_be_taken_apart_are_refused_in_one_line(tests, message):
    with pytest.raises(ValueError, match="tests: ") as found:
        split_tests(tests)
    assert message in str(found.value) and "\n" not in str(found.value)


@pytest.fixture(scope="module")
def server():
    with Server(CHECK, limits=FUEL_LIMITS) as server:
        yield server


@pytest.mark.parametrize("program,tier,outcomes", [
    ("def total(xs:", "unparsed", "error error error"),
    ("return 1", "parses", "error error error"),
    ("import no_such_module", "compiles", "error error error"),
    ("1/0", "compiles", "error error error"),
    ("def total(xs):\n    return xs + 1\n", "imports", "error error error"),
    ("def totals(xs):\n    return xs + 1\n", "imports", "error error error"),
    ("def total(xs):\n    return 0\n", "runs", "failed failed failed"),
    ("def total(xs):\n    return max(xs)\n", "some", "failed passed failed"),
    (TOTAL, "all", "passed passed passed"),
    ("def total(xs):\n    return sum(xs) if len(xs) != 3 else 1 / 0\n", "some", "passed passed error"),
])
def test_the_tier_is_the_last_step_that_was_reached(server, program, tier, outcomes):
    found = server.run(program)
    assert (found.tier, " ".join(found.tests.values())) == (tier, outcomes)
    assert found.outcome == ("passed" if tier == "all" else "failed") and found.jail


def test_what_a_candidate_prints_is_kept_to_the_limit():
    with Server(CHECK, limits=Limits(output_bytes=50)) as server:
        found = server.run("print('x' * 1000)\n" + TOTAL)
    assert found.outcome == "passed" and found.output == "x" * 50


def test_many_candidates_keep_their_order(server):
    programs = [TOTAL, "def total(xs): return 0", TOTAL, "!"]
    assert [r.outcome for r in server.run_many(programs)] == ["passed", "failed", "passed", "failed"]


def test_fuel_is_the_same_every_time_and_can_be_changed(server):
    loop = TOTAL.replace("return", "for i in range(100): pass\n    return")
    found = [server.run(loop) for _ in range(3)]
    assert len({r.ticks for r in found}) == 1 and found[0].outcome == "passed" and found[0].ticks > 500
    server.limits = Limits(fuel=found[0].ticks - 1)
    short = server.run(loop)
    server.limits = FUEL_LIMITS
    assert short.outcome == "fuel" and list(short.tests.values()) == ["passed", "passed", "fuel"]
    assert server.run(loop).outcome == "passed"


def test_pytest_modules_run_in_the_server_and_import_the_program():
    with Server(PYTEST) as server:
        found = server.run(TOTAL)
        assert found.outcome == "passed" and len(found.tests) == 5, found
        wrong = server.run("def total(xs):\n    return len(xs)\n")
        assert wrong.tests == {"test_cases": "passed", "test_one_name": "failed", "test_raises": "failed",
                               "TestPlain::test_xs": "failed", "Unit::test_equal": "failed"}


def test_a_prelude_is_shared():
    with Server("assert f(4) == 2", prelude="import statistics") as server:
        assert server.run("import statistics\ndef f(x):\n    return statistics.mean([x, 0])\n").outcome == "passed"
    with pytest.raises(ValueError, match="no_such_module"):
        Server("assert True == f", prelude="import no_such_module").begin()


@pytest.mark.parametrize("tests", [CHECK, PYTEST], ids=["check", "pytest"])
def test_pytest_confirms_what_the_server_says(tests):
    with Server(tests) as server:
        for program in (TOTAL, "def total(xs):\n    return max(xs)\n"):
            there, here = server.run(program), confirm(program, tests)
            assert (here.outcome, here.tier) == (there.outcome, there.tier)
            assert {k for k, v in here.tests.items() if v == "passed"} == {
                k for k, v in there.tests.items() if v == "passed"}


@pytest.mark.parametrize("kind", jail.KINDS)
def test_the_server_and_pytest_work_in_every_jail(kind, monkeypatch):
    """Also in the weaker ones, that other machines have to do with: most containers forbid namespaces."""
    if not jail.works(kind):
        pytest.skip(f"jail {kind} does not work here")
    monkeypatch.setattr(jail, "strongest", lambda: kind)
    with Server(CHECK) as server:
        wrong, right = server.run("def total(xs):\n    return 1\n"), server.run(TOTAL)
        assert (wrong.outcome, right.outcome, right.jail) == ("failed", "passed", kind)
        assert server.run("import os\nwhile os.fork(): pass\n").outcome != "passed"
        assert server.run(TOTAL).outcome == "passed"  # what was left of the other is gone
    assert confirm(TOTAL, CHECK).outcome == "passed"


def test_confirmation_knows_fixtures_and_a_skipped_test_is_not_passed():
    tests = "import pytest\ndef test_tmp(tmp_path):\n    assert f(1) == 2\n"
    assert confirm("def f(x):\n    return x + 1\n", tests).outcome == "passed"
    skipped = confirm("import pytest\ndef f(x):\n    pytest.skip()\n", tests)
    assert skipped.outcome == "failed" and skipped.tests == {"test_tmp": "error"}
    assert confirm("def f(", tests).tier == "unparsed"
    assert confirm("import os; os._exit(0)", tests).outcome != "passed"


def test_a_command_reads_its_input_and_ends_with_its_output():
    found = run_command([sys.executable, "main.py"], {"main.py": "print(int(input()) + 1)"}, stdin="41\n")
    assert (found.outcome, found.output) == ("passed", "42\n")
    found = run_command([sys.executable, "main.py"], {"main.py": "1/0"})
    assert found.outcome == "failed" and "ZeroDivisionError" in found.output
    found = run_command([sys.executable, "-c", "while True: pass"], {}, Limits(cpu_seconds=0))
    assert found.outcome == "cpu"
    found = run_command([sys.executable, "-c", "import time; time.sleep(60)"], {}, Limits(wall_seconds=0.5))
    assert found.outcome == "wall"
    found = run_command(["sh", "-c", "yes"], {}, Limits(file_mb=1))
    assert found.outcome == "output" and len(found.output) <= 20_000


# ---------------------------------------------------------------- fuel


def run_with(program: str, turns: int) -> tuple[dict, fuel.Tank]:
    tank = fuel.Tank(turns)
    names = {"__tick__": tank.tick, "__name__": "instrumented"}  # without a name, it would pass for builtins
    exec(compile(fuel.instrument(ast.parse(program)), "x", "exec"), names)
    return names, tank


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_fuel_counts_turns(loops, calls):
    program = f"def f(): 'text'\nfor i in range({loops}): pass\nx = [f() for i in range({calls})]\nd = f.__doc__"
    names, tank = run_with(program, 1000)
    assert tank.used() == loops + 2 * calls and names["d"] == "text" and not tank.empty()


@pytest.mark.parametrize("program", [
    "while True: pass", "while True:\n    try:\n        pass\n    except BaseException: pass",
    "for x in iter(int, 1): pass", "f = lambda: f()\ntry: f()\nexcept RecursionError: pass\nf()",
    "{a: 0 for a in iter(int, 1)}", "list(a for a in iter(int, 1))", "class A:\n    while True: pass",
    "def f():\n    try: f()\n    finally: f()\nf()",
])
def test_an_endless_program_runs_out(program):
    with pytest.raises((fuel.OutOfFuel, RecursionError)):
        run_with(program, 500)


def test_instrumented_programs_do_what_they_did(monkeypatch):
    monkeypatch.setitem(sys.modules, "instrumented", sys)  # a dataclass looks its module up
    names, tank = run_with((ROOT / "hrm_lab/swe/split.py").read_text(), 10**6)
    assert names["parts"](CHECK, True)[1] == parts(CHECK, True)[1] and tank.used() > 10


def test_the_result_does_not_depend_on_the_hash_seed():
    code = ("from hrm_lab.swe.sandbox import *\n"
            "with Server('assert f() == 0') as s:\n"
            "    print(s.run('import random\\ndef f():\\n    print(set(\"abcd\"), random.random())').output)")
    found = {subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
                            capture_output=True, text=True, check=True).stdout for seed in ("1", "2")}
    assert len(found) == 1


def test_the_benchmark_ends_with_its_numbers():
    done = subprocess.run([sys.executable, "benchmarks/sandbox.py", "--candidates", "20", "--pytest", "1"], cwd=ROOT,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["n"] == 20 == sum(found["outcomes"].values()) and found["jail"] and found["pytest_n"] == 1
    assert found["ratio"] == pytest.approx(found["pytest_subprocess_cpu_seconds"] * found["candidates_per_cpu_second"])
