"""Examples, BFCL's rows and their split, and the shipped sample."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.adapters import bfcl
from hrm_lab.adapters.examples import Call, Example, ExampleError, from_json, read, read_splits, write
from hrm_lab.inspect_notebook import ROOT

SAMPLE = ROOT / "data" / "adapters"
TOOL = {"name": "f", "description": "Does f.", "parameters": {
    "type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "string"}}, "required": ["x"]}}


def example(i="a", function="f", question="Do f with 1.", group="", accepted=None) -> Example:
    tool = TOOL | {"name": function}
    return Example(i, "", (tool,), ({"role": "user", "content": question},),
                   (Call(function, accepted or {"x": [1], "y": ["", "u"]}, {"x": 1}),), group, "made")


def test_a_file_reads_back_the_same(tmp_path):
    rows = [example(), example("b", question="Ünïcode \u2028 and\nlines")]
    write(tmp_path / "rows.jsonl", rows)
    assert read(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(("change", "said"), [
    ({"id": 3}, "field id is 3; expected a JSON str"),
    ({"tools": []}, "field tools is []; expected at least one"),
    ({"turns": [{"role": "assistant", "content": "x"}]}, "turns[-1].role is 'assistant'; expected user"),
    ({"calls": [{"name": "g", "accepted": {}, "gold": {}}]}, "calls[0].name is 'g'; expected the name of one"),
    ({"calls": [{"name": "f", "accepted": {}, "gold": "{'x': 1}"}]}, "printed by Python is no JSON"),
    ({"calls": [{"name": "f", "accepted": {"x": 1}, "gold": {}}]}, "a list of values for each argument"),
    ({"more": 1}, "field more is [1]; expected only"),
])
def test_what_is_no_example_is_named(change, said):
    with pytest.raises(ExampleError) as error:
        from_json(example().json() | {"tools": [TOOL], "turns": [{"role": "user", "content": "q"}],
                                      "calls": [{"name": "f", "accepted": {"x": [1]}, "gold": {"x": 1}}]} | change,
                  "a:1")
    assert said in str(error.value) and str(error.value).startswith("a:1: ") and "\n" not in str(error.value)


def test_errors_of_a_file_name_the_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(example().json())
    for text, said in ((f"{good}\n{{'id': 1}}\n", ":2: "), (f"{good}\n\n{good}\n", ":3: field id is 'a'")):
        path.write_text(text)
        with pytest.raises(ExampleError, match=said):
            read(path)
    with pytest.raises(ExampleError, match="train.jsonl: not found"):
        read_splits(tmp_path / "nothing")


def test_the_sample_is_what_its_card_says():
    parts = read_splits(SAMPLE) | {"others": read(SAMPLE / "others.jsonl")}
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 40, "validation": 12, "test": 24,
                                                                 "others": 16}
    assert sum(len(e.calls) > 1 for e in parts["others"]) == 8 == sum(not e.calls for e in parts["others"])
    seen: dict[str, str] = {}
    for name, rows in parts.items():
        for e in rows:
            for key in (e.group, e.turns[-1]["content"].lower(), *(tool["name"] for tool in e.tools)):
                assert seen.setdefault(key, name) == name, key


# ---------------------------------------------------------------- BFCL


def row(accepted, properties, required=()):
    return ({"id": "r", "question": [[{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]],
             "function": [
        {"name": "f", "description": "d", "parameters": {"type": "dict", "properties": properties,
                                                         "required": list(required)}}]}, [{"f": accepted}])


def test_a_row_is_converted():
    made = bfcl.convert(*row(
        {"b": ["", 2.5], "a": [1, 2], "o": [{"k": ["v", "w"], "l": ["", 1]}], "n": [[{"i": [3]}]], "t": [[1, 2]]},
        {"a": {"type": "integer"}, "b": {"type": "float"}, "o": {"type": "dict",
                                                                 "properties": {"k": {"type": "string"}}},
         "n": {"type": "array", "items": {"type": "dict"}}, "t": {"type": "tuple", "items": {"type": "integer"}},
         "x": {"type": "any"}}, ["a"]), "simple_python")
    assert made.system == "s" and made.turns == ({"role": "user", "content": "q"},)
    assert made.calls[0].gold == {"a": 1, "o": {"k": "v"}, "n": [{"i": 3}], "t": [1, 2]}
    assert [*made.calls[0].gold] == ["a", "o", "n", "t"]  # in the order of the schema
    kinds = {name: s.get("type") for name, s in made.tools[0]["parameters"]["properties"].items()}
    assert kinds == {"a": "integer", "b": "number", "o": "object", "n": "array", "t": "array", "x": None}


def test_a_required_argument_is_given_though_it_may_be_left_out():
    made = bfcl.convert(*row({"a": ["", 5]}, {"a": {"type": "integer"}}, ["a"]), "multiple")
    assert made.calls[0].gold == {"a": 5}


def test_components_join_functions_and_questions():
    rows = [example("1", "f", "one"), example("2", "f", "two"), example("3", "g", "TWO!"), example("4", "h", "four")]
    groups = [e.group for e in bfcl.components(rows)]
    assert groups[0] == groups[1] == groups[2] != groups[3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=30, max_size=60), st.integers(0, 3))
def test_a_split_never_divides_a_component(pairs, seed):
    rows = bfcl.components([example(str(i), f"f{a}", f"question {b}") for i, (a, b) in enumerate(pairs)])
    try:
        parts = bfcl.split(rows, test=2, validation=1, largest=3, seed=seed)
    except ValueError:
        return
    assert sum(map(len, parts.values())) == len(rows) and len(parts["test"]) >= 2 and parts["validation"]
    for key in (lambda e: e.group, lambda e: e.tools[0]["name"], lambda e: e.turns[0]["content"]):
        held = [{key(e) for e in parts[name]} for name in ("train", "validation", "test")]
        assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]


def test_too_few_small_components_are_refused():
    rows = bfcl.components([example(str(i), "f", f"q{i}") for i in range(10)])
    with pytest.raises(ValueError, match="at most 3 rows give 0 for test; expected 2"):
        bfcl.split(rows, test=2, validation=1)
