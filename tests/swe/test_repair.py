"""Projects of many shapes are repaired as pytest sees them; nothing is written, and nothing unconfirmed is a patch."""

import json
import subprocess
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest

from hrm_lab.swe import jail
from hrm_lab.swe import repair as repairs
from hrm_lab.swe.edits import apply, candidates
from hrm_lab.swe.evidence import of
from hrm_lab.swe.probe import probe
from hrm_lab.swe.project import Project
from hrm_lab.swe.project_tests import ProjectServer, confirm
from hrm_lab.swe.repair import Source, repair
from hrm_lab.swe.sandbox import Result

CLAMP = """def clamp(x, low, high):
    if x < low:
        return low
    if x > high:
        return low
    return x
"""
FIXED = CLAMP.replace("high:\n        return low", "high:\n        return high")
TEST = ("from clamp import clamp\n\ndef test_inside():\n    assert clamp(2, 1, 3) == 2\n\n"
        "def test_above():\n    assert clamp(7, 1, 3) == 3\n")


class Knows:
    """A prior that tries first what leads to a known text, so that tests are about everything but the order."""

    def __init__(self, *texts):
        self.texts = texts

    def scores(self, program, edits, evidence, language="python"):
        return np.array([-float(self.texts.index(text)) if (text := apply(program, edit)) in self.texts else -99.0
                         for edit in edits])


def lay(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SHAPES = {  # files, program, tests, number of tests
    "beside": ({"clamp.py": CLAMP, "test_clamp.py": TEST}, "clamp.py", "test_clamp.py", 2),
    "a class, fixtures, parametrize twice, unittest": ({
        "clamp.py": CLAMP, "test_it.py": """
            import unittest
            import pytest
            import clamp as c

            @pytest.fixture
            def limits():
                yield (1, 3)

            @pytest.mark.parametrize("x", [0, 7], ids=["below", "above it"])
            @pytest.mark.parametrize("shift", [0, 1])
            def test_both(x, shift, limits, tmp_path, monkeypatch, capsys):
                low, high = (bound + shift for bound in limits)
                assert c.clamp(x, low, high) == (high if x else low)

            class TestMore:
                def setup_method(self):
                    self.high = 3

                def test_above(self):
                    assert c.clamp(9, 1, self.high) == self.high

            class Old(unittest.TestCase):
                def test_sub(self):
                    for x in (4, 5):
                        with self.subTest(x=x):
                            self.assertEqual(c.clamp(x, 1, 3), 3)

            @pytest.mark.skip
            def test_never():
                assert False
            """}, "clamp.py", "test_it.py", 6),
    "a folder of tests with conftest, data and a helper": ({
        "src/clamp.py": CLAMP, "tests/conftest.py": """
            import json, pathlib, pytest
            from helper import load

            @pytest.fixture
            def case():
                return load("case.json")
            """, "tests/helper.py": """
            import json, pathlib

            def load(name):
                return json.loads((pathlib.Path(__file__).parent / "data" / name).read_text())
            """, "tests/data/case.json": "[7, 1, 3, 3]", "tests/test_a.py": """
            from clamp import clamp
            from helper import load

            def test_case(case):
                assert clamp(*case[:3]) == case[3]

            def test_loaded():
                assert clamp(*load("case.json")[:3]) == 3
            """, "tests/test_b.py": "import clamp\n\ndef test_b():\n    assert clamp.clamp(0, 1, 3) == 1\n"},
        "src/clamp.py", "tests", 3),
    "a package with relative imports": ({
        "pack/__init__.py": "from .clamp import clamp\n", "pack/clamp.py": "from .base import ZERO\n\n" + CLAMP,
        "pack/base.py": "ZERO = 0\n", "pack/test/__init__.py": "",
        "pack/test/test_it.py": "from .. import clamp\n\ndef test_it():\n    assert clamp(7, 1, 3) == 3\n"},
        "pack/clamp.py", "pack/test/test_it.py", 1),
    "folders without __init__, data in a third, an option of conftest": ({
        "conftest.py": """
            import pytest

            def pytest_addoption(parser):
                parser.addoption("--right", action="store_true")

            def pytest_configure(config):
                pytest.right = config.getoption("--right")
            """, "programs/clamp.py": CLAMP, "right/clamp.py": FIXED,
        "cases/clamp.jsonl": "[[7, 1, 3], 3]\n[[0, 1, 3], 1]\n",
        "checks/test_clamp.py": """
            import json, pathlib, pytest
            if pytest.right:
                from right.clamp import clamp
            else:
                from programs.clamp import clamp

            cases = (pathlib.Path(__file__).parent.parent / "cases" / "clamp.jsonl").read_text().splitlines()

            @pytest.mark.parametrize("given, wanted", map(json.loads, cases))
            def test_case(given, wanted):
                assert clamp(*given) == wanted
            """}, "programs/clamp.py", "checks/test_clamp.py", 2),
    "conftest imports the program": ({
        "clamp.py": CLAMP, "conftest.py": """
            import pytest
            from clamp import clamp

            @pytest.fixture
            def f():
                return clamp
            """, "test_f.py": "def test_f(f):\n    assert f(7, 1, 3) == 3\n"}, "clamp.py", "test_f.py", 1),
    "options of pyproject and the file read and run": ({
        "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--no-such-option --import-mode=importlib"\n'
                          'pythonpath = ["lib"]\n',
        "lib/clamp.py": CLAMP + "\nif __name__ == '__main__':\n    print(clamp(7, 1, 3))\n", "tests/test_it.py": """
            import pathlib, subprocess, sys
            path = pathlib.Path(__file__).parent.parent / "lib" / "clamp.py"

            def test_runs():
                said = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
                assert said.stdout == "3\\n"

            def test_text():
                names = {}
                exec(path.read_text(), names)
                assert names["clamp"](7, 1, 3) == 3
            """}, "lib/clamp.py", "tests", 2),
    "a test that leaves files and changes the module": ({
        "clamp.py": CLAMP + "\nCALLS = []\n", "test_it.py": """
            import clamp

            def test_alone():
                clamp.CALLS.append(1)
                open("left.txt", "x").close()
                assert clamp.CALLS == [1] and clamp.clamp(7, 1, 3) == 3
            """}, "clamp.py", "test_it.py", 1),
    "a fixture imports the program, and nothing else does": ({
        "src/clamp.py": CLAMP, "tests/conftest.py": """
            import pathlib, sys
            import pytest
            sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "src"))

            @pytest.fixture
            def f():
                from clamp import clamp
                return clamp
            """, "tests/test_f.py": "def test_f(f):\n    assert f(7, 1, 3) == 3\n"}, "src/clamp.py", "tests", 1),
    "a name with dots from above all files": ({
        "week/one/clamp.py": CLAMP,
        "week/one/test_it.py": TEST.replace("from clamp", "from week.one.clamp")}, "week/one/clamp.py",
        "week/one/test_it.py", 2),
    "the program breaks at import": ({
        "clamp.py": FIXED + "\nLIMITS = [1, 3]\nLOW = LIMITS[2]\n",
        "test_clamp.py": TEST}, "clamp.py", "test_clamp.py", 1),
}
RIGHT = {"the program breaks at import": ("LIMITS[2]", "LIMITS[1]")}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_project_is_repaired(shape, tmp_path):
    files, program, tests, count = SHAPES[shape]
    folder = lay(tmp_path / "project", files)
    before = snapshot(folder)
    old, new = RIGHT.get(shape, ("high:\n        return low", "high:\n        return high"))
    text = (folder / program).read_text()
    fixed, wrong = text.replace(old, new), text.replace("x < low", "x > low")
    report = repair(folder / program, folder / tests, budget=5, prior=Knows(wrong, fixed), tree=False)
    assert report.resolved and report.program == fixed and report.executions <= 3, str(report)
    assert set(report.tests_after.values()) == {"passed"} and len(report.tests_after) == count
    assert set(report.tests_before) == set(report.tests_after) and set(report.tests_before.values()) != {"passed"}
    assert snapshot(folder) == before  # nothing is written


def test_there_is_nothing_to_repair(tmp_path):
    lay(tmp_path, {"clamp.py": FIXED, "test_clamp.py": TEST})
    report = repair(tmp_path / "clamp.py", tmp_path / "test_clamp.py")
    assert (report.resolved, report.executions, report.patch) == (True, 0, "") and "nothing to repair" in str(report)


@pytest.mark.parametrize("kind", jail.KINDS)
def test_a_program_is_repaired_in_every_jail(kind, tmp_path, monkeypatch):
    if not jail.works(kind):
        pytest.skip(f"jail {kind} does not work here")
    monkeypatch.setattr(jail, "strongest", lambda: kind)
    lay(tmp_path, {"clamp.py": CLAMP, "test_clamp.py": TEST})
    report = repair(tmp_path / "clamp.py", tmp_path / "test_clamp.py", budget=1, prior=Knows(FIXED))
    assert report.resolved and f"jail: {kind}" in str(report)


def test_a_hanging_program_is_repaired(tmp_path):
    program = "def total(n):\n    found = 0\n    while n > 0:\n        found += n\n        n += 1\n    return found\n"
    lay(tmp_path, {"total.py": program, "test_total.py": """
        import pytest
        from total import total

        @pytest.mark.parametrize("n, wanted", [(0, 0), (3, 6), (300000, 45000150000)])
        def test_total(n, wanted):
            assert total(n) == wanted
        """})
    right, wrong = program.replace("n += 1", "n -= 1"), program.replace("> 0", ">= 0")
    report = repair(tmp_path / "total.py", tmp_path / "test_total.py", budget=3, prior=Knows(wrong, right), tree=False)
    assert report.resolved and "+        n -= 1" in report.patch, str(report)  # with more fuel than the others had
    assert list(report.tests_before.values()) == ["passed", "fuel", "fuel"]


def test_candidates_that_sleep_are_cut_off_early(tmp_path):
    wait = "\n\ndef wait(n):\n    time.sleep(n)\n    return n\n"
    lay(tmp_path, {"clamp.py": "import time\n" + CLAMP + wait, "test_clamp.py": TEST + textwrap.dedent("""
        import subprocess, sys
        from clamp import wait

        def test_wait():
            assert wait(0) == 0

        def test_a_child_that_works():
            subprocess.run([sys.executable, "-c", "while __import__('time').process_time() < 0.1: pass"], check=True)
        """)})
    with ProjectServer(Project.of(tmp_path / "clamp.py", tmp_path / "test_clamp.py"), (tmp_path / "clamp.py")
                       .read_text()) as server:
        server.limits = replace(server.limits, idle_seconds=0.3, wall_seconds=60)
        asleep = server.run(server.program.replace("sleep(n)", "sleep(50)"))
        assert asleep.outcome == "wall" and asleep.tests["test_clamp.py::test_inside"] == "passed"
        right = server.program.replace("high:\n        return low", "high:\n        return high")
        assert server.run(right).outcome == "passed"


def test_the_same_arguments_give_the_same_executions(tmp_path):
    lay(tmp_path, {"clamp.py": CLAMP, "test_clamp.py": TEST})
    one, two = (repair(tmp_path / "clamp.py", tmp_path / "test_clamp.py", budget=8) for _ in range(2))
    assert [step.edit for step in one.outcome.trace] == [step.edit for step in two.outcome.trace]
    assert one.ranking == two.ranking and one.executions == two.executions


def test_what_the_server_passes_and_pytest_does_not_is_no_patch(tmp_path, monkeypatch):
    lay(tmp_path, {"clamp.py": CLAMP, "test_clamp.py": TEST})
    real = repairs.confirm
    monkeypatch.setattr(repairs, "confirm", lambda project, program, names: real(project, CLAMP, names))
    report = repair(tmp_path / "clamp.py", tmp_path / "test_clamp.py", budget=3, prior=Knows(FIXED))
    assert not report.resolved and report.patch == "" and report.executions == 3
    assert report.tests_after == report.tests_before and "no patch found (budget)" in str(report)


def test_evidence_names_the_suspect_line_and_what_was_said(tmp_path):
    tests = TEST.replace("clamp(7, 1, 3) == 3", "[clamp(7, 1, 3)] * 9 == [3] * 9")  # pytest's own words show six
    lay(tmp_path, {"clamp.py": CLAMP, "test_clamp.py": tests})
    report = repair(tmp_path / "clamp.py", tmp_path / "test_clamp.py", budget=1, prior=Knows(FIXED))
    assert report.evidence.messages == {"test_clamp.py::test_above": f"AssertionError: assert {[1] * 9} == {[3] * 9}"}
    assert max(report.evidence.suspicion, key=report.evidence.suspicion.get) == 5
    assert report.ranking[0]["line"] == 5 and report.ranking[0]["new"] == "high" and report.ranking[0]["passes"]
    assert json.loads(json.dumps(report.json())).keys() == {"resolved", "executions", "seconds", "patch",
                                                            "tests_before", "tests_after", "ranking"}


def test_the_patch_applies_with_git(tmp_path):
    lay(tmp_path, {"clamp.py": CLAMP, "test_clamp.py": TEST})
    report = repair(tmp_path / "clamp.py", tmp_path / "test_clamp.py", budget=1, prior=Knows(FIXED))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=report.patch, text=True, check=True)
    assert (tmp_path / "clamp.py").read_text() == FIXED


def test_the_probe_runs_on_the_failing_tests_alone_and_finds_what_cannot_matter(tmp_path):
    lay(tmp_path, {"clamp.py": CLAMP, "test_clamp.py": TEST})
    edits = candidates(CLAMP)
    with ProjectServer(Project.of(tmp_path / "clamp.py", tmp_path / "test_clamp.py"), CLAMP) as server:
        facts = probe(CLAMP, edits, server.probe, of(CLAMP, server.first))
        assert server.run(FIXED).outcome == "passed"
    dead = {apply(CLAMP, edit) for edit, is_dead in zip(edits, facts.dead, strict=True) if is_dead}
    assert FIXED not in dead and CLAMP.replace("x < low", "x <= low") in dead and len(dead) > 20
    assert CLAMP.replace("return x\n", "return low\n") in dead  # no failing test comes there


def test_without_weights_a_note_says_so(tmp_path):
    prior, note = repairs.shipped(tmp_path)
    assert "kind and suspicion alone" in note and len(prior.scores(CLAMP, candidates(CLAMP), of(
        CLAMP, Result("runs", "failed")))) > 10
    assert repairs.shipped()[1] == ""  # the repo has them


def test_other_line_ends_and_encodings_stay(tmp_path):
    path = tmp_path / "clamp.py"
    path.write_bytes(("# coding: latin-1\n# é\n" + CLAMP).replace("\n", "\r\n").encode("latin-1"))
    (tmp_path / "test_clamp.py").write_text(TEST)
    source = Source.read(path)
    assert source.bytes(source.text) == path.read_bytes()
    right = source.text.replace("high:\n        return low", "high:\n        return high")
    report = repair(path, tmp_path / "test_clamp.py", budget=1, prior=Knows(right))
    repairs.write(path, report)
    assert path.read_bytes() == right.replace("\n", "\r\n").encode("latin-1")


@pytest.mark.parametrize(("files", "program", "tests", "said"), [
    ({}, "clamp.py", "test_clamp.py", "PROGRAM: .*clamp.py is not there"),
    ({"clamp.py": CLAMP}, "clamp.py", "test_clamp.py", "--tests: .*test_clamp.py is not there"),
    ({"clamp.py": CLAMP}, "clamp.py", "clamp.py", "PROGRAM itself"),
    ({"clamp.py": CLAMP, "test_it.py": "def test_it():\n    assert 0\n"}, "clamp.py", "test_it.py",
     "no test .* imports"),
    ({"clamp.py": CLAMP, "test_it.py": "import clamp\n"}, "clamp.py", "test_it.py", "pytest finds no test"),
    ({"clamp.py": CLAMP, "test_it.py": "import clamp, nowhere_at_all\n\ndef test_it():\n    pass\n"}, "clamp.py",
     "test_it.py", "(?s)cannot collect .*No module named 'nowhere_at_all'"),
    ({"clamp.py": CLAMP, "test_it.py": "from clamp import clam\n\ndef test_it():\n    pass\n"}, "clamp.py",
     "test_it.py", "(?s)cannot collect .*cannot import name 'clam'"),
    ({"clamp.py": CLAMP, "test_it.py": "def test_it(:\n"}, "clamp.py", "test_it.py",
     "(?s)cannot collect .*SyntaxError"),
    ({"clamp.py": "def f(:\n", "test_it.py": TEST}, "clamp.py", "test_it.py",
     "PROGRAM: .*line 1.*expected valid Python"),
    ({"clamp.py": CLAMP, "conftest.py": "import nowhere_at_all\n", "test_it.py": TEST}, "clamp.py", "test_it.py",
     "nowhere_at_all"),
])
def test_wrong_questions_are_refused(files, program, tests, said, tmp_path):
    lay(tmp_path, files)
    with pytest.raises(ValueError, match=said):
        repair(tmp_path / program, tmp_path / tests, budget=1)


def test_candidates_that_break_the_server_do_no_harm(tmp_path):
    lay(tmp_path, {"clamp.py": CLAMP, "test_clamp.py": TEST, "data.txt": "kept"})
    harm = {"exit": "import os\nos._exit(0)\n", "memory": "x = [0] * 10**9\n", "signal": "import os\nos.kill(0, 9)\n",
            "removes": "import os\nos.unlink('data.txt')\n", "loop": "while True:\n    pass\n",
            "c loop": "sum(range(10**12))\n", "closes": "import os\nos.closerange(0, 100)\n",
            "fork": "import os, time\nif not os.fork():\n    time.sleep(60)\n"}
    with ProjectServer(Project.of(tmp_path / "clamp.py", tmp_path / "test_clamp.py"), CLAMP) as server:
        for name, text in harm.items():
            began = time.monotonic()
            assert server.run(text + CLAMP).outcome != "passed", name
            assert server.run(FIXED).outcome == "passed", name
            assert time.monotonic() - began < 60, name
        assert confirm(server.project, FIXED, server.names).outcome == "passed"
        assert confirm(server.project, CLAMP, server.names).outcome == "failed"
    assert (tmp_path / "data.txt").read_text() == "kept"


def test_a_large_project_is_copied_in_part_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_lab.swe.project.MOST_FILES", 3)
    lay(tmp_path, {"clamp.py": CLAMP, "test_clamp.py": TEST} | {f"other/{i}.txt": "" for i in range(9)})
    report = repair(tmp_path / "clamp.py", tmp_path / "test_clamp.py", budget=1, prior=Knows(FIXED))
    assert report.resolved and "is large: only 3 files" in report.note and report.note in str(report)
