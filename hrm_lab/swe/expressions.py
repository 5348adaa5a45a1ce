"""Edits of one expression: operators, constants, names, calls, conditions, bounds.

Each function takes a program and one node and yields (kind, start, end, text). What may fail to parse is sorted out
by edits.py; what makes no sense by type is left out here. Sources: grammar.py.
"""

import re

from .languages import Node
from .scope import ATOMS, Program, compatible

INTEGER = re.compile(r"\d+")
SPACES = frozenset({"''", '""', "' '", '" "'})


def operators(p: Program, e: Node):
    """Another operator of the same family; an assignment's operator too."""
    t, signs = p.table, [child for child in e.children if not child.named and child.field not in ("type",)]
    orders = ("<", "<=", ">", ">=", *t.equality)
    for sign in signs:
        text = p.text(sign)
        at = (sign.start, sign.end)
        if e.role == "binary":
            if text in orders:
                yield from (("comparison", *at, other) for other in orders if other != text)
            for family in t.membership:
                if text in family:
                    yield from (("comparison", *at, other) for other in family if other != text and other not in orders)
            if text == "==" and t.membership and compatible("list", p.guess(e.parts[-1])) | (
                    e.parts[-1].role == "string"):
                yield ("comparison", *at, "in")
            if text in (t.both, t.either, "and", "or", "&&", "||"):
                flipped = {t.both: t.either, t.either: t.both, "and": "or", "or": "and", "&&": "||", "||": "&&"}[text]
                yield ("boolean", *at, flipped)
                if e.parts[0].role == "binary" and p.operator(e.parts[0]) == text and p.operator(e.parent) != text:
                    yield ("boolean", e.start, e.end, f" {flipped} ".join(_chain(p, e, text)))
            if text in t.arithmetic:
                strings = "str" in {p.guess(part) for part in e.parts}
                yield from (("operator", *at, other) for other in t.arithmetic if other != text and
                            not (strings and other not in "+*%"))
                if text in "+-" and not strings:
                    yield from (("operator", *at, other) for other in t.bitwise)
            if text in t.bitwise:
                yield from (("operator", *at, other) for other in (*t.bitwise, "+", "-", "*", "**")
                            if other != text and (other != "**" or other in t.arithmetic))
        elif e.role in ("assign", "augassign") and (text == "=" or text[:-1] in (*t.arithmetic, *t.bitwise)):
            if text == "=":
                if e.get("type") or e.get("left") is None or e.get("left").role in ("pattern",):
                    continue
                kind = p.guess(e.get("right"))
                if kind in ("num", "any", "str", "list"):
                    choices = ("+", "-", "*", "/", "//", "%") if kind in ("num", "any") else ("+",)
                    yield from (("assignment", *at, f"{sign}=") for sign in choices if sign in t.arithmetic)
                    yield from (("assignment", *at, f"{sign}=") for sign in "|&" if kind in ("any",))
            else:
                family = t.arithmetic if text[:-1] in t.arithmetic else t.bitwise
                yield from (("assignment", *at, f"{sign}=") for sign in (*family, "") if f"{sign}=" != text)
                if family is t.bitwise:
                    yield from (("assignment", *at, f"{sign}=") for sign in ("+", "-"))
        elif e.role == "update" and text in ("++", "--"):
            yield ("assignment", *at, "--" if text == "++" else "++")


def _chain(p: Program, e: Node, sign: str) -> list[str]:
    """The parts of a and b and c."""
    if e.role == "binary" and p.operator(e) == sign:
        return [text for part in e.parts for text in _chain(p, part, sign)]
    return [p.operand(e, 3)]


def operands(p: Program, e: Node):
    """Operands swapped or dropped; signs added and dropped; conditions negated."""
    if e.role == "binary" and len(e.parts) == 2:
        left, right = e.parts
        sign = p.operator(e)
        logical = sign in ("and", "or", "&&", "||")
        if p.text(left) != p.text(right):
            level = p.level_of(sign)
            yield ("swap-operands", e.start, e.end,
                   p.operand(right, level) + p.code[left.end:right.start] + p.operand(left, level + 0.01))
        for part in e.parts:
            yield ("drop-condition" if logical else "drop-operand", e.start, e.end,
                   p.place(e, p.text(part), p.level(part)))
        if left.role == "binary" and len(left.parts) == 2 and not logical:
            inner = left.parts[1]
            if p.level(left) == p.level(e):  # a + b * c for (a + b) * c and back
                yield ("brackets", inner.start, e.end, f"({p.code[inner.start:e.end]})")
            if p.level(left) != 4:           # a ** b * c -> a ** c
                yield ("drop-operand", inner.start, right.end, p.operand(right, p.level(left)))
    elif e.role == "binary" and len(e.parts) > 2:
        yield ("drop-operand", e.start, e.parts[-2].end, p.code[e.start:e.parts[-2].end])
    if e.role == "paren" and e.parts and e.parts[0].role == "binary" and e.parent.role == "binary":
        yield ("brackets", e.start, e.end, p.text(e.parts[0]))
    if e.role == "binary" and e.parent.role == "binary" and p.level(e) > p.level(e.parent) > 4 and len(e.parts) == 2:
        whole, last = e.parent, e.parts[-1]
        if whole.parts[0] is not e:   # x + a * b -> (x + a) * b
            yield ("brackets", whole.start, e.parts[0].end, f"({p.code[whole.start:e.parts[0].end]})")
        else:                         # a * b + x -> a * (b + x)
            yield ("brackets", last.start, whole.end, f"({p.code[last.start:whole.end]})")
    if e.role == "unary" and e.parts:
        inner = e.parts[-1]
        kind = "negate" if p.operator(e) in ("not", "!") else "sign"
        yield (kind, e.start, e.end, p.place(e, p.text(inner), p.level(inner)))
    elif e.role in ("name", "number", "call", "subscript", "attribute", "paren", "binary") \
            and p.guess(e) in ("num", "any") and not p.is_condition(e) and e.parent.role != "exprstmt" \
            and not (e.role == "binary" and p.level(e) < 9) and not (e.role == "number" and p.text(e) == "0") \
            and (e.role == "number" or p.guess(e) == "num" or e.parent.role in ("binary", "args", "return",
                    "subscript")):
        yield ("sign", e.start, e.end, p.place(e, "-" + p.operand(e, 11), 11))
    if p.is_condition(e) and p.level(e) != 4 and e.role not in ("unary", "paren", "true", "false") or \
            p.is_condition(e) and p.operator(e) in ("in", "not in") and e.role == "binary":
        python = p.table.negation.startswith("not")
        yield ("negate", e.start, e.end,
               p.place(e, p.table.negation.format(p.operand(e, 3 if python else 11)), 3 if python else 11))


def arithmetic(p: Program, e: Node):
    """`e` off by one, `e` with one more operand."""
    kind = p.guess(e)
    parent = e.parent
    if e.role in ("paren", "lambda", "string", "dict", "comprehension", "true", "false", "none") \
            or parent.role == "exprstmt" or parent.role == "paren" and not p.is_value(parent) or p.is_condition(
                    e) and kind == "bool":
        return
    bare = e.role != "binary" or p.level(e) >= 9
    if not bare or kind == "bool":
        return
    own = p.text(e)
    if kind in ("num", "any") and e.role not in ("tuple", "list", "set"):
        if not (e.role == "number" and INTEGER.fullmatch(own)):
            for sign in "+-":
                yield ("off-by-one", e.start, e.end, p.place(e, f"{p.operand(e, 9)} {sign} 1", 9))
        likely = kind == "num" or parent.role in ("binary", "subscript", "slice", "augassign", "return", "args",
            "assign", "tuple")
        if not likely:
            return
        numbers, _ = p.constants(p.function(e))
        terms = p.names(e.start, "num")[-8:] if kind == "num" else \
            [name for name in p.names(e.start, "num") if p.type_at(e.start, name) == "num"][-5:]
        inner = parent.role == "binary" and p.level(parent) >= 9
        for term in terms:
            if term != own:
                for sign in "+-*":
                    yield ("add-operand", e.start, e.end,
                           p.place(e, f"{p.operand(e, p.level_of(sign))} {sign} {term}", p.level_of(sign)))
        if parent.role == "args" and kind == "any":  # f(a - b, b)
            beside = [p.text(part) for part in parent.parts if part.role == "name"]
            yield from (("add-operand", e.start, e.end, p.place(e, f"{p.operand(e, p.level_of(sign))} {sign} {other}",
                         p.level_of(sign))) for other in beside[:4] if other not in (own, *terms) for sign in "+-%")
        if e.role not in ("number", "binary") and inner:
            yield ("add-operand", e.start, e.end, p.place(e, f"2 * {p.operand(e, 10)}", 10))
        if e.role != "number" and not inner:
            for term in dict.fromkeys(("2", *(n for n in numbers[:6] if n not in ("0", "1")))):
                for sign in ("//" if "//" in p.table.arithmetic else "/", "*", "%", "+", "-"):
                    yield ("add-operand", e.start, e.end,
                           p.place(e, f"{p.operand(e, p.level_of(sign))} {sign} {term}", p.level_of(sign)))
        if not inner and e.role != "number":
            for term, known, level, node in p.pool(p.function(e)):
                if node.role in ("call", "subscript", "attribute") and known in ("num", "any") and len(
                        term) <= 20 and term != own \
                        and (known == kind == "num" or len(term) <= 12) and p.visible(node, e.start) and level == 20:
                    yield from (("add-operand", e.start, e.end, p.place(e, f"{p.operand(e, 9)} {sign} {term}", 9))
                            for sign in "+-")
    elif kind in ("str", "list"):
        if kind == "list" and p.language == "python":
            for name in [n for n in p.names(e.start) if p.type_at(e.start, n) in ("num", "str", "any")][-4:]:
                yield ("add-operand", e.start, e.end, p.place(e, f"{p.operand(e, 9)} + [{name}]", 9))
                yield ("add-operand", e.start, e.end, p.place(e, f"[{name}] + {p.operand(e, 9.01)}", 9))
        for term in [n for n in p.names(e.start, kind) if p.type_at(e.start, n) in (kind, "any")][-6:]:
            if term != own and e.role != "number":
                yield ("add-operand", e.start, e.end, p.place(e, f"{p.operand(e, 9)} + {term}", 9))
                yield ("add-operand", e.start, e.end, p.place(e, f"{term} + {p.operand(e, 9.01)}", 9))


def constants(p: Program, e: Node):
    """Neighbours of a number, other constants of the file, small changes of a string, flipped truth values."""
    t, text, at = p.table, p.text(e), (e.start, e.end)
    numbers, strings = p.constants(p.function(e))
    if e.role == "number":
        whole = INTEGER.fullmatch(text) and text.isascii()
        near = [str(int(text) + step) for step in (1, -1, 2, -2)] if whole else \
            [text + "0", "0" + text] if text.startswith(".") else []
        if whole and int(text) >= 10:
            near += [text[:-1], text + "0", str(int(text) * 2), str(int(text) // 2)]
        for other in dict.fromkeys([*near, "0", "1", "2", "-1", "10", *numbers, *t.defaults["num"][4:]]):
            if other != text:
                yield ("constant", *at, p.place(e, other, 11 if other.startswith("-") else 20))
        for name in p.names(e.start, "num"):
            yield ("constant-to-name", *at, name)
            if e.parent.role in ("args", "slice", "subscript", "range") and p.type_at(e.start, name) == "num":
                yield from (("constant-to-name", *at, f"{name} {sign} 1") for sign in "+-")
    elif e.role in ("true", "false") and text in (t.true, t.false):
        yield ("truth", *at, t.false if text == t.true else t.true)
        for other in (t.none, "0", *p.names(e.start, "bool")):
            yield ("constant-to-name" if other[0].isalpha() and other != t.none else "default", *at, other)
    elif e.role == "none":
        for kind in ("num", "bool", "list", "str", "dict"):
            yield from (("default", *at, other) for other in t.defaults.get(kind, ())[:2])
        yield from (("constant-to-name", *at, name) for name in p.names(e.start))
    elif e.role == "string" and len(text) >= 2 and text[-1] in "'\"" and text[-2:] not in ('""',
            "''") or text in SPACES:
        quote, prefix = text[-1], text[:len(text) - len(text.lstrip("bBrRuUfF"))]
        body = text[len(prefix) + 1:-1]
        changed = [""] if body else [" ", ",", "\\n"]
        if len(body) <= 24 and "\\" not in body and "{" not in body:
            changed += [body[:i] + body[i + 1:] for i in range(len(body))] + [body + " ", " " + body]
            changed += [body.upper(), body.lower(), body.capitalize(), body + body[-1:], body[::-1], body.strip()]
            if len(body) == 1:
                changed += [{"(": "[", "[": "{", "{": "<", ")": "]", "]": "}", "}": ">", "<": "(", ">": ")"}.get(body,
                    ""),
                            " ", "\\n", ",", ", ", ".", "-", "_", chr(ord(body) + 1) if body.isalnum() else ""]
                changed += [{"a": "z", "z": "a", "A": "Z", "Z": "A", "0": "9", "9": "0"}.get(body, "")]
            elif body.isalpha() and len(body) >= 4:
                changed += [word for word in p.words if _near(word, body)]
        for other in [f"{prefix}{quote}{body}{quote}" for body in dict.fromkeys(changed)] + list(strings):
            if other != text and "".join(other.split("\\")) and not (len(other) == 3 and other[1] in "\\'\""):
                yield ("string", *at, other)
        yield from (("constant-to-name", *at, name) for name in p.names(e.start, "str"))
    if e.role in ATOMS - {"paren"} and e.parent.role in ("assign", "declare", "return", "pair", "keyword",
            "params") or e.parent.parent is not None and e.parent.parent.role == "params" and e.field == "value" or \
            e.parent.role == "tuple" and e.role != "number":
        kind = p.guess(e)
        for other in [o for k, group in t.defaults.items() if compatible(kind, k) or e.role in ("list", "dict", "none")
                      for o in group]:
            if other != text:
                yield ("default", *at, other)


def _near(a: str, b: str) -> bool:
    """Two words of almost the same spelling."""
    return a != b and abs(len(a) - len(b)) <= 1 and (
        sum(x != y for x, y in zip(a, b, strict=False)) <= 2 or sorted(a) == sorted(b) or a.lower() == b.lower())


def names(p: Program, e: Node):
    """Another variable, attribute, function or method; a variable where a constant stood, and the reverse."""
    at, text = (e.start, e.end), p.text(e)
    if e.role == "name" and p.is_value(e):
        kind = p.guess(e)
        for other in p.names(e.start, kind):
            if other != text:
                yield ("name", *at, other)
        plain = e.parent.role not in ("attribute", "subscript", "call", "unary")
        used = e.parent.role in ("binary", "args", "return", "augassign")
        if plain and (kind == "num" or kind == "any" and used):
            yield from (("name-to-constant", *at, other) for other in ("0", "1"))
            yield from (("name-to-constant", *at, other) for other in p.constants(p.function(e))[0]
                        if other not in "01")
        if kind in ("str", "any") and e.parent.role in ("binary", "args"):
            yield from (("name-to-constant", *at, other) for other in p.constants(p.function(e))[1][:5])
        for other in p.calls:
            if kind == "any" and other != text and text in p.calls:
                yield ("name", *at, other)
    elif e.role == "name" and e in p.targets and e.parent.role in ("assign", "augassign", "pattern", "for",
            "forclause") \
            or e.role == "name" and e in p.targets and e.parent.role == "tuple":
        kind = p.types.get((p.function(e).start, text), "any")
        for other in p.names(e.start, kind):
            if other != text:
                yield ("target", *at, other)
    elif e.role in ("attribute", "subscript") and e in p.targets:
        others = [p.text(n) for n in p.function(e).walk() if n in p.targets and n.role in ("attribute", "subscript")]
        yield from (("target", *at, other) for other in dict.fromkeys([*others, *p.names(e.start)]) if other != text)
    if e.role in ("name", "attrname") and not p.is_value(e) and e not in p.targets and e not in p.skipped:
        called = e.field in ("function", "macro") or e.parent.role == "call" and e.field == "name" or \
            e.parent.role == "attribute" and e.parent.field == "function"
        if e.parent.role in ("attribute", "call") or called:
            for family in p.table.families:
                if text in family:
                    yield from (("function", *at, other) for other in family if other != text)
            if called and text in p.calls:
                yield from (("function", *at, other) for other, count in p.calls.items()
                            if other != text and count == p.calls[text])
            elif not called:
                yield from (("attribute", *at, other) for other in p.attributes if other != text)
            elif e.parent.role == "attribute":
                yield from (("function", *at, other) for other in p.methods if other != text)
            if e.field == "function":
                yield from (("function", *at, other) for other in p.names(e.start) if other != text
                            and p.type_at(e.start, other) == "any" and other in p.called)
