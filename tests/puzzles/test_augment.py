"""Augmentation keeps puzzles valid; voting symmetries invert exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.puzzles import arc
from hrm_lab.puzzles.augment import augment, dihedral_cells, symmetries
from hrm_lab.puzzles.layout import IGNORE
from hrm_lab.puzzles.mazes import mazes, shortest_paths
from hrm_lab.puzzles.sudoku import BOXES, solve
from hrm_lab.puzzles.sudoku_build import sudoku

GRIDS = {n: (n, n, *BOXES[n]) for n in BOXES}


@pytest.fixture(scope="module")
def sudokus():
    return {n: sudoku(n, 6, 2, seed=1)[0] for n in BOXES}


@settings(max_examples=15, deadline=None)
@given(n=st.sampled_from(sorted(BOXES)), seed=st.integers(0, 2**32))
def test_sudoku_images_keep_their_one_solution(sudokus, n, seed):
    split = sudokus[n]
    inputs, labels = augment("sudoku", split.inputs, split.labels, GRIDS[n], np.random.default_rng(seed))
    for puzzle, solution in zip(inputs, labels, strict=True):
        assert solve((puzzle - 1).tolist()) == [tuple(solution - 1)]


def test_sudoku_images_reach_the_whole_group():
    """All 24 * 128 images of a 4x4 puzzle that has no symmetry of its own occur, transposed ones included."""
    puzzle = np.array([int(c) for c in "1200000100200004"]) + 1
    rows = np.repeat(puzzle[None], 60_000, 0)
    images = augment("sudoku", rows, rows, GRIDS[4], np.random.default_rng(0))[0]
    assert len(set(map(bytes, images.astype(np.uint8)))) == 24 * 128


def test_ignored_labels_stay_ignored():
    labels = np.full((3, 16), IGNORE)
    labels[:, 0] = 2
    _, out = augment("sudoku", np.full((3, 16), 1), labels, GRIDS[4], np.random.default_rng(0))
    assert ((out >= 2).sum(1) == 1).all() and ((out == IGNORE).sum(1) == 15).all()


@settings(max_examples=15, deadline=None)
@given(shape=st.sampled_from([(10, 10), (6, 9)]), seed=st.integers(0, 2**32))
def test_maze_images_keep_a_shortest_path(shape, seed):
    split = mazes(*shape, 4, 1, seed=0)[0]
    inputs, labels = augment("dihedral", split.inputs, split.labels, (*shape, 1, 1), np.random.default_rng(seed))
    assert np.array_equal(np.sort(inputs, 1), np.sort(split.inputs, 1))
    rows, columns = shape
    beside = [[r * columns + c for r, c in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
               if 0 <= r < rows and 0 <= c < columns] for i in range(rows) for j in range(columns)]
    for maze, path in zip(inputs.tolist(), labels.tolist(), strict=True):
        distance, ways = shortest_paths([t != 1 for t in maze], beside, maze.index(3))
        assert ways[maze.index(4)] == 1 and distance[maze.index(4)] == path.count(5) + 1
        assert sorted(distance[i] for i, t in enumerate(path) if t == 5) == list(range(1, path.count(5) + 1))


def test_there_are_eight_dihedral_images_of_a_square_and_four_of_a_rectangle():
    assert len(np.unique(dihedral_cells(3, 3), axis=0)) == 8
    assert len(np.unique(dihedral_cells(2, 3), axis=0)) == 4


@pytest.mark.parametrize(("kind", "grid", "vocabulary", "count"), [
    ("sudoku", GRIDS[9], 11, 10), ("sudoku", GRIDS[6], 8, 10), ("dihedral", (10, 10, 1, 1), 6, 8),
    ("dihedral", (4, 6, 1, 1), 6, 4), ("none", None, 6, 1), ("arc", (30, 30, 1, 1), 12, 1)])
def test_symmetries_invert_and_start_with_the_identity(kind, grid, vocabulary, count):
    rng = np.random.default_rng(0)
    cells = grid[0] * grid[1] if grid else 12
    x = rng.integers(0, vocabulary, (5, cells))
    pairs = symmetries(kind, grid, 10, rng)
    assert len(pairs) == count
    assert np.array_equal(pairs[0][0](x), x)
    images = [apply(x) for apply, _ in pairs]
    assert len({image.tobytes() for image in images}) == count
    assert all(np.array_equal(invert(image), x) for (_, invert), image in zip(pairs, images, strict=True))


def test_a_target_that_fills_the_frame_and_is_moved_is_not_scored_where_it_left():
    source, target = np.full((1, 1), 3), np.full((29, 30), 5)  # 29 rows and their end fill all 30
    inputs, labels = (arc.encode(grid)[None] for grid in (source, target))
    moved = [augment("arc", inputs, labels, (30, 30, 1, 1), np.random.default_rng(seed))[1] for seed in range(8)]
    assert {int((m == IGNORE).sum()) for m in moved} == {0, 30}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_arc_translation_moves_input_and_output_together(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shapes = [tuple(data.draw(st.integers(1, 30)) for _ in range(2)) for _ in range(2)]
    source, target = (rng.integers(0, 10, shape) for shape in shapes)
    label = arc.encode(target)
    label = np.where(label == 0, IGNORE, label)
    inputs, labels = augment("arc", arc.encode(source)[None], label[None], (30, 30, 1, 1), rng)
    corners = []
    for tokens, grid in ((inputs[0], source), (labels[0], target)):
        frame = np.where(tokens < 0, 0, tokens).reshape(30, 30)
        top, left = (int((frame >= 2).any(axis).argmax()) for axis in (1, 0))
        corners.append((top, left))
        height, width = grid.shape
        assert np.array_equal(frame[top:top + height, left:left + width], grid + 2)
        ends = (width if top + height < 30 else 0) + (height if left + width < 30 else 0)
        assert (frame == 1).sum() == ends and (frame > 0).sum() == grid.size + ends
    assert corners[0] == corners[1]
    assert ((labels[0] == IGNORE) == (np.where(labels[0] < 0, 0, labels[0]) == 0)).all()


def test_unknown_kind_and_missing_grid_are_refused():
    x = np.zeros((1, 4), np.int64)
    with pytest.raises(ValueError, match="kind 'flip'; expected one of none, sudoku, dihedral, arc"):
        augment("flip", x, x, None, np.random.default_rng(0))
    with pytest.raises(ValueError, match="grid None for kind sudoku; expected"):
        augment("sudoku", x, x, None, np.random.default_rng(0))
