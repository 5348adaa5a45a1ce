"""Symmetries of puzzles: random ones for training, fixed ones for voting at test time.

`augment` draws a fresh symmetry for each example of a batch, vectorised (64 Sudokus take ~0.2 ms), where
the official code stores each image on disk. `symmetries` gives k maps with their inverses.

- sudoku: digits, rows in a band, bands, columns in a stack, stacks; transposition where boxes are square.
- dihedral: the eight rotations and flips (the four that keep the shape, where the grid is not square).
- arc: translation inside the 30x30 frame. Colour permutations and rotations change what an ARC task *is*,
  so as in the official data they are made at build time, each under its own puzzle identifier (arc.py).
"""

from functools import cache

import numpy as np

KINDS = ("none", "sudoku", "dihedral", "arc")
IGNORE = -100  # label of a cell that is not scored, as torch's cross-entropy has it
EOS, COLOUR0 = 1, 2  # ARC tokens: 0 pad, 1 end of row/column, 2..11 the colours 0..9


def _permutations(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape).argsort(axis=-1)


def _lines(rng: np.random.Generator, n: int, size: int, box: int) -> np.ndarray:
    """(n, size) random orders of rows (or columns) that keep the bands of `box` lines together."""
    bands = _permutations(rng, (n, size // box))
    within = _permutations(rng, (n, size // box, box))
    return (bands[:, :, None] * box + within).reshape(n, size)


def _sudoku_maps(n: int, grid: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n, T) source cell of each cell and (n, vocab) new id of each token."""
    rows, columns, box_rows, box_columns = grid
    row = _lines(rng, n, rows, box_rows)
    column = _lines(rng, n, columns, box_columns)
    cells = row[:, :, None] * columns + column[:, None, :]  # (n, rows, columns)
    if box_rows == box_columns:
        cells = np.where(rng.random((n, 1, 1)) < 0.5, cells.transpose(0, 2, 1), cells)
    tokens = np.empty((n, rows + 2), np.int64)
    tokens[:, :2] = (0, 1)  # pad and blank stay
    tokens[:, 2:] = _permutations(rng, (n, rows)) + 2
    return cells.reshape(n, rows * columns), tokens


@cache
def dihedral_cells(rows: int, columns: int) -> np.ndarray:
    """(8, T) source cell of each cell for the eight symmetries of a square, (4, T) for other rectangles."""
    cells = np.arange(rows * columns).reshape(rows, columns)
    turned = [cells, cells[::-1, ::-1], cells[::-1], cells[:, ::-1]]
    if rows == columns:
        turned += [np.rot90(cells), np.rot90(cells, 3), cells.T, cells[::-1, ::-1].T]
    return np.stack([np.ascontiguousarray(t).reshape(-1) for t in turned])


def _translate(tokens: np.ndarray, old: tuple[int, int], new: tuple[int, int], side: int) -> np.ndarray:
    """Move one encoded ARC grid (side * side,) so that its top left corner goes from `old` to `new`."""
    frame = tokens.reshape(side, side)
    colour = frame >= COLOUR0
    if not colour.any():
        return tokens.copy()
    height = int(colour.any(1).nonzero()[0][-1]) + 1 - old[0]
    width = int(colour.any(0).nonzero()[0][-1]) + 1 - old[1]
    out = np.zeros_like(frame)
    top, left = new
    out[top:top + height, left:left + width] = frame[old[0]:old[0] + height, old[1]:old[1] + width]
    if top + height < side:
        out[top + height, left:left + width] = EOS
    if left + width < side:
        out[top:top + height, left + width] = EOS
    return out.reshape(-1)


def _corner(colour: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, bottom, right (one past) of the cells that carry a colour; colour: (side, side) bool."""
    row, column = colour.any(1).nonzero()[0], colour.any(0).nonzero()[0]
    return (int(row[0]), int(column[0]), int(row[-1]) + 1, int(column[-1]) + 1) if len(row) else (0, 0, 0, 0)


def _arc(inputs: np.ndarray, labels: np.ndarray, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    new_inputs, new_labels = np.empty_like(inputs), np.empty_like(labels)
    for i, (source, target) in enumerate(zip(inputs, labels, strict=True)):
        plain = np.where(target < 0, 0, target)
        shapes = [_corner((t >= COLOUR0).reshape(side, side)) for t in (source, plain)]
        old = shapes[0][:2]  # input and output share their corner
        room = [side - max(s[2 + axis] for s in shapes) + old[axis] for axis in (0, 1)]
        new = (int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1)))
        new_inputs[i] = _translate(source, old, new, side)
        moved = _translate(plain, old, new, side)
        new_labels[i] = np.where(moved == 0, IGNORE, moved)  # also where the target filled the frame and had none
    return new_inputs, new_labels


def _check(kind: str, grid: tuple[int, ...] | None) -> None:
    if kind not in KINDS:
        raise ValueError(f"augment: kind {kind!r}; expected one of {', '.join(KINDS)}")
    if kind != "none" and (grid is None or len(grid) != 4):
        raise ValueError(f"augment: grid {grid!r} for kind {kind}; expected (rows, columns, box rows, box columns)")


def augment(kind: str, inputs: np.ndarray, labels: np.ndarray, grid: tuple[int, ...] | None,
            rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random symmetry for each row of `inputs` and `labels`, both (n, T). Negative labels (ignored) stay."""
    _check(kind, grid)
    n = len(inputs)
    if kind == "none":
        return inputs, labels
    if kind == "arc":
        return _arc(inputs, labels, grid[0], rng)
    if kind == "dihedral":
        table = dihedral_cells(grid[0], grid[1])
        cells = table[rng.integers(len(table), size=n)]
        return np.take_along_axis(inputs, cells, 1), np.take_along_axis(labels, cells, 1)
    cells, tokens = _sudoku_maps(n, grid, rng)
    inputs = np.take_along_axis(tokens, np.take_along_axis(inputs, cells, 1), 1)
    labels = np.take_along_axis(labels, cells, 1)
    ignored = labels < 0
    mapped = np.take_along_axis(tokens, np.where(ignored, 0, labels), 1)
    return inputs, np.where(ignored, labels, mapped)


def _pair(cells: np.ndarray, tokens: np.ndarray | None):
    back = np.argsort(cells)
    if tokens is None:
        return (lambda x: x[:, cells]), (lambda x: x[:, back])
    tokens_back = np.argsort(tokens)
    return (lambda x: tokens[x[:, cells]]), (lambda x: tokens_back[x[:, back]])


def symmetries(kind: str, grid: tuple[int, ...] | None, k: int, rng: np.random.Generator) -> list:
    """k pairs (apply, invert) for voting: `apply` maps inputs (n, T), `invert` maps predictions (n, T) back.

    The first pair is the identity. For dihedral at most eight (four) exist, and fewer pairs come back.
    For arc, voting runs over the puzzle's variants instead (arc.vote), so only the identity comes back.
    """
    _check(kind, grid)
    pairs = [(lambda x: x, lambda x: x)]
    if kind == "dihedral":
        table = dihedral_cells(grid[0], grid[1])
        chosen = 1 + rng.permutation(len(table) - 1)[:k - 1]
        pairs += [_pair(table[i], None) for i in chosen]
    elif kind == "sudoku":
        cells, tokens = _sudoku_maps(k - 1, grid, rng)
        pairs += [_pair(cells[i], tokens[i]) for i in range(k - 1)]
    return pairs
