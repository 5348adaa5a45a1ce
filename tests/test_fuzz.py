"""Every reader, fed with damage: it gives data, or one line that says what is wrong; never another error, never half.

A damaged file is a good one with bytes flipped, cut, doubled or replaced, or with a JSON value exchanged for another;
beside these come texts made of the format's own words. What is wrong must be said shortly: ValueError (the errors of
all readers are kinds of it) without a line break.
"""

import json
import math
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import tiny, toy_split
from hrm_lab import forecast, inspect_notebook, notebooks, report, runs, sources
from hrm_lab.model import HRM
from hrm_lab.puzzles import arc, dataset
from hrm_lab.swe import corpus, diffs, instances, linear, policy_data, readers, repair, reviews
from hrm_lab.swe.evidence import Evidence
from hrm_lab.train import load_model
from toy_notebooks import write

FUZZ = settings(max_examples=80, deadline=None, derandomize=True,
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
JSON = st.recursive(st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
                    max_leaves=8)


@contextmanager
def one_line():
    """Passes what a reader may raise: a ValueError of one line. Everything else is a failure of the test."""
    try:
        yield
    except ValueError as error:
        assert "\n" not in str(error).strip() and str(error).strip(), repr(error)


@st.composite
def damaged(draw, data):
    """Bytes with a few flips, cuts, doublings or insertions."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "double", "zero"]))
        if kind == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[at:at + draw(st.integers(1, 200))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=9))
        elif kind == "double":
            data[at:at] = data[at:at + 50]
        else:
            data[at:at + 8] = b"\0" * 8
    return bytes(data)


@st.composite
def exchanged(draw, value):
    """A JSON value with one member, at any depth, exchanged for another value or taken out."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 5)) == 0:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: draw(exchanged(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        i = draw(st.integers(0, len(value) - 1))
        return [*value[:i], draw(exchanged(value[i])), *value[i + 1:]]
    return draw(JSON)


def dumped(value):
    return json.dumps(value).encode()


# ---------------------------------------------------------------- puzzles


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A good dataset: folder, and each file's bytes."""
    folder = tmp_path_factory.mktemp("built")
    dataset.save(folder, "train", toy_split(n=8))
    return folder, {path.name: path.read_bytes() for path in sorted((folder / "train").iterdir())}


@FUZZ
@given(st.data())
def test_a_damaged_dataset_is_loaded_or_refused_in_one_line(built, data):
    folder, files = built
    name = data.draw(st.sampled_from(sorted(files)))
    if name.endswith(".json"):
        new = data.draw(exchanged(json.loads(files[name])).map(dumped) | damaged(files[name]))
    else:
        new = data.draw(damaged(files[name]))
    (folder / "train" / name).write_bytes(new)
    try:
        with one_line():
            split = dataset.load(folder, "train")
            assert split.inputs.shape == split.labels.shape and split.inputs.max() < split.meta.vocab_size
    finally:
        (folder / "train" / name).write_bytes(files[name])


TASK = {"train": [{"input": [[1, 2]], "output": [[3]]}], "test": [{"input": [[0]], "output": [[9, 9]]}]}


@FUZZ
@given(task=exchanged(TASK))
def test_any_arc_task_is_read_or_refused_in_one_line(tmp_path, task):
    for part in ("training", "evaluation"):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / "a.json").write_bytes(dumped(task))
    with one_line():
        arc.read_tasks(tmp_path, 1)


# ---------------------------------------------------------------- runs and checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A good `best/` folder and its model's configuration."""
    folder, config = tmp_path_factory.mktemp("checkpoint"), tiny()
    runs.save_checkpoint(folder / "model.safetensors", HRM(config).state_dict(), {"config": asdict(config)})
    return folder, asdict(config), (folder / "model.safetensors").read_bytes()


@FUZZ
@given(st.data())
def test_a_damaged_checkpoint_is_refused_in_one_line(checkpoint, data):
    folder, _, good = checkpoint
    bad = data.draw(damaged(good))
    path = folder / "bad.safetensors"
    path.write_bytes(bad)
    if bad == good:
        return
    with pytest.raises(runs.CheckpointError) as error:
        runs.load_checkpoint(path)
    assert "\n" not in str(error.value)


@FUZZ
@given(st.data())
def test_a_checkpoint_with_any_configuration_is_a_model_or_refused_in_one_line(checkpoint, data):
    folder, config, _ = checkpoint
    tensors = {k: v for k, v in runs.load_checkpoint(folder / "model.safetensors")[0].items()}
    meta = data.draw(exchanged({"config": config}).filter(lambda m: isinstance(m, dict)))
    if data.draw(st.booleans()) and tensors:
        tensors.pop(sorted(tensors)[data.draw(st.integers(0, len(tensors) - 1))])
    runs.save_checkpoint(folder / "odd" / "model.safetensors", tensors, json.loads(json.dumps(meta)))
    with one_line():
        model = load_model(folder / "odd")
        assert all(torch.isfinite(p).all() for p in model.parameters())


@FUZZ
@given(st.binary(max_size=80) | st.lists(JSON.map(dumped), max_size=4).map(b"\n".join))
def test_any_jsonl_is_read_or_refused_in_one_line(tmp_path, content):
    """metrics.jsonl, instances, rows of other datasets, snippets, exported verdicts; and run.json, a single value."""
    for name in ("metrics.jsonl", "rows.jsonl", "run.json"):
        (tmp_path / name).write_bytes(content)
    for read in (lambda: runs.read_metrics(tmp_path), lambda: runs.read_json(tmp_path / "run.json"),
                 lambda: instances.read(tmp_path / "rows.jsonl", strict=True),
                 lambda: corpus.read(tmp_path / "rows.jsonl"), lambda: reviews.examples(tmp_path / "rows.jsonl"),
                 *(lambda form=form: readers.read_rows(tmp_path / "rows.jsonl", form) for form in readers.FORMATS)):
        with one_line():
            read()
    assert report.load_run(tmp_path)["status"] in ("ok", "failed", "running", "unfinished")


INSTANCE = {
    "instance_id": "a", "repo": "r", "base_commit": "c", "problem_statement": "p", "patch": "--- a\n+++ b\n",
    "test_patch": "", "FAIL_TO_PASS": ["t"], "PASS_TO_PASS": [], "task_id": "Python/0", "prompt": "def f(x):\n",
    "declaration": "def f(x):\n", "canonical_solution": "    return x\n", "buggy_solution": "    return 1\n",
    "test": "assert f(2) == 2", "entry_point": "f", "bug_type": "value", "example_test": "", "import": "",
    "question_title": "q", "question_content": "q", "question_id": "1", "starter_code": "",
    "public_test_cases": "[]", "private_test_cases": "[]", "metadata": "{}", "platform": "x", "difficulty": "easy"}


@FUZZ
@given(row=exchanged(INSTANCE), form=st.sampled_from(readers.FORMATS))
def test_any_row_of_another_dataset_is_an_instance_or_named(tmp_path, row, form):
    (tmp_path / "rows.jsonl").write_bytes(dumped(row) + b"\n")
    found = readers.read_rows(tmp_path / "rows.jsonl", form)
    assert len(found.instances) + len(found.problems) == 1
    assert all("\n" not in problem.strip() for problem in found.problems)


VERDICT = {"program": "def f(x):\n    return x\n", "fixed": "def f(x):\n    return -x\n", "verdict": "accept",
           "edits": [{"kind": "sign", "start": 21, "end": 22, "text": "-x"}], "reviewer": "a", "comment": "",
           "evidence": asdict(Evidence(("t",), (), {"t": "no"}, {2: 1.0}, 1))}


@FUZZ
@given(row=exchanged(VERDICT))
def test_any_verdict_is_a_lesson_or_refused_in_one_line(tmp_path, row):
    (tmp_path / "verdicts.jsonl").write_bytes(dumped(row))
    with one_line():
        reviews.lessons(reviews.read(tmp_path / "verdicts.jsonl"))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Good files of examples and of a linear prior."""
    folder, rng = tmp_path_factory.mktemp("examples"), np.random.default_rng(0)
    weights = rng.standard_normal(linear.SIZE).astype(np.float32)
    linear.LinearPrior(weights).save(folder / "linear.safetensors")
    return folder


@FUZZ
@given(st.data())
def test_damaged_priors_and_examples_are_refused_in_one_line(examples, data):
    good = (examples / "linear.safetensors").read_bytes()
    path = examples / "bad"
    path.write_bytes(data.draw(damaged(good[:4000])))
    with one_line():
        linear.LinearPrior.load(path)
    with one_line():
        policy_data.load(path)


# ---------------------------------------------------------------- patches, programs

WORDS = ["--- a/x", "+++ b/x", "--- /dev/null", "@@ -1,2 +1,2 @@", "@@ -1 +1 @@", "@@ -0,0 +1 @@",
         "@@ -99999999999,1 +1 @@", "@@", " a", "-a", "+b", " ", "", "\\ No newline at end of file",
         "diff --git a/x b/x", "GIT binary patch", "rename from x", "a", "\r", "@@ -1,1000000000 +1 @@"]


@FUZZ
@given(st.lists(st.sampled_from(WORDS), max_size=9).map("\n".join) | st.text(max_size=60), st.text("ab\n", max_size=9))
def test_any_patch_is_applied_or_refused_in_one_line(patch, text):
    for use in (lambda: diffs.parse(patch), lambda: diffs.reverse(patch), lambda: diffs.apply(patch, text)):
        with one_line():
            use()


@FUZZ
@given(st.binary(max_size=60))
def test_any_program_is_read_or_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.py").write_bytes(content)
    with one_line():
        repair.Source.read(tmp_path / "a.py")


# ---------------------------------------------------------------- notebooks, settings, listings


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write(tmp_path_factory.mktemp("toy") / "01_toy.ipynb")


@FUZZ
@given(st.data())
def test_any_notebook_declares_parameters_or_is_refused_in_one_line(toy, data):
    good = toy.read_bytes()
    path = toy.with_name("bad.ipynb")
    path.write_bytes(data.draw(exchanged(json.loads(good)).map(dumped) | damaged(good)))
    with one_line():
        inspect_notebook.declared(path)
    with one_line():
        inspect_notebook.sources(path)


TOKENS = ["1", "x", "=", "\n", " ", ":", "int", "|", "None", "'", '"""', "(", "[", "{", "lambda", "\\", "#", "é", "\0",
          "1e999", "__import__('os')", ";", "def"]


@FUZZ
@given(st.lists(st.sampled_from(TOKENS), max_size=10).map("".join) | st.text(max_size=20))
def test_any_parameter_text_is_a_literal_or_refused_in_one_line(toy, text):
    with one_line():
        inspect_notebook.read_parameters(text, "cell")
    for name in ("steps", "lr", "fast", "mode"):
        with one_line():
            inspect_notebook.check(toy, {name: text})


@FUZZ
@given(st.text(":-{}[]&*!|>'\"\n ab1", max_size=30) | st.binary(max_size=20).map(lambda b: b.decode("latin-1")))
def test_any_presets_are_read_or_refused_in_one_line(tmp_path, text):
    (tmp_path / "presets.yaml").write_text("smoke: {01_a: {n: 1}}\n" + text)
    before, notebooks.PRESETS = notebooks.PRESETS, tmp_path / "presets.yaml"
    try:
        with one_line():
            notebooks.settings("01_a", "smoke")
    finally:
        notebooks.PRESETS = before


@FUZZ
@given(value=exchanged({"headline": ["m"], "metrics": {"m": {"value": 1, "n": 1, "low": 0, "high": 2, "unit": ""}}}))
def test_any_metrics_are_valid_or_refused_in_one_line(value):
    with one_line():
        found = notebooks.checked_metrics(value, "metrics.json")
        assert all(math.isfinite(m["value"]) for m in found["metrics"].values())


@FUZZ
@given(st.data())
def test_any_listing_of_sources_is_read_or_refused_in_one_line(tmp_path, data):
    good = sources.LISTING.read_bytes()[:600]
    (tmp_path / "sources.txt").write_bytes(data.draw(damaged(good)))
    with one_line():
        sources.listed(tmp_path / "sources.txt")


@FUZZ
@given(st.binary(max_size=200))
def test_any_archive_is_unpacked_or_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with one_line():
        sources.unpack(tmp_path / "a.tar.gz", tmp_path / "out")


# ---------------------------------------------------------------- curves

NUMBER = st.floats() | st.integers(-5, 10**9) | st.just(0.5)


@FUZZ
@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=8), st.lists(NUMBER, max_size=3), NUMBER)
def test_any_curve_is_forecast_or_refused_in_one_line(points, at, n):
    with one_line(), np.errstate(all="ignore"):
        found = forecast.forecast([p[0] for p in points], [p[1] for p in points], n, at, draws=50)
        assert np.isfinite(found.quantiles).all()
