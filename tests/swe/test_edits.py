"""Candidates: each parses, no two the same, in one order, inside the span, and what people get wrong is among them."""

import calendar
import inspect
import os
import string
import subprocess
import sys

import pytest
from test_languages import PROGRAMS

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.swe.edits import KINDS, Edit, apply, candidates
from hrm_lab.swe.languages import LANGUAGES, normalise, valid

SOURCES = [inspect.getsource(f) for f in (calendar.monthrange, string.capwords, calendar.leapdays)]
each_language = pytest.mark.parametrize("language", LANGUAGES)


def results(code, language="python"):
    return {normalise(apply(code, edit), language) for edit in candidates(code, language)}


def check(code, language):
    found = candidates(code, language)
    made = [normalise(apply(code, edit), language) for edit in found]
    assert len(set(made)) == len(made) > 20
    assert normalise(code, language) not in made
    assert all(valid(apply(code, edit), language) for edit in found)
    assert {edit.kind for edit in found} <= set(KINDS)
    assert [(e.start, e.end) for e in found] == sorted((e.start, e.end) for e in found)
    return found


def test_kinds_are_described():
    assert 30 <= len(KINDS) <= 75 and all(text and text == text.strip(" .") for text in KINDS.values())


@each_language
def test_candidates_parse_and_differ(language):
    kinds = {edit.kind for edit in check(PROGRAMS[language], language)}
    assert {"comparison", "name", "constant", "delete", "return", "insert-return", "swap-operands",
        "wrap-call"} <= kinds


@pytest.mark.parametrize("code", SOURCES, ids=range(len(SOURCES)))
def test_candidates_of_the_standard_library(code):
    check(code, "python")


def test_edits_stay_inside_and_names_come_from_outside():
    code = "LIMIT = 3\n\ndef f(x):\n    return x + 1\n\ndef g(y):\n    return y\n"
    low, high = code.index("def f"), code.index("\n\ndef g")
    found = candidates(code, within=(low, high))
    assert found and all(low <= edit.start and edit.end <= high for edit in found)
    assert any("LIMIT" in edit.text for edit in found)
    assert set(found) <= set(candidates(code)) | {edit for edit in found if edit.kind}


def test_a_limit_leaves_every_kind_a_share():
    code = PROGRAMS["python"]
    everything, some = candidates(code), candidates(code, limit=100)
    assert len(some) == 100 and set(some) < set(everything)
    assert {edit.kind for edit in some} == {edit.kind for edit in everything}


def test_the_order_does_not_depend_on_the_hash_seed():
    command = [sys.executable, "-c", "import sys; sys.path[:0] = ['tests/swe']\nfrom test_languages import PROGRAMS\n"
               "from hrm_lab.swe.edits import candidates\nimport hashlib\n"
               "print(hashlib.sha256(repr([candidates(c, l) for l, c in PROGRAMS.items()]).encode()).hexdigest())"]
    seen = {subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True,
                           env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}).stdout for seed in "12"}
    assert len(seen) == 1


@pytest.mark.parametrize(("bug", "fix"), [
    ("def f(a, n):\n    return a[n]\n", "def f(a, n):\n    return a[n - 1]\n"),
    ("def f(a, b):\n    return a < b\n", "def f(a, b):\n    return a <= b\n"),
    ("def f(a: list):\n    for i in range(len(a) - 1):\n        print(a[i])\n",
     "def f(a: list):\n    for i in range(len(a)):\n        print(a[i])\n"),
    ("def f(a: list):\n    return max(a)\n", "def f(a: list):\n    return min(a)\n"),
    ("def f(a: list):\n    return a\n", "def f(a: list):\n    return sorted(a)\n"),
    ("def f(a):\n    for x in a:\n        return x\n", "def f(a):\n    for x in a:\n        yield x\n"),
    ("def f(a):\n    yield 1\n    f(a[1:])\n", "def f(a):\n    yield 1\n    yield from f(a[1:])\n"),
    ("def f(a=[]):\n    return a\n", "def f(a=None):\n    return a\n"),
    ("def f(a, b):\n    return f(a, b)\n", "def f(a, b):\n    return f(a - b, b)\n"),
    ("def f(a, i):\n    return a[i - 1] - a[i]\n", "def f(a, i):\n    return a[i - 1] - 2 * a[i]\n"),
    ("def f(a, k):\n    if k:\n        return f(a)\n    return a + (k,), 1\n",
     "def f(a, k):\n    if k:\n        return f(a + (k,))\n    return a + (k,), 1\n"),
    ("class A:\n    def __init__(self, n, unit=None):\n        self.n, self.unit = n, unit\n\n    def more(self):\n"
     "        return A(self.n)\n",
     "class A:\n    def __init__(self, n, unit=None):\n        self.n, self.unit = n, unit\n\n    def more(self):\n"
     "        return A(self.n, self.unit)\n"),
    ("def f(a, b):\n    if a:\n        return b\n", "def f(a, b):\n    if a and b:\n        return b\n"),
    ("def f(a: str):\n    return a\n", "def f(a: str):\n    return a[::-1]\n"),
    ("def f(a: list):\n    return a[0] / len(a)\n",
     "def f(a: list):\n    if not a:\n        return 0\n    return a[0] / len(a)\n"),
    ("def f(n: int):\n    i = 0\n    while i < n:\n        print(i)\n",
     "def f(n: int):\n    i = 0\n    while i < n:\n        print(i)\n        i += 1\n"),
    ("def f(a, b):\n    return g(a, b)\n", "def f(a, b):\n    return g(b, a)\n"),
    ("def f(a):\n    x = 0\n    for y in a:\n        x += y\n        return x\n",
     "def f(a):\n    x = 0\n    for y in a:\n        x += y\n    return x\n"),
    ("def f(a, b):\n    c = a\n    b = c\n    return b\n", "def f(a, b):\n    b = c\n    c = a\n    return b\n"),
    ("def f(a):\n    if a:\n        b = 1\n    if not a:\n        b = 2\n    return b\n",
     "def f(a):\n    if a:\n        b = 1\n    elif not a:\n        b = 2\n    return b\n"),
    ("def f(node):\n    if node.next:\n        return node\n",
     "def f(node):\n    if node.next:\n        return node.next\n"),
    ("def f(a, b):\n    return len(a) == b\n", "def f(a, b):\n    return len(a) != b\n"),
    ("def f(a, key=None):\n    if key:\n        return a\n",
     "def f(a, key=None):\n    if key is not None:\n        return a\n"),
    ("def f(x):\n    return x.lower()\n", "def f(x):\n    return x.upper()\n"),
    ("def f(x):\n    sorted(x)\n    return x\n", "def f(x):\n    x = sorted(x)\n    return x\n"),
])
def test_a_typical_fix_is_in_the_space(bug, fix):
    assert normalise(fix, "python") in results(bug)


def test_code_that_does_not_parse_is_refused():
    with pytest.raises(ValueError, match="line 1.*expected valid python"):
        candidates("def f(:\n")


def test_apply_replaces_characters():
    assert apply("x = 'é' + y", Edit("name", 10, 11, "z")) == "x = 'é' + z"
