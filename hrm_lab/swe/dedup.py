"""Near-duplicates by shared 8-grams of tokens, so that no split holds what another one has in other clothes.

Names and values count as they are written, comments do not. Unusual: two bugs of one function share nearly all their
tokens, so they are compared by their change alone; a second wrong constant in one place is a duplicate.
"""

from collections import Counter
from collections.abc import Hashable, Iterable

from hrm_lab.swe.languages import lex

N = 8
SHARED = 0.5  # of the smaller one's grams; more is a duplicate


def grams(code: str, language: str = "python") -> frozenset[tuple[str, ...]]:
    """The runs of 8 tokens of a text; all of it, if it is shorter."""
    tokens = lex(code, language)
    return frozenset(tuple(tokens[i:i + N]) for i in range(max(1, len(tokens) - N + 1)))


def overlap(a: frozenset, b: frozenset) -> float:
    """Share of the smaller set that the larger one holds, 0 to 1."""
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def repeated(texts: Iterable[tuple[Hashable, str]], shared: float = SHARED,
             language: str = "python") -> dict[Hashable, Hashable]:
    """Key -> key of an earlier text that it repeats, for each text that overlaps an earlier one by more than `shared`.

    Texts that come first are kept: put those first that must stay (the test split).
    """
    holders, sizes, found = {}, {}, {}
    for key, text in texts:
        mine = grams(text, language)
        hits = Counter(holder for gram in mine for holder in holders.get(gram, ()))
        for holder, count in hits.most_common(1):
            if count / min(len(mine), sizes[holder]) > shared:
                found[key] = holder
        if key not in found:
            sizes[key] = len(mine)
            for gram in mine:
                holders.setdefault(gram, []).append(key)
    return found


def change(program: str, fixed: str, language: str = "python") -> frozenset:
    """What a repair brings back: grams of the repaired text that the buggy one lacks; else those that it takes away."""
    old, new = grams(program, language), grams(fixed, language)
    return new - old or old - new


def similar(a: frozenset, b: frozenset, shared: float = SHARED) -> bool:
    """Whether two changes are one: they have more than `shared` of all their grams in common."""
    return bool(a or b) and len(a & b) / len(a | b) > shared
