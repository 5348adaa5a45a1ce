"""Statements that are added: assignments, updates, calls, returns, jumps, guards, copies of the program's own."""

from .conditions import conditions
from .languages import Node
from .scope import SEQUENCES, Program, compatible
from .statements import _loop, _renamed, guarded, indent, movable, statements


def insertions(p: Program, s: Node):
    """New statements before a statement, and after it if it ends its block."""
    if s.parent.role != "block" or p.function(s.parent) is p.top or s.role in ("function", "class"):
        return
    siblings, at = statements(p, s.parent), indent(p, s)
    if at is None or s not in siblings:
        return
    for kind, text in _new(p, s, s.start, at, True):
        yield (kind, s.start, s.start, f"{text}\n{at}")
    if s is siblings[-1] and s.role != "return":
        for kind, text in _new(p, s, s.end, at, False):
            yield (kind, s.end, s.end, f"\n{at}{text}")


def _new(p: Program, near: Node, offset: int, at: str, before: bool):
    t, end, function = p.table, p.table.end, p.function(near)
    point = offset if before else near.end - 1
    names = p.names(point)
    numbers = [n for n in names if p.type_at(point, n) in ("num", "any")]
    sure = [n for n in numbers if p.type_at(point, n) == "num"]
    following = set(_after(p, near, before))
    parts = [text for text, known, _, node in p.pool(function) if node.role in ("subscript", "call", "attribute")
             and known in ("num", "any") and len(text) <= 14 and p.visible(node, point)][:4]
    for name in sure[-6:] or numbers[-3:]:
        for value in ("1", *(other for other in sure[-6:] if other != name), *parts):
            yield from (("insert-update", f"{name} {sign} {value}{end}") for sign in ("+=", "-="))
        yield from (("insert-update", f"{name} {sign} 2{end}") for sign in ("*=", "//=" if "//"
                in t.arithmetic else "/="))
    if before and p.language == "python" and near is statements(p, near.parent)[0] and near.parent.parent is function:
        yield from (("insert-update", f"{name} %= len({other})") for name in numbers[-3:] for other in names
                    if other != name and p.type_at(point, other) in (*SEQUENCES, "str", "any"))
    for name in names:
        kind = p.type_at(point, name)
        values = [other for other in p.names(point, kind) if other != name and (kind == "any") == (p.type_at(point,
            other) == "any")]
        values += [literal for k, group in t.defaults.items() if k == kind for literal in group[:3]]
        yield from (("insert-assignment", f"{name} = {value}{end}") for value in values[-8:])
        if p.language == "python" and kind in (*SEQUENCES, "str"):
            shapes = {"str": ("{0}.lower()", "{0}.strip()", "{0}[::-1]"), "list": ("sorted({0})", "list(set({0}))",
                "{0}[::-1]", "{0}[:]")}
            yield from (("insert-assignment", f"{name} = {shape.format(name)}") for shape in shapes.get(kind, ()))
        if kind == "list" and p.language == "python":
            yield from (("insert-call", f"{name}.{call}") for call in ("sort()", "reverse()", "pop()", "pop(0)",
                    "sort(reverse=True)"))
    later = [n for n, start, scope in p.bindings if start > point and scope is function and n not in names]
    for name in dict.fromkeys(later):  # used before it has a value
        kind = p.types.get((function.start, name), "any")
        for known in ("num", "list", "str", "dict", "bool") if kind == "any" else (kind,):
            yield from (("insert-assignment", f"{name} = {value}{end}") for value in t.defaults.get(known, ())[:2])
    unknown = [n for n in names if p.type_at(point, n) in ("any", "none")][-4:]
    for name in unknown:
        for attribute in p.attributes[:4]:
            yield ("insert-assignment", f"{name} = {name}.{attribute}{end}")
            for other in unknown:
                if other != name:
                    yield ("insert-assignment", f"{name}.{attribute} = {other}{end}")
                    yield ("insert-assignment", f"{name} = {other}.{attribute}{end}")
    for name in (n for n in names if p.type_at(point, n) in SEQUENCES):
        for value in [other for other in names if other != name and p.type_at(point, other) not in SEQUENCES][-5:]:
            for template in t.appends[:2]:
                method = template.split("(")[0].split(".")[-1]
                if p.type_at(point, name) != "list" or method not in ("add", "insert") or p.language == "java":
                    yield ("insert-call", template.format(name, value) + end)
    if _loop(p, near):
        yield from (("insert-jump", word + end) for word in ("break", "continue"))
    values = _results(p, function, point)
    if not before or near.role != "return":
        yield from (("insert-return", f"return {value}{end}".replace(" ;", ";")) for value in values)
    for text, node in _statements(p, function):
        if text not in following and p.visible(node, point):
            yield ("insert-copy", text)
            used = [n for n in node.walk() if n.role == "name" and (p.is_value(n) or n in p.targets)]
            for name in dict.fromkeys(p.text(n) for n in used):
                for other in p.names(point, p.type_at(point, name))[-4:]:
                    if other != name and p.type_at(point, other) == p.type_at(point, name):
                        yield ("insert-copy", _renamed(text, {name: other}))
    if before:
        tests = _tests(p, near)
        actions = [f"return {value}{end}".replace(" ;", ";") for value in values[:5]]
        if _loop(p, near):
            actions += ["continue" + end, "break" + end]
        for test in tests:
            yield from (("insert-guard", guarded(p, test, action, at)) for action in (*actions, *(r + end for r
                    in t.raises)))


def _after(p: Program, near: Node, before: bool):
    """Texts that stand directly at the place: inserting them again is `duplicate`."""
    siblings = statements(p, near.parent)
    i = siblings.index(near)
    return [p.text(s) for s in siblings[max(0, i - before):i + 1]]


def _results(p: Program, function: Node, point: int) -> list[str]:
    """What a new return may give back: what others return, then names and literals."""
    t, found, kinds = p.table, {}, set()
    for node in function.walk():
        value = node.parts[0] if node.role == "return" and node.parts and p.function(node) is function else None
        if value is not None and len(text := p.text(value)) <= 30 and p.visible(value, point):
            found[text] = None
            kinds.add(p.guess(value))
    kind = next(iter(kinds)) if len(kinds) == 1 else "any"
    literals = [t.true, t.false] if kind in ("bool", "any") else []
    literals += [literal for k, group in t.defaults.items() if k == kind for literal in group[:3]]
    found |= dict.fromkeys(literals if kind != "any" else [*literals, "0", t.none])
    found |= dict.fromkeys(n for n in p.names(point) if compatible(kind, p.type_at(point, n)))
    return list(found)[:10]


def _statements(p: Program, function: Node) -> list[tuple[str, Node]]:
    """The simple statements of a function, each once."""
    found = {}
    for node in function.walk():
        text = p.text(node)
        simple = node.role in ("exprstmt", "update", "assign", "jump", "augassign") and node.parent.role == "block"
        docstring = bool(node.parts) and node.parts[0].role == "string"
        short = len(text) < 100 and "\n" not in text and text != "pass"
        if simple and short and not docstring and node not in p.skipped:
            found.setdefault(text, node)
    return list(found.items())[:24]


def _tests(p: Program, near: Node) -> list[str]:
    """Conditions of a guard: emptiness, zero, none, equality, and the function's own."""
    t, at = p.table, near.start
    found = {}
    for name in p.names(at):
        kind = p.type_at(at, name)
        if kind in (*SEQUENCES, "str", "dict"):
            found |= dict.fromkeys((t.empty.format(name), f"{t.size.format(name)} == 1"))
        elif kind == "num":
            found |= dict.fromkeys((f"{name} == 0", f"{name} < 0", f"{name} == 1"))
        else:
            found |= dict.fromkeys((t.negation.format(name), f"{name} is {t.none}"
                if t.none == "None" else f"{name} == {t.none}", name))
    own = [text for text in conditions(p, near) if text not in found]
    return [*list(found)[:9], *own[:7]]


def guards(p: Program, s: Node):
    """A statement, or it and all that follow, put under a condition."""
    if s.parent.role != "block" or indent(p,
            s) is None or not movable(p, s):
        return
    if s.role in ("function", "class", "declaration", "declare", "skip"):
        return
    at, text = indent(p, s), p.text(s)
    for test in conditions(p, s)[:40]:
        yield ("guard", s.start, s.end, guarded(p, test, text, at))

