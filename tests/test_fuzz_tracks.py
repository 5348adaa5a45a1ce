"""The readers of test generation, adapters and forecasts under the rule of tests/test_fuzz.py: data or one line."""

import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab import forecast_bank, forecast_command, forecast_ledger, forecast_targets
from hrm_lab.adapters import chats, formats
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.testgen import collector, domain, expressions, feature_files, gherkin, records
from test_fuzz import FUZZ, JSON, damaged, dumped, exchanged, one_line

# ---------------------------------------------------------------- test generation

GHERKIN = ["Feature: f", "  Scenario: s", "  Scenario Outline: s", "    Given a", "    When b", "    Then c",
           "    And d <x>",
           "    Examples:", "      | x | y |", "      | 1 |", "      | \\| | \\n |", '      """', "      ```", "  @tag",
           "@", "# language: de", "# language: xx", "Funktionalität: f", "Background:", "  Rule: r", "* a", "", "text",
           "\t| |", "Feature:", "\0", "Examples:"]


@FUZZ
@given(st.lists(st.sampled_from(GHERKIN), max_size=12).map("\n".join) | st.text(max_size=80))
def test_any_feature_file_is_read_or_refused_in_one_line(tmp_path, text):
    with one_line():
        gherkin.cases(text)
    with one_line():
        feature_files.records(text, source="a", licence="MIT", domain="d", family="f", group="g")
    assert "\n" not in gherkin.valid(text)
    (tmp_path / "a.feature").write_bytes(text.encode("utf-8", "surrogatepass"))
    found = collector.collect([tmp_path])
    assert all("\n" not in line for line in found.refused)


@FUZZ
@given(content=damaged("Feature: f\n  Scenario: über\n    Given a\n    When b\n    Then c\n".encode()))
def test_any_bytes_of_a_feature_file_are_read_or_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.feature").write_bytes(content)
    assert all("\n" not in line for line in collector.collect([tmp_path]).refused)


RECORD = {"id": "a", "source": "s", "licence": "MIT", "domain": "d", "family": "f", "group": "g", "input": "A rule.",
          "target": "Feature: f\n  Scenario: s\n    Given a\n    Then c\n", "slots": {"n": "1"}, "axis": "train",
          "weight": 1}


@FUZZ
@given(row=exchanged(RECORD))
def test_any_requirement_is_a_record_or_refused_in_one_line(tmp_path, row):
    (tmp_path / "a.jsonl").write_bytes(dumped(row))
    with one_line():
        records.read(tmp_path / "a.jsonl")
    assert all("\n" not in line for line in collector.collect([tmp_path]).refused)


PIECES = ["1", "x", "'a'", "+", "*", "**", "(", ")", "[", "]", ",", ".", "if", "else", "and", "not", "==", "lambda",
          ":", "__class__", "for", "in", "{", "}", "9" * 40, "round", "max", "len", "x.y", "%", "//",
          " ", "f'{x}'", "\\"]


@FUZZ
@given(st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join) | st.text(max_size=30))
def test_any_expression_is_a_value_or_refused_in_one_line(text):
    """It is walked, not run: no attribute, no call but of the listed functions."""
    with one_line():
        value = expressions.evaluate(text, {"x": expressions.number("2")})
        assert isinstance(value, expressions.Value)


@pytest.fixture(scope="module")
def family():
    folder = next(path.parent for path in sorted((ROOT / "data").rglob("domain.yaml")))
    path = next(path for path in sorted(folder.glob("*.yaml")) if path.name != "domain.yaml")
    return yaml.safe_load(path.read_text())


@FUZZ
@given(st.data())
def test_any_family_is_read_or_refused_in_one_line(tmp_path, family, data):
    value = data.draw(exchanged(family))
    (tmp_path / "a.yaml").write_text(json.dumps(value))  # JSON is YAML
    with one_line():
        domain.family(tmp_path / "a.yaml")


# ---------------------------------------------------------------- adapters

CALL = '{"name": "f", "arguments": {}}'
CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": CALL}]}
TRAINING = {"prompt": [{"role": "user", "content": "hi"}], "completion": "{}"}


@FUZZ
@given(row=exchanged(CHAT) | exchanged(TRAINING) | st.just({"text": "x"}).flatmap(exchanged))
def test_any_chat_is_read_or_refused_in_one_line(tmp_path, row):
    (tmp_path / "train.jsonl").write_bytes(dumped(row))
    with one_line():
        chats.read(tmp_path / "train.jsonl")
    chats.is_chat(tmp_path / "train.jsonl")


ANSWER = ["{", "}", "[", "]", '"name"', ":", '"f"', ",", '"arguments"', "{}", "<tool_call>", "</tool_call>", "NaN",
          "1e999", "\\", '"', "null", CALL]


@FUZZ
@given(st.lists(st.sampled_from(ANSWER), max_size=12).map("".join) | st.text(max_size=40),
       st.sampled_from(sorted(formats.FORMATS)))
def test_any_answer_of_a_model_is_parsed(text, form):
    found = formats.FORMATS[form].read(text)
    assert all(set(call) == {"name", "arguments"} for call in found.calls)


# ---------------------------------------------------------------- forecasts and sweeps

TARGETS = {"loss": "<0.3", "exact_match": {"target": ">0.9", "epoch": 35, "required": False}}


@FUZZ
@given(st.data())
def test_any_targets_are_read_or_refused_in_one_line(tmp_path, data):
    value = data.draw(exchanged(TARGETS))
    (tmp_path / "targets.json").write_bytes(data.draw(damaged(dumped(value)) | st.just(dumped(value))))
    with one_line():
        targets = forecast_targets.read_targets(tmp_path / "targets.json")
        assert all(0 < target.epoch < np.inf for target in targets)


@FUZZ
@given(st.binary(max_size=80) | st.lists(JSON.map(dumped), max_size=4).map(b"\n".join))
def test_any_history_ledger_or_bank_is_read_or_refused_in_one_line(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    for read in (forecast_command.read_rows, forecast_ledger.read, forecast_bank.read):
        with one_line():
            read(tmp_path / "a")


ROW = {"step": 10, "epoch": 1.0, "loss": 1.0, "exact_match": 0.1, "n": 100}


@FUZZ
@given(rows=st.lists(exchanged(ROW).filter(lambda row: isinstance(row, dict)), max_size=7))
def test_any_history_has_an_outlook_or_is_refused_in_one_line(rows):
    with one_line(), np.errstate(all="ignore"):
        found = forecast_targets.outlook(rows, forecast_targets.read_targets(TARGETS), draws=50)
        assert all(one.p is None or 0 <= one.p <= 1 for one in found.each) and found.lines()

