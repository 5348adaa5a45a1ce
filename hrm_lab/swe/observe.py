"""What a run of tests shows beyond pass and fail: the values that an assertion compared, the lines that each test ran.

Unusual: assertions are rewritten as pytest does it, but only single comparisons: `assert f(3) == 4` fails with
"assert 5 == 4". Lines are seen through `sys.settrace`, which ends after `MOST_LINES` of a test, so that a program
that runs for ever costs no more than one that ends. Standard library only: the sandbox's worker imports it, too.
"""

import ast
import sys

SHOW = "__show__"
MOST_LINES = 100_000  # line events of one test that are looked at
MOST_VALUE = 120  # characters of a value that are shown
SIGNS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is",
         ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in"}


def show(left, sign: str, right, message=None) -> str:
    """"assert 5 == 4", after the assertion's own message if it has one."""
    try:
        values = [text if len(text) <= MOST_VALUE else text[:MOST_VALUE] + "..." for text in map(repr, (left, right))]
    except Exception as error:  # a repr of the program's own
        values = [f"<{type(error).__name__}>"] * 2
    said = f"assert {values[0]} {sign} {values[1]}"
    return said if message is None else f"{message}: {said}"


def explain(tree: ast.Module) -> ast.Module:
    """Let the single comparisons of assertions say their values, in place; `show` must be in the names as SHOW."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare) and len(node.test.ops) == 1:
            test, names = node.test, ("_left_", "_right_")
            left, right = (ast.NamedExpr(ast.Name(name, ast.Store()), value)
                           for name, value in zip(names, (test.left, test.comparators[0]), strict=True))
            node.test = ast.Compare(left, test.ops, [right])
            node.msg = ast.Call(ast.Name(SHOW, ast.Load()), [
                ast.Name(names[0], ast.Load()), ast.Constant(SIGNS[type(test.ops[0])]), ast.Name(names[1], ast.Load()),
                node.msg or ast.Constant(None)], [])
    return ast.fix_missing_locations(tree)


def lines_of(run, filename: str) -> set[int]:
    """Run it and say which lines of the file it ran (1-based); what it raises is the caller's to catch in `run`."""
    seen, left = set(), MOST_LINES

    def inside(frame, event, _):
        nonlocal left
        if event == "line":
            seen.add(frame.f_lineno)
            left -= 1
            if left < 0:
                sys.settrace(None)
                return None
        return inside

    def entered(frame, _, __):
        return inside if frame.f_code.co_filename == filename else None

    sys.settrace(entered)
    try:
        run()
    finally:
        sys.settrace(None)
    return seen
