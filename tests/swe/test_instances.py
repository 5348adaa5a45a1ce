"""Instances: what is written comes back, also after a torn line, and every bad row is named by its line."""

import json
import multiprocessing
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.swe import diffs
from hrm_lab.swe.instances import CHOICES, Instance, InstanceError, card, from_row, read, write

BUGGY, FIXED = "def f(x):\n    return x - 1\n", "def f(x):\n    return x + 1\n"
ONE = Instance(
    instance_id="demo-1", repo="demo", version="1.0", problem_statement="f(1) is 0; expected 2",
    patch=diffs.make(BUGGY, FIXED, "demo.py"), test_patch="", FAIL_TO_PASS=("test_f",), PASS_TO_PASS=(),
    language="python", domain="algorithms", complexity=0.25,
    tool_plan=({"tool": "run_tests", "args": {"tests": ["test_f"]}, "observation": "1 failed"},),
    file="demo.py", function="f", program=BUGGY, fixed=FIXED, tests="def test_f():\n    assert f(1) == 2\n",
    kinds=("operator",), source="synthetic", split="train")
TEXT = st.text(st.characters())  # lone surrogates too: a source may hold them behind surrogateescape
STRINGS = st.lists(TEXT, max_size=3).map(tuple)


@given(st.builds(Instance, instance_id=TEXT.filter(bool), repo=TEXT.filter(bool), patch=TEXT.filter(bool),
                 file=TEXT.filter(bool), FAIL_TO_PASS=STRINGS, PASS_TO_PASS=STRINGS, kinds=STRINGS, program=TEXT,
                 complexity=st.floats(0, 1), tool_plan=st.lists(st.dictionaries(TEXT, TEXT), max_size=2).map(tuple),
                 **{name: st.sampled_from(values) for name, values in CHOICES.items()}))
def test_a_row_comes_back_from_json(instance):
    assert from_row(json.loads(json.dumps(asdict(instance)))) == instance


def test_what_is_written_comes_back(tmp_path):
    path = tmp_path / "deep" / "set.jsonl"
    odd = replace(ONE, instance_id="demo-2", program="\u2028\x85\r\n\udcff", problem_statement="é\n")
    assert write(path, [ONE, odd]) == 2 and write(path, []) == 0
    reading = read(path)
    assert reading.instances == [ONE, odd] and reading.problems == [] and path.read_bytes().count(b"\n") == 2


def test_a_torn_last_line_is_dropped_then_cut(tmp_path, capsys):
    path = tmp_path / "set.jsonl"
    two, three = (replace(ONE, instance_id=f"demo-{i}") for i in (2, 3))
    write(path, [ONE, two])
    whole = path.read_bytes()
    for cut in (1, 20, len(whole) // 2 - 9):
        path.write_bytes(whole[:-1 - cut])
        reading = read(path)
        assert reading.instances == [ONE] and len(reading.problems) == 1
        assert "set.jsonl:2: " in reading.problems[0] and "torn last line" in reading.problems[0]
        with pytest.raises(InstanceError, match="set.jsonl:2: .*torn"):
            read(path, strict=True)
        write(path, [three])
        assert "set.jsonl: last line was torn" in capsys.readouterr().out
        assert read(path) == read(path, strict=True) and read(path).instances == [ONE, three]


def test_a_good_last_line_without_newline_is_kept(tmp_path, capsys):
    path = tmp_path / "set.jsonl"
    write(path, [ONE])
    path.write_bytes(path.read_bytes()[:-1])
    write(path, [replace(ONE, instance_id="demo-2")])
    assert len(read(path, strict=True).instances) == 2 and not capsys.readouterr().out


def _append(path, name):
    write(path, (replace(ONE, instance_id=f"{name}-{i}") for i in range(50)))


def test_two_processes_write_whole_lines(tmp_path):
    path = tmp_path / "set.jsonl"
    workers = [multiprocessing.get_context("fork").Process(target=_append, args=(path, name)) for name in "ab"]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert len(read(path, strict=True).instances) == 100


@pytest.mark.parametrize("line, message", [
    (b'{"instance_id": ', "expected one JSON object"),
    (b"[1]", "row is a list; expected an object"),
    (b'"caf\xe9"', "byte 4 of the line is 0xe9; expected UTF-8"),
    (json.dumps(asdict(ONE)).encode("utf-16"), "expected UTF-8"),
    (json.dumps({**asdict(ONE), "language": "cobol"}).encode(), "field language is 'cobol'; expected one of python"),
    (json.dumps({**asdict(ONE), "complexity": 1.5}).encode(), "field complexity is 1.5; expected a number in 0..1"),
    (json.dumps({**asdict(ONE), "FAIL_TO_PASS": "test_f"}).encode(), "field FAIL_TO_PASS is 'test_f'; expected a list"),
    (json.dumps({**asdict(ONE), "file": ""}).encode(), "field file is ''; expected a string that is not empty"),
    (json.dumps(asdict(ONE)).encode(), "instance_id 'demo-1' again, first in line 1"),
    (b"[" * 100_000, "expected one JSON object")])
def test_a_bad_row_is_named_and_the_rest_kept(tmp_path, line, message):
    path, last = tmp_path / "set.jsonl", replace(ONE, instance_id="demo-9")
    rows = [json.dumps(asdict(instance)).encode() for instance in (ONE, last)]
    path.write_bytes(rows[0] + b"\n\n" + line + b"\n" + rows[1] + b"\n")
    reading = read(path)
    assert [i.instance_id for i in reading.instances] == ["demo-1", "demo-9"]
    (problem,) = [p for p in reading.problems if p.startswith("set.jsonl:3: ")] or reading.problems
    assert message in problem and "\n" not in problem
    with pytest.raises(InstanceError, match=r"^set.jsonl:3: "):
        read(path, strict=True)


@pytest.mark.parametrize("name", [field.name for field in fields(Instance)])
def test_a_missing_field_is_named(name):
    row = asdict(ONE)
    del row[name]
    with pytest.raises(InstanceError, match=f"field {name} is missing"):
        from_row(row)


def test_the_card_counts(tmp_path):
    several = [ONE, replace(ONE, instance_id="demo-2", split="test", complexity=0.75)]
    text = card(tmp_path / "set.md", several, title="Demo", how="By hand.", licences={"demo": "MIT"})
    assert (tmp_path / "set.md").read_text() == text
    for part in ("2 instances. By hand.", "| algorithms | 2 |", "| operator | 2 |", "| demo | 1.0 | test | MIT | 1 |",
                 "0.25, 0.25, 0.25, 0.25, 0.75", "data_files: set.jsonl"):
        assert part in text
