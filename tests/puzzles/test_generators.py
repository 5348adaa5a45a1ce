"""Copy/increment and mazes are what they say; `build` refuses what it does not know."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.puzzles.dataset import IGNORE, load
from hrm_lab.puzzles.generators import build
from hrm_lab.puzzles.mazes import canonical_maze, mazes, neighbours, random_maze, shortest_paths
from hrm_lab.puzzles.toys import copy_increment


def test_copy_increment_targets_wrap_and_score_only_the_digits():
    train, _ = copy_increment(2000, 200, seed=0)
    digits, targets = train.inputs[:, 1:] - 1, train.labels[:, 1:] - 1
    used = digits >= 0
    assert (train.labels[:, 0] == IGNORE).all() and ((targets < 0) == ~used).all()
    raised = (digits + train.tasks[:, None]) % 10
    assert np.array_equal(targets[used], raised[used])
    assert ((digits == 9) & (targets == 0) & (train.tasks == 1)[:, None]).any()  # the wrap occurs
    assert set(used.sum(1)) == set(range(8, 17))
    assert np.array_equal(train.inputs[:, 0], 11 + train.tasks)


@pytest.mark.parametrize("typed", [True, False])
def test_copy_increment_is_balanced_and_test_is_unseen(typed):
    train, test = copy_increment(2000, 200, seed=0, typed=typed)
    for split in (train, test):
        assert np.bincount(split.tasks).tolist() == [len(split) // 2] * 2
    assert len(np.unique(np.concatenate([train.inputs, test.inputs])[:, 1:], axis=0)) == 1100
    assert len(np.unique(train.inputs[:, 0])) == (2 if typed else 1)


def test_odd_sizes_of_copy_increment_are_refused():
    with pytest.raises(ValueError, match="n_train is 7; expected an even number"):
        copy_increment(7, 2, 0)


def shortest(tokens, columns):
    """All shortest paths from S to G by plain depth-first search over growing lengths."""
    rows = len(tokens) // columns
    start, goal = tokens.index(3), tokens.index(4)

    def steps(cell):
        r, c = divmod(cell, columns)
        return [i * columns + j for i, j in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1))
                if 0 <= i < rows and 0 <= j < columns and tokens[i * columns + j] != 1]

    level, paths = {start: [[start]]}, None
    seen = {start}
    while level and paths is None:
        following = {}
        for cell, found in level.items():
            for other in steps(cell):
                if other not in seen:
                    following.setdefault(other, []).extend([*p, other] for p in found)
        seen |= set(following)
        paths, level = following.get(goal), following
    return paths


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(4, 12), columns=st.integers(4, 12), seed=st.integers(0, 2**32))
def test_mazes_have_exactly_the_marked_shortest_path(rows, columns, seed):
    tokens, target, steps = random_maze(rows, columns, random.Random(seed))
    paths = shortest(tokens, columns)
    assert len(paths) == 1 and len(paths[0]) - 1 == steps
    assert sorted(paths[0][1:-1]) == [i for i, t in enumerate(target) if t == 5]
    assert [a for a, b in zip(tokens, target, strict=True) if a != b] == [2] * (steps - 1)
    assert tokens.count(3) == tokens.count(4) == 1


def test_mazes_are_disjoint_up_to_rotation_and_reflection():
    train, test = mazes(6, 6, 150, 50, seed=0)
    forms = [canonical_maze(row, 6, 6) for row in np.concatenate([train.inputs, test.inputs])]
    assert len(set(forms)) == 200
    assert canonical_maze(np.rot90(train.inputs[0].reshape(6, 6)).ravel(), 6, 6) == forms[0]
    assert train.difficulty.max() <= 1 and train.difficulty.std() > 0.05


def test_smaller_mazes_stand_in_walls_with_their_path():
    train, test = mazes(8, 9, 40, 20, seed=0, sides="5+6")
    assert train.meta.tasks == ("5x5", "6x6") and set(train.tasks) == {0, 1} and train.meta.grid == (8, 9, 1, 1)
    beside = neighbours(8, 9)
    for tokens, target, task in zip(*(np.concatenate([getattr(part, name) for part in (train, test)]).tolist()
                                      for name in ("inputs", "labels", "tasks")), strict=True):
        grid, side = np.reshape(tokens, (8, 9)), 5 + task
        where = np.argwhere(grid != 1)
        assert (np.ptp(where, axis=0) < side).all()
        distance, ways = shortest_paths([t != 1 for t in tokens], beside, tokens.index(3))
        assert ways[tokens.index(4)] == 1 and distance[tokens.index(4)] == target.count(5) + 1


def test_a_30x30_maze_is_long():
    tokens, _, steps = random_maze(30, 30, random.Random(0))
    assert len(tokens) == 900 and steps > 40


@pytest.mark.parametrize(("task", "vocabulary", "augment"), [
    ("copy-increment", 14, "none"), ("copy-increment-untyped", 14, "none"), ("sudoku-4x4", 6, "sudoku"),
    ("sudoku-6x6", 8, "sudoku"), ("sudoku-9x9", 11, "sudoku"), ("maze-10x10", 6, "dihedral"),
    ("maze-5x7", 6, "dihedral")])
def test_build_saves_what_it_returns(tmp_path, task, vocabulary, augment):
    built = build(task, tmp_path, 20, 10, seed=1)
    for name, split in zip(("train", "test"), built, strict=True):
        again = load(tmp_path, name)
        assert np.array_equal(again.inputs, split.inputs) and np.array_equal(again.labels, split.labels)
        assert again.meta.vocab_size == vocabulary and again.meta.augment == augment
        assert again.meta.name.startswith(task) and len(again.meta.tokens) == vocabulary
    assert [len(split) for split in built] == [20, 10]


@pytest.mark.parametrize(("task", "options", "text"), [
    ("chess", {}, "task 'chess'; expected one of copy-increment, copy-increment-untyped, sudoku-4x4"),
    ("sudoku-9x9", {"level": 3}, "option 'level' for task sudoku-9x9; expected difficulty"),
    ("maze-10x10", {"difficulty": "hard"}, "option 'difficulty' for task maze-10x10; expected sides"),
    ("maze-10x10", {"sides": "6+12"}, "side '12' in '6+12'; expected 4..10, joined by +"),
    ("maze-3x40", {}, "3 rows; expected 4..30"),
    ("sudoku-4x4", {"n_train": 0}, "n_train is 0 for task sudoku-4x4; expected at least 1"),
    ("maze-4x4", {"n_train": 100_000, "n_test": 1}, "mazes asked for; expected fewer"),
    ("arc-1", {"path": "nowhere.whl"}, "nowhere.whl"),
])
def test_build_refuses_in_one_line(tmp_path, monkeypatch, task, options, text):
    if task == "maze-4x4":  # a grid with one maze only, so that the search ends at once
        monkeypatch.setattr("hrm_lab.puzzles.mazes.random_maze", lambda *_: ([2] * 16, [2] * 16, 3))
        options = {"n_train": 100, "n_test": 1}
    with pytest.raises(ValueError) as error:
        build(task, tmp_path, **options)
    assert text in str(error.value) and "\n" not in str(error.value)
