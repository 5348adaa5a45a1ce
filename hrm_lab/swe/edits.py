"""The space of repairs: every candidate edit of a program, from its syntax tree.

Unusual: an edit is one span replaced by a text, and nothing else, so that a patch, a candidate of a search and an
injected bug are one thing. Names and types in scope prune (scope.py); duplicates are found by tokens and not by
text; what would not parse is dropped. Frozen before any learning.
"""

import ast
import re
import warnings
from bisect import bisect_right
from dataclasses import dataclass

from . import expressions, idioms, insertions, shapes, statements
from .languages import Node, errors, lex, lexer, parser, problems, table, tree
from .scope import Program, program

KINDS: dict[str, str] = {
    "comparison": "another comparison: < for <=, == for !=, in for not in",
    "boolean": "and for or, and the reverse",
    "operator": "another arithmetic or bitwise operator",
    "assignment": "another assignment: = for +=, += for -=, ++ for --",
    "swap-operands": "the two operands of an operator, or two indices, exchanged",
    "drop-operand": "one operand of an operator in place of both",
    "drop-condition": "one part of a condition in place of both",
    "brackets": "operands grouped otherwise",
    "negate": "a condition negated, or its negation dropped",
    "sign": "a minus added or dropped",
    "off-by-one": "one more or one less",
    "add-operand": "one more operand: a name in scope or a constant",
    "constant": "another number: a neighbour, 0, 1, -1, 2, one of the file",
    "truth": "true for false, and the reverse",
    "string": "a string changed a little, or another one of the file",
    "default": "another plain value: 0, empty text, empty list, none",
    "constant-to-name": "a variable in place of a constant",
    "name-to-constant": "a constant in place of a variable",
    "name": "another variable in scope",
    "target": "assigned to another variable",
    "attribute": "another attribute of the file",
    "function": "another function or method of the same family or of the file",
    "swap-arguments": "two arguments exchanged",
    "drop-argument": "an argument dropped",
    "add-argument": "an argument added",
    "wrap-call": "an expression wrapped in a call: abs, len, sorted, lower, a function of the file",
    "wrap-min-max": "an expression limited by max or min",
    "unwrap-call": "an argument or the object in place of the call",
    "wrap-both": "both sides of a comparison or difference wrapped in the same call",
    "index-to-call": "sum, max, min or len of a sequence in place of one of its elements",
    "none-test": "a test for none in place of one for truth, and the reverse",
    "add-attribute": "an attribute or a method without arguments added",
    "drop-attribute": "an object in place of its attribute",
    "index": "an index counted from the other end",
    "add-index": "an index added",
    "drop-index": "an index or a slice dropped",
    "slice": "a slice added, dropped or with other bounds",
    "add-condition": "one more part of a condition",
    "replace-condition": "another condition of the function or of names in scope",
    "truth-condition": "a condition that always or never holds",
    "swap-branches": "the two branches of a condition exchanged",
    "drop-branch": "one branch of a conditional expression in place of it",
    "filter": "the filter of a comprehension added or dropped",
    "comprehension": "list, set or generator in place of another",
    "element": "an element of a list or tuple added or dropped",
    "swap-elements": "two elements, or key and value, exchanged",
    "hoist": "an inner part of an expression in place of the whole",
    "substitute": "another expression of the function",
    "delete": "a statement deleted",
    "duplicate": "a statement repeated",
    "unguard": "a block without its condition or loop",
    "loop": "while for if, and the reverse",
    "drop-else": "an else dropped",
    "swap-statements": "two statements exchanged",
    "move": "a statement moved past others",
    "dedent": "a statement moved out of a block",
    "indent": "a statement moved into a block",
    "else": "elif for if, else added or taken away",
    "add-else": "an else added",
    "return": "another value returned; a return added or taken away",
    "assign-result": "the result of a call assigned, or no longer",
    "rename": "one variable for another throughout a statement",
    "exchange": "two variables exchanged throughout a statement or two; two returned values exchanged",
    "replace-all": "every occurrence of a constant in a function replaced",
    "insert-update": "a variable updated: x += 1, x -= y",
    "insert-assignment": "an assignment added",
    "insert-call": "a call added: append, sort, pop",
    "insert-jump": "break or continue added",
    "insert-return": "a return added",
    "insert-copy": "a copy of another statement of the function, perhaps with one name changed",
    "insert-guard": "an early return, raise or continue under a condition",
    "guard": "a statement put under a condition",
}
OPERATORS = (  # function, whether it takes statements, the kinds that it yields
    (expressions.operators, False, {"comparison", "boolean", "operator", "assignment"}),
    (expressions.operands, False, {"swap-operands", "drop-operand", "drop-condition", "brackets", "negate", "sign"}),
    (expressions.arithmetic, False, {"off-by-one", "add-operand"}),
    (expressions.constants, False, {"constant", "truth", "string", "default", "constant-to-name"}),
    (expressions.names, False, {"name", "target", "attribute", "function", "name-to-constant"}),
    (shapes.arguments, False, {"swap-arguments", "drop-argument", "add-argument"}),
    (shapes.calls, False, {"wrap-call", "wrap-min-max", "unwrap-call"}),
    (shapes.attributes, False, {"add-attribute", "drop-attribute"}),
    (shapes.paired, False, {"wrap-both", "index-to-call", "none-test"}),
    (shapes.indexing, False, {"index", "add-index", "drop-index", "slice", "swap-operands"}),
    (shapes.logic, False, {"add-condition", "replace-condition", "truth-condition", "swap-branches", "drop-branch",
                                "filter", "comprehension"}),
    (shapes.elements, False, {"element", "swap-elements"}),
    (shapes.substitutes, False, {"hoist", "substitute"}),
    (idioms.numbers, False, {"operator", "sign", "comparison", "add-operand", "wrap-min-max"}),
    (idioms.containers, False, {"assignment", "function", "element", "add-argument", "comprehension"}),
    (statements.removal, True, {"delete", "duplicate", "unguard", "loop", "drop-else", "swap-branches"}),
    (statements.order, True, {"swap-statements", "move", "dedent", "indent", "else", "add-else"}),
    (statements.branches, True, {"else", "return", "assign-result"}),
    (statements.wholesale, True, {"rename", "exchange", "replace-all"}),
    (insertions.guards, True, {"guard"}),
    (insertions.insertions, True, {"insert-update", "insert-assignment", "insert-call", "insert-jump", "insert-return",
                                   "insert-copy", "insert-guard"}),
)
ROLES = frozenset((
    "assign", "augassign", "update", "attrname", "name", "pair", "call", "tuple", "list", "pattern", "attribute",
    "subscript"))  # read, or not a value but edited
STRUCTURAL = re.compile(r"\b(?:return|break|continue|yield|await|nonlocal|global)\b|:=")


MOVING = frozenset({"move", "dedent", "loop", "indent", "duplicate", "else", "add-else"})


@dataclass(frozen=True)
class Edit:
    """code[start:end] replaced by text (characters of the str); kind is a key of KINDS."""

    kind: str
    start: int
    end: int
    text: str


def apply(code: str, edit: Edit) -> str:
    return code[:edit.start] + edit.text + code[edit.end:]


def proposals(p: Program, node: Node, kinds: frozenset[str] | None = None):
    """Unchecked edits (kind, start, end, text) that hang on one node; of some kinds only, if given."""
    value, whole = p.is_value(node), _statement(node)
    for operator, statement, made in OPERATORS:
        if (whole if statement else value or node.role in ROLES) and (kinds is None or made & kinds):
            for edit in operator(p, node):
                if kinds is None or edit[0] in kinds:
                    yield edit


def sites(p: Program, low: int, high: int) -> list[Node]:
    """The nodes of a span that edits hang on, in source order."""
    return [node for node in p.nodes if node not in p.skipped and node.role
            and (low <= node.start and node.end <= high or node.role == "block" and node.start < high
                    and node.end > low)]


def _statement(node: Node) -> bool:
    return node.parent is not None and (node.parent.role == "block" or
                                        node.role in ("block", "elif", "else", "return", "function"))


class Text:
    """The tokens of a program, and of the program after an edit: what makes two edits the same."""

    def __init__(self, code: str, language: str):
        self.code, self.language = code, language
        self.tokens: list[str] = []
        self.lines = [0]      # where reading may begin: starts of logical lines
        self.first = [0]      # tokens before each
        depth, line, layout = 0, 0, language == "python"
        for match in lexer(language).finditer("\n" + code):
            if token := match[3]:
                if line is not None and not depth:
                    if self.tokens:
                        self.lines.append(line)
                        self.first.append(len(self.tokens))
                    if layout:
                        self.tokens.append(("\n" + code)[line:match.start()])
                line = None
                self.tokens.append(token)
                if layout and len(token) == 1:
                    depth += (token in "([{") - (token in ")]}")
            elif match[2]:
                line = match.start()

    def key(self, edit: Edit) -> tuple:
        """The same for two edits if and only if the programs after them have the same tokens; () if unchanged."""
        a = max(0, bisect_right(self.lines, edit.start) - 1)
        b = bisect_right(self.lines, edit.end + 1)
        low, high = self.lines[a], self.lines[b] - 1 if b < len(self.lines) else len(self.code)
        i, j = self.first[a], self.first[b] if b < len(self.first) else len(self.tokens)
        before = ("\n" + self.code)[low:edit.start + 1]
        new, old = lex(before + edit.text + self.code[edit.end:high], self.language), self.tokens
        size = len(old) - (j - i) + len(new)
        shift = size - len(old)

        def result(k):
            return old[k] if k < i else new[k - i] if k < i + len(new) else old[k - shift]

        head = i
        while head < min(size, len(old)) and result(head) == old[head]:
            head += 1
        if head == len(old) == size:
            return ()
        tail = 0
        while tail < min(size, len(old)) - head and result(size - 1 - tail) == old[-1 - tail]:
            tail += 1
        return head, len(old) - tail, tuple(result(k) for k in range(head, size - tail))


def parses(p: Program, edit: Edit) -> bool:
    """Whether the program is valid after the edit; Python is asked about the smallest statement that holds it."""
    if p.language != "python":
        base = tree(p.code, p.language)
        allowed = len(errors(base)) if base.root_node.has_error else 0
        data = apply(p.code, edit).encode("utf-8", "surrogatepass")
        found = parser(p.language).parse(data)
        return not found.root_node.has_error or bool(allowed) and len(errors(found)) <= allowed
    node = p.top
    while True:
        inner = next((part for part in node.children if part.start <= edit.start and edit.end <= part.end), None)
        if inner is None:
            break
        node = inner
    while node.parent is not None and not (node.parent.role == "block" and node.start <= edit.start):
        node = node.parent
    full = edit.kind in MOVING or ":=" in p.code or STRUCTURAL.search(edit.text)
    if full:  # return, break, nonlocal: their function must be seen; the outermost one, or the statement of the file
        above = [node]
        while above[-1].parent is not None:
            above.append(above[-1].parent)
        node = next((one for one in reversed(above) if one.role == "function"), above[-2] if len(above) > 1 else node)
    if node.parent is None:
        return not problems(apply(p.code, edit), "python")
    start = p.code.rfind("\n", 0, node.start) + 1
    if p.code[start:node.start].strip():
        start = node.start
    low, high = min(start, edit.start), max(node.end, edit.end)
    text = p.code[low:edit.start] + edit.text + p.code[edit.end:high]
    if text[:1] in " \t":
        text = "if 1:\n" + text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if full:
                compile(text, "<edit>", "exec", dont_inherit=True)
            else:
                ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def candidates(code: str, language: str = "python", within: tuple[int, int] | None = None,
               limit: int | None = None) -> list[Edit]:
    """Every edit of `code` inside `within` (the whole text if None), in source order, at most `limit`.

    Each parses, none leaves the code as it is, no two give the same `normalise`d program. Names come from the whole
    text. With a `limit` kinds take turns, so that each keeps a share. ValueError: unknown language, or code that does
    not parse.
    """
    table(language)
    if language == "python" and (wrong := problems(code, language)):
        raise ValueError(f"code: {wrong[0]}; expected valid {language}")
    low, high = within or (0, len(code))
    p, text, seen, found = program(code, language), Text(code, language), set(), []
    for node in sorted(sites(p, low, high), key=lambda node: node.end - node.start):  # the narrower kind keeps its edit
        for edit in (Edit(*proposal) for proposal in proposals(p, node)):
            if low <= edit.start and edit.end <= high and (key := text.key(edit)) and key not in seen:
                seen.add(key)
                if parses(p, edit):
                    found.append(edit)
    found.sort(key=lambda edit: (edit.start, edit.end))
    if limit is not None and len(found) > limit:
        turns: dict[str, int] = {}
        rank = {}
        for edit in found:
            rank[edit] = turns[edit.kind] = turns.get(edit.kind, -1) + 1
        kept = set(sorted(found, key=lambda edit: rank[edit])[:limit])
        found = [edit for edit in found if edit in kept]
    return found

