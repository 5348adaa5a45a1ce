"""Put a candidate's code in the place of a live function. Standard library only: runs inside the jail.

A candidate is one definition without its decorators, which stay. What cannot be done faithfully raises LookupError:
other parameters, other closed-over variables, a
default that cannot be evaluated. Defaults that changed are evaluated in the function's own module.
"""

import __future__

import ast
import importlib.machinery
import linecache
import sys
import sysconfig
import traceback
import types
from pathlib import Path

PYTEST = frozenset(("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"))


class OnlyPytest:
    """An import finder that hides what is installed beside pytest: tests must not depend on the rest of this Python."""

    def __init__(self):
        self.installed = [sysconfig.get_path(name) for name in ("purelib", "platlib")]

    def find_spec(self, name, path=None, target=None):
        if path is None and name not in PYTEST and name not in sys.stdlib_module_names:
            spec = importlib.machinery.PathFinder.find_spec(name)
            if spec and (spec.origin or "").startswith(tuple(self.installed)):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def functions(path):
    """The syntax trees of the functions of a file, by the line on which they, or their decorators, start."""
    found = [node for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8")))
             if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {first_line(node): node for node in found}


def first_line(node):
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def header(node):
    """Parameters without their defaults, to compare."""
    parts = node.args
    named = [*parts.posonlyargs, None, *parts.args, None, parts.vararg, None, *parts.kwonlyargs, None, parts.kwarg]
    return [ast.dump(part) if part else None for part in named]


def nested(code):
    """A code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested(constant)


def parse(source):
    """Syntax tree of one definition, which may be indented as in its class. Raises SyntaxError."""
    tree = ast.parse("if 1:\n" + source if source[:1].isspace() else source)
    return ast.Module(tree.body[0].body, []) if source[:1].isspace() else tree


def compiled(tree, original, path, name, live):
    """Code object of the definition in `tree` as if it stood where `original` does: qualified name, lines, cells.

    live: a function of that name, for what it closes over. Raises SyntaxError, LookupError.
    """
    if len(tree.body) != 1 or type(tree.body[0]) is not type(original) or tree.body[0].name != original.name:
        raise LookupError("the source is not one definition of that function")
    node = tree.body[0]
    if node.decorator_list or header(node) != header(original):
        raise LookupError("it has decorators, or other parameters")
    ast.increment_lineno(tree, original.lineno - node.lineno)
    free, flags = live.__code__.co_freevars, live.__code__.co_flags
    if "__class__" in free:  # keeps the cell of `super()` where the candidate has no use for it
        node.body.append(ast.parse("if 0: __class__").body[0])
    for part in reversed(name.split(".")[:-1]):  # classes, for the qualified name, `super()` and private names
        tree = ast.Module([ast.ClassDef(part, [], [], tree.body, [], type_params=[])], [])
    code = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True,
                   flags=flags & __future__.annotations.compiler_flag)
    for part in name.split("."):
        code = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == part)
    if code.co_freevars != free:
        raise LookupError("it closes over other variables")
    return code


def changed_defaults(arguments, original, function):
    """{attribute: value} of the defaults of `arguments` that are not those of `original`. Raises LookupError."""
    found = {}
    for attribute, part in (("__defaults__", "defaults"), ("__kwdefaults__", "kw_defaults")):
        new, old = ([value and ast.unparse(value) for value in getattr(a, part)] for a in (arguments, original))
        if new == old:
            continue
        try:
            values = [text and eval(text, function.__globals__) for text in new]
        except Exception as error:
            raise LookupError("a default cannot be evaluated") from error
        names = [argument.arg for argument in arguments.kwonlyargs]
        found[attribute] = (tuple(values) if part == "defaults" else
                            {n: v for n, v, text in zip(names, values, new, strict=True) if text})
    return found


def describe(error, test, root, path, original, source, code):
    """A short traceback with the candidate's own lines: those on disk would give the repair away."""
    mine, lines = set(nested(code)), source.splitlines()
    first, last = original.lineno, original.end_lineno
    longer = first + len(lines) - 1 - last
    frames = []
    for frame, number in traceback.walk_tb(error.__traceback__):
        where, text = frame.f_code.co_filename, linecache.getline(frame.f_code.co_filename, number or 0)
        if frame.f_code in mine:
            text = lines[number - first] if number and number - first < len(lines) else ""
        elif where == path and number and number > last:
            number += longer
        if where.startswith(root):
            frames.append((f"  {where[len(root) + 1:]}:{number}: in {frame.f_code.co_name}", f"    {text.strip()}"))
    message = "".join(traceback.format_exception_only(error)).rstrip()
    shown = [line for frame in frames[:1] + frames[1:][-4:] for line in frame]
    return "\n".join([test, *shown, *(f"E {text}" for text in message.splitlines()[:12])])
