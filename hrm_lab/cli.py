"""The command `hrm-lab`. `hrm-lab repair PROGRAM --tests TESTS` looks for a patch after which all tests pass.

Exit codes: 0 all tests pass (with the patch, or already), 1 no patch was found, 2 the question was wrong (one line on
stderr says how), 130 interrupted. Standard output holds the answer alone, so that `--json` can be piped.
"""

import argparse
import json
import sys

from hrm_lab.adapters import command


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
    command.add(commands)
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


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        return getattr(arguments, "run", repair)(arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
