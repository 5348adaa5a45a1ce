"""Synthesis on two tiny packages: what is kept is a real bug, a killed build ends like any other, no text twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from test_packages import make

from hrm_lab.swe import dedup, drawing, synthesis
from hrm_lab.swe.diffs import apply, reverse
from hrm_lab.swe.inject import KINDS
from hrm_lab.swe.instances import read
from hrm_lab.swe.package_table import Function
from hrm_lab.swe.statement import leaks

QUOTA = 12
MORE = '''


def words(text, low=2):
    found = []
    for word in text.split():
        if len(word) >= low and word not in found:
            found.append(word.lower())
    return found


def total(values, start=0):
    result = start
    for index, value in enumerate(values):
        if index % 2 == 0:
            result += value
        else:
            result -= value
    return result
'''
MORE_TESTS = '''

def test_words():
    assert core.words("To be or not to be a Bee") == ["to", "be", "or", "not", "to", "bee"]
    assert core.words("a bc", 1) == ["a", "bc"]


def test_total():
    assert core.total([5, 3, 2]) == 4
    assert core.total([], 7) == 7
'''
BUILD = """
import sys
from pathlib import Path
from test_packages import CODE, TESTS, make
from test_synthesis import MORE, MORE_TESTS, QUOTA
from hrm_lab.swe import synthesis
from hrm_lab.swe.package_table import Package
synthesis.BATCH = 1
folder = Path(sys.argv[1])
package = Package("tiny", "tiny/", ("tests",), "train")
synthesis.build_package(package, folder / "tiny-1.0", folder / "out", QUOTA)
print("built")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    from test_packages import CODE, TESTS

    folder = tmp_path_factory.mktemp("built")
    package = make(folder / "tiny-1.0", CODE + MORE, TESTS + MORE_TESTS)
    state = synthesis.build_package(package, folder / "tiny-1.0", folder / "out", QUOTA)
    return package, folder, state, read(folder / "out/parts/tiny.jsonl", strict=True).instances


def test_what_is_kept_is_a_bug_with_its_repair(built):
    package, folder, state, instances = built
    pristine = (folder / "tiny-1.0/tiny/core.py").read_text()
    assert len(instances) == state["kept"] == state["counts"]["valid"] == QUOTA
    assert sum(state["counts"].values()) == state["next"]
    for one in instances:
        buggy = apply(reverse(one.patch), pristine)
        assert apply(one.patch, buggy) == pristine
        assert one.program in buggy and one.fixed in pristine and one.program != one.fixed
        assert one.FAIL_TO_PASS and set(one.kinds) <= set(KINDS)
        assert not [t for t in (*one.FAIL_TO_PASS, *one.PASS_TO_PASS) if "fails_always" in t or "skipped" in t]
        assert one.FAIL_TO_PASS[0] in one.problem_statement and not leaks(one.problem_statement, one.program, one.fixed)
        assert str(folder) not in json.dumps(one.tool_plan) + one.problem_statement
        assert [step["tool"] for step in one.tool_plan] == ["run_tests", "locate", "edit", "run_tests"]
        assert f"{one.file}: {one.function} " in one.tool_plan[1]["observation"]


def test_a_fresh_pytest_agrees_with_every_fork(built, monkeypatch):
    package, folder, _, instances = built
    monkeypatch.setitem(synthesis.PACKAGES, "tiny", package)
    monkeypatch.setattr(synthesis, "checkout", lambda name, cache: folder / "tiny-1.0")
    sample = random.Random(0).sample(instances, 2)
    assert synthesis.verify(sample, folder) == []
    lie = [type(sample[0])(**vars(sample[0]) | {"FAIL_TO_PASS": sample[0].PASS_TO_PASS[:1] or ("none",)})]
    assert len(synthesis.verify(lie, folder)) == 1


def test_no_two_instances_are_nearly_the_same(built):
    seen = set()
    for one in built[3]:
        key = one.function, one.program
        assert key not in seen
        seen.add(key)
    for i, one in enumerate(built[3]):
        for other in built[3][:i]:
            if one.function == other.function:
                assert not dedup.similar(dedup.change(one.program, one.fixed), dedup.change(other.program, other.fixed))


def test_a_build_that_is_done_does_nothing_and_a_larger_one_goes_on(built):
    package, folder, state, instances = built
    again = synthesis.build_package(package, folder / "tiny-1.0", folder / "out", QUOTA)
    assert again == {**again, "next": state["next"], "counts": state["counts"]}
    assert read(folder / "out/parts/tiny.jsonl").instances == instances


def test_a_build_killed_again_and_again_ends_with_the_same_instances(built, tmp_path):
    from test_packages import CODE, TESTS

    make(tmp_path / "tiny-1.0", CODE + MORE, TESTS + MORE_TESTS)
    part = tmp_path / "out/parts/tiny.jsonl"
    folder = os.path.dirname(__file__)
    root = os.path.dirname(os.path.dirname(folder))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((root, folder))}
    kills = 0
    for goal in (2, 7, None):
        process = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)], env=environment,
                                   stdout=subprocess.PIPE, text=True)
        while goal and process.poll() is None:
            if part.exists() and part.read_bytes().count(b"\n") >= goal:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                with open(part, "ab") as file:  # what a kill in the middle of a write leaves
                    file.write(b'{"instance_id": "tiny__0.9')
                break
            time.sleep(0.01)
        out = process.communicate(timeout=120)[0]
    assert kills >= 2 and "built" in out and process.returncode == 0
    found = read(part, strict=True).instances  # strict: no torn line, no id twice
    assert [(i.instance_id, i.program) for i in found] == [(i.instance_id, i.program) for i in built[3]]


def function(text):
    return Function("f.py", "f", 1, 0, len(text), text)


def test_a_method_goes_to_the_edits_and_back_as_it_was():
    text = '    def f(self):\n        """Doc.\n\n        more"""\n        return 1\n\n        # end'
    assert drawing.placed(drawing.enumerable(text), drawing.indentation(text)) == text
    assert drawing.enumerable(text).startswith("def f(self):\n    ")
    assert drawing.fits(function(text))
    assert not drawing.fits(function('    def f(self):\n        a = """\nleft"""\n        return a'))
    assert not drawing.fits(function("def f():\n    return 1"))  # too short to be worth it


def test_several_bugs_are_undone_in_turn():
    text = MORE.strip().split("\n\n\n")[1]
    drawn = [drawing.draw(function(text), random.Random(seed)) for seed in range(40)]
    several = [d for d in drawn if d and len(d.kinds) > 1]
    assert 1 <= len(several) <= 14 and all(len(d.steps) == len(d.kinds) for d in several)
    assert all(d.program == d.steps[-1] != text for d in drawn if d)


def test_functions_that_two_packages_share_are_dropped_from_the_later_one():
    one, two = MORE.strip().split("\n\n\n")
    renamed = one.replace("found", "seen").replace("text", "line").replace("word", "part")
    texts = [("test", one), ("train", renamed), ("copy", "# again\n" + one), ("other", two)]
    assert dedup.repeated(texts) == {"copy": "test"}
    assert [dedup.overlap(dedup.grams(one), dedup.grams(text)) for text in (one, two)] == [1, 0]


def test_changes_are_compared_and_not_the_functions_around_them():
    first, second = MORE.strip().split("\n\n\n")[1], None
    low = first.replace("% 2 == 0", "% 2 == 1")
    lower = first.replace("% 2 == 0", "% 2 == 3")
    second = first.replace("result -= value", "result += value")
    assert dedup.similar(dedup.change(low, first), dedup.change(lower, first))
    assert not dedup.similar(dedup.change(low, first), dedup.change(second, first))
