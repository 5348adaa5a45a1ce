"""The command `hrm-lab`. `hrm-lab repair PROGRAM --tests TESTS` looks for a patch after which all tests pass;
`hrm-lab solve PUZZLE` solves a Sudoku or a maze with the weights that ship.

Exit codes: 0 all tests pass (with the patch, or already), or the puzzle is solved; 1 no patch, no solution was found; 2
the question was wrong (one line on stderr says how); 130 interrupted. Standard output holds the answer alone, so that
`--json` can be piped.
"""

import argparse
import json
import sys

from hrm_lab import forecast_command
from hrm_lab.adapters import command as preflight_command


def positive(convert):
    """An argparse type: a number above 0."""

    def read(text: str):
        value = convert(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text}; expected a number above 0")
        return value

    read.__name__ = convert.__name__
    return read


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("hrm-lab", description="Hierarchical reasoning models at work.")
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("repair", help="look for a patch that makes all tests pass", description="""
        Look for an edit of PROGRAM after which all TESTS pass, print it as a unified diff with its evidence. Tests run
        in a jail without a network, on a copy. Exit code 0 only if all tests pass.""")
    one.add_argument("program", metavar="PROGRAM", help="a Python file that the tests import")
    one.add_argument("--tests", required=True, metavar="TESTS", help="a pytest file, or a folder of them")
    one.add_argument("--budget", type=positive(int), default=1000, metavar="N",
                     help="executions of the tests at most (default: 1000)")
    one.add_argument("--seconds", type=positive(float), metavar="S", help="wall time at most (default: no limit)")
    one.add_argument("--seed", type=int, default=0, help="of ties in the order of candidates (default: 0)")
    one.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    one.add_argument("--write", action="store_true", help="write the patch into PROGRAM")
    one.set_defaults(run=repair)
    one = commands.add_parser("solve", help="solve a Sudoku or a maze, step by step", description="""
        Solve one puzzle with a trained model and show how it went: attempts under other symmetries until it is sure, a
        line for each segment, the answer, and whether that keeps the rules. Exit code 0 only if it does.""")
    one.add_argument("puzzle", metavar="PUZZLE", help="a file, - for standard input, or the puzzle itself: 1-9 "
                     "and . for blanks; a maze of # . S G")
    one.add_argument("--weights", metavar="FOLDER",
                     help="of a trained model (default: those that ship: Sudoku 4x4, 6x6 and 9x9, and mazes)")
    one.add_argument("--attempts", type=positive(int), metavar="N",
                     help="at most (default: 32, or all symmetries of a maze)")
    one.add_argument("--seed", type=int, default=0, help="of the symmetries (default: 0)")
    one.add_argument("--steps", action="store_true", help="show the grid after each segment, too")
    one.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    one.set_defaults(run=solve)
    preflight_command.add(commands)
    forecast_command.add(commands)
    return top


def repair(arguments: argparse.Namespace) -> int:
    from hrm_lab.swe import repair as repairs  # torch is not imported for --help
    from hrm_lab.swe.jail import JailError

    try:
        report = repairs.repair(arguments.program, arguments.tests, budget=arguments.budget, seconds=arguments.seconds,
                                seed=arguments.seed)
    except (ValueError, OSError, JailError) as error:
        print(f"hrm-lab repair: {error}", file=sys.stderr)
        return 2
    if arguments.write and report.patch:
        repairs.write(arguments.program, report)
    if arguments.json:
        print(json.dumps(report.json(), indent=1))
        if report.note:
            print(f"note: {report.note}", file=sys.stderr)
    else:
        print(report)
        if arguments.write and report.patch:
            print(f"written to {arguments.program}")
    return 0 if report.resolved else 1


def solve(arguments: argparse.Namespace) -> int:
    from hrm_lab import solve as solver  # torch

    try:
        puzzle = solver.read(*solver.source(arguments.puzzle))
        found = solver.solve(puzzle, arguments.weights, arguments.attempts, arguments.seed)
    except (ValueError, OSError) as error:
        print(f"hrm-lab solve: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found.json(), indent=1) if arguments.json else found.text(arguments.steps))
    return 0 if found.solved else 1


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
