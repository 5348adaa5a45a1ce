"""Exact canonical form of a Sudoku puzzle under its full symmetry group.

The group: relabelling of digits, order of rows in a band, of bands, of columns in a stack, of stacks, and
transposition where boxes are square (sides 4 and 9; at side 6 it would change the boxes). Two puzzles have
the same `canonical` exactly when one can be turned into the other, so "disjoint up to symmetry" is a set
operation.

Side 9 has 3,359,232 cell maps, too many to try per puzzle. Instead each cell first gets a colour from counts
that no symmetry changes (clues in its row, column and box, how often its digit occurs). For each of the
1,296 row orders (twice, with transposition) the best column order then follows by sorting columns of colours;
only the few orders that tie for the smallest picture are written out in digits. About 1 ms a puzzle.
"""

import itertools
import math
from functools import cache

import numpy as np

from hrm_lab.puzzles.augment import augment
from hrm_lab.puzzles.sudoku import BOXES, parse


@cache
def line_orders(n: int, size: int) -> np.ndarray:
    """(orders, n): every order of n lines that keeps bands of `size` lines together."""
    within = list(itertools.permutations(range(size)))
    orders = [
        [band * size + i for band, inner in zip(bands, inners, strict=True) for i in inner]
        for bands in itertools.permutations(range(n // size))
        for inners in itertools.product(within, repeat=n // size)
    ]
    return np.array(orders)


def _colours(grid: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    """(n, n) small integers that are carried along by every symmetry of the puzzle except transposition."""
    n = len(grid)
    clue = (grid > 0).astype(np.int64)
    occurs = np.bincount(grid.ravel(), minlength=n + 1) * (np.arange(n + 1) > 0)
    row = np.repeat(clue.sum(1)[:, None], n, 1)
    column = np.repeat(clue.sum(0)[None, :], n, 0)
    boxes = clue.reshape(n // box[0], box[0], n // box[1], box[1]).sum((1, 3))
    boxed = boxes.repeat(box[0], 0).repeat(box[1], 1)
    code = (((clue * 16 + occurs[grid]) * 16 + row) * 16 + column) * 16 + boxed
    # One round of refinement: which colours share the row, the column, the digit (as sums of mixed codes).
    mixed = (code * 2654435761 + 97) % 1000003
    mixed = mixed * mixed % 1000003
    per_digit = np.bincount(grid.ravel(), weights=mixed.ravel(), minlength=n + 1).astype(np.int64)
    per_digit[0] = 0
    code = ((code * 7919 + mixed.sum(1)[:, None]) * 31 + mixed.sum(0)[None, :]) * 37 + per_digit[grid]
    return np.unique(code, return_inverse=True)[1].reshape(n, n)


def _sorted_stacks(keys: np.ndarray, size: int) -> np.ndarray:
    """(m, n) column keys with columns sorted inside stacks of `size`, and stacks sorted, row by row."""
    stacks = np.sort(keys.reshape(len(keys), -1, size), axis=2)
    count = stacks.shape[1]
    for last in range(count - 1, 0, -1):  # bubble sort of two or three stacks
        for i in range(last):
            a, b = stacks[:, i], stacks[:, i + 1]
            differ = a != b
            at = differ.argmax(1)[:, None]  # first position at which the stacks differ
            swap = np.take_along_axis(a > b, at, 1) & differ.any(1, keepdims=True)
            stacks[:, i], stacks[:, i + 1] = np.where(swap, b, a), np.where(swap, a, b)
    return stacks.reshape(len(keys), -1)


def _column_orders(keys: tuple[int, ...], size: int):
    """Every column order that sorts `keys` inside stacks and sorts the stacks (several where keys tie)."""
    n = len(keys)

    def sorting(items, key):
        ranked = sorted(items, key=key)
        ties = [list(group) for _, group in itertools.groupby(ranked, key=key)]
        return [[i for part in parts for i in part]
                for parts in itertools.product(*(itertools.permutations(t) for t in ties))]

    stacks = [range(s, s + size) for s in range(0, n, size)]
    profile = [tuple(sorted(keys[c] for c in stack)) for stack in stacks]
    for order in sorting(range(len(stacks)), lambda s: profile[s]):
        for inner in itertools.product(*(sorting(stacks[s], lambda c: keys[c]) for s in order)):
            yield [c for part in inner for c in part]


def _relabelled(grids: np.ndarray) -> np.ndarray:
    """(m, cells) grids with digits renamed 1, 2, ... in order of first appearance, row by row."""
    m, cells = grids.shape
    names = np.zeros((m, int(grids.max()) + 1), np.int64)
    fresh, out, rows = np.zeros(m, np.int64), np.zeros_like(grids), np.arange(m)
    for cell in range(cells):
        digit = grids[:, cell]
        new = (digit > 0) & (names[rows, digit] == 0)
        fresh += new
        names[rows[new], digit[new]] = fresh[new]
        out[:, cell] = names[rows, digit]
    return out


def canonical(puzzle) -> bytes:
    """The canonical form: n * n bytes, equal exactly for puzzles that are images of each other."""
    values = parse(puzzle)
    n = math.isqrt(len(values))
    box_rows, box_columns = BOXES[n]
    grid = np.array(values).reshape(n, n)
    orders = line_orders(n, box_rows)
    best, kept = None, []
    for view in (grid, grid.T) if box_rows == box_columns else (grid,):
        colours = _colours(view, (box_rows, box_columns))
        keys = np.zeros((len(orders), n), np.int64)  # (orders, column): the column of colours, read downwards
        for i in range(n):
            keys = keys * 81 + colours[orders[:, i]]
        pictures = _sorted_stacks(keys, box_columns)
        candidates = np.arange(len(orders))
        for column in range(n):
            values_here = pictures[candidates, column]
            candidates = candidates[values_here == values_here.min()]
        picture = tuple(pictures[candidates[0]])
        if best is None or picture < best:
            best, kept = picture, []
        if picture == best:
            kept += [(view, orders[c], tuple(keys[c])) for c in candidates]
    grids = np.array([view[order][:, columns].ravel() for view, order, key in kept
                      for columns in _column_orders(key, box_columns)])
    return min(map(bytes, _relabelled(grids).astype(np.uint8)))


def random_image(puzzles: np.ndarray, solutions: np.ndarray, n: int,
                 rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random symmetry for each puzzle and its solution; both (m, n * n) values with 0 for blank."""
    inputs, labels = augment("sudoku", puzzles.astype(np.int64) + 1, solutions.astype(np.int64) + 1,
                             (n, n, *BOXES[n]), rng)  # as tokens: 0 is padding there
    return inputs - 1, labels - 1
