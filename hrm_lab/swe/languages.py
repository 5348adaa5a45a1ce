"""Six languages read by tree-sitter: which one, valid or not, tokens, functions, one normal form.

Unusual: two readers. tree-sitter's tree serves syntax and tokens; a small lexer (regular expressions of the table)
serves `normalise`, because it also reads fragments, so that thousands of edits are told apart without parsing.
Offsets are characters of the str, never bytes. Source of the grammars: tree-sitter.github.io.
"""

import re
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache

import tree_sitter

from .grammar import Language
from .grammars_dynamic import JAVASCRIPT, PYTHON
from .grammars_static import CPP, GO, JAVA, RUST

LANGUAGES: dict[str, Language] = {table.name: table for table in (PYTHON, JAVASCRIPT, GO, JAVA, CPP, RUST)}
SIGNS = (r">>>=|===|!==|\*\*=|//=|<<=|>>=|>>>|\.\.\.|\.\.=|&&=|\|\|=|\?\?=|&\^=|"
         r"=>|->|::|:=|==|!=|<=|>=|&&|\|\||\?\?|\?\.|\+\+|--|\+=|-=|\*=|/=|%=|&=|\|=|\^=|@=|<-|<<|>>|\*\*|\.\.|&\^|")


@dataclass(frozen=True)
class Token:
    """A leaf of the tree: text, node type, character span, line from 1."""

    text: str
    type: str
    start: int
    end: int
    line: int


@dataclass(frozen=True)
class Function:
    """A function or method: dotted name ("Stack.push") and character span."""

    name: str
    start: int
    end: int


class Node:
    """A node of the tree as plain Python: node type, role, character span, children without comments."""

    __slots__ = ("children", "end", "field", "named", "parent", "role", "start", "type")

    def __init__(self, type, role, start, end, named, field, parent):
        self.type, self.role, self.start, self.end = type, role, start, end
        self.named, self.field, self.parent, self.children = named, field, parent, []

    def get(self, *fields):
        """The first child in one of the fields, or None."""
        return next((child for child in self.children if child.field in fields), None)

    def walk(self):
        """This node and all below it, in source order."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    @property
    def parts(self):
        """Named children."""
        return [child for child in self.children if child.named]


def table(language: str) -> Language:
    if language not in LANGUAGES:
        raise ValueError(f"language: {language!r}; expected one of {', '.join(LANGUAGES)}")
    return LANGUAGES[language]


@cache
def parser(language: str) -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(table(language).grammar()))


def _bytes(code: str) -> bytes:
    return code.encode("utf-8", "surrogatepass")


def _characters(code: str, data: bytes):
    """Byte offset -> character offset, as a table; None where both are the same (ASCII)."""
    if len(data) == len(code):
        return None
    offsets = [0] * (len(data) + 1)
    at = 0
    for i, character in enumerate(code):
        size = len(_bytes(character))
        offsets[at:at + size] = [i] * size
        at += size
    offsets[at] = len(code)
    return offsets


@lru_cache(maxsize=64)
def tree(code: str, language: str) -> tree_sitter.Tree:
    return parser(language).parse(_bytes(code))


@lru_cache(maxsize=64)
def root(code: str, language: str) -> Node:
    """The tree of `code` as `Node`s; comments are left out."""
    roles, data = table(language).roles, _bytes(code)
    offsets = _characters(code, data)
    cursor = tree(code, language).walk()
    top = parent = None
    while True:
        node, kind = cursor.node, None
        kind, named = node.type, node.is_named
        role = roles.get(kind, "") if named else ""
        start, end = node.start_byte, node.end_byte
        if offsets:
            start, end = offsets[start], offsets[end]
        new = Node(kind, role, start, end, named, cursor.field_name, parent)
        if parent is not None and role != "comment":
            parent.children.append(new)
        top = top or new
        if role != "comment" and cursor.goto_first_child():
            parent = new
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return top
            parent = parent.parent


def errors(tree: tree_sitter.Tree) -> list[tree_sitter.Node]:
    """The nodes that the grammar could not read, or that it had to invent, in source order."""
    found, stack = [], [tree.root_node] if tree.root_node.has_error else []
    while stack:
        node = stack.pop()
        if node.is_error or node.is_missing:
            found.append(node)
        stack.extend(child for child in reversed(node.children) if child.has_error or child.is_missing)
    return found


def problems(code: str, language: str) -> list[str]:
    """What is wrong with the syntax, one line each; empty if valid. Python is judged by its own `compile`."""
    if language == "python":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(code, "<code>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return [f"line {getattr(error, 'lineno', None) or 1}: {getattr(error, 'msg', None) or error}"]
        return []
    found = []
    for node in errors(tree(code, language)):
        what = f"{node.type!r} is missing" if node.is_missing else \
            f"{node.text[:40].decode(errors='replace')!r} does not fit"
        found.append(f"line {node.start_point[0] + 1}: {what}")
    return found


def valid(code: str, language: str) -> bool:
    return not problems(code, language)


def detect(code: str) -> str:
    """The language of a program: the grammar that reads most of it, helped by what the language writes often."""
    def score(language):
        text = _bytes(code)
        read = parser(language).parse(text)
        wrong = errors(read)
        unread = sum(max(1, node.end_byte - node.start_byte) for node in wrong)
        hints = {match if isinstance(match, str) else match[0] for match in re.findall(LANGUAGES[language].hints, code)}
        return min(1.0, unread / max(1, len(text))) + 0.3 * min(3, len(wrong)) - 0.08 * min(6, len(hints))
    return min(LANGUAGES, key=score)


def tokens(code: str, language: str) -> list[Token]:
    """The leaves of the tree, without comments; a string without interpolation is one token."""
    found = []

    def visit(node):
        if not node.children or (node.role == "string" and all(not part.parts for part in node.children)):
            if node.end > node.start:
                line = code.count("\n", 0, node.start) + 1 if not found else \
                    found[-1].line + code.count("\n", found[-1].start, node.start)
                if code[node.start:node.end].strip():
                    found.append(Token(code[node.start:node.end], node.type, node.start, node.end, line))
            return
        for child in node.children:
            visit(child)

    visit(root(code, language))
    return found


def functions(code: str, language: str) -> list[Function]:
    """Functions and methods with a name, in source order; the span holds decorators, not the lines before."""
    found = []

    def visit(node, outer):
        name = node.get("name") or (node.get("type") if node.type == "impl_item" else None)
        if node.type == "function_definition" and name is None:  # C++ hides the name in the declarator
            inner = node.get("declarator")
            while inner is not None and inner.get("declarator") is not None:
                inner = inner.get("declarator")
            name = inner
        if node.role in ("function", "class") and name is not None:
            outer = [*outer, code[name.start:name.end].replace("::", ".")]
            if node.role == "function":
                whole = node.parent if node.parent and node.parent.type == "decorated_definition" else node
                found.append(Function(".".join(outer), whole.start, whole.end))
        elif node.role == "declare" and name is not None and node.get("value") and node.get("value").role == "lambda":
            found.append(Function(".".join([*outer, code[name.start:name.end]]), node.start, node.end))
        for child in node.children:
            visit(child, outer)

    visit(root(code, language), [])
    return found


@cache
def lexer(language: str) -> re.Pattern:
    """Group 1: a comment; group 2: a line break with the next line's indentation; group 3: a token."""
    known = table(language)
    return re.compile(rf"({known.comment}|\\\n)|(\n[ \t]*)|((?:{known.string})|[^\W\d]\w*|"
                      rf"(?:\d[\w]*(?:\.\w+)?|\.\d\w*)(?:(?<=[eE])[+-]\d+)?|{SIGNS}[^\s])|[ \t\r\f]+")


def lex(text: str, language: str, depth: int = 0) -> list[str]:
    """Tokens of a text or of a fragment. In Python "\\n" + indentation stands for each new logical line."""
    found, layout = [], language == "python"
    line = None
    for match in lexer(language).finditer(text):
        if token := match[3]:
            if line is not None:
                found.append(line)
                line = None
            found.append(token)
            if token in "([{":
                depth += 1
            elif token in ")]}":
                depth = max(0, depth - 1)
        elif match[2] and layout and not depth:
            line = match[2]
    return found


def normalise(code: str, language: str) -> str:
    """Token texts joined by a space, comments and layout dropped; Python keeps where lines, blocks begin and end."""
    found = []
    levels = [""]
    for token in lex("\n" + code, language):
        if token[0] != "\n":
            found.append(token)
            continue
        indent = token[1:].expandtabs(8)
        if found:
            found.append("NEWLINE")
        if len(indent) > len(levels[-1]):
            levels.append(indent)
            found.append("INDENT")
        while len(indent) < len(levels[-1]):
            levels.pop()
            found.append("DEDENT")
    return " ".join(found)
