"""Abstract slots: the values of a requirement become typed placeholders, and code, not the model, puts them back.

    abstract("Deliveries to Velora within 24 hours.", lexicon)
        -> "Deliveries to {NAME1} within {NUM1} hours.", with NAME1 = Velora, NUM1 = 24
    restore("| {NUM1 + 1} | sent |", bindings) -> "| 25 | sent |"

Why: a small model learns names as a closed class and copies none that it has not seen (measured: 0 % correct on unseen
names), and arithmetic costs it more than the design of the test. With placeholders neither can fail by copying;
boundary cells are expressions (expressions.py). Delexicalisation is old in dialogue systems (Wen et al. 2015, arXiv
1508.01745). Unusual: terms of the domain (fields, formats, units) are marked, not hidden, since their meaning counts,
and each closed class has placeholders of its own, so that "5 dBTP of true peak" and "a true peak of 5 dBTP" name the
same two; restoring the abstract requirement gives the requirement back to the letter.
"""

import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from hrm_lab.files import write_json
from hrm_lab.runs import read_json
from hrm_lab.testgen import domain as domains
from hrm_lab.testgen import expressions
from hrm_lab.testgen.expressions import ExpressionError, Value
from hrm_lab.testgen.records import Record

TERMS = tuple(f"TERM{letter}" for letter in "ABCDEFGHIJKL")  # one kind a closed class: languages, units, fields ...
KINDS = {"NUM": 9, "DATE": 4, "TIME": 4, "CODE": 3, "TEXT": 3, "NAME": 3, **dict.fromkeys(TERMS, 6), "MARK": 0}
PLACEHOLDER = re.compile(r"\{([A-Z]+\d+)\}")
MONTHS = "January February March April May June July August September October November December".split()
CLOSED = 0.5  # distinct values an occurrence, up to which a text slot is a closed class
COUNTED = ("more", "or", "further", "additional", "extra", "other")  # what comes after a count, not after a name
STATED = 0.9  # share of a slot's values that stand in the requirement; a computed letter stands there by chance
PATTERNS = {
    "MARK": r"[{}]+",
    "TEXT": r"(?<=\")[^\"{}\n]{1,80}(?=\")|(?<=“)[^”{}\n]{1,80}(?=”)",
    "DATE": r"(?<![\w.-])\d{4}-\d\d-\d\d(?![\w-])|(?<![\w.-])\d{1,2} (?:" + "|".join(MONTHS) + r") \d{4}(?!\w)",
    "TIME": r"(?<![\w.:])(?:[01]\d|2[0-3]):[0-5]\d(?![\w:])",
    "CODE": r"(?<![\w./-])(?=[\w./-]*\d)(?=[\w./-]*[A-Za-z/]|(?:\d+-){2})\w+(?:[./-]\w+)+"
            r"|(?<![\w.,-])(?:(?=\w*\d)(?=\w*[A-Z_])\w+|\d{9,}|0\d+)(?![\w-])(?!\.\d)",
    "NUM": r"(?<![\w.])(?:(?<![-\w])-)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w.]*\d)",
}
WORD = re.compile(r"[^\W\d_][\w+'’&-]*")
CELL = re.compile(r"(?<=\| )(-?\d+(?:\.\d+)?|\d{4}-\d\d-\d\d)(?= \|)")
OFFSETS = [sign + step for step in ("1", "0.1", "0.01", "0.5", "5", "10") for sign in ("- ", "+ ")]


@dataclass(frozen=True)
class Lexicon:
    """What training texts tell of words: `words` in lower case outside slots, `capitals` that are no names, `terms` of
    the domain (values of closed slots) with their kinds, `tails` that follow the first word of a name ("0": numbers
    do), `units` that follow a number which is a value, mostly that, and seldom lead to the next."""

    words: frozenset[str]
    capitals: frozenset[str]
    terms: tuple[tuple[str, str], ...]
    tails: frozenset[str]
    units: frozenset[str]

    def save(self, path: Path | str):
        write_json(path, {name: sorted(value) for name, value in asdict(self).items()})

    @classmethod
    def load(cls, path: Path | str) -> "Lexicon":
        found = read_json(Path(path))
        return cls(**{name: longest_first(dict(v)) if name == "terms" else frozenset(v) for name, v in found.items()})


@dataclass(frozen=True)
class Binding:
    name: str  # NUM1
    surface: str  # as it stands in the requirement
    value: Value
    shown: bool = False  # a marker: the words stay behind it


@dataclass(frozen=True)
class Abstract:
    """A requirement with placeholders, and what they stand for in the order of the text."""

    text: str
    bindings: tuple[Binding, ...]

    @property
    def values(self) -> dict[str, Value]:
        return {b.name: b.value for b in self.bindings}


def longest_first(terms: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(terms.items(), key=lambda term: (-len(term[0]), term)))


def classes(sets: list[set[str]]) -> dict[str, str]:
    """term -> kind: closed slots that share a value are one class, in the order of their first values."""
    joined: list[set[str]] = []
    for values in sets:
        same = [one for one in joined if one & values]
        joined = [one for one in joined if not one & values] + [values.union(*same)]
    return {term: TERMS[n % len(TERMS)] for n, one in enumerate(sorted(joined, key=min)) for term in one}


def learn(records: list[Record], texts: list[str] = ()) -> Lexicon:
    """The lexicon of training records (their slots are known) and of further plain texts."""
    seen, stated = defaultdict(list), Counter()
    for r in records:
        said = spaced(r.input)
        for slot, value in r.slots.items():
            for one in [value] if isinstance(value, str) else [*value, *value]:
                seen[r.family, slot].append(one)
                stated[r.family, slot] += spaced(one) in said
    closed, tails = [], set()
    for where, values in seen.items():
        if stated[where] < STATED * len(values):
            continue
        wordy = [v for v in values if re.search(r"[^\W\d_]", v) and not re.fullmatch(PATTERNS["DATE"], v)]
        if len(values) >= 8 and len(set(values)) <= CLOSED * len(values):
            closed.append(set(wordy))
        else:
            tails |= {re.sub(r"^\d+$", "0", word) for v in wordy for word in v.split()[1:]}
    terms = classes([values for values in closed if values])
    words, capitals, units = set(), set(), Counter()
    for text in [*texts, *(without_slots(r) for r in records)]:
        for match in WORD.finditer(text):
            word = match[0]
            mixed = word[1:] != word[1:].lower()
            if mixed or word[0].isupper() and not starts_sentence(text, match.start()):
                capitals.add(word)
            else:
                words.add(word.lower())
    capitals |= {word for term in terms for word in term.split() if word != word.lower()}
    plain = " ".join(without_slots(r) for r in records)
    often, leads = Counter(WORD.findall(plain)), Counter(re.findall(r"([^\W\d_]+) 0\b", plain))
    for r in records:
        texts = [value for value in r.slots.values() if isinstance(value, str)]
        units.update(match[1] for v in texts if re.fullmatch(r"-?[\d.]+", v)
                     for match in re.finditer(rf"(?<![\w.-]){re.escape(v)} ([^\W\d_]+)", r.input))
        units.subtract(match[1] for v in texts if re.search(r"[^\W\d_]", v)
                       for match in re.finditer(rf"(?<!\w){re.escape(v)} ([^\W\d_]+)", r.input))
    return Lexicon(frozenset(words), frozenset(capitals), longest_first(terms), frozenset(tails),
                   frozenset(word for word, n in units.items() if len(word) > 1 and (
                       word in terms or 2 * n >= often[word] > 5 * leads[word])))


def spaced(text: str) -> str:
    """Its words in lower case, a space around each."""
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])


def without_slots(record: Record) -> str:
    """The input with the values of its slots blanked out."""
    values = [v for value in record.slots.values() for v in ([value] if isinstance(value, str) else value)]
    text = record.input
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "0", text, flags=re.IGNORECASE)
    return text


def starts_sentence(text: str, at: int) -> bool:
    return not text[:at].strip(" \"'“(-*") or text[:at].rstrip(" \"'“(-*")[-1] in ".!?:;\n"


# ---------------------------------------------------------------- a requirement


def abstract(text: str, lexicon: Lexicon) -> Abstract:
    """Values to placeholders, numbered by kind in the order of the text; `original` takes it back to the letter."""
    spans = []

    def add(kind: str, low: int, high: int, value: Value, shown: bool = False):
        if low < high and all(high <= a or b <= low for a, b, *_ in spans):
            spans.append((low, high, kind, value, shown))

    def search(kind: str):
        for match in re.finditer(PATTERNS[kind], text, re.ASCII):
            if match[0] not in lexicon.capitals and (value := typed(kind, match[0])) is not None:
                add(kind, *match.span(), value)

    for kind in ("MARK", "TEXT", "DATE", "TIME"):
        search(kind)
    kinds = dict(lexicon.terms)
    for match in re.finditer(term_pattern(lexicon.terms), text) if lexicon.terms else ():
        term = match[0] if match[0] in kinds else match[0][0].lower() + match[0][1:]
        add(kinds[term], *match.span(), term, True)
    search("CODE")
    taken = [(low, high) for low, high, *_ in spans]
    for low, high in names(text, lexicon, taken):
        add("NAME", low, high, text[low:high])
    search("NUM")
    parts, bindings, at, count = [], {}, 0, defaultdict(int)
    ranks = by_unit(text, sorted((low, high) for low, high, kind, *_ in spans if kind == "NUM"), lexicon)
    for low, high, kind, value, shown in sorted(spans, key=lambda span: span[:2]):
        surface = text[low:high]
        same = (kind, value, surface, low if kind == "NUM" else 0)  # equal numbers may mean two things
        if same not in bindings:
            count[kind] += 1
            bindings[same] = Binding(f"{kind}{ranks.get(low, count[kind])}", surface, value, shown)
        parts += [text[at:low], "{", bindings[same].name, "}", surface if shown else ""]
        at = high
    return Abstract("".join([*parts, text[at:]]), tuple(bindings.values()))


def by_unit(text: str, numbers: list[tuple[int, int]], lexicon: Lexicon) -> dict[int, int]:
    """The place of each number in the order of units, then of the text: "1 LU off -23 LUFS" and "-23 LUFS, 1 LU off"
    name the same two. A number without a unit has that of the next one, the last that of the one before."""
    follows = [re.match(r" ?([^\W\d_]+)", text[high:]) for _, high in numbers]
    units = [match[1] if match and match[1] in lexicon.units else "" for match in follows]
    units = [next(filter(None, (*units[n:], *reversed(units[:n]))), "") for n in range(len(units))]
    order = sorted(zip(units, numbers, strict=True))
    return {low: rank for rank, (_, (low, _)) in enumerate(order, 1)}


@lru_cache(maxsize=8)
def term_pattern(terms: tuple[tuple[str, str], ...]) -> re.Pattern:
    """Terms as they are; those in lower case with a capital first letter too."""
    each = [re.escape(t) if t != t.lower() or not t[0].isalpha() else f"[{t[0]}{t[0].upper()}]{re.escape(t[1:])}"
            for t, _ in terms]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(each)})(?![\w-])")


def typed(kind: str, surface: str) -> Value | None:
    """The value that expressions compute with; None if the text is none of that kind (the 30th of February)."""
    try:
        if kind == "NUM":
            return expressions.number(surface.replace(",", ""))
        if kind == "DATE":
            if "-" in surface:
                return date.fromisoformat(surface)
            day, month, year = surface.split()
            return date(int(year), MONTHS.index(month) + 1, int(day))
    except ValueError:
        return None
    return surface


def names(text: str, lexicon: Lexicon, taken: list[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Where names stand: capitalised words that are neither known capitals nor ordinary words at a sentence's start."""
    found, unsure, end = [], [], 0
    for match in WORD.finditer(text):
        word, first = match[0], starts_sentence(text, match.start())
        inside = any(low <= match.start() < high for low, high in taken)
        if match.start() < end or inside or word == word.lower() or word in lexicon.capitals:
            continue
        mixed = word[1:] != word[1:].lower()
        if first and not mixed and word.lower() in lexicon.words:
            continue
        end, told = match.end(), False
        while tail := re.match(r" (\d{1,2}(?![\w.:-]*\w)|[^\W\d_][\w+'’&-]*)( [^\W\d_]+)?", text[end:]):
            number, after = tail[1].isdigit(), (tail[2] or "")[1:]
            counts = number and (after in lexicon.units or after in COUNTED)
            if counts or ("0" if number else tail[1]) not in lexicon.tails:
                break
            end, told = end + tail.end(1), told or not number
        sure = not first or mixed or told  # a sentence's first word is weak evidence, with a number after it too
        (found if sure else unsure).append((match.start(), end))
    known = {text[low:high] for low, high in found}
    return sorted(found + [span for span in unsure if not found or text[slice(*span)] in known])


def original(found: Abstract) -> str:
    """The requirement itself."""
    surfaces = {b.name: "" if b.shown else b.surface for b in found.bindings}
    return PLACEHOLDER.sub(lambda m: surfaces[m[1]], found.text)


def wording(found: Abstract) -> str:
    """The requirement with {} in place of each value."""
    text = found.text
    for b in found.bindings:
        text = text.replace(f"{{{b.name}}}{b.surface if b.shown else ''}", "{}")
    return text


# ---------------------------------------------------------------- a test


def restore(target: str, values: dict[str, Value]) -> str:
    """The test with its expressions evaluated. Raises `ExpressionError`: an unbound placeholder, an impossible value.
    """
    return expressions.render(target, values)


def annotate(target: str, found: Abstract) -> str | None:
    """The test of any pair with placeholders for what it shares with the requirement; None if it cannot be written so.

    Numbers and dates in table cells that are not in the requirement become a value plus or minus a small step.
    """
    if re.search(r"[{}]", target):
        return None
    for b in sorted(found.bindings, key=lambda b: -len(b.surface)):
        text = expressions.show(b.value)
        if b.name.startswith("MARK") or not text.strip():
            continue
        target = re.sub(rf"(?<![\w.{{-]){re.escape(text)}(?![\w}}]|[.-]\d)", f"{{{b.name}}}", target)

    def step(match):
        for offset in OFFSETS:
            for b in found.bindings:
                kind = b.name.rstrip("0123456789")
                if kind == "NUM" or kind == "DATE" and "." not in offset:
                    try:
                        if restore(made := f"{{{b.name} {offset}}}", found.values) == match[0]:
                            return made
                    except ExpressionError:
                        continue
        return match[0]

    return CELL.sub(step, target)


def drafted(record: Record, found: Abstract, family: domains.Family) -> str | None:
    """The test of a grammar's record with the family's own expressions over placeholders.

    None if a value is not bound, or is that of two slots: whose placeholder it is would be a guess.
    """
    values, rename, lists = domains.values(family, record.slots), {}, {}
    held, owners = defaultdict(list), Counter()
    for b in found.bindings:
        held[expressions.show(b.value)].append(b.name)
    for slot in family.visible:
        owners.update(map(expressions.show, values[slot] if isinstance(values[slot], tuple) else [values[slot]]))

    def placeholder(value: Value) -> str | None:
        names = held.get(expressions.show(value), [])
        return names[0] if names and owners[expressions.show(value)] == 1 else None

    for slot in family.visible:
        value = values[slot]
        if isinstance(value, tuple):
            lists[slot.upper()] = [placeholder(item) for item in value]
            rename[slot] = slot.upper()
            if None in lists[slot.upper()]:
                return None
        elif (name := placeholder(value)) is not None:
            rename[slot] = name
        else:
            return None
    text = domains.draft(family, values, rename)
    for slot, items in lists.items():
        text = re.sub(rf"\b{slot}\[(\d+)\]", lambda m, items=items: items[int(m[1])], text)
        text = re.sub(rf"\b{slot}\b", "(" + "".join(f"{item}, " for item in items) + ")", text)
    text = re.sub(r"\bnumber\((NUM\d+)\)", r"\1", text)
    try:
        return text if restore(text, found.values) == record.target else None
    except ExpressionError:  # a slot of another type than its placeholder
        return None
