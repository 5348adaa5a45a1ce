"""Sudoku of side 4, 6 and 9: solver, effort, and the check of one puzzle.

Unusual: the state of a search is one Python integer with a bit for each (digit, row, column). A group is
"all candidates that compete": a cell's digits, or one digit in a row, column or box. "Which groups have no
candidate, which exactly one" is then a few shifts of the whole integer for all digits at once, and a
propagation round costs ~3 us at side 9 without any compiled code.

Effort is measured, not judged: `guesses` counts every value tried at a branch while the whole search tree
is walked (all solutions, up to `limit`), after naked and hidden singles have been followed to the end. It
does not depend on luck with the order of values. The branch cell is one with two candidates where there
is one, the first in reading order. `rounds` counts propagation rounds.
"""

import math
from dataclasses import dataclass
from functools import cache

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # side -> rows and columns of a box
BLANKS = ".0_"


class PuzzleError(ValueError):
    """A Sudoku that is not one: one line that says what is wrong and where."""


@dataclass(frozen=True)
class Grade:
    """Search effort of a puzzle: values tried at branches, propagation rounds, clues; difficulty 0..1."""

    guesses: int
    rounds: int
    clues: int
    difficulty: float


@dataclass(frozen=True)
class Geometry:
    """Bit tables for one side n. Bit (digit * n + row) * n + column, digits from 0."""

    n: int
    full: int  # all candidates
    cells: tuple[tuple[int, ...], int]  # shifts to the digits of a cell, first digits
    folds: tuple  # how `propagate` counts members: (steps inside, ((steps outside, first members, spread), ...))
    bits: tuple[int, ...]  # 1 << place
    keep: tuple[int, ...]  # per place: all candidates that survive when it is set


@cache
def geometry(n: int) -> Geometry:
    """The tables for side n (4, 6 or 9)."""
    if n not in BOXES:
        raise PuzzleError(f"side {n}; expected 4, 6 or 9")
    box_rows, box_columns = BOXES[n]
    area, span = n * n, range(n)

    def bits(places):
        return sum(1 << place for place in places)

    cell = ([area * d for d in span], bits(range(area)))
    row = (list(span), bits(area * d + n * r for d in span for r in span))
    column = ([n * r for r in span], bits(area * d + c for d in span for c in span))
    box = ([n * r + c for r in range(box_rows) for c in range(box_columns)],
           bits(area * d + n * r + c for d in span for r in range(0, n, box_rows) for c in range(0, n, box_columns)))
    groups = [(shifts, mask, bits(shifts)) for shifts, mask in (cell, row, column, box)]
    full = (1 << n * area) - 1

    # A group's members are counted in two stages of two or three: inside a part of it, then over the parts. Rows
    # and boxes share the first stage. A stage of two has a third shift past the end, which finds nothing.
    def steps(members, step):
        return step, 2 * step if members == 3 else n * area

    part = 2 if n == 4 else 3
    folds = (
        (*steps(part, area), ((*steps(n // part, part * area), *groups[0][1:]),)),
        (*steps(box_rows, n), ((*steps(n // box_rows, n * box_rows), *groups[2][1:]),)),
        (*steps(box_columns, 1), ((*steps(n // box_columns, box_columns), *groups[1][1:]),
                                  (*steps(box_rows, n), *groups[3][1:]))),
    )
    keep = []
    for place in range(n * area):
        bit, peers = 1 << place, 0
        for shifts, mask, spread in groups:
            for shift in shifts:
                if (bit >> shift) & mask:
                    peers |= ((bit >> shift) & mask) * spread
        keep.append(full & ~peers | bit)
    return Geometry(n, full, (tuple(cell[0]), cell[1]), folds, tuple(1 << p for p in range(n * area)), tuple(keep))


def propagate(state: int, done: int, geo: Geometry, count: list[int]) -> tuple[int, int]:
    """Follow naked and hidden singles to the end: (state, singles found), state 0 when a group is left empty.

    done: singles whose competitors are gone already. count: [guesses, rounds], rounds are added.
    """
    bits, keep = geo.bits, geo.keep
    while True:
        count[1] += 1
        singles = 0
        for step, step2, outers in geo.folds:
            second, third = state >> step, state >> step2
            inner = state | second
            twice = state & second | inner & third  # bit set: at least two of the inner members
            inner |= third  # at least one
            for jump, jump2, mask, spread in outers:
                second, third = inner >> jump, inner >> jump2
                ones = inner | second
                if (ones | third) & mask != mask:
                    return 0, done
                more = twice | twice >> jump | twice >> jump2 | inner & second | ones & third
                singles |= state & ((mask & ~more) * spread)
        fresh = singles & ~done
        if not fresh:
            return state, done
        done |= fresh
        while fresh:
            place = fresh.bit_length() - 1
            state &= keep[place]
            fresh ^= bits[place]


def branch(state: int, geo: Geometry) -> list[int]:
    """Candidates (bit numbers) of the first cell with two, else of the first with the fewest above one."""
    shifts, mask = geo.cells
    ones = twos = threes = 0
    for shift in shifts:
        member = state >> shift
        threes |= twos & member
        twos |= ones & member
        ones |= member
    pair = twos & ~threes & mask
    cells = [(pair & -pair).bit_length() - 1] if pair else [c for c in range(geo.n * geo.n) if (twos >> c) & 1]
    options = [[s + c for s in shifts if (state >> (s + c)) & 1] for c in cells]
    return min(options, key=len)


def search(state: int, done: int, geo: Geometry, limit: int, count: list[int]) -> list[int]:
    """Up to `limit` solved states below `state` (see `propagate`); adds guesses and rounds to `count`."""
    state, done = propagate(state, done, geo, count)
    if not state:
        return []
    if state.bit_count() == geo.n * geo.n:
        return [state]
    found: list[int] = []
    for place in branch(state, geo):
        count[0] += 1
        found += search(state & geo.keep[place], done, geo, limit - len(found), count)
        if len(found) >= limit:
            break
    return found


def encode(clues: tuple[int, ...] | list[int], geo: Geometry) -> tuple[int, int]:
    """(state, done) in which `clues` (n * n values, 0 blank) are set."""
    state, done, area = geo.full, 0, geo.n * geo.n
    for cell, digit in enumerate(clues):
        if digit:
            state &= geo.keep[(digit - 1) * area + cell]
            done |= geo.bits[(digit - 1) * area + cell]
    return state, done


def decode(state: int, geo: Geometry) -> tuple[int, ...]:
    """The n * n digits of a solved state."""
    area, grid = geo.n * geo.n, [0] * geo.n * geo.n
    while state:
        bit = state & -state
        digit, cell = divmod(bit.bit_length() - 1, area)
        grid[cell] = digit + 1
        state ^= bit
    return tuple(grid)


def parse(puzzle: str | tuple[int, ...] | list[int]) -> tuple[int, ...]:
    """n * n values from a string (digits; . 0 or _ for blanks; spaces and line ends are skipped) or a sequence.

    Raises `PuzzleError` for a wrong length or symbol and for a digit given twice in a row, column or box.
    """
    if isinstance(puzzle, str):
        symbols = [s for s in puzzle if not s.isspace()]
        side = math.isqrt(len(symbols))
        for i, symbol in enumerate(symbols if side * side == len(symbols) and side in BOXES else ""):
            if symbol not in BLANKS and not ("1" <= symbol <= str(min(side, 9))):
                raise PuzzleError(f"puzzle: {symbol!r} at cell {i + 1}; expected 1-{min(side, 9)} or . for blank")
        values = tuple(int(s) if "1" <= s <= "9" else 0 for s in symbols)
    else:
        values = tuple(int(v) for v in puzzle)
        side = math.isqrt(len(values))
    if side not in BOXES or side * side != len(values):
        raise PuzzleError(f"puzzle: {len(values)} cells; expected 16, 36 or 81")
    box_rows, box_columns = BOXES[side]
    seen: dict[tuple, int] = {}
    for cell, digit in enumerate(values):
        if not 0 <= digit <= side:
            raise PuzzleError(f"puzzle: {digit} at cell {cell + 1}; expected 0..{side}")
        row, column = divmod(cell, side)
        for unit in (("row", row), ("column", column), ("box", row // box_rows * (side // box_columns)
                                                        + column // box_columns)):
            if digit and (unit, digit) in seen:
                other = seen[unit, digit]
                raise PuzzleError(f"puzzle: digit {digit} twice in {unit[0]} {unit[1] + 1} (cells {other + 1} and "
                                  f"{cell + 1}); expected each digit once")
            seen[unit, digit] = cell
    return values


def solve(puzzle, limit: int = 2) -> list[tuple[int, ...]]:
    """Up to `limit` solutions, each n * n digits. Raises `PuzzleError` for a malformed puzzle."""
    clues = parse(puzzle)
    geo = geometry(math.isqrt(len(clues)))
    return [decode(state, geo) for state in search(*encode(clues, geo), geo, limit, [0, 0])]


# Effort at which difficulty reaches 1: beyond what random minimal puzzles of that side need.
HARDEST = {4: 0.5, 6: 10.0, 9: 100.0}


def hardness(guesses: int, rounds: int, n: int) -> float:
    """0..1 on a log scale of guesses; rounds (64 of them weigh one guess) order puzzles that need none."""
    return min(1.0, math.log1p(guesses + rounds / 64) / math.log1p(HARDEST[n]))


def grade(puzzle) -> Grade:
    """Effort of a puzzle with one solution, see the module docstring. Raises `PuzzleError` otherwise."""
    clues = parse(puzzle)
    geo = geometry(math.isqrt(len(clues)))
    count = [0, 0]
    found = search(*encode(clues, geo), geo, 2, count)
    given = sum(1 for c in clues if c)
    if not found:
        raise PuzzleError(f"puzzle: no solution with its {given} clues; expected exactly one")
    if len(found) > 1:
        a, b = (decode(state, geo) for state in found)
        cell = next(i for i in range(len(a)) if a[i] != b[i])
        raise PuzzleError(f"puzzle: several solutions (row {cell // geo.n + 1}, column {cell % geo.n + 1} can be "
                          f"{a[cell]} or {b[cell]}); expected exactly one")
    return Grade(count[0], count[1], given, hardness(count[0], count[1], geo.n))


def check_puzzle(puzzle) -> tuple[int, ...]:
    """The one solution (n * n digits). Raises `PuzzleError`: malformed, no solution, several solutions."""
    grade(puzzle)
    return solve(puzzle, limit=1)[0]
