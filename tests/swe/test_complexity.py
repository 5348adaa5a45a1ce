"""Complexity: counts by hand in six languages, and never smaller for more of anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.swe.complexity import Measures, complexity, cyclomatic, edit_distance, measure, score

FIVE = {  # if, for, while, a case or handler, and: one + 5
    "python": "def f(x):\n    if x and x:\n        for i in x:\n            while i:\n                pass\n"
              "    try:\n        pass\n    except ValueError:\n        pass\n",
    "javascript": "function f(x) {\n  if (x && x) { for (const i of x) { while (i) {} } }\n"
                  "  try { g() } catch (e) { h() }\n}\n",
    "go": "package main\nfunc f(x int) {\n\tif x > 0 && x < 2 {\n\t\tfor i := 0; i < x; i++ {\n"
          "\t\t\tfor i < x {\n\t\t\t}\n\t\t}\n\t}\n\tswitch x {\n\tcase 1:\n\t}\n}\n",
    "java": "class A {\n  void f(int x) {\n    if (x > 0 && x < 2) { for (int i : y) { while (x > 0) {} } }\n"
            "    try { g(); } catch (Exception e) { h(); }\n  }\n}\n",
    "cpp": "void f(int x) {\n  if (x > 0 && x < 2) { for (int i = 0; i < x; i++) { while (x) {} } }\n"
           "  switch (x) { case 1: break; }\n}\n",
    "rust": "fn f(x: i32) {\n    if x > 0 && x < 2 { for i in 0..x { while x > i {} } }\n"
            "    match x { 1 => g() }\n}\n"}


@pytest.mark.parametrize("language", FIVE)
def test_decisions_are_counted_alike(language):
    assert cyclomatic(FIVE[language], language) == 6


def test_a_method_with_its_indentation_is_read():
    method = "    def f(self, x):\n        if x:\n            return [y for y in x if y]\n        return x or 2\n"
    assert cyclomatic(method, "python") == 5 and cyclomatic("x = 1\n", "python") == 1


def test_edit_distance_counts_tokens():
    assert edit_distance("return a + b  # sum", "return a - b", "python") == 1
    assert edit_distance("f(a, b)", "f(b)", "python") == 2
    assert edit_distance("x = y", "x  =  y", "python") == 0
    assert edit_distance("", "a b c", "java") == 3


WORDS = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)


@given(WORDS, WORDS, WORDS)
def test_edit_distance_is_a_distance(a, b, c):
    ab, bc, ac = (edit_distance(x, y, "java") for x, y in ((a, b), (b, c), (a, c)))
    assert ab == edit_distance(b, a, "java") and (ab == 0) == (a == b) and ac <= ab + bc


COUNTS = st.integers(0, 10_000)


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from(("lines", "cyclomatic", "edit", "failing")), COUNTS)
def test_more_of_anything_is_never_simpler(lines, branches, edit, failing, name, more):
    one = Measures(lines, branches, edit, failing)
    other = Measures(**{**vars(one), name: getattr(one, name) + more})
    assert 0 <= score(one) <= score(other) < 1


def test_the_measures_of_a_bug():
    buggy, fixed = "def f(x):\n\n    return x - 1\n", "def f(x):\n\n    return x + 1\n"
    assert measure(buggy, fixed, "python", 2) == Measures(2, 1, 1, 2) and measure(buggy, "", "python", 2).edit == 0
    assert complexity(buggy, fixed, "python", 2) == round((2 / 32 + 1 / 9 + 1 / 6 + 2 / 6) / 4, 3)
