"""Mazes up to 30x30 with one shortest path, in the tokens of the official maze dataset.

Cells are characters: `#` wall, space open, `S`, `G`, and `o` the path in the target. Open cells grow as a tree
(a cell opens when exactly one neighbour is open), so any grid size works and there need be no frame of walls;
then some walls open again and make loops. S and G are a pair with a single shortest path, at least half as
far apart as the maze allows, so the target is unique by construction (counted, not assumed).
"""

import random

import numpy as np

from hrm_lab.puzzles.augment import dihedral_cells
from hrm_lab.puzzles.layout import Meta, Split

TOKENS = (" ", "#", " ", "S", "G", "o")  # id 0 is padding; ids 1-5 are the official CHARSET "# SGo"
WALL, OPEN, START, GOAL, PATH = 1, 2, 3, 4, 5
SMALLEST, LARGEST = 4, 30
LOOPS = 0.01  # share of cells that are opened after the tree has grown
STRAIGHT = 0.95  # how often growth goes on at the newest cell: long corridors rather than short stubs


def neighbours(rows: int, columns: int) -> list[list[int]]:
    return [[r * columns + c for r, c in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
             if 0 <= r < rows and 0 <= c < columns] for i in range(rows) for j in range(columns)]


def shortest_paths(is_open: list[bool], beside: list[list[int]], start: int) -> tuple[list[int], list[int]]:
    """(distance, number of shortest paths) of each cell from `start`; -1 and 0 where it cannot be reached."""
    distance, ways = [-1] * len(is_open), [0] * len(is_open)
    distance[start], ways[start] = 0, 1
    queue = [start]
    for cell in queue:
        for other in beside[cell]:
            if not is_open[other]:
                continue
            if distance[other] < 0:
                distance[other] = distance[cell] + 1
                queue.append(other)
            if distance[other] == distance[cell] + 1:
                ways[other] += ways[cell]
    return distance, ways


def _grow(rows: int, columns: int, beside: list[list[int]], rng: random.Random) -> list[bool]:
    is_open = [False] * (rows * columns)
    first = rng.randrange(rows * columns)
    is_open[first] = True
    frontier = list(beside[first])
    while frontier:
        at = len(frontier) - 1 if rng.random() < STRAIGHT else rng.randrange(len(frontier))
        cell = frontier.pop(at)
        if not is_open[cell] and sum(is_open[other] for other in beside[cell]) == 1:
            is_open[cell] = True
            fresh = [other for other in beside[cell] if not is_open[other]]
            frontier += rng.sample(fresh, len(fresh))
    for cell in rng.sample(range(rows * columns), round(LOOPS * rows * columns)):
        is_open[cell] = is_open[cell] or sum(is_open[other] for other in beside[cell]) >= 2
    return is_open


def random_maze(rows: int, columns: int, rng: random.Random) -> tuple[list[int], list[int], int]:
    """(input tokens, target tokens, steps from S to G) of one maze."""
    beside = neighbours(rows, columns)
    while True:
        is_open = _grow(rows, columns, beside, rng)
        start = rng.choice([cell for cell, free in enumerate(is_open) if free])
        distance, ways = shortest_paths(is_open, beside, start)
        least = max(2, max(distance) // 2)
        goals = [cell for cell, far in enumerate(distance) if far >= least and ways[cell] == 1]
        if goals:
            break
    goal = rng.choice(goals)
    tokens = [OPEN if free else WALL for free in is_open]
    tokens[start], tokens[goal] = START, GOAL
    target, cell = list(tokens), goal
    while distance[cell] > 1:
        cell = next(other for other in beside[cell] if distance[other] == distance[cell] - 1)
        target[cell] = PATH
    return tokens, target, distance[goal]


def canonical_maze(tokens, rows: int, columns: int) -> bytes:
    """Equal exactly for mazes that are rotations or reflections of each other."""
    images = np.asarray(tokens, np.uint8)[dihedral_cells(rows, columns)]
    return min(image.tobytes() for image in images)


def walled(cells: list[int], side: int, corner: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """(rows * columns,): a square maze (side * side,) with its first cell at `corner`, and walls all around it."""
    grid = np.full((rows, columns), WALL)
    grid[corner[0]:corner[0] + side, corner[1]:corner[1] + side] = np.reshape(cells, (side, side))
    return grid.ravel()


def mazes(rows: int, columns: int, n_train: int, n_test: int, seed: int, sides: str = "") -> tuple[Split, Split]:
    """(train, test) of mazes; no two are images of each other. Difficulty: path length over half the cells.

    sides: "6+8" makes square mazes of these sides in turns, each somewhere in the grid with walls around it, as a task
    of its own: short ways beside long ones are what starts a model. Default: mazes that fill the grid.
    """
    for name, value in (("rows", rows), ("columns", columns)):
        if not SMALLEST <= value <= LARGEST:
            raise ValueError(f"maze: {value} {name}; expected {SMALLEST}..{LARGEST}")
    asked = sides.split("+") if sides else []
    if bad := [side for side in asked if not side.isdecimal() or not SMALLEST <= int(side) <= min(rows, columns)]:
        raise ValueError(f"maze: side {bad[0]!r} in {sides!r}; expected {SMALLEST}..{min(rows, columns)}, joined by +")
    shapes = [(int(side), int(side)) for side in asked] or [(rows, columns)]
    rng, seen, made = random.Random(seed), set(), []
    for _ in range(20 * (n_train + n_test)):  # small grids can run out of different mazes
        if len(made) == n_train + n_test:
            break
        task = len(made) % len(shapes)
        tokens, target, steps = random_maze(*shapes[task], rng)
        name = canonical_maze(tokens, *shapes[task])
        if name not in seen:
            seen.add(name)
            if sides:
                corner = tuple(rng.randint(0, whole - shapes[task][0]) for whole in (rows, columns))
                tokens, target = (walled(cells, shapes[task][0], corner, rows, columns) for cells in (tokens, target))
            made.append((tokens, target, steps, task))
    else:
        raise ValueError(f"maze-{rows}x{columns}: {n_train + n_test:,} mazes asked for; expected fewer, "
                         f"{len(made):,} different ones were found")
    meta = Meta(seq_len=rows * columns, vocab_size=len(TOKENS), name=f"maze-{rows}x{columns}",
                grid=(rows, columns, 1, 1), augment="dihedral", tokens=TOKENS,
                tasks=tuple(f"{side}x{side}" for side in asked) or ("all",),
                source="generated by hrm_lab.puzzles.mazes", licence="Apache-2.0",
                notes="one shortest path each; no two mazes are rotations or reflections of each other")

    def split(part):
        inputs, labels, steps, tasks = (np.array(column) for column in zip(*part, strict=True))
        n = len(part)
        return Split(inputs.astype(np.int32), labels.astype(np.int32), np.zeros(n, np.int32), tasks.astype(np.int32),
                     np.minimum(1, steps / (rows * columns / 2)).astype(np.float32), np.arange(n, dtype=np.int32), meta)

    return split(made[n_test:]), split(made[:n_test])
