"""Solver against known puzzles and brute force, effort, one-line errors, exact canonical forms."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.puzzles.sudoku import PuzzleError, check_puzzle, grade, parse, solve
from hrm_lab.puzzles.sudoku_build import _images, classes_4x4, random_puzzle, sudoku
from hrm_lab.puzzles.sudoku_symmetry import canonical, line_orders, random_image

EASY = """53..7.... 6..195... .98....6. 8...6...3 4..8.3..1 7...2...6 .6....28. ...419..5 ....8..79"""
EASY_SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."


def brute_force(clues):
    """All solutions of a 4x4 puzzle, by trying every value: the solver's reference."""
    if 0 not in clues:
        return [tuple(clues)]
    cell, found = clues.index(0), []
    row, column = divmod(cell, 4)
    for digit in range(1, 5):
        if all(clues[i] != digit for i in range(16)
               if i // 4 == row or i % 4 == column or (i // 8 == row // 2 and i % 4 // 2 == column // 2)):
            found += brute_force(clues[:cell] + [digit] + clues[cell + 1:])
    return found


def test_known_solution():
    assert "".join(map(str, check_puzzle(EASY))) == EASY_SOLVED


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=16, max_size=16), st.lists(st.booleans(), min_size=16, max_size=16))
def test_all_solutions_agree_with_brute_force(digits, kept):
    clues = [d if k else 0 for d, k in zip(digits, kept, strict=True)]
    try:
        parse(clues)
    except PuzzleError:
        clues = [0] * 15 + [max(digits)]
    assert sorted(solve(clues, limit=500)) == sorted(brute_force(clues))


def test_there_are_288_grids_of_side_4_and_limit_is_kept():
    assert len(solve("." * 16, limit=1000)) == 288
    assert len(solve("." * 81, limit=2)) == 2


def test_effort_is_zero_for_singles_and_large_for_a_famous_hard_one():
    assert grade(EASY).guesses == 0 and grade(EASY).clues == 30 and grade(EASY).difficulty < 0.05
    assert grade(HARD).guesses > 100 and grade(HARD).difficulty == 1.0


@pytest.mark.parametrize(("puzzle", "parts"), [
    ("1234", ["4 cells", "16, 36 or 81"]),
    ("12345678" * 2, ["'5'", "cell 5", "1-4"]),
    (EASY.replace("53", "5x", 1), ["'x'", "cell 2", "1-9"]),
    ("11" + "." * 14, ["digit 1 twice in row 1", "cells 1 and 2"]),
    ("1...1" + "." * 11, ["digit 1 twice in column 1", "cells 1 and 5"]),
    ("1....1" + "." * 10, ["digit 1 twice in box 1", "cells 1 and 6"]),
    ([0] * 35 + [7], ["7 at cell 36", "0..6"]),
    ("123." + "...4" + "." * 8, ["no solution", "4 clues", "exactly one"]),
    ("." * 81, ["several solutions", "exactly one"]),
    (EASY.replace("5", ".").replace("3", "."), ["several solutions", "row ", "can be"]),
])
def test_bad_puzzles_are_refused_in_one_line(puzzle, parts):
    with pytest.raises(PuzzleError) as error:
        check_puzzle(puzzle)
    text = str(error.value)
    assert "\n" not in text
    for part in [*parts, "expected"]:
        assert part in text, text


def all_images_4x4(puzzle):
    """Every image of a 4x4 puzzle, by composing the group's parts one at a time."""
    grid, out = np.array(puzzle).reshape(4, 4), set()
    for rows in line_orders(4, 2):
        for columns in line_orders(4, 2):
            moved = grid[rows][:, columns]
            for view in (moved, moved.T):
                for digits in itertools.permutations(range(1, 5)):
                    out.add(bytes(np.array([0, *digits], np.uint8)[view.ravel()]))
    return out


def test_canonical_form_is_exact_at_side_4():
    """Same form exactly when one puzzle is an image of the other: checked against whole orbits."""
    classes = [clues for clues, _ in classes_4x4()]
    forms = [canonical(clues) for clues in classes]
    assert len(set(forms)) == len(classes)  # no two classes are merged
    for clues, form in list(zip(classes, forms, strict=True))[::150]:
        images = sorted(all_images_4x4(clues))
        assert {canonical(list(image)) for image in images[::37]} == {form}
        assert form in images


def test_classes_of_side_4_are_counted_as_published():
    """13 classes of 4-clue puzzles is the known count; 1,183 with 5-7 clues was found independently."""
    counts = {}
    for clues, solution in classes_4x4():
        counts[sum(map(bool, clues))] = counts.get(sum(map(bool, clues)), 0) + 1
        if len(counts) == 1:
            assert solve(clues) == [solution]
    assert counts[4] == 13 and sum(counts[k] for k in (5, 6, 7)) == 1183


@settings(max_examples=20, deadline=None)
@given(n=st.sampled_from([4, 6, 9]), seed=st.integers(0, 2**32))
def test_canonical_form_survives_symmetries(n, seed):
    clues = FIXED[n]
    image, _ = random_image(np.array([clues]), np.array([clues]), n, np.random.default_rng(seed))
    assert canonical(image[0].tolist()) == canonical(clues)


FIXED = {
    4: [1, 2, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 4],
    6: [0, 0, 0, 1, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 5, 0, 1, 0, 0, 6, 0, 0, 0, 0, 0, 3, 0, 2, 0, 0, 4, 0, 0],
    9: list(parse(HARD)),
}


def test_canonical_form_tells_apart_what_differs_by_one_clue_and_what_is_only_transposed_at_side_6():
    for clues in FIXED.values():
        cell = clues.index(next(c for c in clues if c))
        assert canonical([0 if i == cell else c for i, c in enumerate(clues)]) != canonical(clues)
    flipped = np.array(FIXED[6]).reshape(6, 6).T
    assert canonical(flipped.ravel().tolist()) != canonical(FIXED[6])


@pytest.mark.parametrize(("n", "band", "n_train", "n_test"), [
    (4, "mixed", 300, 300), (6, "mixed", 60, 30), (6, "hard", 20, 10), (6, "extreme", 8, 4),
    (9, "mixed", 12, 6), (9, "hard", 8, 4), (9, "extreme", 2, 1)])
def test_built_sets_have_one_solution_and_are_disjoint_up_to_symmetry(n, band, n_train, n_test):
    train, test = sudoku(n, n_train, n_test, seed=2, difficulty=band)
    assert len(train) == n_train and len(test) == n_test
    for split in (train, test):
        assert len(np.unique(split.inputs, axis=0)) == len(split)
        for puzzle, label in zip(split.inputs.tolist(), split.labels.tolist(), strict=True):
            assert solve([t - 1 for t in puzzle]) == [tuple(t - 1 for t in label)]
    forms = [{canonical((row - 1).tolist()) for row in split.inputs} for split in (train, test)]
    assert not forms[0] & forms[1]
    assert n == 4 or len(forms[0]) == n_train


def test_bands_take_turns_and_are_tasks_of_their_own():
    train, test = sudoku(6, 13, 5, seed=2, difficulty="mixed+mixed+extreme")
    assert train.meta.tasks == ("mixed", "extreme")
    assert np.concatenate((test.tasks, train.tasks)).tolist() == [0, 0, 1] * 6
    for split in (train, test):  # the band's promise holds for its own rows
        assert all(grade((row - 1).tolist()).guesses >= 2 for row in split.inputs[split.tasks == 1])
    plain = sudoku(6, 13, 5, seed=2)[0]
    assert plain.meta.tasks == ("all",) and not plain.tasks.any()


def test_extreme_puzzles_need_thirty_guesses_and_no_clue_is_spare():
    clues, solution, guesses, _ = random_puzzle(9, "extreme", random.Random(4))
    assert guesses >= 30 and grade(clues).guesses == guesses and check_puzzle(clues) == solution
    for cell in [i for i, digit in enumerate(clues) if digit]:
        assert len(solve([0 if i == cell else d for i, d in enumerate(clues)])) == 2


def test_images_of_a_puzzle_that_is_there_already_are_dropped(monkeypatch):
    """Every drawn puzzle is an image of one of twenty: a set of twenty takes each once."""
    draw, rng = random.Random(0), np.random.default_rng(0)
    pool = [random_puzzle(6, "mixed", draw) for _ in range(20)]

    def drawn(n, band, again):
        clues, solution, *effort = again.choice(pool)
        image = random_image(np.array([clues]), np.array([solution]), n, rng)
        return image[0][0].tolist(), tuple(image[1][0].tolist()), *effort

    monkeypatch.setattr("hrm_lab.puzzles.sudoku_build.random_puzzle", drawn)
    train, test = sudoku(6, 12, 8, seed=0)
    forms = [canonical((row - 1).tolist()) for row in np.concatenate([train.inputs, test.inputs])]
    assert sorted(forms) == sorted(canonical(clues) for clues, *_ in pool)


def test_same_seed_same_puzzles():
    one, two, three = (sudoku(6, 5, 5, seed=s)[0].inputs for s in (7, 7, 8))
    assert np.array_equal(one, two) and not np.array_equal(one, three)


@pytest.mark.parametrize(("arguments", "text"), [
    ((5, 1, 1, 0), "side 5; expected one of 4, 6, 9"),
    ((9, 1, 1, 0, "easy"), "difficulty 'easy'; expected one of mixed, hard, extreme"),
    ((4, 1, 1, 0, "hard"), "sudoku-4x4: difficulty 'hard'; expected mixed"),
])
def test_bad_requests_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        sudoku(*arguments)


def test_more_puzzles_than_side_4_has_are_refused():
    with pytest.raises(ValueError, match="100,000 puzzles asked for; expected at most about"):
        _images(list(classes_4x4()[:1]), 100_000, np.random.default_rng(0))
