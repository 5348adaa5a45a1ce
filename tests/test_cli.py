"""The command as users call it: exit codes, what is on which stream, what is written."""

import json
import subprocess
import sys

import pytest

from hrm_lab import cli
from hrm_lab.inspect_notebook import ROOT

BUGGY = "def double(x):\n    return x + 2\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "double.py").write_text(BUGGY)
    (tmp_path / "test_double.py").write_text("from double import double\n\ndef test_double():\n"
                                             "    assert double(5) == 10\n")
    return tmp_path


def run(project, *options):
    return cli.main(["repair", str(project / "double.py"), "--tests", str(project / "test_double.py"), *options])


def test_a_patch_is_printed_and_nothing_is_written(project, capsys):
    assert run(project) == 0
    out, err = capsys.readouterr()
    assert "-    return x + 2" in out and "before: 0 of 1 tests pass" in out and "after: 1 of 1 tests pass" in out
    assert "assert 7 == 10" in out and err == "" and (project / "double.py").read_text() == BUGGY


def test_json_and_write(project, capsys):
    assert run(project, "--json", "--write", "--budget", "400", "--seconds", "100") == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["resolved", "executions", "seconds", "patch", "tests_before", "tests_after", "ranking"]
    assert answer["resolved"] is True and answer["tests_after"] == {"test_double.py::test_double": "passed"}
    assert 1 <= answer["executions"] <= 400 and answer["patch"].startswith("--- a/double.py\n+++ b/double.py\n@@ ")
    assert (project / "double.py").read_text() != BUGGY
    assert subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", project],
                          cwd=project, capture_output=True).returncode == 0
    assert run(project) == 0 and "nothing to repair" in capsys.readouterr().out


def test_no_patch_is_exit_code_1(project, capsys):
    (project / "test_double.py").write_text("import double\n\ndef test_never():\n    double.double(1)\n"
                                            "    assert False\n")
    assert run(project, "--budget", "3", "--json", "--write") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["resolved"], answer["executions"], answer["patch"]) == (False, 3, "")
    assert answer["tests_after"] == answer["tests_before"] == {"test_double.py::test_never": "failed"}
    assert (project / "double.py").read_text() == BUGGY


def test_a_wrong_question_is_exit_code_2(project, capsys):
    assert cli.main(["repair", str(project / "nothing.py"), "--tests", str(project)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("hrm-lab repair: PROGRAM: ") and err.count("\n") == 1


@pytest.mark.parametrize("options", [["--budget", "0"], ["--budget", "many"], ["--seconds", "-1"]])
def test_wrong_options_are_exit_code_2(project, options, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(project, *options)
    assert "expected a number above 0" in capsys.readouterr().err or options[1] == "many"


def test_help_needs_no_torch():
    code = ("import sys, hrm_lab.cli as c\ntry:\n    c.main(['repair', '--help'])\n"
            "finally:\n    assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "PROGRAM" in done.stdout
