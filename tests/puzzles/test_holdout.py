"""The validation part shares no symmetry class with what remains for training."""

import numpy as np
import pytest

from hrm_lab.puzzles.generators import build
from hrm_lab.puzzles.holdout import classes, holdout
from hrm_lab.puzzles.layout import load, save


@pytest.mark.parametrize("task", ["sudoku-4x4", "sudoku-6x6", "maze-6x6", "copy-increment"])
def test_parts_are_disjoint_up_to_symmetry_and_nothing_is_lost(tmp_path, task):
    train, _ = build(task, tmp_path, 200, 20, seed=3)
    rest, valid = holdout(train, 40, seed=0)
    assert 40 <= len(valid) <= 60 and len(rest) + len(valid) == 200
    rows = {r.tobytes() for r in train.inputs}
    assert {r.tobytes() for r in rest.inputs} | {r.tobytes() for r in valid.inputs} == rows
    names = dict(zip(map(bytes, train.inputs.astype(np.uint8)), classes(train).tolist(), strict=True))
    mine = [{names[bytes(r)] for r in part.inputs.astype(np.uint8)} for part in (rest, valid)]
    assert not mine[0] & mine[1]
    save(tmp_path, "valid", valid)
    assert len(load(tmp_path, "valid")) == len(valid)


@pytest.mark.parametrize("task", ["copy-increment", "copy-increment-untyped"])
def test_a_sequence_to_copy_and_to_increment_stays_on_one_side(tmp_path, task):
    train, _ = build(task, tmp_path, 2000, 20, seed=3)
    rest, valid = holdout(train, 200, seed=0)
    sequences = [{row.tobytes() for row in part.inputs[:, 1:]} for part in (rest, valid)]
    assert len(valid) == 200 and len(sequences[1]) == 100 and not sequences[0] & sequences[1]


def test_images_of_one_4x4_puzzle_stay_together(tmp_path):
    train, _ = build("sudoku-4x4", tmp_path, 1200, 20, seed=0)
    assert len(np.unique(classes(train))) < 1200  # several images of a class: a random split would leak
    _, again = holdout(train, 100, seed=1)
    _, same = holdout(train, 100, seed=1)
    assert np.array_equal(again.inputs, same.inputs)


def test_too_much_is_refused(tmp_path):
    train, _ = build("sudoku-4x4", tmp_path, 30, 5, seed=0)
    with pytest.raises(ValueError, match="got n = 30 of 30 examples, expected 1 to 29"):
        holdout(train, 30)
