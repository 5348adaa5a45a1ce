"""Programs and edits as numbers: tokens, changes, hashed features, and the linear prior on them."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.runs import CheckpointError
from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.features import SIZE, WIDTH, features
from hrm_lab.swe.languages import lex
from hrm_lab.swe.linear import LinearPrior, rank
from hrm_lab.swe.policy_data import drawn, example, generate, load, save, simulated
from hrm_lab.swe.reading import ADDED, ADDED_WIDTH, BUCKETS, KEPT, PREFIX, TOKEN_WIDTH, Reading, error_types

PROGRAM = '''def scale(values, factor):
    """Scale the values."""
    total = 0
    for item in values:
        if item > 0:
            total += item * factor
    return total
'''
MORE = '''def span(left, right):
    while left < right:
        left = left + 1
        if left % 3 == 0:
            right = right - left
    return max(left, right), min(left, right)
'''
EDITS = candidates(PROGRAM)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EDITS))
def test_a_change_of_tokens_is_the_edit(edit):
    reading = Reading(PROGRAM)
    i, j, new = reading.added(edit)
    new = [old for text in new for old in (reading.texts[i:j] if text == KEPT else [text])]
    wanted = [text for text in lex("\n" + apply(PROGRAM, edit), "python") if text[0] != "\n"]
    assert reading.texts[:i] + new + reading.texts[j:] == wanted


def test_something_put_around_tokens_is_seen_as_such():
    reading = Reading("x = f(a)\n")
    assert reading.added(Edit("wrap-call", 4, 8, "abs(f(a))")) == (2, 6, ["abs", "(", KEPT, ")"])


def test_names_have_classes_and_aliases_in_order():
    reading = Reading(PROGRAM)
    assert reading.names == {"scale": "own", "values": "param", "factor": "param", "total": "var", "item": "loop"}
    assert list(reading.aliases.values()) == list(range(5))
    assert reading.classify("strange") == "new" and reading.classify("len") == "len"


def test_features_do_not_depend_on_the_names_of_a_program():
    other = PROGRAM
    for old, new in (("scale", "qwert"), ("values", "zxcvbn"), ("factor", "asdfgh"), ("total", "poiuy"),
                     ("item", "lkjh")):
        other = other.replace(f"{old}", new) if old != "values" else other.replace("the values", "the 123456").replace(
            old, new)
    edit = Edit("comparison", PROGRAM.index(">"), PROGRAM.index(">") + 1, ">=")
    moved = Edit("comparison", other.index(">"), other.index(">") + 1, ">=")
    assert (features(PROGRAM, [edit]) == features(other, [moved])).all()


def test_features_are_small_numbers_and_rows_can_be_picked():
    found = features(PROGRAM, EDITS)
    assert found.shape == (len(EDITS), WIDTH) and found.dtype == np.uint16 and (found[:, 0] > 0).all()
    assert (features(PROGRAM, EDITS, rows=[5, 2]) == found[[5, 2]]).all()


def test_evidence_changes_features_and_tokens():
    line = PROGRAM[:PROGRAM.index("total +=")].count("\n") + 1
    known = Evidence(("a",), (), {"a": "IndexError: list index out of range"}, {line: 1.0, 3: 0.2}, 1)
    edit = next(edit for edit in EDITS if PROGRAM.count("\n", 0, edit.start) + 1 == line)
    assert (features(PROGRAM, [edit], known) != features(PROGRAM, [edit])).any()
    assert (features(PROGRAM, [edit], Evidence.none()) == features(PROGRAM, [edit], None)).all()
    assert (Reading(PROGRAM, evidence=known).token_ids() != Reading(PROGRAM).token_ids()).any()
    assert error_types(known) == ("IndexError",) and error_types(None) == ()


def test_arrays_of_the_policy_are_in_range():
    reading = Reading(PROGRAM)
    tokens, edits = reading.token_ids(), reading.edit_ids(EDITS)
    assert tokens.shape == (PREFIX + len(reading.texts), TOKEN_WIDTH) and 0 <= tokens.min() <= tokens.max() < BUCKETS
    assert edits["added"].shape == (len(EDITS), ADDED * ADDED_WIDTH) and edits["added"].max() < BUCKETS
    assert (edits["span"][:, 0] >= PREFIX).all() and (edits["span"] <= len(tokens)).all()
    assert (edits["span"][:, 0] <= edits["span"][:, 1]).all() and (edits["pointer"] < len(tokens)).all()
    with pytest.raises(ValueError, match="expected code"):
        Reading("  \n")


@pytest.mark.parametrize("language, code", [
    ("javascript", "function f(a, b) {\n  let c = a < b;\n  return c ? a : b;\n}\n"),
    ("go", "package main\n\nfunc f(a int, b int) int {\n\tif a < b {\n\t\treturn a\n\t}\n\treturn b\n}\n"),
    ("java", "class A {\n  int f(int a, int b) {\n    return a < b ? a : b;\n  }\n}\n"),
    ("cpp", "int f(int a, int b) {\n  return a < b ? a : b;\n}\n"),
    ("rust", "fn f(a: i32, b: i32) -> i32 {\n    if a < b { a } else { b }\n}\n")])
def test_every_language_can_be_read(language, code):
    edits = candidates(code, language)
    scores = LinearPrior(np.zeros(SIZE, np.float32)).scores(code, edits, None, language)
    assert len(edits) and np.allclose(np.exp(scores).sum(), 1) and Reading(code, language).edit_ids(edits)


# ---------------------------------------------------------------- examples and the linear prior


@pytest.fixture(scope="module")
def examples():
    return list(generate([PROGRAM, MORE], 12, 0, rivals=40))


def test_examples_hold_the_repair_first_and_survive_a_file(examples, tmp_path):
    save(tmp_path / "train-0.npz", examples)
    back = load(tmp_path / "train-0.npz")
    assert len(back) == 12
    for e, b in zip(examples, back, strict=True):
        assert e.weight[0] == 0 and len(e.weight) <= 41 and (e.weight[1:] > 0).all()
        assert all((getattr(e, name) == getattr(b, name)).all() for name in ("tokens", "span", "added", "wide"))


def test_a_drawn_bug_is_undone_by_its_first_edit():
    for seed in range(5):
        code, edits = drawn(PROGRAM, random.Random(seed))
        assert code != PROGRAM and lex(apply(code, edits[0]), "python") == lex(PROGRAM, "python")
        assert len({Reading(code).added(edit)[2].__str__() + str((edit.start, edit.end)) for edit in edits}) > 10


def test_an_example_with_all_rivals_stands_for_itself():
    code, edits = drawn(PROGRAM, random.Random(0))
    assert len(set(example(code, edits, None, random.Random(0), rivals=10).weight[1:])) == 1


def test_made_up_evidence_mostly_suspects_the_line_of_the_bug():
    found = [simulated(PROGRAM, 6, random.Random(seed)) for seed in range(200)]
    known = [one.suspicion for one in found if one is not None]
    assert 100 < len(known) < 180
    assert sum(one[6] == max(one.values()) for one in known) > 0.85 * len(known)
    assert any(min(one.values()) < 1 for one in known)


def test_the_linear_prior_learns_its_examples_and_survives_a_file(examples, tmp_path):
    prior = LinearPrior.fit(examples, epochs=10, rate=0.05)
    before = [rank(np.zeros(len(e.kind))) for e in examples]
    after = [rank(prior.weights[e.wide].sum(1)) for e in examples]
    assert np.mean(after) < 0.3 * np.mean(before)
    prior.save(tmp_path / "linear.safetensors")
    back = LinearPrior.load(tmp_path / "linear.safetensors")
    scores = back.scores(PROGRAM, EDITS, Evidence.none())
    assert np.allclose(np.exp(scores).sum(), 1) and (back.weights == prior.weights).all() and back.weights[0] == 0
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        LinearPrior.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="expected"):
        LinearPrior(np.zeros(3))
