"""Edits of whole statements: delete, insert, duplicate, move, guard, branch. Same form as expressions.py.

Unusual: a statement is inserted as text in the indentation of its neighbour; layout is kept where lines are kept, so
that a patch stays small. Insertion draws on the names in scope and on the program's own statements: most fixes are
made of what the program already holds (Barr et al. 2014, "The plastic surgery hypothesis").
"""

import re

from .idioms import starts
from .languages import Node
from .scope import Program, compatible

COMPOUND = ("if", "elif", "else", "for", "while", "function", "class", "block")


def statements(p: Program, block: Node) -> list[Node]:
    """The statements of a block, without those that are never edited."""
    if block.role != "block":
        return []
    found = [part for part in block.parts if part not in p.skipped and part.role not in ("skip", "comment", "pair")]
    return [part for part in found if not (part.role == "exprstmt" and part.parts and part.parts[0].role == "string")]


def indent(p: Program, node: Node) -> str | None:
    """Indentation of the line that the statement begins; None if something stands before it."""
    before = p.code[p.code.rfind("\n", 0, node.start) + 1:node.start]
    return before if not before.strip() else None


def own_lines(p: Program, node: Node) -> tuple[int, int]:
    """Span of the statement with its line ends, if nothing but a comment shares its lines; else its own span."""
    start = p.code.rfind("\n", 0, node.start) + 1
    end = p.code.find("\n", node.end)
    end = len(p.code) if end < 0 else end + 1
    if p.code[start:node.start].strip() or p.code[node.end:end].strip():
        return node.start, node.end
    return start, end


def unit(p: Program) -> str:
    """One step of indentation, as the file does it."""
    found = re.findall(r"\n(\t|  +)\S", p.code)
    return min(found, key=len, default="    ")


def shift(text: str, old: str, new: str) -> str:
    """A statement's text whose lines after the first are moved from one indentation to another."""
    head, *rest = text.split("\n")
    return "\n".join([head, *(new + line[len(old):] if line.startswith(old) else line for line in rest)])


def movable(p: Program, node: Node) -> bool:
    """No string over several lines, whose content an indentation would change."""
    return not any(part.role == "string" and "\n" in p.text(part) for part in node.walk())


def guarded(p: Program, condition: str, body: str, at: str) -> str:
    """`body` (its first line without indentation) under a condition."""
    inner = at + unit(p) + shift(body, at, at + unit(p))
    return p.table.guard.format(condition, inner).replace("\n}", "\n" + at + "}")


def _loop(p: Program, node: Node) -> bool:
    while node is not None and node.role != "function":
        if node.role in ("for", "while"):
            return True
        node = node.parent
    return False


def removal(p: Program, s: Node):
    """Deleted; duplicated; its condition taken away; its branches changed."""
    if s.parent.role != "block":
        return
    siblings = statements(p, s.parent)
    if s.role not in ("function", "class") and p.text(s) != "pass":
        alone = len(s.parent.parts) == 1
        if alone and p.language == "python":
            yield ("delete", s.start, s.end, "pass")
        else:
            start, end = own_lines(p, s)
            if (start, end) == (s.start, s.end) and s is not siblings[-1] and p.code[s.end:s.end + 1] == ";":
                end += 1
            yield ("delete", start, end, "")
    at = indent(p, s)
    if at is None:
        return
    if s.role in ("exprstmt", "assign", "declaration", "declare", "update", "if") and len(p.text(
            s)) < 200 and siblings and \
            s.role != "declaration":
        yield ("duplicate", s.end, s.end, f"\n{at}{p.text(s)}")
    holder = s.parts[0] if s.role == "exprstmt" and s.parts and s.parts[0].role in ("if", "for", "while") else s
    if holder.role in ("if", "while", "for") and movable(p, s):
        body = _body(p, holder)
        if body and (inner := [part for part in body.parts if part.role != "comment"]) and indent(p,
                inner[0]) is not None:
            text = p.code[inner[0].start:inner[-1].end]
            if not any(child.role in ("else", "elif") or child.field == "alternative" for child in holder.children):
                yield ("unguard", s.start, s.end, shift(text, indent(p, inner[0]), at))
        condition = holder.get("condition") or (holder.parts[0] if holder.role == "while" and holder.parts else None)
        if holder.role == "if" and condition is not None and s is holder and p.code[s.start:s.start + 2] == "if":
            yield ("loop", s.start, s.start + 2, p.table.loop)
        if holder.role == "while" and p.code[holder.start:holder.start + 5] == "while":
            yield ("loop", holder.start, holder.start + 5, "if")
        other = [child for child in holder.children if child.field == "alternative"]
        for branch in other:
            yield ("drop-else", _before(p, branch), branch.end, "")
        if body and len(other) == 1:
            second = next((part for part in [other[0], *other[0].parts] if part.role == "block"
                or part.type == "block"), None)
            if second is not None and other[0].role in ("else", "block", "") and second.parts:
                a, b = p.text(body), p.text(second)
                if a != b:
                    yield ("swap-branches", body.start, second.end, b + p.code[body.end:second.start] + a)


def _before(p: Program, node: Node) -> int:
    """Where the blanks before a node begin (an `else` before it belongs to it)."""
    start = len(p.code[:node.start].rstrip())
    return len(p.code[:start - 4].rstrip()) if p.code[start - 4:start] == "else" else start


def _body(p: Program, node: Node) -> Node | None:
    """The (first) block of a compound statement."""
    body = node.get("consequence", "body")
    if body is not None and body.role != "block":
        body = next((part for part in body.parts if part.role == "block"), None)
    return body


def order(p: Program, s: Node):
    """Swapped with the next statement; moved further; moved out of or into a block."""
    if s.parent.role != "block" or s.role in ("function", "class") or indent(p, s) is None or not movable(p, s):
        return
    siblings, at = statements(p, s.parent), indent(p, s)
    if s not in siblings:
        return
    i = siblings.index(s)
    if i + 1 < len(siblings) and siblings[i + 1].role not in ("function", "class") and indent(p, siblings[i + 1]) == at:
        other = siblings[i + 1]
        yield ("swap-statements", s.start, other.end, p.text(other) + p.code[s.end:other.start] + p.text(s))
    for j in (i - 3, i - 2, i + 2, i + 3):  # past two or three
        if 0 <= j < len(siblings) and indent(p, siblings[j]) == at:
            low, high = (s, siblings[j]) if j > i else (siblings[j], s)
            rest = siblings[i + 1:j + 1] if j > i else siblings[j:i]
            if j > i:
                yield ("move", low.start, high.end, p.code[rest[0].start:high.end] + f"\n{at}" + p.text(s))
            else:
                yield ("move", low.start, high.end, p.text(s) + f"\n{at}" + p.code[low.start:rest[-1].end])
    outer = s.parent
    while outer.parent is not None and outer.role not in ("if", "for", "while", "elif", "else"):
        outer = outer.parent
    while outer.role in ("elif", "else") and outer.parent is not None:
        outer = outer.parent
    if p.language != "python" and outer.parent is not None and outer.parent.role == "exprstmt":
        outer = outer.parent
    if outer.role in ("if", "for", "while", "exprstmt") and outer.parent and outer.parent.role == "block":
        out = indent(p, outer)
        if out is not None and len(siblings) > 1:
            moved = shift(p.text(s), at, out)
            if s is siblings[-1] and s.end <= outer.end:
                start = len(p.code[:s.start].rstrip())
                yield ("dedent", start, outer.end, p.code[s.end:outer.end] + f"\n{out}{moved}")
            if s is siblings[0]:
                yield ("dedent", outer.start, s.end, f"{moved}\n{out}" + p.code[outer.start:s.start].rstrip())
    if i > 0:
        last = _last_block(p, siblings[i - 1])
        if last is not None and (inner := indent(p, last.parts[-1])) is not None:
            moved = shift(p.text(s), at, inner)
            between = p.code[last.parts[-1].end:siblings[i - 1].end]
            yield ("indent", last.parts[-1].end, s.end, f"\n{inner}{moved}{between}")
    if i + 1 < len(siblings):
        body = _body(p, siblings[i + 1])
        if body is not None and body.parts and (inner := indent(p, body.parts[0])) is not None:
            head = p.code[siblings[i + 1].start:body.parts[0].start]
            yield ("indent", s.start, body.parts[0].start, f"{head}{shift(p.text(s), at, inner)}\n{inner}")
    if s.role == "if" and not any(c.field == "alternative" for c in s.children):
        simple = [p.text(n) for n in siblings if n.role in ("exprstmt", "assign", "update") and "\n" not in p.text(n)]
        inside = _body(p, s)
        simple += [p.text(n) for n in (inside.parts if inside else ()) if n.role in ("exprstmt", "assign")
            and "\n" not in p.text(n)]
        returns = [f"return {value}{p.table.end}" for value in (p.table.true, p.table.false, "0", p.table.none)]
        if p.language == "python":
            simple = [*starts(p, s), *simple]
        for text in dict.fromkeys([*simple[:8], *(returns if s is siblings[-1] else ())]):
            body = f"else:\n{at}{unit(p)}{text}" if p.language == "python" else f"else {{\n{at}{unit(p)}{text}\n{at}}}"
            yield ("add-else", s.end, s.end, (f"\n{at}" if p.language == "python" else " ") + body)
    if s.role == "if" and i > 0 and siblings[i - 1].role == "if" and p.language == "python" \
            and not any(child.role == "else" for child in siblings[i - 1].children):
        yield ("else", s.start, s.start, "el")
    if s.role == "if" and p.language == "python" and i + 1 < len(siblings) and not any(c.role == "else" for c
            in s.children):
        rest = siblings[i + 1:]
        text = shift(p.code[rest[0].start:rest[-1].end], at, at + unit(p))
        yield ("else", s.end, rest[-1].end, f"\n{at}else:\n{at}{unit(p)}{text}")


def _last_block(p: Program, node: Node) -> Node | None:
    """The block that ends a compound statement."""
    if node.role == "exprstmt" and node.parts:
        node = node.parts[0]
    if node.role not in ("if", "for", "while"):
        return None
    blocks = [part for child in node.parts for part in [child, *child.parts] if part.role == "block" and part.parts]
    return blocks[-1] if blocks else None


def branches(p: Program, s: Node):
    """`elif` and `else` changed (Python); a return or an assignment put before an expression, or taken away."""
    if p.language == "python" and s.role == "elif":
        yield ("else", s.start, s.start + 4, "if")
    if p.language == "python" and s.role == "else" and s.parent.role == "if" and (body := s.get("body")) and body.parts:
        at = p.code[p.code.rfind("\n", 0, s.start) + 1:s.start]
        inner = indent(p, body.parts[0])
        if not at.strip() and inner is not None and movable(p, body):
            yield ("else", s.start, body.end, shift(p.text(body), inner, at))
            loop = s.parent.parent.parent  # found nothing: only after the last round
            if loop.role in ("for", "while") and s.parent.end == loop.end and (out := indent(p, loop)) is not None:
                yield ("dedent", len(p.code[:s.start].rstrip()), body.end, f"\n{out}{shift(p.text(body), inner, out)}")
    end = p.table.end
    if s.role == "exprstmt" and s.parts and s.parts[0].role == "call":
        call = s.parts[0]
        yield ("return", s.start, s.start, "return ")
        if p.language == "python" and _generator(p, s):
            yield from (("return", s.start, s.start, word) for word in ("yield ", "yield from "))
        for name in p.names(s.start):
            yield ("assign-result", call.start, call.start, f"{name} = ")
    elif s.role == "exprstmt" and s.parts and s.parts[0].role == "yield":
        text = p.text(s)
        swapped = text.replace("yield from ", "yield ") if text.startswith("yield from ") else text.replace("yield",
            "yield from", 1)
        yield ("return", s.start, s.end, swapped)
        yield ("return", s.start, s.end, re.sub(r"yield( from)?", "return", text, count=1))
    elif s.role == "return":
        value = s.parts[0] if s.parts else None
        others = [*p.names(s.end - 1), p.table.true, p.table.false, p.table.none, "0", "1", "-1",
            *p.table.defaults["str"][:1],
                  *p.table.defaults.get("list", ())[:1]]
        for other in others:
            if value is None or p.text(value) != other:
                yield ("return", s.start, s.end, f"return {other}{end}")
        if value is not None and value.role == "call":
            yield ("return", s.start, s.end, p.text(value) + end)
        if value is not None and p.language == "python" and (_generator(p, s) or _looped(s)):
            whole = p.code[value.start:s.end]  # else `yield` would be tried early everywhere, never right
            yield ("return", s.start, s.end, f"yield {whole}")
            if _generator(p, s):
                yield ("return", s.start, s.end, f"yield from {whole}")
    holder = s.parts[0] if s.role == "exprstmt" and s.parts else s
    if holder.role in ("assign", "augassign") and (right := holder.get("right")) is not None:
        yield ("return", s.start, s.end, f"return {p.text(right)}{end}")
        if right.role == "call" and holder.role == "assign":
            yield ("assign-result", s.start, s.end, p.text(right) + end)
    if holder.role == "raise" or s.role == "raise":
        yield from (("return", s.start, s.end, f"return {value}{end}") for value in (p.table.none, p.table.false))


def _generator(p: Program, s: Node) -> bool:
    return any(node.role == "yield" for node in p.function(s).walk())


def _looped(s: Node) -> bool:
    while s.parent is not None and s.role != "function":
        if s.role in ("for", "while"):
            return True
        s = s.parent
    return False


def wholesale(p: Program, s: Node):
    """One name or constant changed wherever it stands in a statement; two names exchanged; two returns exchanged."""
    if s.parent.role == "block" and s.role not in ("function", "class"):
        holder = s
        if s.role in ("for", "while", "if") and (body := _body(p, s)) is not None:
            holder = body
        end = holder.start if holder is not s else s.end
        span = p.code[s.start:end]
        inside = [n for n in s.walk() if n.named and n.role == "name" and n.start < end and (n in p.targets
            or p.is_value(n))]
        own = list(dict.fromkeys(p.text(n) for n in inside))
        for name in own:
            if sum(p.text(n) == name for n in inside) > 1:
                for other in p.names(s.start, p.type_at(s.start, name)):
                    if other != name:
                        yield ("rename", s.start, end, _renamed(span, {name: other}))
        for i, a in enumerate(own):
            for b in own[i + 1:]:
                if compatible(p.type_at(s.end - 1, a), p.type_at(s.end - 1, b)):
                    swapped = _renamed(span, {a: b, b: a})
                    yield ("exchange", s.start, end, swapped)
                    following = statements(p, s.parent)
                    at = following.index(s) + 1 if s in following else len(following)
                    if at < len(following) and following[at].role not in COMPOUND and holder is s:
                        both = p.code[s.start:following[at].end]
                        if re.search(rf"\b({re.escape(a)}|{re.escape(b)})\b", p.text(following[at])):
                            yield ("exchange", s.start, following[at].end, _renamed(both, {a: b, b: a}))
    if s.role == "function" and (body := _body(p, s)) is not None:
        returns = [n for n in body.walk() if n.role == "return" and n.parts and p.function(n) is s]
        for i, a in enumerate(returns):
            for b in returns[i + 1:]:
                x, y = a.parts[0], b.parts[0]
                if p.text(x) != p.text(y):
                    yield ("exchange", x.start, y.end, p.text(y) + p.code[x.end:y.start] + p.text(x))
        literals: dict[str, list[Node]] = {}
        truths = [node for node in p.inside(s) if node.role in ("true", "false")]
        for node in p.inside(s):
            if node.role in ("string", "number", "none"):
                literals.setdefault(p.text(node), []).append(node)
        many = [(nodes, p.guess(nodes[0])) for nodes in literals.values() if nodes[-1].end - nodes[0].start < 2000]
        for nodes, kind in many:
            if 1 < len(nodes) <= 6:
                for other in dict.fromkeys([*p.table.defaults.get(kind, ()), *p.constants(s)[kind == "str"]]):
                    if other != p.text(nodes[0]):
                        yield ("replace-all", *_substituted(p, nodes, {p.text(nodes[0]): other}))
        for i, (nodes, kind) in enumerate(many[:8]):
            for others, other_kind in many[i + 1:8]:
                a, b = p.text(nodes[0]), p.text(others[0])
                if kind == other_kind:
                    both = sorted([*nodes, *others], key=lambda node: node.start)
                    yield ("exchange", *_substituted(p, both, {a: b, b: a}))
        if 1 < len(truths) <= 6:
            flip = {p.table.true: p.table.false, p.table.false: p.table.true}
            yield ("replace-all", *_substituted(p, truths, flip))


def _renamed(text: str, names: dict[str, str]) -> str:
    """Names changed as whole words outside strings and not as attributes."""
    strings = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(?<![\w.])[^\W\d]\w*")
    return strings.sub(lambda match: names.get(match[0], match[0]), text)


def _substituted(p: Program, nodes: list[Node], texts: dict[str, str]) -> tuple[int, int, str]:
    """The span from the first to the last node, each node's text replaced."""
    parts, at = [], nodes[0].start
    for node in nodes:
        parts += [p.code[at:node.start], texts.get(p.text(node), p.text(node))]
        at = node.end
    return nodes[0].start, at, "".join(parts)
