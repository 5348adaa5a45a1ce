"""What an edit of a whole statement would do, as an expression that does nothing: for the probe (probe.py).

`effect` of a statement is "" where running it would change nothing, else a value that says what it would change; so
that an inserted `if n < 0: return 0` becomes `("return", 0) if n < 0 else ""`, evaluated where it would stand.
Unusual: what a statement does to a name is told from a copy, so that `xs.sort()` can be asked about, too.
"""

import ast
import textwrap

from .edits import Edit

COPIED = frozenset("sort reverse append extend insert pop remove add discard update clear setdefault".split())


def effect(node: ast.stmt, pure) -> ast.expr | None:
    """The effect of one statement, or None if it cannot be told. pure: whether an expression has no effect."""
    match node:
        case ast.Pass():
            return ast.Constant("")
        case ast.Break() | ast.Continue():
            return ast.Constant(type(node).__name__)
        case ast.Raise():
            return ast.Constant(ast.unparse(node))
        case ast.Return(value=None):
            return _tuple("return", ast.Constant(None))
        case ast.Return(value=value) if pure(value):
            return _tuple("return", value)
        case ast.If(test=test, body=[inner], orelse=[]) if pure(test):
            told = effect(inner, pure)
            return told and ast.IfExp(test, told, ast.Constant(""))
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if pure(value):
            return _call("set", ast.Constant(name), _later(ast.Name(name, ast.Load())), value)
        case ast.AugAssign(target=ast.Name(id=name)) if pure(node.value):
            return _call("set", ast.Constant(name), _later(ast.Name(name, ast.Load())), _value(node))
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method), args=args,
                                     keywords=keywords)) if method in COPIED and all(
                map(pure, args)) and all(pure(one.value) for one in keywords):
            return _call("do", ast.Name(name, ast.Load()), ast.Constant(method), ast.Tuple(args, ast.Load()), ast.Dict(
                [ast.Constant(one.arg) for one in keywords], [one.value for one in keywords]))
    return None


def _value(node: ast.Assign | ast.AugAssign) -> ast.expr:
    return node.value if isinstance(node, ast.Assign) else ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op,
                                                                    node.value)


def _tuple(what: str, value: ast.expr) -> ast.expr:
    return ast.Tuple([ast.Constant(what), value], ast.Load())


def _later(body: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), body)


def _call(name: str, *given: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(f"__probe_{name}__", ast.Load()), list(given), [])


class Points:
    """The statements of a program's functions, by where they start and end: before and after them others may stand."""

    def __init__(self, code: str, tree: ast.AST, offset, pure):
        self.code, self.pure, self.known = code, pure, {}
        self.before, self.after, self.assigned = {}, {}, []
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.stmt) and node is not function:
                        self.before[offset(node.lineno, node.col_offset)] = node
                        self.after[offset(node.end_lineno, node.end_col_offset), node.col_offset] = node
                        if _named(node):
                            self.assigned.append((offset(node.lineno, node.col_offset), offset(
                                node.end_lineno, node.end_col_offset), node))

    def of(self, edit: Edit) -> tuple[ast.stmt, bool, ast.expr] | None:
        """(statement, whether after it, effect there) of an edit, or None where nothing can be told."""
        node, late = self.before.get(edit.start), False
        if edit.start < edit.end:
            return self._replaced(edit) or self._other(edit)
        if edit.text.startswith("\n"):
            body = edit.text.lstrip("\n")  # how far it is indented says after which of the blocks that end here
            node, late = self.after.get((edit.start, len(body) - len(body.lstrip(" \t")))), True
        if node is None or "\n" not in edit.text:
            return None
        told = self._told(edit.text, node.col_offset)
        return told and (node, late, told)

    def _told(self, text: str, indent: int) -> ast.expr | None:
        text = textwrap.dedent(" " * indent + text.strip())
        if text not in self.known:
            body = _parsed(text)
            self.known[text] = effect(body[0], self.pure) if len(body) == 1 else None
        return self.known[text]

    def _replaced(self, edit: Edit):
        """A statement dropped, put under a condition, or another one in its place that ends the run there."""
        old = self.code[edit.start:edit.end]
        node = self.before.get(edit.start + len(old) - len(old.lstrip()))
        if node is None or old.strip() != ast.get_source_segment(self.code, node):
            return None
        if edit.text in ("", "pass"):
            told = ast.Constant("skip")
            if isinstance(node, ast.Assign | ast.AugAssign) and (known := effect(node, self.pure)) is not None:
                told = ast.IfExp(known, told, ast.Constant(""))
            return node, False, told
        body = _parsed(textwrap.dedent(" " * node.col_offset + edit.text))
        match body:
            case [ast.If(test=test, body=[inner], orelse=[])] if self.pure(test) and ast.dump(inner) == ast.dump(node):
                return node, False, ast.IfExp(test, ast.Constant(""), ast.Constant("skip"))
            case [ast.Return()] if not isinstance(node, ast.Return):
                told = effect(body[0], self.pure)
                return told and (node, False, told)
        return None


    def _other(self, edit: Edit):
        """Another operator or target in an assignment."""
        for start, end, node in self.assigned:
            if start <= edit.start and edit.end <= end:
                match _parsed(self.code[start:edit.start] + edit.text + self.code[edit.end:end]):
                    case [new] if _named(new) and self.pure(new.value) and self.pure(node.value):
                        return node, False, _call("other", ast.Constant(_named(node)), _later(_value(node)),
                                                  ast.Constant(_named(new)), _value(new))
        return None


def _named(node: ast.stmt) -> str:
    """The name that an assignment sets, or ""."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AugAssign(target=ast.Name(id=name)):
            return name
    return ""


def _parsed(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except SyntaxError:
        return []
