"""Conditions that could be asked at a place: the function's own, those with one part changed, and of names by type."""

from .languages import Node
from .scope import SEQUENCES, Program


def conditions(p: Program, node: Node) -> list[str]:
    """Conditions that could be asked at a node, at most 60: those of the function, then of names by type."""
    t, at, function = p.table, node.start, p.function(node)
    found = dict.fromkeys(p.text(other) for other in p.tested(function) if other is not node
                          and not (other.start <= at < other.end) and p.level(other) >= 3
                          and len(p.text(other)) <= 40 and "\n" not in p.text(other) and p.visible(other,
                                  at))
    constants = [n for n in p.constants(function)[0] if len(n) <= 4]
    for other in p.tested(function):  # those of the function with one constant or name changed
        text = p.text(other)
        if other.role != "binary" or p.level(other) != 4 or len(text) > 24 or not p.visible(other, at):
            continue
        for part in other.walk():
            near = [*constants[:5], *((str(int(p.text(part)) + 1),) if p.text(part).isdecimal() else ())] \
                if part.role == "number" else p.names(at, p.guess(part))[-4:] if part.role == "name" and \
                p.is_value(part) and p.guess(part) != "any" else []
            found |= dict.fromkeys(text[:part.start - other.start] + new + text[part.end - other.start:] for new
                in near)
    found = dict.fromkeys(list(found)[:30])
    numbers = [n for n in p.names(at, "num") if p.type_at(at, n) == "num"][-6:]
    unknown = [n for n in p.names(at) if p.type_at(at, n) == "any"][-4:]
    for i, a in enumerate(numbers):
        for b in numbers[i + 1:]:
            found |= dict.fromkeys((f"{a} < {b}", f"{a} > {b}", f"{a} == {b}", f"{a} != {b}"))
    for a in numbers:
        found |= dict.fromkeys((f"{a} > 0", f"{a} == 0", f"{a} < 0"))
    for a in (n for n in p.names(at) if p.type_at(at, n) in (*SEQUENCES, "str", "dict")):
        found |= dict.fromkeys((t.empty.format(a), a) if p.language == "python" else (t.empty.format(a),))
        if t.membership:
            found |= dict.fromkeys(f"{b} {sign} {a}" for b in unknown[-2:] for sign in ("in", "not in"))
    for i, a in enumerate(unknown):
        found |= dict.fromkeys((a, t.negation.format(a)))
        found |= dict.fromkeys(f"{a} {sign} {b}" for b in unknown[i + 1:] for sign in t.equality[:2])
    found |= dict.fromkeys(n for n in p.names(at, "bool") if p.type_at(at, n) == "bool")
    found |= dict.fromkeys(t.negation.format(n) for n in p.names(at, "bool") if p.type_at(at, n) == "bool")
    return list(found)[:60]
