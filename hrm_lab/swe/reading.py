"""A program, its evidence and its candidate edits as numbers that a model can read.

Names that a program makes up never enter by their text: a token is its class (an operator, keyword or library word as
it stands; else parameter, loop variable, function, variable, attribute), the place of its name among the distinct names
(alias), and its sub-words hashed. Unusual: an edit is what it changes in the tokens, common beginning and end cut off.
"""

import builtins
import keyword
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from functools import cached_property
from itertools import pairwise
from zlib import crc32

import numpy as np

from hrm_lab.swe.edits import KINDS, Edit
from hrm_lab.swe.languages import lex, lexer, root
from hrm_lab.swe.symptoms import MOST, symptoms

LIBRARY = """
    self cls this math sqrt floor ceil deque defaultdict Counter popleft heappush heappop Math std vec string
    unwrap clone iter collect push_back charAt slice splice indexOf null undefined nil fmt make const let var fn
    func mut int float double bool char long public static void new String Integer ArrayList List Map HashMap
    function auto vector switch case default do enum struct usize i32 i64 as_str to_string chars some None Some Ok
    Err trim concat includes"""
METHODS = frozenset(name for kind in (str, list, dict, set) for name in dir(kind) if name[0] != "_")
WORDS = frozenset({*keyword.kwlist, *dir(builtins), *LIBRARY.split()})
KEPT = "\u2026"
KIND_IDS = {kind: i for i, kind in enumerate(KINDS)}
BUCKETS = 8192  # rows of the policy's embedding table; row 0 means nothing
TOKEN_WIDTH, ADDED_WIDTH, ADDED = 8, 3, 6  # ids of a token, ids of an added token, added tokens that are kept
PREFIX = 2 + MOST  # tokens in front of the program's: types of error, then symptoms
ERROR = re.compile(r"\b([A-Z]\w*(?:Error|Exception|Iteration|Warning|Exit)|fuel|cpu|memory|killed|wall)\b")


def bucket(*parts) -> int:
    """A row of the policy's table, 1 to BUCKETS - 1."""
    return crc32("|".join(map(str, parts)).encode()) % (BUCKETS - 1) + 1


def log_bucket(n: int) -> int:
    return min(n, 3) if n < 4 else min(12, 1 + n.bit_length())


def error_types(evidence) -> tuple[str, ...]:
    """The two most frequent types of error among the failing tests' messages; () when nothing is known."""
    if evidence is None or not evidence.messages:
        return ()
    found = Counter()
    for message in evidence.messages.values():
        hit = ERROR.search(message)
        found[hit[1] if hit else "AssertionError"] += 1
    return tuple(name for name, _ in found.most_common(2))


class Reading:
    """Tokens of a program with their classes, names, places in the tree and suspicion."""

    def __init__(self, code: str, language: str = "python", evidence=None):
        self.code, self.language = code, language
        self.texts, self.starts, self.ends, self.lines = [], [], [], []
        line, at = 1, 0
        for match in lexer(language).finditer(code):
            if match[3]:
                line += code.count("\n", at, match.start())
                at = match.start()
                self.texts.append(match[3])
                self.starts.append(at)
                self.ends.append(match.end())
                self.lines.append(line)
        if not self.texts:
            raise ValueError("program: no token; expected code")
        leaves = {}
        for node in root(code, language).walk():
            leaves[node.start] = node
        top = root(code, language)
        self.leaves = [leaves.get(start, top) for start in self.starts]
        self.errors, self.symptoms = error_types(evidence), symptoms(evidence)
        suspicion = evidence.suspicion if evidence is not None else {}
        most = max(suspicion.values(), default=0.0)
        self.suspicion = [self._level(suspicion.get(line, 0.0) / most) if most else 0 for line in self.lines]
        self.changes: dict[Edit, tuple[int, int, list[str]]] = {}
        self.names: dict[str, str] = {}    # a name of the program -> its class
        self.aliases: dict[str, int] = {}  # -> its number, by first appearance
        self.uses = Counter(self.texts)
        for i, text in enumerate(self.texts):
            if is_name(text) and text not in WORDS and not (text in METHODS and self._dotted(i)):
                self.aliases.setdefault(text, len(self.aliases))
                if self.names.get(text, "var") == "var":
                    self.names[text] = self._binding(i)
        self.classes = [self.classify(text, self.texts[i - 1] if i else "") for i, text in enumerate(self.texts)]
        self.by_line: dict[int, list[int]] = {}
        for i, at in enumerate(self.lines):
            self.by_line.setdefault(at, []).append(i)

    @staticmethod
    def _level(share: float) -> int:
        """1 (not suspect at all) to 6 (the most suspect line); 0 is kept for programs without evidence."""
        return 1 + sum(share > bound for bound in (0.0, 0.3, 0.6, 0.85, 0.999))

    def _dotted(self, i: int) -> bool:
        return i > 0 and self.texts[i - 1] == "."

    def _binding(self, i: int) -> str:
        node, child = self.leaves[i].parent, self.leaves[i]
        if self._dotted(i):
            return "attr"
        while node is not None and node.role != "block":
            if node.role == "params":
                return "param"
            if node.role in ("for", "forclause") and child.field == "left":
                return "loop"
            if node.role == "function" and child.field == "name":
                return "own"
            node, child = node.parent, node
        return "fn" if i + 1 < len(self.texts) and self.texts[i + 1] == "(" else "var"

    def classify(self, text: str, before: str = "") -> str:
        """What a token is to a model; the text itself only if it is no name or value of the program's own."""
        if text[-1] in "\"'`":
            return "empty" if len(text) <= 2 else "char" if len(text) == 3 else "str"
        if is_name(text):
            if text in WORDS or before == "." and text in METHODS:
                return text
            return "attr" if before == "." else self.names.get(text, "new")
        if text[0].isdigit() or text[0] == "." and len(text) > 1 and text[1].isdigit():
            return text if text in ("0", "1", "2", "3", "10", "100") else "float" if "." in text else "num"
        return "\n" if text[0] == "\n" else text

    @cached_property
    def pairs(self) -> Counter:
        """How often two tokens follow each other."""
        return Counter(pairwise(self.texts))

    def added(self, edit: Edit) -> tuple[int, int, list[str]]:
        """(i, j, new tokens): the edit puts new tokens in place of tokens[i:j]; what stays as it is is cut off.

        Where the edit puts something around tokens[i:j], `KEPT` among the new tokens stands for them.
        """
        if edit not in self.changes:
            self.changes[edit] = self._added(edit)
        return self.changes[edit]

    def _added(self, edit: Edit) -> tuple[int, int, list[str]]:
        i, j = bisect_left(self.ends, edit.start + 1), bisect_left(self.starts, edit.end)
        j = max(i, j)
        left = self.code[self.starts[i]:edit.start] if i < j and self.starts[i] < edit.start else ""
        right = self.code[edit.end:self.ends[j - 1]] if i < j and self.ends[j - 1] > edit.end else ""
        new = [text for text in self._lex(left + edit.text + right) if text[0] != "\n"]
        old, low = self.texts[i:j], 0
        for at in range(1, len(new) - len(old)) if old else ():
            if new[at:at + len(old)] == old:  # something put around it
                return i, j, [*new[:at], KEPT, *new[at + len(old):]]
        while i < j and low < len(new) and self.texts[i] == new[low]:
            i, low = i + 1, low + 1
        high = len(new)
        while i < j and low < high and self.texts[j - 1] == new[high - 1]:
            j, high = j - 1, high - 1
        return i, j, new[low:high]

    def _lex(self, text: str) -> list[str]:
        cache = self.__dict__.setdefault("_lexed", {})
        if text not in cache:
            cache[text] = lex(text, self.language, 1)
        return cache[text]

    def node(self, i: int, j: int):
        """The smallest node that holds tokens[i:j]; for an insertion, the one at its place."""
        i = min(i, len(self.texts) - 1)
        found, end = self.leaves[i], self.ends[max(i, j - 1)]
        while found.parent is not None and (found.end < end or not found.role):
            found = found.parent
        return found

    def line_tokens(self, i: int) -> list[int]:
        return self.by_line[self.lines[min(i, len(self.lines) - 1)]]

    def last_use(self, name: str, i: int) -> int:
        """Lines from the nearest other appearance of a name before token i, as 0 to 5; 6: none before."""
        places = self.__dict__.setdefault("_places", {})
        if name not in places:
            places[name] = [k for k, text in enumerate(self.texts) if text == name]
        k = bisect_right(places[name], i - 1)
        if not k:
            return 6
        return min(5, self.lines[min(i, len(self.lines) - 1)] - self.lines[places[name][k - 1]])

    # ------------------------------------------------------------ for the policy

    def token_ids(self) -> np.ndarray:
        """(PREFIX + T, TOKEN_WIDTH) int32 rows of the policy's table: what the tests show, then the program."""
        rows = np.zeros((PREFIX + len(self.texts), TOKEN_WIDTH), np.int32)
        for k in range(2):
            rows[k, 0] = bucket("error", k, self.errors[k] if k < len(self.errors) else "")
        for k, word in enumerate(self.symptoms):
            rows[2 + k, 0] = bucket("symptom", word)
        depth = 0
        for i, text in enumerate(self.texts):
            node = self.leaves[i]
            above = node.parent or node
            if i == 0 or self.lines[i] != self.lines[i - 1]:
                depth = self.starts[i] - self.code.rfind("\n", 0, self.starts[i]) - 1
            known = [bucket("class", self.classes[i]), bucket("role", above.role, node.field),
                     bucket("in", above.role, above.parent.role if above.parent else ""),
                     bucket("depth", min(6, depth // 4), i == 0 or self.lines[i] != self.lines[i - 1]),
                     bucket("suspect", self.suspicion[i])]
            rows[PREFIX + i, :len(known)] = known
            rows[PREFIX + i, 5:] = self.name_ids(text)
        return rows

    def name_ids(self, text: str) -> list[int]:
        """[alias, first and last sub-word] of a token; sub-words of names, and the text of values."""
        if text in WORDS or not (is_name(text) or text[0].isdigit() or text[-1] in "\"'`"):
            return [0, 0, 0]
        if not is_name(text):
            return [0, bucket("value", text[:20]), 0]
        parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", text) or [text]
        alias = self.aliases.get(text)
        return [bucket("alias", min(alias, 40)) if alias is not None else 0, bucket("word", parts[0].lower()[:8]),
                bucket("word", parts[-1].lower()[:8]) if len(parts) > 1 else 0]

    def edit_ids(self, edits: list[Edit]) -> dict[str, np.ndarray]:
        """What the policy reads of n edits.

        span (n, 2) int32: tokens from, to, counted with those in front; kind (n,) int32; added (n, ADDED *
        ADDED_WIDTH) int32 rows of the table; pointer (n, 2) int32: the last token before the edit, else the first
        after it, that is the first and the last name added, 0 where there is none.
        """
        n = len(edits)
        span, kind = np.zeros((n, 2), np.int32), np.zeros(n, np.int32)
        added, pointer = np.zeros((n, ADDED * ADDED_WIDTH), np.int32), np.zeros((n, 2), np.int32)
        cache = {}
        for row, edit in enumerate(edits):
            i, j, new = self.added(edit)
            span[row], kind[row] = (PREFIX + i, PREFIX + j), KIND_IDS[edit.kind]
            for k, text in enumerate(new[:ADDED]):
                before = new[k - 1] if k else self.texts[i - 1] if i else ""
                key = k, text, before == "."
                if key not in cache:
                    cache[key] = [bucket("new", k, self.classify(text, before)), *self.name_ids(text)[:2]]
                added[row, k * ADDED_WIDTH:(k + 1) * ADDED_WIDTH] = cache[key]
            names = [text for text in new if text in self.aliases]
            if names:
                pointer[row] = [self._nearest(names[0], i), self._nearest(names[-1], i)]
        return {"span": span, "kind": kind, "added": added, "pointer": pointer}

    def _nearest(self, name: str, i: int) -> int:
        self.last_use(name, i)
        places = self.__dict__["_places"][name]
        k = bisect_right(places, i - 1)
        return PREFIX + places[k - 1 if k else 0]


def is_name(text: str) -> bool:
    return (text[0].isalpha() or text[0] == "_") and text[-1] not in "\"'`"
