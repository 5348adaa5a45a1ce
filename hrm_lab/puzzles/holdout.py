"""A validation part taken out of a training split, by whole symmetry classes.

Early stopping and the choice of the best weights look at this part, so that the test split is only ever judged on.
"""

from dataclasses import fields, replace

import numpy as np

from hrm_lab.puzzles.layout import IGNORE, Split
from hrm_lab.puzzles.mazes import canonical_maze
from hrm_lab.puzzles.sudoku_symmetry import canonical


def classes(split: Split) -> np.ndarray:
    """(N,) int: equal for examples that must stay on one side.

    Images of each other (sudoku, dihedral); else variants of one group, where there are groups; else equal scored
    inputs, such as one sequence to be copied and to be incremented.
    """
    if split.meta.augment == "sudoku":
        names = [canonical(tuple(row)) for row in (np.maximum(split.inputs, 1) - 1).tolist()]
    elif split.meta.augment == "dihedral":
        names = [canonical_maze(row, *split.meta.grid[:2]) for row in split.inputs]
    elif len(np.unique(split.groups)) < len(split):
        return split.groups
    else:
        names = [row.tobytes() for row in np.where(split.labels == IGNORE, -1, split.inputs)]
    return np.unique(np.array(names, dtype=object), return_inverse=True)[1]


def holdout(split: Split, n: int, seed: int = 0) -> tuple[Split, Split]:
    """(the rest, about n examples): no class of images is on both sides. ValueError if n leaves nothing over."""
    if not 0 < n < len(split):
        raise ValueError(f"holdout: got n = {n} of {len(split)} examples, expected 1 to {len(split) - 1}")
    names = classes(split)
    known, sizes = np.unique(names, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(known))
    taken = np.isin(names, known[order[:int(np.searchsorted(np.cumsum(sizes[order]), n)) + 1]])
    if taken.all():
        raise ValueError(f"holdout: got n = {n}, expected less: the examples are images of {len(order)} puzzles only")
    return part(split, ~taken), part(split, taken)


def part(split: Split, rows: np.ndarray) -> Split:
    """The examples at `rows` (N,) bool, in their order."""
    arrays = {f.name: getattr(split, f.name)[rows] for f in fields(Split)
              if f.name != "meta" and getattr(split, f.name) is not None}
    for name in ("groups", "puzzles"):
        if name in arrays:
            arrays[name] = np.unique(arrays[name], return_inverse=True)[1].astype(np.int32)
    meta = replace(split.meta, total_groups=int(arrays["groups"].max()) + 1,
                   total_puzzles=int(arrays.get("puzzles", arrays["groups"]).max()) + 1)
    return replace(split, meta=meta, **arrays)
