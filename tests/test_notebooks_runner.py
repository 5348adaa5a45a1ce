"""The notebook runner: parameters are checked before a kernel starts, and every end of a run leaves a true record."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab import inspect_notebook, notebooks
from toy_notebooks import write

METRIC = {"value": 0.5, "n": 10, "low": 0.3, "high": 0.7, "unit": "share"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write(tmp_path_factory.mktemp("toy") / "01_toy.ipynb")


# ---------------------------------------------------------------- parameters


def test_declared_reads_defaults_types_and_notes(toy):
    found = inspect_notebook.declared(toy)
    assert list(found) == ["preset", "workdir", "out", "steps", "lr", "fast", "mode"]
    assert found["steps"] == inspect_notebook.Parameter(None, (int, type(None)), "None: from the preset")
    assert found["lr"] == inspect_notebook.Parameter(1e-3, (float,), "peak")


@pytest.mark.parametrize("given_text, value", [
    (("steps", "3"), 3), (("steps", "none"), None), (("fast", "false"), False), (("fast", "True"), True),
    (("lr", "2"), 2.0), (("lr", "1e-4"), 1e-4), (("mode", "3"), "3"), (("mode", "none"), "none"), (("steps", 7), 7),
])
def test_text_from_a_command_line_gets_the_declared_type(toy, given_text, value):
    typed = inspect_notebook.check(toy, dict([given_text]))[given_text[0]]
    assert typed == value and type(typed) is type(value)


@pytest.mark.parametrize("name, value, message", [
    ("stesp", 3, "unknown parameter 'stesp', expected one of preset, workdir, out, steps, lr, fast, mode"),
    ("steps", "many", "parameter steps: got 'many', expected int or None"),
    ("steps", 2.5, "parameter steps: got 2.5, expected int or None"),
    ("steps", True, "parameter steps: got True, expected int or None"),
    ("fast", "1", "parameter fast: got '1', expected bool"),
    ("lr", "None", "parameter lr: got 'None', expected float"),
    ("mode", 3, "parameter mode: got 3, expected str"),
])
def test_a_wrong_parameter_is_refused_in_one_line(toy, name, value, message):
    with pytest.raises(ValueError) as error:
        inspect_notebook.check(toy, {name: value})
    assert str(error.value) == f"{toy}: {message}"


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(), st.none()))
def test_what_check_lets_through_has_the_declared_type(toy, value):
    for name, types in (("steps", (int, type(None))), ("lr", (float,)), ("fast", (bool,)), ("mode", (str,))):
        try:
            assert type(inspect_notebook.check(toy, {name: value})[name]) in types
        except ValueError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("source, message", [
    ("n = 2 * k", "parameter n: default '2 * k' is not a literal"),
    ("import os", "parameters cell, line 1: got 'import os', expected `name = literal`"),
    ("a = 1\nx += 1", "parameters cell, line 2: got 'x += 1'"),
    ("a = b = 1", "parameters cell, line 1: got 'a = b = 1'"),
    ("a: int", "parameters cell, line 1: got 'a: int'"),
    ("n: Path = None", "parameters cell, line 1: got the annotation 'Path'"),
])
def test_a_parameters_cell_holds_literals_only(tmp_path, source, message):
    with pytest.raises(ValueError, match=message.replace("*", r"\*").replace("+", r"\+")):
        inspect_notebook.declared(write(tmp_path / "x.ipynb", parameters=source))


def test_a_notebook_has_one_parameters_cell(tmp_path):
    path = write(tmp_path / "x.ipynb")
    nb = json.loads(path.read_text())
    nb["cells"][1]["metadata"] = {}
    path.write_text(json.dumps(nb))
    with pytest.raises(ValueError, match="0 cells are tagged `parameters`, expected exactly one"):
        inspect_notebook.declared(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="x.ipynb: .*expected a notebook"):
        inspect_notebook.declared(path)
    with pytest.raises(ValueError, match="No such file"):
        inspect_notebook.declared(tmp_path / "y.ipynb")


# ---------------------------------------------------------------- running

PROBE = """import os, sys, warnings
print(os.getcwd(), sys.executable, sys.prefix, os.__file__)
print("THREADS", os.environ["HRM_LAB_THREADS"], os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"])
print("VALUES", steps, fast, out, workdir)
warnings.warn("look")
for i in range(3): print(i, flush=True)"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    path = write(work / "notebooks" / "01_toy.ipynb", PROBE)
    before = sockets()
    facts = notebooks.run(path, work / "runs/a", {"steps": "3", "fast": "true"}, threads=2, workdir=work)
    return work, facts, sockets() - before


def sockets():
    return {p for p in Path(tempfile.gettempdir()).glob("hrm-*")}


def test_a_run_leaves_its_record(ran):
    work, facts, left = ran
    assert facts == json.loads((work / "runs/a/run.json").read_text())
    assert (facts["status"], facts["error"], facts["preset"], facts["title"]) == ("ok", None, "laptop", "Toy")
    assert facts["parameters"]["steps"] == 3 and facts["parameters"]["out"] == "runs/a" and facts["threads"] == 2
    assert facts["versions"]["python"] == sys.version.split()[0] and facts["started"].endswith("+00:00")
    record = json.loads((work / "runs/a/metrics.json").read_text())
    assert (record["headline"], record["metrics"]) == (["exact_match"], {"exact_match": METRIC})
    assert record["cost"]["cpu_seconds"] > 0 and record["cost"]["peak_gb"] > 0
    assert not left and not list((work / "runs/a").glob("*.tmp"))


def test_the_kernel_has_the_job_s_threads_parameters_and_folder(ran):
    cell = json.loads((ran[0] / "runs/a/executed.ipynb").read_text())["cells"][3]
    text = "".join("".join(o["text"]) for o in cell["outputs"] if o["name"] == "stdout")
    assert "THREADS 2 2 2" in text and "VALUES 3 True runs/a ." in text and text.startswith(". ")
    assert [o["name"] for o in cell["outputs"]] == ["stdout", "stderr"]  # streams are joined


def test_what_is_printed_between_figures_stays_between_them(tmp_path):
    code = "from IPython.display import Markdown, display\nfor name in 'ab':\n" \
           "    display(Markdown(name))\n    print('of', flush=True)\n    print(name, flush=True)\n" \
           "    print(name, end='\\r', file=__import__('sys').stderr, flush=True)"
    write(tmp_path / "notebooks/01_toy.ipynb", code)
    notebooks.run(tmp_path / "notebooks/01_toy.ipynb", tmp_path / "runs/a", {}, workdir=tmp_path)
    cell = json.loads((tmp_path / "runs/a/executed.ipynb").read_text())["cells"][3]
    shown = ["".join(o.get("text") or o["data"]["text/markdown"]) for o in cell["outputs"]]
    assert [text for text in shown if "\r" not in text] == ["a", "of\na\n", "b", "of\nb\n"]
    assert [text for text in shown if "\r" in text] == ["b\r"]  # one bar, as it was at last


def test_no_absolute_path_reaches_the_executed_copy(ran):
    text = (ran[0] / "runs/a/executed.ipynb").read_text()
    for path in {str(ran[0]), sys.prefix, str(Path.home()), str(Path(os.__file__).parent), tempfile.gettempdir()}:
        assert path not in text
    assert "ipykernel_" not in text and "cell:5: UserWarning: look" in text


@pytest.mark.parametrize("code, error", [
    ("raise ValueError('no\\n such thing')", "cell 3: ValueError: no such thing"),
    ("import os; os.kill(os.getpid(), 9)", "the kernel died"),
    ("out = 'elsewhere'", "wrote no metrics.json"),
])
def test_a_failing_notebook_is_kept(tmp_path, capsys, code, error):
    path, run = write(tmp_path / "x.ipynb", code, finish="elsewhere" not in code), tmp_path / "runs/x"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("of an earlier success")
    handler = signal.getsignal(signal.SIGTERM)
    code = notebooks.main(["run", str(path), "--run-dir", str(run), "--workdir", str(tmp_path), "-p", "lr", "2"])
    signal.signal(signal.SIGTERM, handler)
    assert code == 1
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "failed" and facts["error"].startswith(error) and facts["seconds"] > 0
    assert not (run / "metrics.json").exists()
    errors = [o for c in json.loads((run / "executed.ipynb").read_text())["cells"] for o in c.get("outputs", [])
              if o["output_type"] == "error"]
    assert len(errors) == 1 and str(tmp_path) not in json.dumps(errors)
    assert error in capsys.readouterr().err.splitlines()[-1]


def test_nothing_starts_with_a_wrong_parameter(tmp_path, capsys):
    path = write(tmp_path / "x.ipynb")
    assert notebooks.main(["run", str(path), "--run-dir", str(tmp_path / "r"), "--workdir", str(tmp_path),
                           "-p", "setps", "3"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: unknown parameter 'setps'")
    assert not (tmp_path / "r").exists()
    with pytest.raises(ValueError, match="expected a folder inside the working directory"):
        notebooks.run(path, tmp_path / "r", {}, workdir=tmp_path / "w")
    with pytest.raises(ValueError, match="threads: got 0"):
        notebooks.run(path, tmp_path / "r", {}, threads=0, workdir=tmp_path)


def test_a_killed_parent_takes_the_notebook_with_it(tmp_path):
    run = tmp_path / "r"
    path = write(tmp_path / "x.ipynb", "import time, pathlib; pathlib.Path('up').touch(); time.sleep(120)")
    command = f"{sys.executable} -m hrm_lab.notebooks run {path} --run-dir {run} --with-parent"
    environment = {**os.environ, "PYTHONPATH": str(notebooks.ROOT)}
    parent = subprocess.Popen(["sh", "-c", f"{command} & wait"], cwd=tmp_path, env=environment,
                              stderr=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "up").exists(), 40)
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    assert json.loads((run / "executed.ipynb").read_text())["cells"]  # written while it runs
    parent.kill()
    wait_for(lambda: json.loads((run / "run.json").read_text())["status"] == "failed", 15)
    assert "stopped" in json.loads((run / "run.json").read_text())["error"]


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


# ---------------------------------------------------------------- called from notebooks

PRESETS = """
smoke:
  01_data: {n: 10}
  02_train: {tasks: {copy: {steps: 5, lr: 0.1}, sudoku: {steps: 6, lr: 0.2}}}
"""


@pytest.fixture
def presets(tmp_path, monkeypatch):
    (tmp_path / "presets.yaml").write_text(PRESETS)
    monkeypatch.setattr(notebooks, "PRESETS", tmp_path / "presets.yaml")


def test_settings_are_the_preset_s_unless_given(presets):
    assert notebooks.settings("01_data", "smoke") == {"n": 10}
    assert notebooks.settings("02_train", "smoke", "copy", steps=9, lr=None) == {"steps": 9, "lr": 0.1}
    assert notebooks.settings("01_data", "smoke", n=0, seed=3) == {"n": 0, "seed": 3}


@pytest.mark.parametrize("arguments, message", [
    (("01_data", "smokey"), "notebooks/presets.yaml: unknown preset 'smokey', expected one of smoke"),
    (("03_x", "smoke"), "notebooks/presets.yaml: smoke/03_x: no notebook '03_x', expected one of 01_data, 02_train"),
    (("02_train", "smoke", "maze"),
     "notebooks/presets.yaml: smoke/02_train: no task 'maze', expected one of copy, sudoku"),
])
def test_an_unknown_preset_notebook_or_task_is_named(presets, arguments, message):
    with pytest.raises(ValueError) as error:
        notebooks.settings(*arguments)
    assert str(error.value) == message
    with pytest.raises(ValueError, match="01_data: no value for seed"):
        notebooks.settings("01_data", "smoke", seed=None)


@pytest.mark.parametrize("change, message", [
    ({"value": float("nan")}, r"low, value, high are \[0.3, nan, 0.7\], expected finite numbers"),
    ({"low": 0.6}, "expected low <= value <= high"), ({"n": 2.5}, "n=2.5"), ({"n": -1}, "n=-1"),
    ({"unit": None}, "unit=None"), ({"extra": 1}, "expected value, n, low, high, unit"),
])
def test_finish_refuses_a_metric_that_says_too_little(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"metric 'm': .*{message}"):
        notebooks.finish(tmp_path, {"m": METRIC | change}, ["m"])
    with pytest.raises(ValueError, match="headline 'k': expected one of the metrics m"):
        notebooks.finish(tmp_path, {"m": METRIC}, ["k"])
    assert not list(tmp_path.iterdir())


def test_finish_takes_numpy_and_missing_bounds(tmp_path):
    import numpy as np

    seconds = {"value": np.float32(3), "n": np.int64(1), "low": None, "high": None, "unit": "s"}
    notebooks.finish(tmp_path, {"s": seconds}, ["s"])
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["s"]["value"] == 3.0
    assert notebooks.shown_metric(METRIC | {"n": 1000}) == ("50.0\u202f%", "30.0 to 70.0\u202f%", "1,000")
    gain = METRIC | {"value": 0.08, "low": -0.027, "high": 0.183, "unit": "difference of shares"}
    assert notebooks.shown_metric(gain)[:2] == ("+8.0\u202fpoints", "-2.7 to +18.3\u202fpoints")
    assert notebooks.shown_metric(seconds | {"value": 14.25})[:2] == ("14.25\u202fs", "–")


# ---------------------------------------------------------------- sources


def test_sources_are_the_modules_that_a_notebook_reaches(tmp_path, monkeypatch):
    files = {"__init__": "", "a": "from . import b\nimport os", "b": "def f():\n    from hrm_lab.sub.c import x",
             "sub/__init__": "", "sub/c": "from ..d import y", "d": "", "unused": ""}
    for name, text in files.items():
        (tmp_path / "hrm_lab" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hrm_lab" / f"{name}.py").write_text(text)
    monkeypatch.setattr(inspect_notebook, "ROOT", tmp_path)
    path = write(tmp_path / "x.ipynb", "%matplotlib inline\nfrom hrm_lab import a", finish=False)
    found = inspect_notebook.sources(path)
    names = [Path(f).relative_to(tmp_path / "hrm_lab").with_suffix("").as_posix() for f in found]
    assert names == ["__init__", "a", "b", "d", "sub/__init__", "sub/c"]


def test_sources_of_a_real_import(tmp_path, capsys):
    path = write(tmp_path / "x.ipynb", "from hrm_lab.plots import show")
    assert notebooks.main(["sources", str(path)]) == 0
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert {"plots.py", "scrub.py", "metrics.py", "notebooks.py"} <= names and "model.py" not in names
