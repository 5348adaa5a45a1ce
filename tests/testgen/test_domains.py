"""Every family of every shipped domain: its own test is right and strong, and what is held out stays out."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.testgen import check
from hrm_lab.testgen import domain as domains
from hrm_lab.testgen.domain import ROOT, DomainError, draft, draw, expected, load, values
from hrm_lab.testgen.expressions import render, show
from hrm_lab.testgen.families import SPLIT
from hrm_lab.testgen.judge import judge
from hrm_lab.testgen.records import AXES

FOLDERS = sorted(path.parent for path in ROOT.glob("*/domain.yaml"))
DOMAINS = {folder.name: load(folder) for folder in FOLDERS}
each_domain = pytest.mark.parametrize("name", DOMAINS)
PERFECT = (True, 1.0, True, True, 1.0, "")


def test_there_are_two_domains_and_twenty_families_of_media():
    assert set(DOMAINS) >= {"media", "library"}
    assert sum(not one.held_out for one in DOMAINS["media"].families.values()) >= 20


@each_domain
def test_a_family_has_wordings_and_mutants_enough(name):
    for one in DOMAINS[name].families.values():
        assert len(one.requirements) + len(one.paraphrases) >= 10, one.name
        assert len(one.paraphrases) >= 2 and len(one.mutants) >= 5, one.name
        assert len(set((*one.requirements, *one.paraphrases))) == len(one.requirements) + len(one.paraphrases)
        assert len(set(one.mutants)) == len(one.mutants) and one.reference not in one.mutants, one.name


@each_domain
def test_wordings_begin_in_many_ways(name):
    for one in DOMAINS[name].families.values():
        assert len({" ".join(text.split()[:2]) for text in (*one.requirements, *one.paraphrases)}) >= 6, one.name


@each_domain
def test_a_shipped_domain_has_no_problems(name):
    assert check.problems(DOMAINS[name], n=4) == []


@each_domain
@pytest.mark.parametrize("axis", AXES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_expected_test_is_correct_and_kills_every_mutant(name, axis, seed):
    made = DOMAINS[name]
    count = sum(one.held_out == (axis == "family") for one in made.families.values())
    for record in draw(made, count, seed, axis):
        found = judge(record, record.target, made)
        assert (found.valid, found.slots, found.executable, found.correct, found.mutation, found.reason) == PERFECT, \
            (record.input, record.target)


def slots_of(records, made, kinds):
    return {(r.family, name, str(r.slots[name])) for r in records
            for name, (kind, _) in made.families[r.family].slots.items() if kind in kinds}


@each_domain
def test_held_out_axes_do_not_meet_training(name):
    made = DOMAINS[name]
    by = {axis: draw(made, 300 if axis == "train" else 100, 1, axis) for axis in AXES}
    by["train"] += draw(made, 300, 2, "train")
    train = by.pop("train")
    inputs = {r.input for r in train}
    for axis, records in by.items():
        assert not inputs & {r.input for r in records}, axis
        assert {r.axis for r in records} == {axis}
    assert not slots_of(train, made, SPLIT) & slots_of(by["values"], made, SPLIT)
    partners = {value for _, _, value in slots_of(train, made, ("name",))}
    assert not partners & {value for _, _, value in slots_of(by["names"], made, ("name",))}
    assert not {r.family for r in train} & {r.family for r in by["family"]}
    known = {(r.family, int(r.id.rpartition("/")[2])) for r in train}
    assert not known & {(r.family, int(r.id.rpartition("/")[2])) for r in by["paraphrase"]}
    assert all(not domains.held_out_name(value) for _, _, value in slots_of(by["values"], made, ("name",)))


@each_domain
def test_a_draw_is_the_same_for_the_same_seed_and_has_no_requirement_twice(name):
    first, second = draw(DOMAINS[name], 60, 5), draw(DOMAINS[name], 60, 5)
    assert first == second and first != draw(DOMAINS[name], 60, 6)
    assert len({r.input for r in first}) == 60


def test_fresh_wordings_state_every_slot_and_stand_nowhere_else():
    media, fresh = DOMAINS["media"], json.loads((ROOT / "fresh_media.json").read_text())
    assert set(fresh) == {name for name, family in media.families.items() if not family.held_out}
    for name, texts in fresh.items():
        family = media.families[name]
        assert len(texts) == 2 and not set(texts) & {*family.requirements, *family.paraphrases}
        for text in texts:
            said = {slot.split(":")[0] for slot in re.findall(r"{([^{}]+)}", text)}
            assert said == {slot.split(":")[0] for slot in re.findall(r"{([^{}]+)}", family.requirements[0])}, text


@each_domain
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_draft_with_slots_taken_out_renders_to_the_test(name, seed):
    made = DOMAINS[name]
    for record in draw(made, 12, seed):
        one = made.families[record.family]
        found = values(one, record.slots)
        kept = {slot: f"X{i}" for i, slot in enumerate(one.visible)}
        text = draft(one, found, kept)
        assert render(text, {new: found[slot] for slot, new in kept.items()}) == record.target == expected(one, found)
        assert {slot: show(value) for slot, value in found.items() if not isinstance(value, tuple)} == \
            {slot: value for slot, value in record.slots.items() if isinstance(value, str)}


def test_boundary_cells_stay_expressions_in_a_draft():
    made = DOMAINS["media"]
    (record,) = draw(made, 1, 3, families=("avails_window",))
    one = made.families["avails_window"]
    text = draft(one, values(one, record.slots), {"start": "DATE1", "end": "DATE2", "partner": "NAME1"})
    assert "{DATE1 - 1}" in text and "{DATE2 + 1}" in text and record.slots["territory"] in text


@pytest.fixture
def folder(tmp_path):
    for name in ("domain.yaml", "retries.yaml"):
        (tmp_path / name).write_text((ROOT / "media" / name).read_text())
    return tmp_path


def change(folder: Path, **fields):
    raw = yaml.safe_load((folder / "retries.yaml").read_text()) | fields
    (folder / "retries.yaml").write_text(yaml.safe_dump(raw))


@pytest.mark.parametrize("fields, named", [
    ({"slots": {"partner": "name", "tries": {"numbr": [1, 2, 1]}}}, "slots.tries"),
    ({"slots": {"partner": "name", "tries": {"choice": ["1"]}}}, "slots"),
    ({"requirements": ["{partner} {tries}", "{partner}"]}, "requirements"),
    ({"inputs": {"failures": "number", "other": "number"}}, "test"), ({"colour": "red"}, "colour"),
    ({"inputs": 3}, "inputs"),
    ({"inputs": {"failures": "float"}}, "inputs"), ({"requirements": "one"}, "requirements"),
    ({"mutants": [1]}, "mutants"),
    ({"reference": "failures <= nobody"}, "reference"), ({"mutants": ["failures <= nobody"]}, "mutants"),
    ({"reference": "failures <"}, "test, reference or mutants"), ({"held_out_family": 1}, "held_out_family"),
    ({"slots": {"partner": "name", "tries": {"number": [1, 2]}}}, "slots.tries"),
    ({"slots": {"partner": "name", "tries": {"sample": {"of": ["a"], "size": [1, 2]}}}}, "slots.tries"),
    ({"slots": {"partner": "name", "tries": {"oneof": [{"a": 1}, {"b": 1}]}}}, "slots.tries"),
    ({"slots": {"partner": "name", "tries": {}}}, "slots.tries"), ({"inputs": {"failures": []}}, "inputs"),
    ({"slots": {"partner": "name", "tries": [1]}}, "slots.tries"), ({"family": ""}, "family"),
])
def test_a_family_with_a_fault_is_refused_by_file_and_field(folder, fields, named):
    change(folder, **fields)
    with pytest.raises(DomainError, match=rf"retries\.yaml: field '{named}'"):
        load(folder)


def test_a_missing_field_is_named(folder):
    raw = yaml.safe_load((folder / "retries.yaml").read_text())
    raw.pop("reference")
    (folder / "retries.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(DomainError, match="'reference': missing"):
        load(folder)


def test_yaml_that_would_make_objects_is_refused(folder):
    (folder / "retries.yaml").write_text("family: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(DomainError, match="expected YAML"):
        load(folder)


def test_the_check_says_what_to_mend(folder, capsys):
    raw = yaml.safe_load((folder / "retries.yaml").read_text())
    change(folder, mutants=[*raw["mutants"], "'delivered' if failures <= tries and failures != 99 else 'escalated'"])
    assert check.main([str(folder), "-n", "2"]) == 1
    assert "retries: its own test does not kill the mutant \"'delivered' if failures" in capsys.readouterr().err
    change(folder, mutants=raw["mutants"][:2], reference=raw["mutants"][0], held_out=raw["requirements"][:1])
    assert check.main([str(folder), "-n", "2"]) == 1
    said = capsys.readouterr().err
    for part in ("2 mutants; expected", "two wordings are alike", "its own test is not correct"):
        assert part in said, part
    change(folder, slots={"partner": "name", "tries": {"number": ["nobody", 2, 1]}})
    assert check.main([str(folder)]) == 1 and "axis train: 'nobody'" in capsys.readouterr().err
    change(folder, slots={"partner": "name", "tries": {"number": [9, 2, 1]}})
    assert check.main([str(folder)]) == 1 and "slot 'tries' goes from 9 to 2 by 1" in capsys.readouterr().err
    change(folder, inputs=3)
    assert check.main([str(folder)]) == 1 and "field 'inputs': 3" in capsys.readouterr().err


def test_an_axis_without_a_family_and_an_unknown_axis_are_refused(folder, monkeypatch):
    with pytest.raises(DomainError, match="no family on axis family"):
        draw(load(folder), 1, 0, "family")
    with pytest.raises(DomainError, match="axis 'other'"):
        draw(load(folder), 1, 0, "other")
    monkeypatch.setattr(domains, "made_up", lambda rng: "Velora")
    change(folder, slots={"partner": "name", "tries": {"number": [1, 4, 1]}})
    with pytest.raises(DomainError, match="on axis train; expected 99"):
        draw(load(folder), 99, 0)
