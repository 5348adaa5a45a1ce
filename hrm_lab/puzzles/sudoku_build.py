"""Sudoku datasets: enumeration at side 4, digging and hill-climbing on effort at sides 6 and 9.

Every puzzle has exactly one solution (the solver proves it) and a measured effort (sudoku.grade). No test
puzzle is an image of a train puzzle under any symmetry, and no two puzzles of a split are, except at side 4,
where there are too few classes and a split holds several images of one class.

Bands (`difficulty`): "mixed" is minimal puzzles with some clues given back; "hard" is minimal puzzles (at side
9 such that singles alone do not solve them); "extreme" is climbed: clues are given back at random and dug out
again, and the change is kept when the effort does not fall. Bands joined by "+" take turns, each a task of its
own in the dataset: "mixed+mixed+extreme" has two mixed puzzles for each extreme one.
"""

import random
from functools import cache

import numpy as np

from hrm_lab.puzzles.layout import Meta, Split
from hrm_lab.puzzles.sudoku import BOXES, branch, decode, encode, geometry, hardness, propagate, search
from hrm_lab.puzzles.sudoku_symmetry import canonical, line_orders, random_image

BANDS = ("mixed", "hard", "extreme")
GIVEN_BACK = {6: 6, 9: 12}  # mixed: up to so many clues above a minimal puzzle
CLUES_4X4 = (4, 5, 6, 7)
CLIMB_CLUES, CLIMB_MOVES = 8, 100  # extreme: clues given back at a step, steps before a new grid is taken
LEAST = {("hard", 6): 0, ("hard", 9): 1, ("extreme", 6): 2, ("extreme", 9): 30}  # guesses


def _dig(clues: list[int], n: int, rng: random.Random) -> list[int]:
    """A minimal puzzle with one solution, from `clues` that have one: no clue can be left out."""
    geo, area, clues = geometry(n), n * n, list(clues)
    given = [cell for cell in range(area) if clues[cell]]
    for cell in rng.sample(given, len(given)):
        digit, clues[cell] = clues[cell], 0
        state, done = encode(clues, geo)
        state ^= geo.bits[(digit - 1) * area + cell]  # is there a solution with another digit here?
        if search(state, done, geo, 1, [0, 0]):
            clues[cell] = digit
    return clues


def _give_back(clues: list[int], solution: tuple[int, ...], count: int, rng: random.Random) -> list[int]:
    blank = [cell for cell, digit in enumerate(clues) if not digit]
    chosen = set(rng.sample(blank, min(count, len(blank))))
    return [solution[cell] if cell in chosen else digit for cell, digit in enumerate(clues)]


def effort(clues: list[int], n: int) -> tuple[int, int]:
    """(guesses, rounds) of a full search."""
    count = [0, 0]
    search(*encode(clues, geometry(n)), geometry(n), 2, count)
    return count[0], count[1]


def random_solution(n: int, rng: random.Random) -> tuple[int, ...]:
    """A random complete grid (a search from the empty one, values tried in random order)."""
    geo = geometry(n)

    def fill(state: int, done: int) -> int:
        state, done = propagate(state, done, geo, [0, 0])
        if not state or state.bit_count() == n * n:
            return state
        options = branch(state, geo)
        for place in rng.sample(options, len(options)):
            if found := fill(state & geo.keep[place], done):
                return found
        return 0

    return decode(fill(geo.full, 0), geo)


def random_puzzle(n: int, band: str, rng: random.Random) -> tuple[list[int], tuple[int, ...], int, int]:
    """(clues, solution, guesses, rounds) of a puzzle of side 6 or 9 in the band, with exactly one solution."""
    while True:
        solution = random_solution(n, rng)
        clues = _dig(list(solution), n, rng)
        if band == "mixed":
            clues = _give_back(clues, solution, rng.randint(0, GIVEN_BACK[n]), rng)
            return clues, solution, *effort(clues, n)
        guesses, rounds = effort(clues, n)
        least = LEAST[band, n]
        for _ in range(CLIMB_MOVES if band == "extreme" else 0):
            if guesses >= least:
                break
            changed = _dig(_give_back(clues, solution, CLIMB_CLUES, rng), n, rng)
            reached = effort(changed, n)
            if reached[0] >= guesses:
                clues, (guesses, rounds) = changed, reached
        if guesses >= least:
            return clues, solution, guesses, rounds


@cache
def _solutions_4x4() -> np.ndarray:
    """All 288 complete grids of side 4, (288, 16)."""
    geo = geometry(4)
    return np.array([decode(state, geo) for state in search(geo.full, 0, geo, 1000, [0, 0])])


@cache
def classes_4x4() -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """(clues, solution) of one puzzle of each symmetry class of side 4 with 4-7 clues and one solution.

    A set of clues of a grid has one solution when it touches every difference to each other grid. Two sets on
    the same grid are in one class when an automorphism of the grid carries one to the other, and there are
    two classes of grids.
    """
    grids = _solutions_4x4()
    weights = 1 << np.arange(16)
    masks = np.arange(1 << 16)
    masks = masks[np.isin(np.bitwise_count(masks), CLUES_4X4)]
    orders = line_orders(4, 2)
    cells = (orders[:, None, :, None] * 4 + orders[None, :, None, :]).reshape(-1, 4, 4)  # (64, 4, 4)
    maps = np.concatenate([cells, cells.transpose(0, 2, 1)]).reshape(-1, 16)  # (128, 16) source cell
    found, seen = [], set()
    for grid in grids:
        name = canonical(grid)
        if name in seen:
            continue
        seen.add(name)
        differs = (grids != grid) @ weights  # (288,)
        unique = masks[((masks[:, None] & differs[differs > 0]) != 0).all(1)]
        own = [m for m in maps if len(set(zip(grid, grid[m], strict=True))) == 4]  # the grid up to digit names
        images = np.stack([((unique[:, None] >> m) & 1) @ weights for m in own])  # (automorphisms, masks)
        for mask in unique[unique == images.min(0)]:
            clues = np.where((mask >> np.arange(16)) & 1, grid, 0)
            found.append((tuple(clues.tolist()), tuple(grid.tolist())))
    return tuple(found)


def _split(clues: np.ndarray, solutions: np.ndarray, tasks: np.ndarray, n: int, meta: Meta) -> Split:
    graded = [hardness(*effort(row, n), n) for row in clues.tolist()]
    count = len(clues)
    return Split((clues + 1).astype(np.int32), (solutions + 1).astype(np.int32), np.zeros(count, np.int32),
                 tasks.astype(np.int32), np.array(graded, np.float32), np.arange(count, dtype=np.int32), meta)


def _images(classes: list, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`count` different puzzles of side 4, going round the classes, each a random image; (count, 16) twice."""
    puzzles, solutions = np.array(classes).transpose(1, 0, 2)
    found: dict[bytes, tuple] = {}
    while len(found) < count:
        before, order = len(found), rng.permutation(len(classes))
        for clues, solution in zip(*random_image(puzzles[order], solutions[order], 4, rng), strict=True):
            if len(found) < count:
                found.setdefault(clues.tobytes(), (clues, solution))
        if len(found) == before:
            raise ValueError(f"sudoku-4x4: {count:,} puzzles asked for; expected at most about {before:,}")
    clues, solutions = np.array(list(found.values())).transpose(1, 0, 2)
    return clues, solutions


def sudoku(n: int, n_train: int, n_test: int, seed: int, difficulty: str = "mixed") -> tuple[Split, Split]:
    """(train, test) of Sudokus of side n (4, 6, 9) in a band (or several, joined by +), disjoint up to symmetry."""
    bands = difficulty.split("+")
    tasks = list(dict.fromkeys(bands))
    if n not in BOXES:
        raise ValueError(f"sudoku: side {n}; expected one of {', '.join(map(str, BOXES))}")
    if not set(bands) <= set(BANDS):
        raise ValueError(f"sudoku: difficulty {difficulty!r}; expected one of {', '.join(BANDS)}, or some joined by +")
    if n == 4 and difficulty != "mixed":
        raise ValueError(f"sudoku-4x4: difficulty {difficulty!r}; expected mixed (none of these needs a guess)")
    rng = np.random.default_rng(seed)
    if n == 4:
        classes = classes_4x4()
        order = rng.permutation(len(classes))
        cut = len(classes) // 3
        parts = {"test": _images([classes[i] for i in order[:cut]], n_test, rng),
                 "train": _images([classes[i] for i in order[cut:]], n_train, rng)}
        told = (f"{len(classes)} symmetry classes with 4-7 clues, {cut} of them for test; "
                "each puzzle is a random image of its class")
    else:
        draw, seen, rows = random.Random(seed), set(), []
        while len(rows) < n_train + n_test:
            clues, solution, _, _ = random_puzzle(n, bands[len(rows) % len(bands)], draw)
            name = canonical(clues)
            if name not in seen:
                seen.add(name)
                rows.append((clues, solution))
        clues, solutions = np.array(rows).transpose(1, 0, 2)
        parts = {"test": (clues[:n_test], solutions[:n_test]), "train": (clues[n_test:], solutions[n_test:])}
        told = f"difficulty {difficulty}; no two puzzles are images of each other"
    meta = Meta(seq_len=n * n, vocab_size=n + 2, name=f"sudoku-{n}x{n}" + ("" if n == 4 else f"-{difficulty}"),
                grid=(n, n, *BOXES[n]), augment="sudoku", tokens=(" ", ".", *map(str, range(1, n + 1))),
                tasks=tuple(tasks) if len(tasks) > 1 else ("all",),
                source="generated by hrm_lab.puzzles.sudoku_build", licence="Apache-2.0",
                notes=f"one solution each; train and test disjoint up to symmetry (exact canonical form); {told}")
    of = np.array([tasks.index(band) for band in bands])
    train, test = (_split(*parts[name], of[np.arange(first, first + len(parts[name][0])) % len(of)], n, meta)
                   for name, first in (("train", n_test), ("test", 0)))
    return train, test
