"""What a language is here: a table of node types, operators, families of functions and templates. A seventh is a table.

Unusual: nothing here is code. `roles` gives the node types of a tree-sitter grammar a common meaning ("binary",
"call", "block", ...), and the operators in expressions.py and statements.py know roles only. Operators follow
mutation testing (DeMillo et al. 1978), BugLab's rewrites (Allamanis et al. 2021, arXiv 2105.12787) and the fix
templates that TBar collects (Liu et al. 2019, arXiv 1903.08409).
"""

from collections.abc import Callable
from dataclasses import dataclass


def roles_of(table: str) -> dict[str, str]:
    """"role: type type; role: ..." -> {type: role}."""
    pairs = [part.split(":") for part in table.replace("\n", " ").split(";") if part.strip()]
    return {kind: role.strip() for role, kinds in pairs for kind in kinds.split()}


def words(text: str) -> tuple[tuple[str, ...], ...]:
    """"a b, c d" -> (("a", "b"), ("c", "d"))."""
    return tuple(tuple(group.split()) for group in text.replace("\n", " ").split(",") if group.strip())


@dataclass(frozen=True)
class Language:
    """One table. Templates hold {0}, {1}; a wrap is (type taken, template, type made), types as in scope.py."""

    name: str
    grammar: Callable[[], object]
    extensions: tuple[str, ...]
    roles: dict[str, str]            # node type -> role
    binds: dict[str, str]            # node type -> field whose names it binds; "" = all its names
    hints: str                       # a regular expression that this language's text matches often, others' seldom
    comment: str                     # regular expressions of the lexer
    string: str
    negation: str = "!{0}"
    both: str = "&&"
    either: str = "||"
    equality: tuple[str, ...] = ("==", "!=")
    arithmetic: tuple[str, ...] = ("+", "-", "*", "/", "%")
    bitwise: tuple[str, ...] = ("&", "|", "^", "<<", ">>")
    membership: tuple[tuple[str, ...], ...] = ()
    tight_bits: bool = False         # & | ^ bind tighter than comparisons (Python, Go, Rust)
    true: str = "true"
    false: str = "false"
    none: str = "null"
    defaults: dict[str, tuple[str, ...]] = None      # type -> literals
    families: tuple[tuple[str, ...], ...] = ()       # names that are mistaken for each other
    wraps: tuple[tuple[str, str, str], ...] = ()
    keywords: tuple[tuple[str, str], ...] = ()       # (function, argument text) that may be added
    returns: dict[str, str] = None   # function or method name -> type
    annotations: tuple[tuple[str, str], ...] = ()    # (regular expression on a written type, type)
    appends: tuple[str, ...] = ()
    end: str = ";"
    guard: str = "if ({0}) {{\n{1}\n}}"              # {1} is indented one unit
    empty: str = "{0} === 0"                         # a sequence is empty
    size: str = "{0}.length"
    loop: str = "while"
    raises: tuple[str, ...] = ()


STRINGS = r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'"
SLASHES = r"//[^\n]*|/\*[\s\S]*?\*/"
TYPES = ((r"(?i)map|dict|counter", "dict"), (r"(?i)\bset\b|hashset|treeset", "set"), (r"(?i)tuple", "tuple"),
         (r"(?i)list|vec|array|\[|slice|sequence|iterable|deque|stack|queue", "list"), (
         r"(?i)string|\bstr\b|\bchar\b", "str"),
         (r"(?i)bool", "bool"),
         (r"(?i)\b(u?int|float|double|long|short|[iuf]\d+|[iu]size|size_t|number|byte|complex|decimal|integer)", "num"))
