"""What an edit may use: the names in scope with a guess of their type, constants, functions of the file.

Unusual: types are guesses from literals, annotations and uses ("num", "str", "bool", "list", "dict", "set", "tuple",
"none"; "any" when nothing is known). They only prune: what is unknown is allowed. No code is run.
"""

import re
from functools import lru_cache, wraps

from .languages import Node, root, table

VALUES = frozenset((
    "name", "number", "string", "true", "false", "none", "call", "attribute", "subscript", "slice", "binary",
    "unary", "ternary", "paren", "lambda", "comprehension", "list", "tuple", "dict", "set", "range", "cast"))
ATOMS = VALUES - {"binary", "unary", "ternary", "lambda", "cast", "range"}
NOT_VALUES = frozenset((
    "name", "attribute", "property", "field", "function", "pattern", "parameters", "type", "alias", "label",
    "macro", "parameter", "declarator", "path", "scope", "key"))
SEQUENCES = {"list", "tuple", "set"}
LEVELS = {"or": 1, "||": 1, "??": 1, "and": 2, "&&": 2, "not": 3, "<<": 8, ">>": 8, ">>>": 8, "+": 9, "-": 9, "*": 10,
          "/": 10, "//": 10, "%": 10, "@": 10, "**": 12}
BITS = {"|": (2.5, 5), "^": (2.6, 6), "&": (2.7, 7), "&^": (2.7, 7)}
ARITHMETIC = frozenset({"-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^", ">>>"})
NUMERIC_USES = frozenset({"-", "/", "//", "**", "<<", ">>", "<", ">", "<=", ">="})


def compatible(a: str, b: str) -> bool:
    return a == b or "any" in (a, b) or "none" in (a, b) or (a in SEQUENCES and b in SEQUENCES)


def kept(method):
    """A method of one argument whose answers live as long as its object."""
    @wraps(method)
    def answer(self, argument):
        key = method.__name__, argument
        if key not in self.answers:
            self.answers[key] = method(self, argument)
        return self.answers[key]
    return answer


class Program:
    """One text, read once: its tree, its names and types, what its expressions are made of."""

    def __init__(self, code: str, language: str):
        self.code, self.language, self.table = code, language, table(language)
        self.top = root(code, language)
        self.answers: dict[tuple, object] = {}
        self.nodes = [node for node in self.top.walk() if node.named]
        self.skipped: set[Node] = set()     # imports, types, decorators: never edited
        self.targets: set[Node] = set()     # what is assigned to, not read
        self.bindings: list[tuple[str, int, Node]] = []  # name, where it is bound, the node that it is visible in
        self.types: dict[tuple[int, str], str] = {}
        self.calls: dict[str, int] = {}     # functions of the file: name -> number of parameters
        self._read()
        parts = [(node, self.text(node.parts[-1])) for node in self.nodes if node.role == "attribute" and len(
            node.parts) > 1]
        self.methods = tuple(dict.fromkeys(name for node, name in parts if node.field == "function"))
        self.attributes = tuple(dict.fromkeys(name for node, name in parts if node.field != "function"))
        self.bare_methods = tuple(dict.fromkeys(
            name for node, name in parts if node.parent.role == "call" and self.text(node.parent).endswith(
                f".{name}()")))
        self.called = {self.callee(node) for node in self.nodes if node.role == "call"}
        self.words = tuple(dict.fromkeys(re.findall(r"[^\W\d_]{4,}", code)))

    # ------------------------------------------------------------ reading

    def _read(self):
        binds = self.table.binds
        for node in self.nodes:
            if node.parent in self.skipped or node.role in ("skip", "type") or node.field == "type":
                self.skipped.add(node)
                continue
            if node.type in binds:
                for part in [node] if not binds[node.type] else [c for c in node.children
                        if c.field == binds[node.type]]:
                    self._bind(part, node)
            made = node.get("value") if node.role == "declare" else node
            if made is not None and made.role in ("function", "lambda") and (name := node.get("name")):
                params = made.get("parameters")
                self.calls[self.text(name)] = len([p for p in params.parts if self.text(p) not in ("self", "cls")]) \
                    if params else 1
        for node in self.nodes:
            if node.role == "name" and node not in self.skipped and node not in self.targets:
                self._use(node)

    def _bind(self, part: Node, owner: Node):
        if part.role in ("attribute", "subscript"):
            self.targets.add(part)
            return
        if owner.role != "params":
            self.targets.add(part)
        if part.role == "name" or part.type in ("shorthand_property_identifier_pattern", "self"):
            self.targets.add(part)
            scope = part
            while scope.parent and scope.role not in ("function", "lambda", "comprehension"):
                scope = scope.parent
            self.bindings.append((self.text(part), part.start, scope))
            holder = owner if owner.get("type") or owner.get("value", "right") else part.parent
            if annotation := holder.get("type") or (owner.parent.get("type") if owner.parent else None):
                kind = next((t for pattern, t in self.table.annotations if re.search(pattern, self.text(annotation))),
                    "any")
            elif owner.role in ("for", "forclause") and owner.get("right", "value"):
                kind = self.element(owner.get("right", "value"))
            else:
                value = holder.get("value", "right")
                value = value.parts[0] if value is not None and value.role == "tuple" and len(
                    value.parts) == 1 else value
                if value is not None and part.parent.role in ("pattern", "tuple"):  # a, b = [], 0
                    own, given = part.parent.parts, value.parts if value.role == "tuple" else ()
                    value = given[own.index(part)] if len(own) == len(given) and part in own else None
                kind = self.guess(value) if value is not None else "any"
            self._learn(part, kind)
        for child in part.parts:
            if child.field not in ("value", "type", "default") and child.role not in ("type", "skip") \
                    and child not in self.skipped and part.role != "call":
                self._bind(child, part if part.role not in ("pattern", "tuple", "params") else owner)

    def _learn(self, name: Node, kind: str):
        key = (self.function(name).start, self.text(name))
        if kind not in ("any", "none") and self.types.get(key, "any") == "any":
            self.types[key] = kind
        self.types.setdefault(key, "any")

    def _use(self, node: Node):
        parent = node.parent
        if parent.role == "binary" and self.operator(parent) in NUMERIC_USES:
            others = [self.guess(part) for part in parent.parts if part is not node]
            if others and others[0] in ("num", "any") and self.operator(parent) not in ("<", ">", "<=", ">=") or \
                    "num" in others:
                self._learn(node, "num")
        elif parent.role == "attribute" and parent.parts[0] is node:
            used = self.text(parent.parts[-1])
            kind = {"append": "list", "extend": "list", "lower": "str", "upper": "str", "split": "str", "strip": "str",
                    "items": "dict", "keys": "dict", "values": "dict", "add": "set", "push": "list",
                    "isdigit": "str"}.get(used)
            if kind and self.language in ("python", "javascript"):
                self._learn(node, kind)
        elif parent.role == "args" and self.callee(parent.parent) == "range":
            self._learn(node, "num")

    # ------------------------------------------------------------ asking

    def text(self, node: Node) -> str:
        return self.code[node.start:node.end]

    def function(self, node: Node) -> Node:
        """The innermost function (not a lambda) that holds the node, or the whole file."""
        while node.parent and node.role != "function":
            node = node.parent
        return node

    def operator(self, node: Node) -> str:
        """The (first) operator of a binary or unary node."""
        return next((self.text(child) for child in node.children if not child.named and child.type not in "()"), "")

    def callee(self, call: Node) -> str:
        """The last name of what is called: `push` of `a.b.push(x)`."""
        args = next((child for child in call.children if child.role == "args"), call)
        return (re.findall(r"\w+", self.code[call.start:args.start]) or [""])[-1]

    def is_value(self, node: Node) -> bool:
        """Whether the node is an expression that is read, which another expression may replace."""
        if node.role not in VALUES or node in self.targets or node in self.skipped:
            return False
        parent = node.parent
        if parent is None or node.field in NOT_VALUES and not (node.field == "pattern" and parent.role == "paren"):
            return False
        if parent.role in ("params", "pattern", "joined", "dictionary") or parent.type in ("with_item", "dotted_name"):
            return False
        if node.role in ("tuple", "range") and len(node.parts) < 2:
            return False
        return not (node.role == "string" and (parent.role in ("exprstmt", "block")))

    def level(self, node: Node) -> float:
        """How tightly a node binds; 20 for an atom."""
        if node.role in ("binary", "unary"):
            return self.level_of(self.operator(node)) if node.role == "binary" or self.operator(node) == "not" else 11
        return 20 if node.role in ATOMS and not (node.role == "tuple" and self.text(node)[:1] != "(") else \
            10.5 if node.role == "cast" else -1 if node.role == "tuple" else 0

    def level_of(self, operator: str) -> float:
        if operator in BITS:
            return BITS[operator][self.table.tight_bits]
        return LEVELS.get(operator, 4)

    def place(self, node: Node, text: str, level: float = 20) -> str:
        """`text`, that binds at `level`, in brackets where it stands in for `node` and would be read otherwise."""
        parent, need = node.parent, 0.0
        if parent.role == "binary":
            need = self.level_of(self.operator(parent)) + (0.01 if parent.parts[0] is not node else 0)
        elif parent.role in ("unary", "cast"):
            need = 3 if self.operator(parent) == "not" else 11
        elif parent.role in ("attribute", "subscript", "slice") and parent.parts[0] is node or node.field in (
                "object", "operand"):
            need = 20
        elif parent.role in ("ternary", "comprehension", "forclause", "ifclause"):
            need = 0.5
        return text if level >= need else f"({text})"

    def operand(self, node: Node, level: float) -> str:
        """The node's text as an operand of an operator of that level."""
        return self.text(node) if self.level(node) >= level else f"({self.text(node)})"

    def guess(self, node: Node | None) -> str:
        """The type of an expression as far as it shows."""
        if node is None:
            return "any"
        role, text = node.role, self.text(node)
        if role == "tuple" and len(node.parts) == 1 and text[:1] != "(":  # Go's list of one expression
            return self.guess(node.parts[0])
        if role in ("number", "list", "dict", "set", "tuple"):
            return "num" if role == "number" else role
        if role == "string":
            return "str"
        if role in ("true", "false"):
            return "bool"
        if role == "none":
            return "none"
        if role == "name":
            return self.types.get((self.function(node).start, text), "any")
        if role == "comprehension":
            return {"set_comprehension": "set", "dictionary_comprehension": "dict"}.get(node.type, "list")
        if role == "paren" and node.parts:
            return self.guess(node.parts[0])
        if role == "call":
            return self.table.returns.get(self.callee(node), "any")
        if role == "attribute":
            return "num" if text.endswith((".length", ".size")) else "any"
        if role == "ternary" and len(node.parts) == 3:
            kinds = [self.guess(part) for part in node.parts]
            return kinds[0] if kinds[0] != "any" else kinds[2]
        if role == "unary":
            return "bool" if self.operator(node) in ("not", "!") else "num" if self.operator(node) in "-+~" else "any"
        if role == "subscript" and node.parts:
            sliced = any(part.role == "slice" for part in node.parts)
            of = self.guess(node.parts[0])
            return of if sliced or of == "str" else "any"
        if role == "binary" and len(node.parts) >= 2:
            operator = self.operator(node)
            if self.level_of(operator) <= 4 and operator not in BITS:
                return "bool" if self.level_of(operator) == 4 else self.guess(node.parts[-1])
            kinds = {self.guess(part) for part in node.parts[:2]}
            return next((kind for kind in ("str", "list", "set") if kind in kinds),
                        "num" if "num" in kinds or operator in ("-", "/", "//", "**", "<<", ">>") else "any")
        return "any"

    def element(self, node: Node) -> str:
        """The type of what a loop over the expression yields."""
        text = self.text(node)
        if re.match(r"range\(|len\(|0\.\.", text):
            return "num"
        return "str" if self.guess(node) == "str" else "any"

    @kept
    def _names(self, start: int) -> tuple[tuple[str, str], ...]:
        found = {}
        for name, at, scope in self.bindings:
            bound = scope.start <= start < scope.end and (at < start or scope.role == "comprehension")
            if bound and name not in found and name not in ("self", "cls", "this", "_"):
                found[name] = self.types.get((self._function_at(at), name), "any")
        return tuple(found.items())

    @kept
    def _function_at(self, at: int) -> int:
        inner = [node.start for node in self.nodes if node.role == "function" and node.start <= at < node.end]
        return max(inner, default=self.top.start)

    def names(self, at: int, kind: str = "any") -> list[str]:
        """Variables that can be read at an offset, those that fit a type, in order of their binding."""
        return [name for name, known in self._names(at) if compatible(kind, known)]

    def type_at(self, at: int, name: str) -> str:
        return dict(self._names(at)).get(name, "any")

    @kept
    def inside(self, function: Node) -> tuple[Node, ...]:
        """Expressions of a function that are read, in source order."""
        return tuple(node for node in function.walk() if node.named and self.is_value(node))

    @kept
    def pool(self, function: Node) -> tuple[tuple[str, str, float, Node], ...]:
        """Distinct small expressions of a function: text, type, level, node."""
        found = {}
        for node in self.inside(function):
            text = self.text(node)
            if len(text) <= 50 and "\n" not in text and text not in found and node.role not in ("paren",):
                found[text] = (text, self.guess(node), self.level(node), node)
        return tuple(found.values())

    @kept
    def constants(self, function: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Numbers and strings (source text) of the file, those of the function first."""
        numbers, strings = {}, {}
        for node in [*self.inside(function), *self.inside(self.top)]:
            if node.role == "number":
                numbers[self.text(node)] = None
            elif node.role == "string" and len(self.text(node)) < 30 and len(node.children) <= 3:
                strings[self.text(node)] = None
        return tuple(numbers)[:12], tuple(strings)[:12]

    def visible(self, node: Node, at: int) -> bool:
        """Whether the names bound inside comprehensions and lambdas that a node reads exist at an offset too."""
        for name, _, scope in self.bindings:
            if scope.role in ("comprehension", "lambda") and scope.start <= node.start < scope.end \
                    and not scope.start <= at < scope.end and scope is not node and node.end <= scope.end \
                    and re.search(rf"\b{re.escape(name)}\b", self.text(node)) \
                    and name not in self.names(at):
                return False
        return True

    @kept
    def tested(self, function: Node) -> tuple[Node, ...]:
        """The conditions of a function and their parts that are joined by and, or."""
        found = []
        for node in self.inside(function):
            if self.is_condition(node) and node.role not in ("true", "false", "paren"):
                found.append(node)
        return tuple(found)

    def is_condition(self, node: Node) -> bool:
        parent = node.parent
        if parent.role == "paren" and self.is_value(parent) or parent.role == "wrapper":
            return self.is_condition(parent)
        if node.field == "condition" or parent.role == "ifclause" or parent.role in ("if", "while", "elif") and \
                node.field == "condition" or parent.role == "paren" and parent.field == "condition":
            return True
        if parent.role == "ternary" and self.language == "python" and parent.parts[1] is node:
            return True
        if parent.role == "binary" and self.operator(parent) in (self.table.both, self.table.either, "and", "or"):
            return True
        return node.role == "binary" and self.level(node) <= 4 and self.operator(node) not in BITS


@lru_cache(maxsize=32)
def program(code: str, language: str) -> Program:
    """The program, read once and kept while it is in use."""
    return Program(code, language)
