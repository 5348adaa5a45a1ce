"""Tool plans: really run, in order, with the failure, the suspicious line and the repair in them."""

from dataclasses import replace

import pytest
from test_instances import ONE

from hrm_lab.swe import stdio, tool_plan
from hrm_lab.swe.instances import InstanceError
from hrm_lab.swe.sandbox import Limits, Result
from hrm_lab.swe.toolchains import available

FIXED = ('def middle(values):\n    ordered = sorted(values)\n    if not ordered:\n        return None\n'
         '    place = len(ordered) // 2\n    return ordered[place]\n')
BUGGY = FIXED.replace("// 2", "// 2 + 1")
TESTS = ("def test_empty():\n    assert middle([]) is None\n\n\ndef test_one():\n    assert middle([7]) == 7\n\n\n"
         "def test_three():\n    assert middle([3, 1, 2]) == 2\n")
MIDDLE = replace(ONE, program=BUGGY, fixed=FIXED, tests=TESTS, file="middle.py", function="middle", tool_plan=(),
                 FAIL_TO_PASS=(), complexity=0.0)


def test_a_plan_is_made_by_running():
    done = tool_plan.run(MIDDLE)
    assert done.FAIL_TO_PASS == ("test_one", "test_three") and done.PASS_TO_PASS == ("test_empty",)
    assert 0 < done.complexity < 1
    reproduce, located, edit, verify = done.tool_plan
    assert [step["tool"] for step in done.tool_plan] == ["run_tests", "locate", "edit", "run_tests"]
    assert reproduce["args"]["tests"] == ["test_one", "test_three"]
    assert "1 of 3 tests passed" in reproduce["observation"] and "IndexError" in reproduce["observation"]
    assert located["observation"].startswith("middle.py:5 (1.00): place = len(ordered) // 2 + 1\n")
    assert edit["args"] == {"file": "middle.py", "line": 5, "old": "    place = len(ordered) // 2 + 1",
                            "new": "    place = len(ordered) // 2"} and edit["observation"] == "valid python"
    assert verify["observation"] == "3 of 3 tests passed"


def test_a_loop_that_never_ends_is_still_located():
    looping = FIXED.replace("    place", "    while ordered:\n        place = 1\n    place")
    lines = dict(tool_plan.locate(looping, TESTS))
    assert lines[5] == lines[6] == 1.0 and 4 not in lines


def test_a_program_on_stdin():
    tests = stdio.pack([("a", "1 2\n", "3\n"), ("b", "2 0\n", "2.0")])
    program = "a, b = map(int, input().split())\nprint(a - b)\n"
    done = tool_plan.run(replace(MIDDLE, program=program, fixed=program.replace("-", "+"), tests=tests))
    assert done.FAIL_TO_PASS == ("a",) and done.PASS_TO_PASS == ("b",)
    assert "a: expected '3', printed '-1'" in done.tool_plan[0]["observation"]
    ended = stdio.run_cases("while True:\n    pass\n", stdio.pack([("a", "", "")]), Limits(cpu_seconds=0.2))
    assert ended.outcome == "cpu" and ended.tests == {"a": "cpu"}
    assert stdio.run_cases("(", tests).tier == "unparsed"


@pytest.mark.parametrize("changes, message", [
    ({"program": FIXED}, "no test of the buggy program fails"),
    ({"fixed": BUGGY.replace("+ 1", "+ 2")}, "the repaired program ends with 'failed'"),
    ({"fixed": ""}, "no repaired program"),
    ({"tests": ""}, "its tests are in the repository")])
def test_an_instance_that_does_not_hold_gets_no_plan(changes, message):
    with pytest.raises(InstanceError, match=message):
        tool_plan.run(replace(MIDDLE, **changes))


def test_a_plan_from_results_of_a_package():
    before = Result("some", "failed", {"t.py::a": "failed", "t.py::b": "passed"}, output="/home/x/y/pkg/m.py:3: E")
    after = Result("all", "passed", {"t.py::a": "passed", "t.py::b": "passed"})
    steps = tool_plan.plan(file="pkg/m.py", program=BUGGY, fixed=FIXED, language="python", before=before, after=after,
                           located="pkg/m.py: middle", begins=11)
    assert "/home" not in steps[0]["observation"] and steps[1]["observation"] == "pkg/m.py: middle"
    assert steps[2]["args"]["line"] == 15


def test_changed_lines_of_insertions_and_deletions():
    assert tool_plan.changed_lines("a\nb\n", "a\nx\nb\n") == (2, "", "x")
    assert tool_plan.changed_lines("a\nx\nb\n", "a\nb\n") == (2, "x", "")
    assert tool_plan.changed_lines("a", "a") == (2, "", "")


def test_ochiai():
    ranked = tool_plan.ochiai([(False, [1, 2]), (True, [1]), (True, [1])])
    assert ranked == [(2, 1.0), (1, pytest.approx(3 ** -0.5))]


OTHERS = {  # language -> program, tests, file
    "javascript": ("const one = (x) => {\n  return x - 1;\n}\n", "console.assert(one(1) === 2)\n", "solution.js"),
    "go": ("package main\n\nfunc one(x int) int {\n\treturn x - 1\n}\n",
           'package main\n\nimport "testing"\n\nfunc TestOne(t *testing.T) {\n\tif one(1) != 2 {\n\t\tt.Fatal("not 2")'
           "\n\t}\n}\n", "main.go")}


@pytest.mark.parametrize("language", ["javascript", "go"])
def test_another_language_is_one_test_or_says_that_it_cannot_run(language):
    program, tests, file = OTHERS[language]
    instance = replace(MIDDLE, language=language, program=program, fixed=program.replace("x - 1", "x + 1"), file=file,
                       tests=tests)
    if not available()[language]:
        with pytest.raises(InstanceError, match=f"no toolchain for {language}"):
            tool_plan.run(instance)
        return
    done = tool_plan.run(instance)
    assert done.FAIL_TO_PASS == ("main",) and done.tool_plan[-1]["observation"] == "1 of 1 tests passed"
    assert done.tool_plan[1]["observation"] == f"{file}: middle"
