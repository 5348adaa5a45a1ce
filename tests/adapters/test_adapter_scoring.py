"""Verdicts: BFCL's semantics case by case, classes of failure, counts, comparisons."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_adapter_examples import SAMPLE, example

from hrm_lab.adapters.examples import Call, Example, read
from hrm_lab.adapters.formats import FORMATS, HERMES, STRUCTURED
from hrm_lab.adapters.scoring import argument_error, compare, failures, judge, mcnemar, right, scores

ALL = [e for name in ("train", "validation", "test", "others") for e in read(SAMPLE / f"{name}.jsonl")]
STRINGS = {"type": "array", "items": {"type": "string"}}
OBJECTS = {"type": "array", "items": {"type": "object"}}


@pytest.mark.parametrize(("value", "accepted", "schema", "error"), [
    ("New York, NY.", ["new york NY"], {"type": "string"}, ""),
    ("it's", ['it"s'], {"type": "string"}, ""),
    ("x", ["y"], {"type": "string"}, "wrong value"),
    (5, [5.0], {"type": "number"}, ""),  # an integer may stand for a float
    (5.0, [5], {"type": "integer"}, "wrong type"),  # and never the other way round
    ("5", [5], {"type": "integer"}, "wrong type"),
    (True, [1], {"type": "integer"}, "wrong type"),
    (10**400, [1.5], {"type": "number"}, "wrong value"),
    ("a variable", ["a variable"], {"type": "integer"}, ""),  # accepted values of another type count
    ("A variable", ["a variable"], {"type": "integer"}, "wrong value"),  # but to the letter
    (["A b"], [["a,b"]], STRINGS, ""),
    (["b", "a"], [["a", "b"]], STRINGS, "wrong value"),
    ([1], [["a"]], STRINGS, "wrong type"),
    ([], [""], STRINGS, ""),
    ({"k": "V"}, [{"k": ["v"], "o": ["", 1]}], {"type": "object"}, ""),
    ({"k": "v", "z": 1}, [{"k": ["v"]}], {"type": "object"}, "wrong value"),
    ({}, [{"k": ["v"]}], {"type": "object"}, "wrong value"),
    ([{"k": 1}], [[{"k": [1]}]], OBJECTS, ""),
    ([{"k": 1}, {"k": 1}], [[{"k": [1]}]], OBJECTS, "wrong value"),
    ([["deep"]], [[1]], {"type": "array"}, "wrong type"),
    (None, [1], {"type": "integer"}, "wrong type"),
])
def test_an_argument_is_judged_as_bfcl_does(value, accepted, schema, error):
    assert argument_error(value, accepted, schema) == error


@pytest.mark.parametrize("form", FORMATS.values(), ids=lambda f: f.name)
def test_gold_scores_100_percent_and_silence_nothing(form):
    table = scores([judge(e, form.answer(e), form) for e in ALL])
    assert all(table[name]["value"] == 1.0 for name in table), table
    empty = scores([judge(e, "", form) for e in ALL if e.calls])
    assert all(empty[name]["value"] == 0.0 for name in ("valid_json", "name", "arguments", "exact", "call_f1"))


def verdict(text, form=STRUCTURED, one=None, **more):
    return judge(one or example(), text, form, **more)


def call(name="f", **arguments):
    return json.dumps({"name": name, "arguments": arguments})


@pytest.mark.parametrize(("text", "failure"), [
    (call(x=1), ""),
    (call(x=1, y="U"), ""),
    (f"Sure: {call(x=1)}", "text around the call"),
    (call(x=2), "wrong value"),
    (call(x="1"), "wrong type"),
    (call(y="u"), "missing argument"),
    (call(x=1, z=0), "unexpected argument"),
    (call("g", x=1), "unknown function"),
    (f"[{call(x=1)}, {call(x=1)}]", "wrong number of calls"),
    ("I would call f.", "no call"),
    ("[]", "no call"),
    ("{'name': 'f', 'arguments': {'x': 1}}", "not json"),
    ('{"x": 1}', "not a call"),
    ('{"name": "f", "arguments": {"x": NaN}}', "not json"),
    ('{"name": "f", "arguments": {"x": ', "cut short"),
])
def test_a_failure_has_a_class(text, failure):
    v = verdict(text)
    assert v.failure == failure and v.exact == (failure == "")


def test_text_around_a_right_call_costs_exact_and_not_arguments():
    v = verdict(f"Sure: {call(x=1)}")
    assert (v.valid_json, v.arguments, v.name, v.strict, v.exact) == (True, True, True, False, False)


def test_a_failure_keeps_prompt_expected_and_got():
    good, bad = verdict(call(x=1)), verdict(call(x=2), prompt="ask")
    row, = failures([good, bad])
    assert row["prompt"] == "ask" and row["got"] == call(x=2) and row["wrong"] == (
        "x: wrong value",)
    assert row["expected"] == call(x=1)


def test_arguments_are_counted_apart_from_calls():
    v = verdict(call(x=2, y="u"))
    assert v.call_counts == (0, 1, 1) and v.argument_counts == (0, 1, 1)  # optional y is neither rewarded nor wrong
    assert verdict(call("g", x=1)).argument_counts == (0, 1, 1)
    assert verdict(call(x=1)).argument_counts == (1, 0, 0)


def test_no_call_is_right_where_none_fits():
    none = next(e for e in ALL if not e.calls)
    for form in FORMATS.values():
        assert judge(none, form.answer(none), form).exact
        assert judge(none, "I cannot do that.", form).arguments
        assert judge(none, form.write([{"name": none.tools[0]["name"], "arguments": {}}]), form).failure == (
            "call where none fits")
    assert scores([judge(none, "{", STRUCTURED, stopped=False)])["irrelevance"]["value"] == 0.0


def test_several_calls_in_any_order():
    several = next(e for e in ALL if len(e.calls) > 1)
    calls = [{"name": c.name, "arguments": c.gold} for c in several.calls]
    assert right(calls[::-1], several) and not right(calls[:1], several) and not right([calls[0]] * len(calls), several)


def test_the_schema_is_checked_apart():
    assert not verdict(call(x="1")).schema_valid and verdict(call(x=7)).schema_valid
    assert not verdict(call(x=1, z=1)).schema_valid


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
                    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3),
                    max_leaves=6),
       st.integers(0, len(ALL) - 1), st.sampled_from(sorted(FORMATS)))
def test_any_value_is_judged_without_an_error(value, i, name):
    one = ALL[i]
    form = FORMATS[name]
    arguments = {key: value for key in one.tools[0]["parameters"]["properties"]}
    judge(one, form.write([{"name": one.tools[0]["name"], "arguments": arguments}]), form)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | st.text('{}[]",:<tool_call>/ name', max_size=60), st.sampled_from(sorted(FORMATS)))
def test_any_text_is_judged_without_an_error(text, name):
    judge(ALL[0], text, FORMATS[name])


def test_a_deep_nest_is_no_crash():
    assert verdict("[" * 100_000).failure in ("not json", "cut short")
    assert judge(ALL[0], "<tool_call>" + "[" * 100_000, HERMES).failure in ("not json", "cut short")


def test_an_array_without_items_is_no_crash():
    tool = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {"l": {"type": "array"}}}}
    one = Example("a", "", (tool,), ({"role": "user", "content": "q"},), (Call("f", {"l": [[1]]}, {"l": [1]}),), "",
                  "m")
    assert verdict(call(l=[1]), one=one).failure == "wrong type"


def test_comparison_is_paired():
    a = [verdict(call(x=1)), verdict(call(x=1))]
    b = [verdict(call(x=1)), verdict(call(x=2))]
    found = compare(a, b)
    assert found["value"] == 0.5 and found["n"] == 2 and found["p"] == 1.0
    with pytest.raises(ValueError, match="other questions"):
        compare(a, b[:1])


def test_mcnemar_is_exact():
    right_by_a = np.array([True] * 10 + [False] * 2 + [True] * 30)
    right_by_b = np.array([False] * 10 + [True] * 2 + [True] * 30)
    assert mcnemar(right_by_a, right_by_b) == pytest.approx(0.03857421875)  # 2 * P(Bin(12, 1/2) <= 2)
    assert mcnemar([True], [True]) == 1.0
