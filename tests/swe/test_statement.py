"""Problem statements: the test's own words, no path of this machine, not the repair."""

import pytest

from hrm_lab.swe.statement import LIMIT, clean, cut, leaks, problem_statement

BUGGY = "def area(w, h):\n    size = w + h\n    return size\n"
FIXED = "def area(w, h):\n    size = w * h\n    return size\n"
OUTPUT = """\x1b[31mdef test_area():
>       assert area(2, 3) == 6
E       assert 5 == 6
/home/someone/src/shapes/tests/test_shapes.py:4: AssertionError
>       size = w * h
        size = w * h
E   <Shape object at 0x7f0012345678>\x1b[0m"""


def test_a_statement_shows_the_failure_and_not_the_repair():
    failures = [("tests/test_shapes.py::test_area", OUTPUT)] + [(f"t{i}", "") for i in range(12)]
    text = problem_statement("`area` in `shapes.py`", failures, BUGGY, FIXED)
    assert "13 tests fail; `tests/test_shapes.py::test_area` says:" in text and "assert 5 == 6" in text
    assert "`t0`" in text and "`t10`" not in text and text.endswith("and 2 more.\n")
    assert leaks(OUTPUT, BUGGY, FIXED) and not leaks(text, BUGGY, FIXED)
    for part in ("w * h", "/home", "\x1b", "7f0012345678"):
        assert part not in text


def test_clean_cuts_folders_but_not_fractions_and_urls():
    text = clean("/a/b/pkg/mod.py:3 in f\nhttps://x.org/a/b.html\n1/2/3\nsrc/mod.py", ["/a/b"])
    assert text == "pkg/mod.py:3 in f\nhttps://x.org/a/b.html\n1/2/3\nsrc/mod.py"


def test_a_long_output_keeps_its_end():
    text = cut("a" * LIMIT + "b" * LIMIT)
    assert text.endswith("b" * (LIMIT // 2)) and f"[... {LIMIT} characters cut ...]" in text and cut("a") == "a"


def test_a_statement_needs_a_failure():
    with pytest.raises(ValueError, match="area: no failing test"):
        problem_statement("area", [])
