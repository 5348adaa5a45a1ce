"""Where code and tests lie in each pinned sdist that is broken and repaired, which split it is in, and its functions.

Nothing is run here: files are read and parsed. Splits are by package, never within one.
"""

import ast
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hrm_lab.sources import fetch, unpack


@dataclass(frozen=True)
class Package:
    """A package of data/sources.txt. Paths are relative to the root of its sdist; a folder ends with "/"."""

    name: str
    code: str  # what is broken: files whose path starts so, tests excepted
    tests: tuple[str, ...]  # given to pytest; may be patterns
    split: str
    path: str = "."  # what goes on sys.path


PACKAGES = {package.name: package for package in (
    Package("inflection", "inflection/", ("test_inflection.py",), "train"),
    Package("toolz", "toolz/", ("toolz/tests", "toolz/sandbox/tests"), "train"),
    Package("boltons", "boltons/", ("tests",), "train"),
    Package("cachetools", "src/cachetools/", ("tests",), "train", "src"),
    Package("funcy", "funcy/", ("tests",), "train"),
    Package("semver", "src/semver/", ("tests",), "train", "src"),
    Package("parse", "parse/", ("tests",), "train"),
    Package("tabulate", "tabulate/", ("test",), "train"),
    Package("sqlparse", "sqlparse/", ("tests",), "train"),
    Package("xmltodict", "xmltodict", ("tests",), "train"),
    Package("voluptuous", "voluptuous/", ("voluptuous/tests/tests.py",), "train"),
    Package("isodate", "src/isodate/", ("tests",), "train", "src"),
    Package("pyrsistent", "pyrsistent/", ("tests/*_test.py",), "train"),
    Package("h11", "h11/", ("h11/tests",), "train"),
    Package("hyperframe", "src/hyperframe/", ("tests",), "valid", "src"),
    Package("anytree", "src/anytree/", ("tests",), "valid", "src"),
    Package("schema", "schema/", ("test_schema.py",), "valid"),
    Package("humanize", "src/humanize/", ("tests",), "valid", "src"),
    Package("itsdangerous", "src/itsdangerous/", ("tests",), "test", "src"),
    Package("rfc3986", "src/rfc3986/", ("tests",), "test", "src"),
    Package("unidiff", "unidiff/", ("tests",), "test"),
    Package("webcolors", "src/webcolors/", ("tests",), "test", "src"),
)}


def checkout(name: str, cache: str | os.PathLike) -> Path:
    """Root folder of a package's sdist, fetched and unpacked under `cache` if it is not there. Raises `SourceError`."""
    return unpack(fetch(name, cache), Path(cache) / "unpacked")


@dataclass(frozen=True)
class Function:
    """A function of a package: `text` is file[start:end], whole lines from `def` on, without decorators."""

    file: str
    name: str  # dotted, e.g. "Stack.push"
    line: int  # where it starts for Python, decorators included
    start: int
    end: int
    text: str


def functions(package: Package, root: Path) -> list[Function]:
    """The package's functions and methods, in the order of files and lines; not those inside functions.

    A name that a file defines twice (a property and its setter) is left out: a name alone must say which is meant.
    """
    found = []
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root).as_posix()
        parts = file.removeprefix(package.code).split("/")
        if not file.startswith(package.code) or any(p.startswith(("test", "conftest")) for p in parts):
            continue
        try:
            text = path.read_bytes().decode()
            tree = ast.parse(text)
        except ValueError:  # SyntaxError is one: a file for another Python
            continue
        if "\r" in text or "\f" in text:  # lines that Python counts differently
            continue
        starts = [0]
        for line in text.split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        inside = [Function(file, name, min([node.lineno, *(d.lineno for d in node.decorator_list)]),
                           starts[node.lineno - 1], starts[node.end_lineno] - 1,
                           text[starts[node.lineno - 1]:starts[node.end_lineno] - 1])
                  for name, node in _definitions(tree, "")]
        names = Counter(function.name for function in inside)
        found += [function for function in inside if names[function.name] == 1]
    return found


def _definitions(tree, prefix):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _definitions(node, prefix)
