"""Solve one puzzle from text with a trained model, step by step: `hrm-lab solve`, and the same as a function.

The model answers as it was trained; further attempts see the puzzle under other symmetries until the halting head is
sure of one (`hrm_lab.inference`). Only then is the answer held against the rules of the puzzle, which tells success
from failure but never chooses: a model that is sure and wrong is reported as wrong.

Unusual: the text is read cell by cell with its line and column, so that every complaint points at a place, and
decorated grids (boxes drawn with `|`, `-` and `+`) are read as they are.
"""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hrm_lab import act, inference
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.model import HRM, count_parameters
from hrm_lab.puzzles import mazes, sudoku
from hrm_lab.puzzles.augment import dihedral_cells, symmetries
from hrm_lab.puzzles.layout import Meta, Split
from hrm_lab.train import load_model

WEIGHTS = ROOT / "weights"
BLANKS, DRAWN = ".0_*?", "|+-"  # a cell without a clue; the lines between boxes
MAZE = {"#": mazes.WALL, " ": mazes.OPEN, ".": mazes.OPEN, "S": mazes.START, "G": mazes.GOAL}


class GridError(ValueError):
    """A text that is no puzzle, or a puzzle that the weights do not fit: one line with the place."""


@dataclass(frozen=True)
class Puzzle:
    """One puzzle as tokens. `meta` says its kind, grid and symbols; `places` the line and column of each cell."""

    tokens: np.ndarray  # (T,) int64
    meta: Meta
    places: tuple[tuple[int, int], ...]

    @property
    def given(self) -> np.ndarray:
        """(T,) bool: the cells that an answer must keep."""
        return self.tokens > 1 if self.meta.augment == "sudoku" else self.tokens != mazes.OPEN


@dataclass(frozen=True)
class Solution:
    """What a model says of a puzzle.

    `frames`: of `act.trace` for the attempt that was chosen, up to its halt, as cells of the puzzle as it was given.
    `attempts`: one dict an attempt: segments, confidence, sure. `broken`: the rules that the answer breaks, in words;
    none: it is right.
    """

    puzzle: Puzzle
    answer: np.ndarray  # (T,)
    frames: list[dict]
    attempts: list[dict]
    chosen: int
    broken: list[str]
    weights: str
    parameters: int

    @property
    def solved(self) -> bool:
        return not self.broken

    def segments(self) -> list[dict]:
        """One row a segment of the chosen attempt: segment, changed (cells, against the row before), sure, answer."""
        last = {frame["segment"]: frame for frame in self.frames}
        rows, before = [], self.puzzle.tokens
        for number, frame in last.items():
            rows.append({"segment": number, "changed": int((frame["answer"] != before).sum()), "sure": frame["halt"],
                         "answer": frame["answer"]})
            before = frame["answer"]
        return rows

    def json(self) -> dict:
        """What `--json` prints."""
        meta = self.puzzle.meta
        lines = [{**row, "answer": line(row["answer"], meta)} for row in self.segments()]
        return {"kind": meta.name, "puzzle": line(self.puzzle.tokens, meta), "answer": line(self.answer, meta),
                "solved": self.solved, "broken": self.broken, "sure": self.attempts[self.chosen]["sure"],
                "confidence": self.attempts[self.chosen]["confidence"], "chosen": self.chosen + 1,
                "attempts": self.attempts, "segments": lines, "weights": self.weights}

    def text(self, grids: bool = False) -> str:
        """For people: the attempts, a line a segment of the chosen one (with its grid, if asked for), the answer."""
        meta, out = self.puzzle.meta, []
        out.append(f"{meta.name}, {int(self.puzzle.given.sum())} cells given; "
                   f"{self.weights}, {self.parameters:,} parameters")
        for i, one in enumerate(self.attempts):
            how = "" if i == 0 else ", under another symmetry"
            segments = f"{one['segments']} segment" + "s" * (one["segments"] != 1)
            out.append(f"attempt {i + 1}{how}: {segments}, {100 * one['confidence']:.0f} % sure"
                       + (", halts by itself" if one["sure"] else "") + (" <- chosen" if i == self.chosen else ""))
        for row in self.segments():
            out.append(f"  segment {row['segment']:2d}: {row['changed']:3d} cells change, "
                       f"{100 * row['sure']:3.0f} % sure")
            out += [drawn(row["answer"], meta, "    ")] * grids
        out += ["", drawn(self.answer, meta), ""]
        out.append("solved: the answer keeps every rule" if self.solved else
                   f"not solved: {self.broken[0]}" + (f" (and {len(self.broken) - 1} more)" if self.broken[1:] else ""))
        return "\n".join(out)


# ---------------------------------------------------------------- reading


def source(argument: str) -> tuple[str, str]:
    """(text, what to call it) of a command line's PUZZLE: a file, `-` for standard input, or the puzzle itself."""
    if argument == "-":
        return sys.stdin.read(), "standard input"
    if os.path.isfile(argument):
        try:
            return Path(argument).read_text(encoding="utf-8-sig"), argument
        except UnicodeDecodeError as error:
            raise GridError(f"{argument}: byte {error.start}: got {error.object[error.start]:#04x}, "
                            "expected text in UTF-8") from None
    looks = set(argument) - set("0123456789._*?|+-#SG \n")
    if looks or not argument.strip():
        raise GridError(f"PUZZLE: got {argument[:60]!r}, expected a file that exists, - or a puzzle")
    return argument, "PUZZLE"


def read(text: str, where: str = "puzzle") -> Puzzle:
    """The Sudoku or maze that a text shows. Raises GridError with line and column.

    Sudoku: digits and blanks (. 0 _ * ?), spaces and drawn lines between them; rows as lines, or all in one line.
    Maze: `#` wall, space or `.` open, one S, one G.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if any(symbol in text for symbol in "#SG"):
        return read_maze(lines, where)
    return read_sudoku(lines, where)


def read_sudoku(lines: list[str], where: str) -> Puzzle:
    rows = []  # one list of (symbol, line, column) for each line that holds cells
    for number, content in enumerate(lines, 1):
        cells = [(s, number, column) for column, s in enumerate(content, 1) if not s.isspace() and s not in DRAWN]
        rows += [cells] * bool(cells)
    cells = [cell for row in rows for cell in row]
    side = {n * n: n for n in sudoku.BOXES}.get(len(cells))
    for symbol, number, column in cells:
        if symbol not in BLANKS and not (symbol.isascii() and symbol.isdigit() and int(symbol) <= (side or 9)):
            raise GridError(f"{where}: line {number}, column {column}: got {symbol!r}, "
                            f"expected 1-{side or 9} or . for a blank")
    longest = max(map(len, rows), default=0)
    for row in rows if longest in sudoku.BOXES else []:
        if len(row) != longest:
            raise GridError(f"{where}: line {row[0][1]}: got {len(row)} cells, expected {longest} as in other lines")
    if side is None:
        raise GridError(f"{where}: got {len(cells)} cells, expected 81 (or 36 or 16) for a Sudoku")
    values = tuple(int(s) if s.isdigit() else 0 for s, _, _ in cells)
    places = tuple(cell[1:] for cell in cells)
    if twice := doubled(values, side):
        digit, unit, first, second = twice[0]
        (line_, column), (above, left) = places[second], places[first]
        raise GridError(f"{where}: line {line_}, column {column}: got a second {digit} in {unit} "
                        f"(the first: line {above}, column {left}), expected each digit once")
    symbols = ("", ".", *map(str, range(1, side + 1)))
    meta = Meta(side * side, side + 2, name=f"sudoku-{side}x{side}", grid=(side, side, *sudoku.BOXES[side]),
                augment="sudoku", tokens=symbols)
    return Puzzle(np.array(values) + 1, meta, places)


def doubled(values, side: int) -> list[tuple[int, str, int, int]]:
    """(digit, unit, first cell, later cell) wherever a digit stands twice in a row, column or box; 0 is no digit."""
    high, wide = sudoku.BOXES[side]
    seen, found = {}, []
    for cell, digit in enumerate(values):
        row, column = divmod(cell, side)
        box = row // high * (side // wide) + column // wide
        for unit, index in (("row", row), ("column", column), ("box", box)):
            if digit and (unit, index, digit) in seen:
                found.append((int(digit), f"{unit} {index + 1}", seen[unit, index, digit], cell))
            seen.setdefault((unit, index, digit), cell)
    return found


def read_maze(lines: list[str], where: str) -> Puzzle:
    first = next(i for i, content in enumerate(lines) if content.strip())
    last = max(i for i, content in enumerate(lines) if content.strip())
    rows = [(i + 1, lines[i]) for i in range(first, last + 1)]
    width = len(rows[0][1])
    for number, content in rows:
        for column, symbol in enumerate(content, 1):
            if symbol not in MAZE:
                raise GridError(f"{where}: line {number}, column {column}: got {symbol!r}, "
                                "expected # (wall), . or a space (open), S or G")
        if len(content) != width:
            raise GridError(f"{where}: line {number}: got {len(content)} cells, expected {width} as in line "
                            f"{rows[0][0]} (open cells at the end of a line are best written as .)")
    symbols = [(s, number, column) for number, content in rows for column, s in enumerate(content, 1)]
    for name in "SG":
        at = [cell[1:] for cell in symbols if cell[0] == name]
        if len(at) != 1:
            place = f": line {at[1][0]}, column {at[1][1]}" if at else ""
            raise GridError(f"{where}{place}: got {len(at)} {name}, expected exactly one")
    tokens, shape = np.array([MAZE[s] for s, _, _ in symbols]), (len(rows), width)
    if way(tokens, shape) < 0:
        raise GridError(f"{where}: got no way from S to G, expected one through open cells")
    meta = Meta(len(tokens), len(mazes.TOKENS), name=f"maze-{shape[0]}x{shape[1]}", grid=(*shape, 1, 1),
                augment="dihedral", tokens=mazes.TOKENS)
    return Puzzle(tokens, meta, tuple(cell[1:] for cell in symbols))


def way(tokens: np.ndarray, shape: tuple[int, int]) -> int:
    """Steps from S to G through what is no wall; -1: none."""
    start, goal = (int(np.flatnonzero(tokens == end)[0]) for end in (mazes.START, mazes.GOAL))
    return mazes.shortest_paths((tokens != mazes.WALL).tolist(), mazes.neighbours(*shape), start)[0][goal]


# ---------------------------------------------------------------- solving


def shipped(meta: Meta) -> Path:
    """The weights that ship for a kind of puzzle; one model is for mazes of any size. GridError if there are none."""
    folder = WEIGHTS / ("maze" if meta.augment == "dihedral" else meta.name)
    if not folder.exists():
        known = ", ".join(sorted(path.parent.name for path in WEIGHTS.glob("*/model.safetensors")))
        raise GridError(f"{meta.name}: no weights ship for it, expected one of {known}; train it with notebook 02 and "
                        "name its train/best with --weights")
    return folder


def fit(puzzle: Puzzle, model: HRM, weights: str) -> HRM:
    """The model for this puzzle's grid. Raises GridError where it was made for another kind or size of puzzle.

    A model whose heads look at a cell's neighbours and everywhere knows no size: it is given the puzzle's, and four
    times the segments of its training, as long ways take longer.
    """
    c, meta = model.config, puzzle.meta
    if c.positions == "near" and c.vocab_size == meta.vocab_size and tuple(c.grid[2:]) == meta.grid[2:]:
        other = HRM(replace(c, seq_len=meta.seq_len, grid=meta.grid, halt_max_steps=4 * c.halt_max_steps))
        other.load_state_dict(model.state_dict())
        return other.eval()
    if c.grid is None or (tuple(c.grid), c.vocab_size) != (meta.grid, meta.vocab_size):
        made = "sequences" if c.grid is None else f"grids of {c.grid[0]}x{c.grid[1]} with {c.vocab_size} symbols"
        raise GridError(f"{weights}: made for {made}, expected weights for {meta.name}; train it with notebook 02 and "
                        "name its train/best with --weights")
    return model


def solve(puzzle: Puzzle, weights: Path | str | None = None, attempts: int | None = None, seed: int = 0) -> Solution:
    """Think about a puzzle until the model is sure, under other symmetries if need be, `attempts` times at most.

    weights: None for those that ship. attempts: None for 32, or for all symmetries where there are fewer (mazes: 8, or
    4 if not square), or for one where a model sees neighbours only, which any symmetry leaves alike. Raises GridError
    where the weights do not fit, CheckpointError where they are missing, cut or altered.
    """
    meta = puzzle.meta
    folder = Path(weights) if weights else shipped(meta)
    name = folder.name
    model = fit(puzzle, load_model(folder), name)
    most = 32 if meta.augment == "sudoku" else len(dihedral_cells(*meta.grid[:2]))
    most = 1 if model.config.positions == "near" else most
    wanted = inference.Search(attempts=attempts or most, symmetric=True, until_sure=True, seed=seed)
    zero = np.zeros(1, np.int32)
    split = Split(puzzle.tokens[None], puzzle.tokens[None], zero, zero, zero.astype(np.float32), zero, meta)
    found = inference.search(model, split, wanted)
    answer, which = (column[0] for column in inference.choose(found))
    tried = [{"segments": int(s), "confidence": float(c), "sure": bool(sure)} for s, c, sure in
             zip(found.steps[:, 0], found.confidence[:, 0], found.sure[:, 0], strict=True) if s]
    pairs = symmetries(meta.augment, meta.grid, wanted.attempts, np.random.default_rng(seed))
    apply, invert = pairs[which]
    frames = [{**frame, "answer": invert(frame["answer"][None])[0]}
              for frame in act.trace(model, apply(puzzle.tokens[None])[0])
              if frame["segment"] <= tried[which]["segments"]]
    return Solution(puzzle, answer, frames, tried, int(which), broken(puzzle, answer), name, count_parameters(model))


def broken(puzzle: Puzzle, answer: np.ndarray) -> list[str]:
    """The rules that an answer (T,) breaks, in words; none for a right one."""
    meta, (rows, columns) = puzzle.meta, puzzle.meta.grid[:2]
    place = lambda cell: f"row {cell // columns + 1}, column {cell % columns + 1}"  # noqa: E731
    lost = np.flatnonzero(puzzle.given & (answer != puzzle.tokens))
    found = [f"the given {meta.tokens[puzzle.tokens[cell]]!r} at {place(cell)} is not kept" for cell in lost]
    if meta.augment == "sudoku":
        found += [f"{place(cell)} is left blank" for cell in np.flatnonzero(answer < 2)]
        return found + [f"{digit} stands twice in {unit} ({place(first)} and {place(second)})"
                        for digit, unit, first, second in doubled(np.maximum(answer - 1, 0), rows)]
    walked = np.where((answer == mazes.PATH) | (puzzle.tokens > mazes.OPEN), puzzle.tokens, mazes.WALL)
    along, steps, least = way(walked, (rows, columns)), int((answer == mazes.PATH).sum()) + 1, way(
        puzzle.tokens, (rows, columns))
    if along < 0:
        found.append("the marked cells are no way from S to G")
    elif steps != least:
        found.append(f"the marked way has {steps - 1} cells, expected the shortest with {least - 1}")
    return found


# ---------------------------------------------------------------- showing


def line(tokens: np.ndarray, meta: Meta) -> str:
    """The cells as one string, row by row; for a maze with "\\n" between rows. Padding shows as `?`."""
    names = np.array([name or "?" for name in meta.tokens])[tokens]
    return ("" if meta.augment == "sudoku" else "\n").join("".join(row) for row in names.reshape(meta.grid[:2]))


def drawn(tokens: np.ndarray, meta: Meta, margin: str = "") -> str:
    """The grid as lines of text, with lines around the boxes of a Sudoku."""
    rows = [list(row) for row in np.array(list(line(tokens, replace(meta, augment="sudoku")))).reshape(meta.grid[:2])]
    if meta.augment != "sudoku":
        return "\n".join(margin + "".join(row) for row in rows)
    side, _, high, wide = meta.grid
    parts = [" | ".join(" ".join(row[c:c + wide]) for c in range(0, side, wide)) for row in rows]
    rule = "-+-".join("-" * (2 * wide - 1) for _ in range(side // wide))
    return "\n".join(margin + part for i, row in enumerate(parts)
                     for part in [rule] * (i > 0 and i % high == 0) + [row])
