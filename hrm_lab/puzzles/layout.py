"""The dataset on disk and in memory: `Meta`, `Split`, `load`, `save`.

The layout is the one that the public HRM and TRM code reads and writes (`puzzle_dataset.py` in
sapientinc/HRM and SamsungSAILMontreal/TinyRecursiveModels), so their built datasets load here as
they are and ours load there. In it, examples are stored puzzle by puzzle and puzzles group by group:

    <folder>/<split>/dataset.json               the fields of `Meta` (they ignore the ones that are ours)
    <folder>/<split>/all__inputs.npy            (N, T) token ids
    <folder>/<split>/all__labels.npy            (N, T) token ids; `ignore_label_id` where not scored
    <folder>/<split>/all__puzzle_identifiers.npy  (P,) identifier of each puzzle
    <folder>/<split>/all__puzzle_indices.npy    (P+1,) first example of each puzzle, then N
    <folder>/<split>/all__group_indices.npy     (G+1,) first puzzle of each group, then P
    <folder>/identifiers.json                   name of each puzzle identifier

Ours, optional: `all__tasks.npy` and `all__difficulty.npy`, both (N,). Unusual: every array is checked
on reading, to the row and column, because a bad label otherwise shows up as a strange loss an hour later.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from hrm_lab.puzzles.augment import IGNORE, KINDS


class DatasetError(ValueError):
    """A dataset that cannot be used: one line with file, field, value and what was expected."""


@dataclass(frozen=True)
class Meta:
    """What `dataset.json` says. The first ten fields are official, the others ours (optional on reading)."""

    seq_len: int
    vocab_size: int
    pad_id: int = 0
    ignore_label_id: int | None = 0
    blank_identifier_id: int = 0
    num_puzzle_identifiers: int = 1
    total_groups: int = 0
    mean_puzzle_examples: float = 1.0
    total_puzzles: int = 0
    sets: tuple[str, ...] = ("all",)
    name: str = ""
    grid: tuple[int, ...] | None = None  # rows, columns, rows of a box, columns of a box (1, 1: no boxes)
    tasks: tuple[str, ...] = ("all",)
    augment: str = "none"  # none | sudoku | dihedral | arc: see augment.py
    tokens: tuple[str, ...] = ()  # how to show each token id
    source: str = ""
    licence: str = ""
    notes: str = ""


REQUIRED = ("seq_len", "vocab_size", "pad_id", "ignore_label_id", "blank_identifier_id", "num_puzzle_identifiers")


@dataclass(frozen=True)
class Split:
    """The examples of one split, in memory. Examples of a puzzle are neighbours, and so are puzzles of a group."""

    inputs: np.ndarray  # (N, T) int32
    labels: np.ndarray  # (N, T) int32, IGNORE where not scored
    puzzle_ids: np.ndarray  # (N,) int32 identifier, the index into the model's puzzle embedding
    tasks: np.ndarray  # (N,) int32 index into meta.tasks
    difficulty: np.ndarray  # (N,) float32, 0 easiest .. 1 hardest, 0 where unknown
    groups: np.ndarray  # (N,) int32, puzzles of one group are variants of each other
    meta: Meta
    puzzles: np.ndarray | None = None  # (N,) int32 puzzle of each example; None: each example is a puzzle

    def __len__(self) -> int:
        return len(self.inputs)


def _read_meta(path: Path) -> Meta:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; expected the dataset.json of a built dataset") from None
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON ({error}); expected one object") from None
    if not isinstance(raw, dict):
        raise DatasetError(f"{path}: {type(raw).__name__} at the top; expected one object")
    for name in REQUIRED:
        if name not in raw:
            raise DatasetError(f"{path}: field {name} is missing; expected one of the official fields")
    known = {field.name: raw[field.name] for field in fields(Meta) if field.name in raw}
    for name in ("sets", "tasks", "tokens", "grid"):
        if isinstance(known.get(name), list):
            known[name] = tuple(known[name])
    for name in REQUIRED:
        value = known[name]
        optional = name == "ignore_label_id" and value is None
        if not optional and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise DatasetError(f"{path}: field {name} is {value!r}; expected a whole number >= 0")
    meta = Meta(**known)
    if "all" not in meta.sets:
        raise DatasetError(f"{path}: field sets is {list(meta.sets)}; expected it to name the set 'all'")
    if meta.grid and (len(meta.grid) != 4 or meta.grid[0] * meta.grid[1] != meta.seq_len):
        raise DatasetError(f"{path}: field grid is {list(meta.grid)}; expected rows, columns, box rows, box columns "
                           f"with rows * columns = seq_len {meta.seq_len}")
    if meta.augment not in KINDS:
        raise DatasetError(f"{path}: field augment is {meta.augment!r}; expected one of {', '.join(KINDS)}")
    square = meta.grid is not None and meta.grid[0] == meta.grid[1]
    if meta.augment != "none" and (meta.grid is None or meta.augment == "sudoku" and not (
            square and meta.vocab_size == meta.grid[0] + 2)):
        raise DatasetError(f"{path}: field augment is {meta.augment!r} with grid {meta.grid} and vocab_size "
                           f"{meta.vocab_size}; expected a grid (for sudoku a square one, and rows + 2 tokens)")
    return meta


def _read_array(path: Path, ndim: int, kind: str = "iu") -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; expected a {ndim}-dimensional array") from None
    except Exception as error:  # besides ValueError and OSError, what a damaged header does to NumPy's parser of it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetError(f"{path}: not a whole .npy file of plain numbers ({reason}); expected a "
                           f"{ndim}-dimensional array (cut short, or ragged rows stored as objects?)") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kind:
        raise DatasetError(f"{path}: dtype {getattr(array, 'dtype', type(array).__name__)}; "
                           f"expected {'whole numbers' if kind == 'iu' else 'numbers'}")
    if array.ndim != ndim:
        raise DatasetError(f"{path}: shape {array.shape}; expected {ndim} dimension(s)")
    return array


def _check_cells(path: Path, array: np.ndarray, low: int, high: int, also: int | None, what: str) -> None:
    bad = (array < low) | (array >= high)
    if also is not None:
        bad &= array != also
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f"row {where[0]}" + (f", column {where[1]}" if len(where) > 1 else "")
        raise DatasetError(f"{path}: {what} {array[where]} at {place}; expected {low}..{high - 1}")


def _check_indices(path: Path, indices: np.ndarray, end: int, of: str) -> None:
    if len(indices) < 2 or indices[0] != 0:
        raise DatasetError(f"{path}: {indices[:3].tolist()} at the start; expected 0 and at least two entries")
    steps = np.diff(indices.astype(np.int64))
    if (steps <= 0).any():
        row = int(np.argmax(steps <= 0)) + 1
        raise DatasetError(f"{path}: {indices[row]} at row {row} after {indices[row - 1]}; expected growing numbers")
    if indices[-1] != end:
        raise DatasetError(f"{path}: ends at {indices[-1]}; expected {end}, the number of {of}")


def load(folder: str | os.PathLike, split: str) -> Split:
    """Read and check one split of a dataset folder, official or ours. Raises `DatasetError` (one line)."""
    root = Path(folder) / split
    meta = _read_meta(root / "dataset.json")
    path = {name: root / f"all__{name}.npy" for name in
            ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices", "tasks", "difficulty")}
    inputs = _read_array(path["inputs"], 2)
    labels = _read_array(path["labels"], 2)
    n = len(inputs)
    if n == 0:
        raise DatasetError(f"{path['inputs']}: shape {inputs.shape}; expected at least one example")
    if inputs.shape[1] != meta.seq_len:
        raise DatasetError(f"{path['inputs']}: {inputs.shape[1]} columns; expected seq_len {meta.seq_len}")
    if labels.shape != inputs.shape:
        raise DatasetError(f"{path['labels']}: shape {labels.shape}; expected {inputs.shape} as all__inputs.npy has")
    _check_cells(path["inputs"], inputs, 0, meta.vocab_size, None, "token")
    _check_cells(path["labels"], labels, 0, meta.vocab_size, meta.ignore_label_id, "label")
    labels = labels.astype(np.int32)
    if meta.ignore_label_id is not None:
        labels[labels == meta.ignore_label_id] = IGNORE

    identifiers = _read_array(path["puzzle_identifiers"], 1)
    puzzle_indices = _read_array(path["puzzle_indices"], 1)
    group_indices = _read_array(path["group_indices"], 1)
    _check_indices(path["puzzle_indices"], puzzle_indices, n, "examples in all__inputs.npy")
    if len(identifiers) != len(puzzle_indices) - 1:
        raise DatasetError(f"{path['puzzle_identifiers']}: {len(identifiers)} rows; expected "
                           f"{len(puzzle_indices) - 1}, one a puzzle in all__puzzle_indices.npy")
    _check_cells(path["puzzle_identifiers"], identifiers, 0, meta.num_puzzle_identifiers, None, "identifier")
    _check_indices(path["group_indices"], group_indices, len(identifiers), "puzzles in all__puzzle_indices.npy")

    puzzles = np.repeat(np.arange(len(identifiers), dtype=np.int32), np.diff(puzzle_indices))  # (N,)
    groups = np.repeat(np.arange(len(group_indices) - 1, dtype=np.int32), np.diff(group_indices))[puzzles]  # (N,)
    tasks, difficulty = np.zeros(n, np.int32), np.zeros(n, np.float32)
    if path["tasks"].exists():
        tasks = _read_array(path["tasks"], 1).astype(np.int32)
        _check_cells(path["tasks"], tasks, 0, len(meta.tasks), None, "task")
    if path["difficulty"].exists():
        difficulty = _read_array(path["difficulty"], 1, "iuf").astype(np.float32)
        bad = ~((difficulty >= 0) & (difficulty <= 1))
        if bad.any():
            row = int(np.argmax(bad))
            raise DatasetError(f"{path['difficulty']}: {difficulty[row]} at row {row}; expected 0..1")
    for name, array in (("tasks", tasks), ("difficulty", difficulty)):
        if len(array) != n:
            raise DatasetError(f"{path[name]}: {len(array)} rows; expected {n} as all__inputs.npy has")
    return Split(inputs.astype(np.int32), labels, identifiers[puzzles].astype(np.int32), tasks, difficulty, groups,
                 meta, puzzles)


def _starts(values: np.ndarray) -> np.ndarray:
    """First row of each run of equal values, then the number of rows."""
    return np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]]).astype(np.int32)


def _write(path: Path, write) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save(folder: str | os.PathLike, split_name: str, split: Split, identifiers: Sequence[str] | None = None) -> None:
    """Write `split` in the official layout under `folder/split_name`, each file by rename, dataset.json last.

    `identifiers`: names for `identifiers.json`, index by index (default: "<blank>", then the numbers).
    The counts in the written metadata come from the arrays, not from `split.meta`.
    """
    n, root = len(split), Path(folder) / split_name
    if n == 0:
        raise DatasetError(f"{root}: 0 examples; expected at least one")
    puzzles = np.arange(n) if split.puzzles is None else split.puzzles
    puzzle_indices = _starts(puzzles)
    first = puzzle_indices[:-1]  # first example of each puzzle
    group_indices = _starts(split.groups[first])
    for name, values, starts in (("puzzles", puzzles, puzzle_indices), ("groups", split.groups[first], group_indices)):
        if len(np.unique(values)) != len(starts) - 1:
            raise DatasetError(f"{root}: {name} are scattered; expected examples of one of them to be neighbours")
    labels = split.labels
    if split.meta.ignore_label_id is not None:
        labels = np.where(labels == IGNORE, split.meta.ignore_label_id, labels)
    small = np.uint8 if split.meta.vocab_size <= 256 else np.int32
    _check_cells(root / "inputs", split.inputs, 0, split.meta.vocab_size, None, "token")
    _check_cells(root / "labels", labels, 0, split.meta.vocab_size, split.meta.ignore_label_id, "label")
    meta = {**asdict(split.meta), "total_groups": len(group_indices) - 1, "total_puzzles": len(first),
            "mean_puzzle_examples": n / len(first)}
    arrays = {"inputs": split.inputs.astype(small), "labels": labels.astype(small),
              "puzzle_identifiers": split.puzzle_ids[first].astype(np.int32), "puzzle_indices": puzzle_indices,
              "group_indices": group_indices, "tasks": split.tasks.astype(np.int32),
              "difficulty": split.difficulty.astype(np.float32)}
    root.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        _write(root / f"all__{name}.npy", lambda file, array=array: np.save(file, array, allow_pickle=False))
    names = identifiers or ["<blank>", *map(str, range(1, split.meta.num_puzzle_identifiers))]
    _write(Path(folder) / "identifiers.json", lambda file: file.write(json.dumps(list(names)).encode()))
    _write(root / "dataset.json", lambda file: file.write(json.dumps(meta, indent=1).encode()))
