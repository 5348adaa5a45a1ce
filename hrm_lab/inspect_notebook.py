"""What a notebook says of itself, read without running it: title, parameters, and the modules that it imports.

What is unusual: the `parameters` cell is read with `ast`, never run, so that a wrong name or type is refused before a
kernel starts. Papermill only warns about an unknown name (papermill #818), does not see `x: int | None = None` (#806)
and hands `-p flag false` over as the truthy string "false".
"""

import ast
import io
import json
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the checkout: holds hrm_lab/ and notebooks/


@dataclass(frozen=True)
class Parameter:
    """One assignment of a `parameters` cell: its default, the types it takes, and the comment behind it."""

    default: object
    types: tuple[type, ...]
    note: str


def read_parameters(source, where):
    """Name -> Parameter for the source of a `parameters` cell; `where` names the file in errors."""
    try:
        notes = {t.start[0]: t.string.lstrip("# ") for t in tokenize.generate_tokens(io.StringIO(source).readline)
                 if t.type == tokenize.COMMENT}
        body, found = ast.parse(source).body, {}
    except (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: parameters cell: {' '.join(str(error).split())[:100]}, expected Python") from None
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        plain = isinstance(node, ast.Assign | ast.AnnAssign) and node.value and len(targets) == 1
        if not plain or not isinstance(targets[0], ast.Name):
            line = f"parameters cell, line {node.lineno}"
            raise ValueError(f"{where}: {line}: got {ast.unparse(node)!r}, expected `name = literal`")
        name = targets[0].id
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            value = ast.unparse(node.value)
            raise ValueError(f"{where}: parameter {name}: default {value!r} is not a literal") from None
        types = _annotated_types(node.annotation, where) if isinstance(node, ast.AnnAssign) else (type(default),)
        found[name] = Parameter(default, types, notes.get(node.end_lineno, ""))
    return found


def _annotated_types(node, where):
    """`int | None` -> (int, NoneType); `list[str]` -> (list,)."""
    if isinstance(node, ast.BinOp):
        return _annotated_types(node.left, where) + _annotated_types(node.right, where)
    if isinstance(node, ast.Subscript):
        return _annotated_types(node.value, where)
    name = ast.unparse(node)
    known = {t.__name__: t for t in (bool, int, float, str, list, dict, tuple)} | {"None": type(None)}
    if name not in known:
        line = f"parameters cell, line {node.lineno}"
        raise ValueError(f"{where}: {line}: got the annotation {name!r}, expected one of {', '.join(known)}")
    return (known[name],)


def read_notebook(path):
    """The notebook at `path` as plain JSON objects; ValueError if it is not there or is none."""
    try:
        nb = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}, expected a notebook") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}, expected a notebook") from None
    cells = nb.get("cells") if isinstance(nb, dict) else None
    if not isinstance(cells, list):
        raise ValueError(f"{path}: got no list of cells, expected a notebook")
    for i, cell in enumerate(cells):
        source = cell.get("source") if isinstance(cell, dict) else None
        text = isinstance(source, str) or isinstance(source, list) and all(isinstance(line, str) for line in source)
        if not text or not isinstance(cell.get("metadata"), dict) or not isinstance(cell.get("cell_type"), str):
            raise ValueError(f"{path}: cell {i + 1}: expected an object with cell_type, metadata and a source of text")
        if not isinstance(cell["metadata"].get("tags", []), list):
            raise ValueError(f"{path}: cell {i + 1}: got tags {str(cell['metadata']['tags'])[:40]!r}, expected a list")
    return nb


def title(nb, otherwise):
    """The first `# ` heading of a notebook."""
    lines = (line for c in nb["cells"] if c["cell_type"] == "markdown" for line in "".join(c["source"]).splitlines())
    return next((line[2:].strip() for line in lines if line.startswith("# ")), otherwise)


def declared(path):
    """The parameters of the notebook at `path`, in order: name -> Parameter."""
    cells = [c for c in read_notebook(path)["cells"] if "parameters" in c["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{path}: {len(cells)} cells are tagged `parameters`, expected exactly one")
    return read_parameters("".join(cells[0]["source"]), path)


def check(path, given):
    """`given` (name -> value, or the text of a value as typed on a command line) with every value of its declared type.

    Raises ValueError, in one line, for a name that the notebook does not declare and for a value of the wrong type.
    """
    known = declared(path)
    typed = {}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{path}: unknown parameter {name!r}, expected one of {', '.join(known)}")
        types = known[name].types
        if types == (type(None),):  # a bare `x = None` says nothing of its type: any literal will do
            types = (type(None), bool, int, float, list, dict, str)
        typed[name] = _typed(value, types)
        if typed[name] is _WRONG:
            want = " or ".join(t.__name__.replace("NoneType", "None") for t in types)
            raise ValueError(f"{path}: parameter {name}: got {value!r}, expected {want}")
    return typed


_WRONG = object()


def _typed(value, types):
    if isinstance(value, str):
        text, word = value, value.strip().lower()
        if type(None) in types and word in ("none", "null"):
            return None
        if bool in types and word in ("true", "false"):
            return word == "true"
        if not set(types) <= {str, type(None)}:  # "3" is an int where an int is wanted, a str where only a str is
            try:
                value = ast.literal_eval(text.strip())
            except (ValueError, SyntaxError):
                value = text
        if _typed_as_is(value, types) is _WRONG and str in types:
            return text
    return _typed_as_is(value, types)


def _typed_as_is(value, types):
    if type(value) in types:  # exactly: bool is an int to isinstance
        return value
    return float(value) if float in types and type(value) is int else _WRONG


# ---------------------------------------------------------------- what a notebook depends on


def sources(path):
    """The files of hrm_lab that the notebook at `path` imports, directly or not, sorted; found without running it."""
    code = "\n".join("".join(c["source"]) + "\n" for c in read_notebook(path)["cells"] if c["cell_type"] == "code")
    waiting = _imported(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", code), "", path)
    found = set()
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            package = ".".join(file.relative_to(ROOT).parts[:-1])
            waiting |= _imported(file.read_text(encoding="utf-8"), package, file)
    return sorted(map(str, found))


def _imported(source, package, where):
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"{where}: line {error.lineno}: {error.msg}") from None
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*parents, node.module]))
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if name.split(".")[0] == "hrm_lab"]
    stems = {ROOT.joinpath(*p[: i + 1]) for p in parts for i in range(len(p))}
    return {f for stem in stems for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.is_file()}
