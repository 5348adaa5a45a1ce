"""Fuel: a count of loop turns, calls and comprehension turns, put into a program's syntax tree.

A time-out in seconds depends on what else the machine does; fuel does not, so that the same candidate always gets the
same outcome. `__tick__()` becomes the first statement of every function and loop body, the first condition of every
comprehension, and part of every lambda; when the count runs out it raises `OutOfFuel`, a BaseException, and goes on
raising it, so that no `except` outlives it. Work in C code (`sum(range(10**12))`) takes no fuel: CPU time ends that.
Standard library only: the sandbox's worker imports it, too.
"""

import ast

TICK = "__tick__"


class OutOfFuel(BaseException):
    """A program made more turns than it was given."""


class Tank:
    """`tick` counts down from `fuel`; `used` and `empty` look at the count."""

    def __init__(self, fuel: int):
        left = fuel

        def tick():
            nonlocal left
            left -= 1
            if left < 0:
                raise OutOfFuel(f"{fuel} turns")
            return True

        self.tick, self.used, self.empty = tick, lambda: min(fuel, fuel - left), lambda: left < 0


def _call(where: ast.AST) -> ast.Call:
    name = ast.Name(TICK, ast.Load())
    return ast.copy_location(ast.Call(ast.copy_location(name, where), [], []), where)


def _docstring(body: list[ast.stmt]) -> bool:
    first = body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def instrument(tree: ast.Module) -> ast.Module:
    """Put the calls of `__tick__` into `tree`, in place; line numbers stay."""
    for node in ast.walk(tree):
        kind = type(node)
        if kind in (ast.For, ast.While, ast.AsyncFor, ast.FunctionDef, ast.AsyncFunctionDef):
            body = node.body
            statement = ast.copy_location(ast.Expr(_call(body[0])), body[0])
            body.insert(1 if kind in (ast.FunctionDef, ast.AsyncFunctionDef) and _docstring(body) else 0, statement)
        elif kind is ast.comprehension:
            node.ifs.insert(0, _call(node.target))
        elif kind is ast.Lambda:
            old = node.body
            node.body = ast.copy_location(ast.BoolOp(ast.And(), [_call(old), old]), old)
    return tree
