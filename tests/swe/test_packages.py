"""Judging candidates of a package in forks of its own suite: what is swapped, what is refused, what does not leak."""

import textwrap

import pytest

from hrm_lab.sources import listed
from hrm_lab.swe import jail
from hrm_lab.swe.jail import Limits
from hrm_lab.swe.package_table import PACKAGES, Package, functions
from hrm_lab.swe.packages import PackageError, PackageServer, fresh, settle

CODE = '''
"""A tiny package."""
import functools

TABLE = []


def _fill():
    TABLE.append(1)


_fill()


def clamp(value, low=0, high=10):
    if value < low:
        return low
    return min(value, high)


@functools.lru_cache
def double(value):
    result = value + value
    return result


class Base:
    def area(self):
        return 1


class Box(Base):
    """With a string that
keeps to the margin."""

    def __init__(self, side):
        self.side = side

    @property
    def text(self):
        return "box of %d" % self.side

    @text.setter
    def text(self, value):
        self.side = int(value)

    def area(self):
        side = self.side
        return super().area() * side * side


def endless(n):
    while n > 0:
        n -= 1
    return n
'''
TESTS = '''
import random
import unittest

import pytest

from tiny import core


@pytest.mark.parametrize("value, expected", [(-1, 0), (5, 5), (11, 10)])
def test_clamp(value, expected):
    assert core.clamp(value) == expected


def test_double():
    assert core.double(3) == 6


@pytest.fixture
def box():
    return core.Box(3)


def test_area(box):
    assert box.area() == 9


class TestCase(unittest.TestCase):
    def test_endless(self):
        self.assertEqual(core.endless(3), 0)

    @unittest.skip("not now")
    def test_skipped(self):
        raise AssertionError


class TestPlain:
    def setup_method(self):
        self.value = 20

    def test_high(self):
        assert core.clamp(self.value) == 10


def test_wavers():
    assert hash("a wavering value") % 2 == 0


def test_fails_always():
    assert core.clamp(1) == 2


def test_numpy_is_hidden():
    try:
        import numpy
    except ImportError:
        numpy = None
    assert numpy is None and core.clamp(1) == 1


def test_table():
    assert core.TABLE == [1]
'''
FILE = "tiny/core.py"
AREA = '''    def area(self):
        side = self.side
        return super().area() * side + side'''


def make(root, code=CODE, tests=TESTS):
    (root / "tiny").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "tiny/__init__.py").write_text("")
    (root / FILE).write_text(code)
    (root / "tests/test_core.py").write_text(tests)
    return Package("tiny", "tiny/", ("tests",), "train")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp("package") / "tiny-1.0"
    package = make(root)
    with PackageServer(package, root, limits=Limits(cpu_seconds=0.2)) as server:
        yield server


@pytest.mark.parametrize("kind", jail.KINDS[1:])
def test_the_weaker_jails_serve_packages_too(kind, tmp_path, monkeypatch):
    if not jail.works(kind):
        pytest.skip(f"jail {kind} does not work here")
    monkeypatch.setattr(jail, "strongest", lambda: kind)
    package = make(tmp_path / "tiny-1.0")
    with PackageServer(package, tmp_path / "tiny-1.0", limits=Limits(cpu_seconds=0.2)) as server:
        text = server.functions[FILE, "clamp"].text
        assert server.run(FILE, "clamp", text).outcome == "passed"


def changed(server, name, old, new):
    text = server.functions[FILE, name].text
    assert old in text
    return server.run(FILE, name, text.replace(old, new))


def test_the_pristine_functions_pass(tiny):
    for name in ("clamp", "double", "Box.area", "endless"):
        result = tiny.run(FILE, name, tiny.functions[FILE, name].text)
        assert (result.tier, result.outcome) == ("all", "passed") and result.tests, name


def test_a_bug_fails_the_tests_that_see_it_and_no_other(tiny):
    result = changed(tiny, "clamp", "return low", "return high")
    assert (result.tier, result.outcome, result.jail) == ("some", "failed", tiny.jail)
    assert [test for test, outcome in result.tests.items() if outcome == "failed"] == [
        "tests/test_core.py::test_clamp[-1-0]"]
    assert set(result.tests.values()) == {"failed", "passed"} and len(result.tests) == 5
    assert "assert 10 == 0" in result.output and "return high" not in result.output


def test_decorated_functions_and_super_are_swapped(tiny):
    doubled = changed(tiny, "double", "value + value", "value * value")
    assert doubled.tests == {"tests/test_core.py::test_double": "failed"}
    assert tiny.run(FILE, "Box.area", AREA).tests == {"tests/test_core.py::test_area": "failed"}
    assert changed(tiny, "Box.area", "super().area() * ", "").outcome == "passed"  # the cell of super() is not needed
    assert changed(tiny, "Box.area", "side * side", "side.none").tests == {"tests/test_core.py::test_area": "error"}


def test_a_changed_default_counts(tiny):
    assert changed(tiny, "clamp", "high=10", "high=11").outcome == "failed"
    assert changed(tiny, "clamp", "high=10", "high=5 + 5").outcome == "passed"
    assert changed(tiny, "clamp", "high=10", "high=missing").outcome == "unswappable"


@pytest.mark.parametrize(("name", "source", "outcome", "tier"), [
    ("clamp", "def clamp(value, low=0", "failed", "unparsed"),
    ("clamp", "def clamp(value, low=0, high=10):\n    return yield", "failed", "unparsed"),
    ("clamp", "def clamp(value, low=0, high=10):\n    break", "failed", "parses"),
    ("clamp", "def other(value, low=0, high=10):\n    return 1", "unswappable", "parses"),
    ("clamp", "def clamp(value):\n    return 1", "unswappable", "parses"),
    ("clamp", "x = 1", "unswappable", "parses"),
    ("_fill", "def _fill():\n    TABLE.append(2)", "unswappable", "parses"),
])
def test_what_cannot_be_judged_is_named(tiny, name, source, outcome, tier):
    result = tiny.run(FILE, name, source, ["tests/test_core.py::test_double"])
    assert (result.outcome, result.tier) == (outcome, tier)
    assert "passed" not in result.tests.values()


@pytest.mark.parametrize(("line", "outcome"), [
    ("while True: pass", "cpu"),
    ("import os; os._exit(0)", "exited"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed"),
    ("import os; [_write(fd) for fd in range(3, 20)]", "forged"),
    ("import sys; sys.exit(0)", "failed"),
    ("x = [0] * 10 ** 9", "failed"),
    ("open('/etc/shadow').read()", "failed"),
    ("open('tiny/core.py', 'w').write('')", "failed"),
    ("import socket; socket.create_connection(('127.0.0.1', 9), 1)", "failed"),
])
def test_a_candidate_that_means_harm_is_named_and_the_next_one_runs(tiny, line, outcome):
    helper = ("    def _write(fd):\n        try:\n            os.write(fd, b'not JSON\\\\n')\n"
              "        except OSError:\n            pass\n")
    source = f"def clamp(value, low=0, high=10):\n{helper}    {line}\n    return max(low, min(value, high))"
    result = tiny.run(FILE, "clamp", source)
    assert result.outcome == outcome
    assert "passed" not in result.tests.values()
    assert tiny.run(FILE, "clamp", tiny.functions[FILE, "clamp"].text).outcome == "passed"


def test_nothing_leaks_into_the_next_candidate(tiny):
    source = "def clamp(value, low=0, high=10):\n    TABLE.append(2)\n    globals()['double'] = None\n    return value"
    assert tiny.run(FILE, "clamp", source).outcome == "failed"
    assert tiny.run(FILE, "double", tiny.functions[FILE, "double"].text,
                    ["tests/test_core.py::test_double", "tests/test_core.py::test_table"]).outcome == "passed"


def test_tests_are_chosen_by_what_reaches_the_function(tiny):
    profile = tiny.profile
    reaching = tiny.tests_of(tiny.functions[FILE, "clamp"])
    assert len(reaching) == 5 and all("clamp" in test or "hi" in test for test in reaching)
    names = {name for _, name, _ in profile.imported}
    assert "_fill" in names and "clamp" not in names
    assert not [test for test in profile.seconds if "skipped" in test or "fails_always" in test]


def test_unknown_functions_and_tests_are_named(tiny):
    with pytest.raises(PackageError, match="no single function 'Box.text'"):  # property and setter: ambiguous
        tiny.run(FILE, "Box.text", "def text(self): pass")
    with pytest.raises(PackageError, match="no test 'nowhere'"):
        tiny.run(FILE, "clamp", "def clamp(): pass", ["nowhere"])


def test_functions_are_whole_lines_of_the_file(tiny):
    for function in functions(tiny.package, tiny.root):
        text = (tiny.root / function.file).read_text()
        assert text[function.start:function.end] == function.text
        compile(textwrap.dedent(function.text), "f", "exec")
    assert [f.name for f in functions(tiny.package, tiny.root)] == [
        "_fill", "clamp", "double", "Base.area", "Box.__init__", "Box.area", "endless"]


def test_wavering_tests_are_left_out(tmp_path):
    tests = TESTS.replace('hash("a wavering value") % 2 == 0', '__import__("os").environ["PYTHONHASHSEED"] == "0"')
    package = make(tmp_path / "tiny-1.0", tests=tests)
    profile = settle(package, tmp_path / "tiny-1.0")
    assert profile.excluded["wavering"] == 1 and "tests/test_core.py::test_wavers" not in profile.seconds
    profile.save(tmp_path / "profile.json")
    assert type(profile).load(tmp_path / "profile.json") == profile


def test_a_fresh_pytest_agrees(tiny):
    text = (tiny.root / FILE).read_text()
    tests = tiny.tests_of(tiny.functions[FILE, "clamp"])
    assert fresh(tiny.package, tiny.root, {}, tests).outcome == "passed"
    result = fresh(tiny.package, tiny.root, {FILE: text.replace("return low", "return high")}, tests)
    assert result.tests == changed(tiny, "clamp", "return low", "return high").tests
    assert fresh(tiny.package, tiny.root, {FILE: "syntax error"}, tests).outcome == "killed"
    assert (tiny.root / FILE).read_text() == text


def test_a_package_without_tests_is_named(tmp_path):
    package = make(tmp_path / "tiny-1.0")
    with pytest.raises(PackageError, match="no tests at nowhere"):
        PackageServer(Package("tiny", package.code, ("nowhere",), "train"), tmp_path / "tiny-1.0")


def test_the_packages_that_are_listed():
    splits = [package.split for package in PACKAGES.values()]
    assert len(splits) >= 12 and splits.count("valid") >= 3 and splits.count("test") >= 3
    sources = listed()
    assert all(sources[name].form == "sdist" and sources[name].licence in ("MIT", "BSD-3-Clause", "Apache-2.0")
               for name in PACKAGES)
