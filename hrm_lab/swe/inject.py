"""Bugs whose repair is known: draw the kind of repair first, then take away what that repair would add.

Unusual: there is no second set of operators. A bug of kind K is made by the operators that undo K, and is kept only
if K's own operator gives the original back, so that every repair lies in the space of `candidates`. Drawing random
edits instead teaches a model to delete oddities (He et al. 2022, arXiv 2204.10049). Weights lean towards what
people get wrong most in one line: names, constants, functions, arguments (ManySStuBs4J: Karampatsis and Sutton 2020,
arXiv 1905.13334).
"""

import random
import re
from dataclasses import dataclass

from .edits import KINDS, Edit, Text, apply, parses, proposals, sites
from .languages import valid
from .scope import program

UNDONE_BY = {  # kind of repair -> kinds of edit that make the bug; itself unless named here
    "assignment": ("assignment", "drop-operand"), "drop-operand": ("add-operand", "off-by-one"),
    "add-operand": ("drop-operand",),
    "off-by-one": ("drop-operand",), "drop-condition": ("add-condition",),
    "add-condition": ("drop-condition",), "constant-to-name": ("name-to-constant", "default"),
    "name-to-constant": ("constant-to-name",), "drop-argument": ("add-argument",), "add-argument": ("drop-argument",),
    "wrap-call": ("unwrap-call",), "unwrap-call": ("wrap-call",), "wrap-min-max": ("unwrap-call",),
    "add-index": ("drop-index",), "drop-index": ("add-index", "slice"), "slice": ("slice", "drop-index"),
    "index": ("index", "sign", "drop-operand"), "truth-condition": ("replace-condition",), "default": ("default",
    "constant"),
    "hoist": ("substitute",), "substitute": ("substitute", "hoist", "name"), "unguard": ("guard",), "guard": (
    "unguard",),
    "dedent": ("indent",), "indent": ("dedent",), "delete": ("duplicate", "insert-update", "insert-copy",
    "insert-call"),
    "duplicate": ("delete",), "return": ("return", "assign-result"), "assign-result": ("assign-result", "return"),
    "insert-update": ("delete",), "insert-assignment": ("delete",), "insert-call": ("delete",),
    "insert-jump": ("delete",), "insert-return": ("delete",), "insert-copy": ("delete",), "insert-guard": ("delete",),
    "add-attribute": ("drop-attribute",), "drop-attribute": ("add-attribute",), "add-else": ("drop-else",),
    "drop-else": ("add-else",), "drop-branch": (), "wrap-both": (), "index-to-call": ("add-index",), 
}
NEVER = frozenset({"drop-branch", "wrap-both", "truth-condition", "duplicate"})  # nothing in sound code undoes them
ADDS = {  # kind of repair -> how what it adds begins or ends: what a bug of that kind takes away
    "off-by-one": r"[+-]\s*1$", "add-operand": r"^(?!.*[+-]\s*1$)", "wrap-min-max": r"\b(?:min|max)\(",
    "slice": r":",
    "index-to-call": r"^(?:sum|max|min|len)\(", "index": r"^-|^len\(", "insert-guard": r"^if\b",
    "insert-return": r"^return\b",
    "insert-jump": r"^(?:break|continue)\b", "insert-update": r"^\w+ ?(?:[-+*/]|//)= ?", "insert-call": r"^\w+\.\w+\(",
    "insert-assignment": r"^[\w.]+ = ", "guard": r"^if\b", "unguard": r"", "add-else": r"^else\b",
}
WEIGHTS = {"name": 4, "constant": 4, "comparison": 4, "function": 3, "operator": 3, "off-by-one": 3, "wrap-call": 3,
           "add-operand": 2, "add-condition": 2, "boolean": 2, "swap-operands": 2, "string": 2, "default": 2,
           "slice": 2,
           "add-argument": 2, "swap-arguments": 2, "insert-guard": 2, "insert-update": 2, "return": 2, "negate": 2,
           "drop-condition": 2, "drop-operand": 2, "truth": 2, "constant-to-name": 2}
TRIES = 16


@dataclass(frozen=True)
class Bug:
    """A program with a bug, and the edit that undoes it."""

    code: str
    repair: Edit


def inject(code: str, rng: random.Random, language: str = "python", within: tuple[int, int] | None = None,
           kind: str | None = None) -> Bug | None:
    """A bug in `code` inside `within`, to be repaired by an edit of `kind` (drawn by WEIGHTS if None).

    None if no bug of that kind, or of the kinds drawn, could be made. `apply(bug.code, bug.repair)` has the tokens of
    `code`. ValueError: unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind: {kind!r}; expected one of {', '.join(KINDS)}")
    low, high = within or (0, len(code))
    p, text = program(code, language), Text(code, language)
    kinds = [kind] if kind else [name for name in KINDS if name not in NEVER]
    nodes = sites(p, low, high)
    while kinds:
        drawn = rng.choices(kinds, [WEIGHTS.get(name, 1) for name in kinds])[0]
        kinds.remove(drawn)
        makers, tries = frozenset(UNDONE_BY.get(drawn, (drawn,))), 0
        for node in rng.sample(nodes, len(nodes)):
            made = [edit for edit in (Edit(*found) for found in proposals(p, node, makers))
                    if re.search(ADDS.get(drawn, ""), code[edit.start:edit.end].strip())]
            for edit in rng.sample(made, min(3, len(made))):
                if not (low <= edit.start and edit.end <= high and text.key(edit) and parses(p, edit)):
                    continue
                tries += 1
                if bug := _repairable(code, edit, drawn, language, (low, high)):
                    return bug
            if tries >= TRIES:
                break
    return None


def _repairable(code: str, edit: Edit, kind: str, language: str, within: tuple[int, int]) -> Bug | None:
    """The bug that `edit` makes, if an edit of `kind` undoes it."""
    buggy = apply(code, edit)
    if not valid(buggy, language) and valid(code, language):
        return None
    low, high = edit.start, edit.start + len(edit.text)
    inside = within[0], within[1] + len(buggy) - len(code)
    p, text = program(buggy, language), Text(buggy, language)
    wanted = text.key(Edit(kind, low, high, code[edit.start:edit.end]))
    low, high = len(buggy[:low].rstrip()), len(buggy) - len(buggy[high:].lstrip())  # a neighbour, whatever lies between
    for node in sites(p, *inside):
        if node.end < low or node.start > high:
            continue
        for found in proposals(p, node, frozenset({kind})):
            repair = Edit(*found)
            if inside[0] <= repair.start and repair.end <= inside[1] and text.key(repair) == wanted and parses(p,
                    repair):
                return Bug(buggy, repair)
    return None
