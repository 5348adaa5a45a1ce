"""Edits that change the shape of an expression: arguments, calls, indices, conditions, elements, other expressions.

The same form as expressions.py.
"""

from .conditions import conditions
from .languages import Node
from .scope import ATOMS, SEQUENCES, Program, compatible


def arguments(p: Program, e: Node):
    """Arguments swapped, dropped, added."""
    args = next((child for child in e.children if child.role == "args"), None)
    if e.role != "call" or args is None or args.children[-1].type not in (")", "]"):
        return
    parts, name = args.parts, p.callee(e)
    texts = [p.text(part) for part in parts]
    for i in range(len(parts) - 1):
        if parts[i].role != "keyword" and parts[i + 1].role not in ("keyword", "starred") and texts[i] != texts[i + 1]:
            yield ("swap-arguments", parts[i].start, parts[i + 1].end,
                   texts[i + 1] + p.code[parts[i].end:parts[i + 1].start] + texts[i])
    if len(parts) >= 3 and texts[0] != texts[2] and all(part.role != "keyword" for part in parts[:3]):
        yield ("swap-arguments", parts[0].start, parts[2].end, ", ".join((texts[2], texts[1], texts[0])))
    for i in range(len(parts)):
        rest = texts[:i] + texts[i + 1:]
        yield ("drop-argument", args.start + 1, args.end - 1, ", ".join(rest))
    given = {text.split("=")[0] for text in texts if "=" in text}
    for function, extra in p.table.keywords:
        if function == name and extra.split("=")[0] not in given and len(parts) < 3:
            yield ("add-argument", args.end - 1, args.end - 1, (", " if parts else "") + extra)
    wanted = p.calls.get(name)
    if wanted is None and len(parts) == 1 and args.parts[0].role != "comprehension" and name not in p.table.returns:
        own = [text for text in (f"self.{one}" for one in p.attributes) if text in p.code][:4]
        yield from (("add-argument", args.end - 1, args.end - 1, f", {extra}") for extra in (
            *p.names(e.start)[-4:], *own) if extra not in texts)
    if wanted is not None and len(parts) < wanted or wanted is None and not parts or name in ("range", "min", "max"):
        if name == "range" and len(parts) == 1:
            for first in dict.fromkeys(("1", "2", *p.names(e.start, "num"))):
                yield ("add-argument", parts[0].start, parts[0].start, f"{first}, ")
            yield ("add-argument", parts[0].start, parts[0].end, f"{p.operand(parts[0], 9)} - 1, -1, -1")
        elif name == "range":
            yield from (("add-argument", args.end - 1, args.end - 1, f", {step}") for step in ("2", "-1", *p.names(
                    e.start, "num"))
                        if len(parts) == 2)
        else:
            extras = [*p.names(e.start), *(("0", "1") if name not in ("min", "max") or parts else ())]
            for extra in extras:
                if extra not in texts:
                    yield ("add-argument", args.end - 1, args.end - 1, (", " if parts else "") + extra)
                    if len(parts) == 1 and wanted:
                        yield ("add-argument", args.start + 1, args.start + 1, f"{extra}, ")


def calls(p: Program, e: Node):
    """An expression wrapped in a call, a call replaced by what it is called on."""
    kind, at, text = p.guess(e), (e.start, e.end), p.text(e)
    if e.role == "call":
        args = next((child for child in e.children if child.role == "args"), None)
        inner = [part for part in args.parts if part.role not in ("keyword", "starred")] if args else []
        holder = e.get("object") or next((part.parts[0] for part in e.parts if part.role == "attribute"), None)
        for part in [*inner[:3], *([holder] if holder else [])]:
            yield ("unwrap-call", *at, p.place(e, p.text(part), p.level(part)))
    if e.parent.role in ("exprstmt", "paren") or e.role in ("paren", "none", "true", "false",
            "lambda") or p.is_condition(e) and \
            kind == "bool":
        return
    if "\n" in text and len(text) > 200:
        return
    for taken, template, _ in p.table.wraps:
        if taken == kind or taken == "list" and kind in ("set", "tuple") or kind == "any" and taken == "any":
            if e.role == "number" or (e.role == "string" and taken == "any"):
                continue
            if text.startswith(template.split("{0}")[0]) and template[0] != "{" and template[0] != "[":
                continue
            head = p.operand(e, 20) if template.startswith("{0}") else p.operand(e, 0)
            yield ("wrap-call", *at, p.place(e, template.format(head), 20 if template[-1] in ")]h" else 10.5))
    if e.role != "number" and e.role != "string":
        for function, count in p.calls.items():
            if count == 1 and function.isidentifier() and function not in ("main",):
                yield ("wrap-call", *at, f"{function}({text})")
    if e.parent.role == "assign" and e.field == "right" and kind in ("num", "any") and p.language == "python":
        target = p.text(e.parent.get("left"))
        yield from (("wrap-min-max", *at, f"{function}({target}, {text})") for function in ("max", "min")
                if target != text)
    if kind == "num" and e.role != "number" and p.language in ("python", "javascript", "java", "cpp"):
        limits = ["0", "1", *p.names(e.start, "num")[-4:]]
        for limit in limits:
            for function in ("max", "min"):
                if limit != text and e.parent.role in ("assign", "return", "args", "slice", "subscript", "tuple",
                        "augassign"):
                    whole = {"javascript": "Math.", "java": "Math."}.get(p.language, "") + function
                    yield ("wrap-min-max", *at, f"{whole}({text}, {limit})")


def attributes(p: Program, e: Node):
    """An attribute added or dropped; `self.` too."""
    text, at = p.text(e), (e.start, e.end)
    if e.role == "attribute" and p.is_value(e) and len(e.parts) == 2:
        yield ("drop-attribute", *at, p.text(e.parts[0]))
        if p.text(e.parts[1]) in p.names(e.start):
            yield ("drop-attribute", *at, p.text(e.parts[1]))
    if e.role in ("name", "attribute", "subscript", "call") and p.is_value(
            e) and e.parent.role != "exprstmt" and "\n" not in text:
        if p.guess(e) in ("any", "none"):
            yield from (("add-attribute", *at, f"{text}.{name}") for name in p.attributes[:12])
            yield from (("add-attribute", *at, f"{text}.{name}()") for name in p.bare_methods[:8])
        for owner in ("self", "this"):
            if e.role == "name" and f"{owner}.{text}" in p.code and text not in p.methods:
                yield ("add-attribute", *at, f"{owner}.{text}")


def paired(p: Program, e: Node):
    """Both operands wrapped in one call; an index replaced by a reduction; a test for none in place of one
    for truth."""
    python, at = p.language == "python", (e.start, e.end)
    if e.role == "binary" and len(e.parts) == 2 and p.operator(e) in ("<", ">", "<=", ">=", *p.table.equality, "-"):
        left, right = e.parts
        kinds = {p.guess(left), p.guess(right)} - {"any"}
        taken = kinds.pop() if len(kinds) == 1 else "any"
        if left.role not in ("number", "string", "none") and right.role not in ("number", "string", "none"):
            for kind, template, _ in p.table.wraps:
                if (kind == taken or taken in SEQUENCES and kind == "list") and template[0] != "[":
                    both = [template.format(p.operand(part, 20 if template.startswith("{0}") else 0)) for part in (
                        left, right)]
                    yield ("wrap-both", *at, both[0] + p.code[left.end:right.start] + both[1])
    if e.role == "subscript" and len(e.parts) == 2 and python and e.parts[1].role not in ("slice", "string", "tuple"):
        yield from (("index-to-call", *at, f"{function}({p.text(e.parts[0])})") for function in ("sum", "max", "min",
                "len"))
    if python and p.is_condition(e):
        if e.role in ("name", "attribute", "call", "subscript"):
            yield ("none-test", *at, p.place(e, f"{p.text(e)} is not None", 4))
        elif e.role == "unary" and p.operator(e) == "not":
            yield ("none-test", *at, f"{p.operand(e.parts[0], 4.01)} is None")
        elif e.role == "binary" and p.operator(e) in ("is", "is not") and len(
                e.parts) == 2 and e.parts[1].role == "none":
            text = p.operand(e.parts[0], 3)
            yield ("none-test", *at, p.place(e, f"not {text}" if p.operator(e) == "is" else text, 3))


def indexing(p: Program, e: Node):
    """An index or a slice added, dropped, moved; the two indices of a table swapped."""
    kind, at, text = p.guess(e), (e.start, e.end), p.text(e)
    python = p.language == "python"
    if e.role == "subscript" and len(e.parts) >= 2:
        inner = e.parts[0]
        yield ("drop-index", *at, p.text(inner))
        if inner.role == "subscript" and len(inner.parts) == 2 and p.text(inner.parts[1]) != p.text(e.parts[1]):
            yield ("swap-operands", inner.parts[1].start, e.parts[1].end,
                   p.text(e.parts[1]) + p.code[inner.parts[1].end:e.parts[1].start] + p.text(inner.parts[1]))
        index = e.parts[1]
        if python and index.role not in ("slice", "tuple", "string"):
            yield ("slice", index.start, index.end, f"{p.text(index)}:")
            yield ("slice", index.start, index.end, f":{p.text(index)}")
            yield ("index", index.start, index.end, f"-{p.operand(index, 11)}")
            yield ("index", index.start, index.end, f"len({p.text(inner)}) - 1 - {p.operand(index, 9.01)}")
            yield ("index", index.start, index.end, f"-{p.operand(index, 11)} - 1")
    if e.role == "slice" and python:
        low, high, *_ = [*p.text(e).split(":"), ""] if p.text(e).count(":") < 3 else ["", ""]
        step = p.text(e).split(":")[2:]
        terms = [*p.names(e.start, "num")[-5:], "1", "-1", "2"]
        if not step:
            yield from (("slice", *at, f"{term}:{high}") for term in terms if not low.strip())
            yield from (("slice", *at, f"{low}:{term}") for term in terms if not high.strip())
            yield ("slice", *at, f"{low}:{high}:-1")
            yield ("slice", *at, f"{low}:{high}:2")
            yield ("slice", *at, low or high)
        yield from (("slice", *at, new) for new in (f":{high}", f"{low}:", f"{high}:{low}", f"{low}:{high}")
                    if new.strip() != p.text(e) and (new != ":" or step))
    if e.role in ATOMS and kind in (*SEQUENCES, "str", "any") and e.parent.role not in ("exprstmt", "unary",
            "paren") and \
            e.role not in ("string", "number", "set", "comprehension" if kind != "list" else "", "true", "false",
                "none") and \
            not (e.role in ("tuple", "list") and len(e.parts) < 2) and not (e.role == "tuple" and text[0] != "("):
        if kind == "any" and e.role not in ("name", "subscript", "attribute", "call"):
            return
        for index in ("0", "-1", "1", *(n for n in p.names(e.start, "num")[-4:] if p.type_at(e.start, n) == "num"
                or kind != "any")):
            if index[0] != "-" or python:
                yield ("add-index", *at, f"{text}[{index}]")
        if python and (kind != "any" or e.role != "subscript"):
            limits = p.names(e.start, "num")[-5:]
            for cut in ("1:", ":-1", "::-1", ":", "::2", *(f"{n}:" for n in limits), *(f":{n}" for n in limits)):
                yield ("slice", *at, f"{text}[{cut}]")


def logic(p: Program, e: Node):
    """A conjunct or a disjunct added to a condition; branches of a conditional expression; filters."""
    t, at = p.table, (e.start, e.end)
    if p.is_condition(e) and e.role != "paren" and e.parent.role != "unary":
        logical = e.role == "binary" and p.operator(e) in (t.both, t.either)
        inside = e.parent.role == "binary" and p.operator(e.parent) in (t.both, t.either)
        if not logical or not inside:
            for extra in conditions(p, e):
                for sign, level in ((t.both, 2), (t.either, 1)):
                    if extra != p.text(e) and not (inside and sign == p.operator(e.parent) and e.parent.parts[0] is e):
                        yield ("add-condition", *at, p.place(e, f"{p.operand(e, level)} {sign} {extra}", level))
                        if len(extra) < 30 and not inside:
                            yield ("add-condition", *at, p.place(e, f"{extra} {sign} {p.operand(e, level + .01)}",
                                    level))
            for extra in conditions(p, e):
                if extra != p.text(e):
                    yield ("replace-condition", *at, p.place(e, extra, 3))
        if e.field == "condition" and e.parent.role in ("if", "while", "elif"):
            yield from (("truth-condition", *at, value) for value in (t.true, t.false))
    if e.role == "ternary" and len(e.parts) == 3:
        first, second = (e.parts[0], e.parts[2]) if p.language == "python" else e.parts[1:]
        yield ("swap-branches", first.start, second.end, p.text(second) + p.code[first.end:second.start] + p.text(
                first))
        yield from (("drop-branch", *at, p.place(e, p.text(part), p.level(part))) for part in (first, second))
    if e.role == "comprehension":
        for part in e.parts:
            if part.role == "ifclause":
                yield ("filter", part.start, part.end, "")
        clause = next((part for part in reversed(e.parts) if part.role == "forclause"), None)
        if clause and not any(part.role == "ifclause" for part in e.parts):
            for extra in conditions(p, e.parts[0]):
                yield ("filter", clause.end, clause.end, f" if {extra}")
    if p.language == "python" and e.role == "comprehension" and e.type != "dictionary_comprehension":
        body = p.code[e.start + 1:e.end - 1]
        if e.type == "list_comprehension":
            yield ("comprehension", *at, "{" + body + "}")
            if e.parent.role == "args":
                yield ("comprehension", *at, body)
        else:
            yield ("comprehension", *at, f"[{body}]")


def elements(p: Program, e: Node):
    """Elements of a list, tuple, set or returned row: dropped, swapped, added; keys and values."""
    if e.role in ("list", "tuple", "set", "dict") and e.parent.role != "params" and e.parts:
        parts, texts = e.parts, [p.text(part) for part in e.parts]
        edges = (e.start + 1, e.end - 1) if p.text(e)[0] in "[({" else (e.start, e.end)
        bare = edges == (e.start, e.end)
        if len(parts) <= 12 and not (bare and len(parts) < 2):
            for i in range(len(parts)):
                rest = ", ".join(texts[:i] + texts[i + 1:])
                single = e.role == "tuple" and len(parts) == 2 and not bare and p.language == "python"
                yield ("element", *edges, rest + "," if single else rest)
                if i + 1 < len(parts) and texts[i] != texts[i + 1]:
                    yield ("swap-elements", parts[i].start, parts[i + 1].end,
                           texts[i + 1] + p.code[parts[i].end:parts[i + 1].start] + texts[i])
        if e.role != "dict" and len(parts) <= 8:
            for name in [*p.names(e.start, p.guess(parts[-1]))[-6:], "0", "1"]:
                if name not in texts and not (e.parent.role in ("for", "assign") and e.field == "left"):
                    yield ("element", parts[-1].end, parts[-1].end, f", {name}")
    if e.role == "list" and not e.parts and p.language == "python":
        for name in ["0", "1", "[]", "''", *[n for n in p.names(e.start) if p.type_at(e.start, n) not
                in SEQUENCES][-5:]]:
            yield ("element", e.start + 1, e.end - 1, name)
    if e.role == "pattern" and len(e.parts) >= 2:
        for a, b in zip(e.parts, e.parts[1:], strict=False):
            yield ("swap-elements", a.start, b.end, p.text(b) + p.code[a.end:b.start] + p.text(a))
    if e.role == "pair" and len(e.parts) == 2:
        key, value = e.parts
        if p.text(key) != p.text(value):
            yield ("swap-elements", key.start, value.end, p.text(value) + p.code[key.end:value.start] + p.text(key))


def substitutes(p: Program, e: Node):
    """Another expression of the function in this one's place, or one of its own parts."""
    if e.parent.role == "exprstmt" or e.role in ("paren", "lambda"):
        return
    kind, at, text = p.guess(e), (e.start, e.end), p.text(e)
    if e.role not in ("number", "string", "name", "attribute"):
        direct = {id(part) for part in e.parts}
        for part in e.walk():
            if part is not e and part.named and id(part) not in direct and p.is_value(part) and compatible(kind,
                    p.guess(part)) \
                    and part.role not in ("true", "false", "none", "paren") and p.visible(part, e.start):
                yield ("hoist", *at, p.place(e, p.text(part), p.level(part)))
    if e.role in ("call", "subscript", "slice", "attribute", "binary") and kind != "bool":
        own = {p.text(part) for part in e.walk()}
        yield from (("substitute", *at, name) for name in p.names(e.start, kind)[-8:]
                    if name not in own and (kind == "any" or p.type_at(e.start, name) == kind))
    for other, known, level, node in p.pool(p.function(e)):
        if other == text or node.role in ("name", "number", "string", "true", "false", "none", "lambda"):
            continue
        strict = kind == "any" or known == "any"
        if compatible(kind, known) and len(other) <= (24 if strict else 40) and not (node.start <= e.start
                and e.end <= node.end) \
                and not (kind == "bool") ^ (known == "bool") and p.visible(node, e.start) \
                and (not strict or e.role in ("name", "call", "subscript", "attribute")):
            if strict and e.role == "name" and kind != known and node.role not in ("call", "subscript", "attribute") \
                    and not (node.role == "binary" and text in map(p.text, node.parts)):  # the rest of x + y is back
                continue
            yield ("substitute", *at, p.place(e, other, level))
