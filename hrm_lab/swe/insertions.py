"""Statements that are added: assignments, updates, calls, returns, jumps, guards, copies of the program's own."""

from .conditions import conditions
from .languages import Node
from .scope import SEQUENCES, Program, compatible
from .statements import _loop, _renamed, guarded, indent, movable, statements


def gaps(p: Program, block: Node):
    """Places for a new statement: (offset, indentation, neighbour, whether it comes before the neighbour)."""
    inside = statements(p, block)
    for s in inside:
        if (at := indent(p, s)) is not None and s.role not in ("function", "class"):
            yield s.start, at, s, True
    if inside and (at := indent(p, inside[-1])) is not None and inside[-1].role not in ("function", "class", "return"):
        yield inside[-1].end, at, inside[-1], False


def insertions(p: Program, block: Node):
    """New statements at every place of a block."""
    if block.role != "block" or p.function(block) is p.top:
        return
    for offset, at, near, before in gaps(p, block):
        for kind, text in _new(p, near, offset, at, before):
            yield (kind, offset, offset, f"{text}\n{at}" if before else f"\n{at}{text}")


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
    for name in names:
        kind = p.type_at(point, name)
        values = [other for other in p.names(point, kind) if other != name and (kind == "any") == (p.type_at(point,
            other) == "any")]
        values += [literal for k, group in t.defaults.items() if k == kind for literal in group[:3]]
        yield from (("insert-assignment", f"{name} = {value}{end}") for value in values[-8:])
        if p.language == "python" and kind in (*SEQUENCES, "str"):
            shapes = {"str": ("{0}.lower()", "{0}.strip()", "{0}[::-1]"), "list": ("sorted({0})", "list(set({0}))",
                "{0}[::-1]")}
            yield from (("insert-assignment", f"{name} = {shape.format(name)}") for shape in shapes.get(kind, ()))
        if kind == "list" and p.language == "python":
            yield from (("insert-call", f"{name}.{call}") for call in ("sort()", "reverse()", "pop()", "pop(0)",
                    "sort(reverse=True)"))
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
        if node.role == "return" and p.function(node) is function:
            if node.parts and len(text := p.text(node.parts[0])) <= 30 and p.visible(node.parts[0], point):
                found[text] = None
                kinds.add(p.guess(node.parts[0]))
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
        if node.role in ("exprstmt", "update", "assign", "jump", "augassign") and node.parent.role == "block" and len(
                p.text(node)) < 100 \
                and "\n" not in p.text(node) and node not in p.skipped and p.text(node) != "pass":
            if not (node.parts and node.parts[0].role == "string"):
                found.setdefault(p.text(node), node)
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

