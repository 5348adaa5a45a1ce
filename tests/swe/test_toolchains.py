"""Rows of other languages: each present toolchain tells right from wrong; a missing one is said to be missing."""

import pytest

from hrm_lab.swe import toolchains
from hrm_lab.swe.toolchains import available, run_tests

ROWS = {
    "javascript": ("const add = (a, b) => {\n  return a + b;\n}\n",
                   "const testAdd = () => {\n  console.assert(add(1, 2) === 3)\n}\ntestAdd()\n"),
    "java": ("import java.util.*;\nclass Solution {\n  public int add(int a, int b) {\n    return a + b;\n  }\n}\n",
             "public class Main {\n  public static void main(String[] x) {\n"
             "    if (new Solution().add(1, 2) != 3) throw new AssertionError();\n  }\n}\n"),
    "cpp": ("#include<stdio.h>\nint add(int a, int b) {\n  return a + b;\n}\n",
            "#undef NDEBUG\n#include<assert.h>\nint main(){ assert (add(1, 2) == 3); }\n"),
    "go": ('package main\n\nimport "os"\n\nvar _ = os.Exit\n\n'
           "func add(a int, b int) int {\n\treturn a + b\n}\n",
           'package main\n\nimport "testing"\nimport "github.com/stretchr/testify/assert"\n\n'
           "func TestAdd(t *testing.T) {\n\tassert := assert.New(t)\n\tassert.Equal(3, add(1, 2))\n"
           "\tassert.Equal([]byte{1}, []byte{byte(add(1, 0))})\n}\n"),
    "rust": ("fn main(){}\nuse rand::Rng;\nuse regex::Regex;\nuse md5;\nfn add(a:i32, b:i32) -> i32 {\n    a + b\n}\n",
             "#[cfg(test)]\nmod tests {\n  use super::*;\n  #[test]\n  fn t() { assert_eq!(add(1, 2), 3); }\n}\n"),
}


@pytest.mark.parametrize("language", ROWS)
def test_right_wrong_and_broken_are_told_apart(language):
    program, tests = ROWS[language]
    if not available()[language]:
        assert run_tests(language, program, tests).outcome == "no toolchain"
        return
    right = run_tests(language, program, tests)
    assert (right.outcome, right.tier, right.tests) == ("passed", "all", {"main": "passed"}), right.output
    wrong = run_tests(language, program.replace("a + b", "a - b"), tests)
    assert (wrong.outcome, wrong.tier, wrong.tests) == ("failed", "runs", {"main": "failed"}), wrong.output
    broken = run_tests(language, program.replace("a + b", "a +"), tests)
    assert (broken.outcome, broken.tier, broken.tests) == ("failed", "parses", {"main": "error"})


def test_a_missing_toolchain_is_reported(monkeypatch):
    monkeypatch.setattr(toolchains, "available", lambda: {"go": None})
    found = run_tests("go", "", "")
    assert found.outcome == "no toolchain" and "go: no toolchain" in found.output
    with pytest.raises(ValueError, match="language: got 'cobol', expected one of go"):
        run_tests("cobol", "", "")
