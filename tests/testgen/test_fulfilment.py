"""The 68 examples are what their card says."""

import json

import pytest

from hrm_lab.testgen import collector
from hrm_lab.testgen.domain import ROOT, held_out_name, load, side, values
from hrm_lab.testgen.expressions import show, styled
from hrm_lab.testgen.families import SPLIT
from hrm_lab.testgen.judge import expected_rows, judge, stands
from hrm_lab.testgen.records import key

FOLDER = ROOT / "fulfilment_68"
MEDIA = load(ROOT / "media")
TRAIN, HELD_OUT = collector.fulfilment()


def test_sizes_and_formats():
    lines = {name: [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]
             for name in ("requirements.jsonl", "sqe.jsonl")}
    assert all({"input_sequence", "target_sequence"} <= set(line) for line in lines["requirements.jsonl"])
    assert all({"prompt", "completion"} <= set(line) for line in lines["sqe.jsonl"])
    assert [len(held) for held in lines.values()] == [35, 33] and (len(TRAIN), len(HELD_OUT)) == (54, 14)
    assert len({record.id for record in TRAIN + HELD_OUT}) == 68
    assert {record.licence for record in TRAIN + HELD_OUT} == {"Apache-2.0"}


def test_no_group_and_no_requirement_on_both_sides():
    assert not {r.group for r in TRAIN} & {r.group for r in HELD_OUT}
    assert not {key(r.input) for r in TRAIN} & {key(r.input) for r in HELD_OUT}
    assert not {r.slots["partner"] for r in TRAIN} & {r.slots["partner"] for r in HELD_OUT}
    assert len({key(r.input) for r in TRAIN + HELD_OUT}) == 68
    assert {r.family for r in HELD_OUT} <= {r.family for r in TRAIN}


def test_no_training_example_states_a_value_or_a_name_of_the_held_out_axes():
    for record in TRAIN:
        one = MEDIA.families[record.family]
        found = values(one, record.slots)
        for slot, (kind, _) in one.slots.items():
            out = held_out_name(found[slot]) if kind == "name" else kind in SPLIT and side(one, slot, found[slot])
            assert not out, (record.id, slot)


@pytest.mark.parametrize("record", TRAIN + HELD_OUT, ids=lambda record: record.id)
def test_an_example_states_its_slots_and_its_test_is_right_and_strong(record):
    one = MEDIA.families[record.family]
    assert not one.held_out
    found = values(one, record.slots)
    for slot in one.visible:
        held = found[slot] if isinstance(found[slot], tuple) else (found[slot],)
        assert all(stands(show(value).lower(), record.input.lower()) for value in held), slot
    verdict = judge(record, record.target, MEDIA)
    assert verdict.correct and verdict.mutation == 1.0 and verdict.slots == 1.0, verdict.reason
    table = json.loads((FOLDER / "tables.json").read_text())[record.id]
    rows = [[*(styled(v, "plus") if isinstance(v, tuple) else show(v) for v in row.values()), said]
            for row, said in expected_rows(one, found, record.target)]
    assert table == {"columns": [*one.inputs, one.outcome], "rows": rows}
