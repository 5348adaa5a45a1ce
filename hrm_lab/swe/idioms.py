"""Repairs of several tokens that people make as one thought: round up, limit by another value, a key's first value.

The same form as expressions.py; Python alone. Unusual: these are found by what they are for, not by changing one part
of what stands there. Each program of the author's that no smaller edit repaired asked for one of them.
"""

from .languages import Node
from .scope import SEQUENCES, Program

MODULI = ("26", "7", "10", "12", "24", "60", "100", "256")  # letters, days, digits, months, hours, ...
BOTH = {"list": "tuple", "tuple": "list", "int": "float", "float": "int", "str": "bytes", "dict": "list"}
EMPTY = {"list": ("[]", "append", "extend"), "set": ("set()", "add", "update")}
NEAR = 6  # other expressions that a value is limited by
STORED = ("assign", "return", "tuple", "list", "pair", "args", "augassign")


def numbers(p: Program, e: Node):
    """Rounded up, complement and percentage, remainders, limits, nearly equal."""
    if p.language != "python" or e.role in ("number", "string", "lambda", "true", "false", "none"):
        return
    at, kind, sign = (e.start, e.end), p.guess(e), p.operator(e) if e.role == "binary" else ""
    if sign == "//" and len(e.parts) == 2:
        a, b = (p.operand(part, 11) for part in e.parts)
        yield ("operator", *at, p.place(e, f"-(-{a} // {b})", 11))
    if sign == "==" and len(e.parts) == 2 and {p.guess(part) for part in e.parts} == {"num"}:
        a, b = p.operand(e.parts[0], 9), p.operand(e.parts[1], 9.01)
        yield ("comparison", *at, p.place(e, f"abs({a} - {b}) < 1e-9", 4))
    if kind not in ("num", "any") or e.parent.role in ("exprstmt", "lambda") and e.role != "subscript":
        return
    if e.role == "subscript" and e.parent.role in ("tuple", "lambda"):  # the key of a sort
        yield ("sign", *at, f"-{p.text(e)}")
    if p.is_condition(e) or kind == "any" and e.role == "call":
        return
    if e.role in ("name", "attribute", "subscript", "call") and p.operator(e.parent) in ("*", "/") \
            and e.parent.role in ("binary", "augassign"):
        yield ("add-operand", *at, p.place(e, f"1 - {p.text(e)}", 9))
        yield ("add-operand", *at, p.place(e, f"1 + {p.text(e)}", 9))
        yield ("add-operand", *at, p.place(e, f"{p.text(e)} / 100", 10))
    inner = e.parts[0] if e.role == "paren" and e.parts else e
    if inner.role == "binary" and p.operator(inner) in ("+", "-", "//") and e.parent.role in (
            "binary", "args", "subscript", "return", "assign"):
        bases = MODULI
        if e.parent.role == "subscript" and e.parent.parts[0] is not e:
            bases = (f"len({p.text(e.parent.parts[0])})",)
        yield from (("add-operand", *at, p.place(e, f"({p.text(inner)}) % {base}", 10)) for base in bases)
    if e.parent.role in STORED and e.role in ("name", "call", "binary", "subscript") and e.field != "left" and (
            e.role != "binary" or p.level(e) >= 9):
        own, others = p.text(e), []
        for other, known, _, node in p.pool(p.function(e)):
            if node.role in ("subscript", "attribute") and known in ("num", "any") and len(other) <= 20 and (
                    other not in own and p.visible(node, e.start) and node.parent.field != "function"):
                others.append((abs(node.start - e.start), other))
        yield from (("wrap-min-max", *at, f"{function}({other}, {own})") for _, other in sorted(others)[:NEAR]
                    for function in ("max", "min"))


def containers(p: Program, e: Node):
    """The first value of a key, one more type in isinstance, rows of their own."""
    if p.language != "python":
        return
    at = e.start, e.end
    if e.role in ("assign", "augassign") and (left := e.get("left")) is not None and left.role == "subscript" \
            and len(left.parts) == 2 and left.parts[1].role != "slice" and (right := e.get("right")) is not None:
        held, key, value = p.text(left.parts[0]), p.text(left.parts[1]), p.text(right)
        if right.role in EMPTY and e.role == "assign" and right.parts:
            empty, one, many = EMPTY[right.role]
            call = f"{one}({p.text(right.parts[0])})" if len(right.parts) == 1 else f"{many}({value})"
            yield ("assignment", *at, f"{held}.setdefault({key}, {empty}).{call}")
        if e.role == "augassign" or right.role in ("number", "name"):
            for first in ("0", "[]", "''"):
                yield ("assignment", *at, f"{held}[{key}] = {held}.get({key}, {first}) + {value}")
    if e.role == "subscript" and p.is_value(e) and len(e.parts) == 2 and e.parts[1].role not in ("slice", "number") \
            and p.guess(e.parts[0]) in ("dict", "any"):
        held, key = p.text(e.parts[0]), p.text(e.parts[1])
        yield from (("function", *at, f"{held}.get({key}{first})") for first in ("", ", 0", ", ''", ", []"))
        if e.parent.role == "attribute" and p.text(e.parent.parts[-1]) in ("append", "add", "extend", "update"):
            for empty, *methods in EMPTY.values():
                if p.text(e.parent.parts[-1]) in methods:
                    yield ("function", *at, f"{held}.setdefault({key}, {empty})")
    args = next((child for child in e.children if child.role == "args"), None) if e.role == "call" else None
    given = [p.text(part) for part in args.parts] if args else []
    if given and p.callee(e) in ("get", "setdefault") and e.parts[0].role == "attribute":  # or an error
        yield ("function", *at, f"{p.text(e.parts[0].parts[0])}[{given[0]}]")
    if len(given) == 2 and p.callee(e) == "isinstance" and given[1] in BOTH:
        yield ("element", args.parts[1].start, args.parts[1].end, f"({given[1]}, {BOTH[given[1]]})")
    if len(given) == 1 and p.callee(e) in ("max", "min", "sorted") and args.parts[0].role == "name":
        yield ("add-argument", args.end - 1, args.end - 1, f", key={given[0]}.get")
    if e.role == "binary" and p.operator(e) == "*" and len(e.parts) == 2:
        for rows, count in (e.parts, e.parts[::-1]):
            if rows.role == "list" and rows.parts and rows.parts[0].role in ("list", "binary", "dict", "call"):
                body = p.text(rows)[1:-1]
                yield ("comprehension", *at, f"[{body} for _ in range({p.text(count)})]")


def starts(p: Program, s: Node) -> list[str]:
    """`x = 0` of the names that a branch changes, as the function gave them before: what an else may do again."""
    changed = {p.text(node) for node in s.walk() if node.role == "name" and node in p.targets}
    found = []
    for node in p.function(s).walk():
        if node.role != "assign" or node.end > s.start:
            continue
        value = node.get("right")
        while value is not None and value.role == "assign":  # best = run = 0
            value = value.get("right")
        plain = value is not None and value.role in ("number", "string", "none", "true", "false", *SEQUENCES, "dict")
        if plain and p.text(node.get("left")) in changed:
            found.append(f"{p.text(node.get('left'))} = {p.text(value)}")
    return list(dict.fromkeys(found))
