"""Hashed sparse features of candidate edits: what a linear prior, and the wide part of the policy, read.

Each edit gets up to `WIDTH` numbers below `SIZE`, hashes of what it changes, where, and how that sits with the rest of
the program (uses of the names, repeats on the line, neighbours, suspicion of the line, type of the error, symptoms).
Unusual: how many edits share its kind, and its place, is a feature too, so that a model need not learn that some kinds
are crowded.
"""

from collections import Counter
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from hrm_lab.swe.edits import Edit
from hrm_lab.swe.reading import Reading, is_name, log_bucket

SIZE = 1 << 16
WIDTH = 64
LOOPS = frozenset({"for", "while", "comprehension"})


def features(program: str | Reading, edits: list[Edit], evidence=None, language: str = "python",
             rows: Sequence[int] | None = None, share: float = 1.0) -> np.ndarray:
    """(n_edits, WIDTH) uint16; 0 fills the rest of a row.

    evidence: of hrm_lab.swe.evidence, or None; program: its text, or a `Reading` that has seen the evidence; rows: the
    edits that are wanted, all by default (the others still count as neighbours); share: of the candidates, that `edits`
    holds.
    """
    r = program if isinstance(program, Reading) else Reading(program, language, evidence)
    rows = range(len(edits)) if rows is None else rows
    found = np.zeros((len(rows), WIDTH), np.uint16)
    changes = [r.added(edit) for edit in edits]
    of_kind = Counter(edit.kind for edit in edits)
    of_place = Counter((edit.kind, i, j) for edit, (i, j, _) in zip(edits, changes, strict=True))
    at_place = Counter((i, j) for i, j, _ in changes)
    places: dict[tuple, list[int]] = {}
    for row, n in enumerate(rows):
        edit, (i, j, new) = edits[n], changes[n]
        key = edit.kind, i, j
        if key not in places:
            many = log_bucket(round(of_kind[edit.kind] / share))
            crowd = [f"many|{edit.kind}|{many}", f"many|{many}",
                     f"here|{edit.kind}|{log_bucket(of_place[key])}", f"here|{log_bucket(of_place[key])}",
                     f"at|{log_bucket(at_place[i, j])}"]
            places[key] = _hashes(crowd + _place(r, edit.kind, i, j))
        values = places[key] + _hashes(_change(r, edit.kind, i, j, new))
        found[row, :len(values)] = values[:WIDTH]
    return found


def _hashes(names: list[str]) -> list[int]:
    return [crc32(name.encode()) % (SIZE - 1) + 1 for name in names]


def _place(r: Reading, k: str, i: int, j: int) -> list[str]:
    """Features of a kind at tokens[i:j], whatever the new text."""
    last = len(r.texts) - 1
    node = r.node(i, j)
    above, statement, loops, depth, field = node.parent or node, node, 0, 0, ""
    up = node
    while up.parent is not None:
        if up.parent.role == "block" and statement is node:
            statement = up
        field = field or (up.field if up.field in ("condition", "left", "right", "value", "arguments") else "")
        loops += up.role in LOOPS
        depth += up.role == "block"
        up = up.parent
    beyond = above.parent.role if above.parent else ""
    removed = r.classes[i:j]
    old = " ".join(removed[:3]) + (" ..." if j - i > 3 else "")
    before, after = r.classes[i - 1] if i else "", r.classes[j] if j <= last else ""
    level = max(r.suspicion[min(i, last):max(j, min(i, last) + 1)], default=0)
    line = r.line_tokens(i)
    head = r.classes[line[0]]
    twice = max((r.uses[text] for text in r.texts[i:j] if is_name(text)), default=0)
    on_line = Counter(r.texts[t] for t in line)
    repeated = max((on_line[text] for text in r.texts[i:j] if is_name(text)), default=0)
    lines = r.lines[-1] - r.lines[0] + 1
    third = 3 * (r.lines[min(i, last)] - r.lines[0]) // lines
    same = i > 0 and j <= last and r.texts[i - 1] == r.texts[j]
    found = [
        f"k|{k}", f"old|{k}|{old}", f"old|{old}", f"role|{k}|{node.role}|{node.field}|{above.role}",
        f"above|{k}|{above.role}|{beyond}", f"statement|{k}|{statement.role}|{field}", f"head|{k}|{head}",
        f"between|{k}|{before}|{after}", f"between|{before}|{old}|{after}", f"suspect|{level}",
        f"suspect|{k}|{level}", f"suspect|{statement.role}|{level}", f"size|{k}|{min(8, j - i)}",
        f"uses|{k}|{min(4, twice)}|{repeated > 1}", f"loops|{k}|{min(2, loops)}|{min(4, depth)}", f"third|{k}|{third}",
        f"same|{k}|{same}"]
    found += [f"error|{k}|{name}" for name in r.errors[:1]] + [f"error|{old}|{name}" for name in r.errors[:1]]
    for word in r.symptoms:
        found += [f"symptom|{k}|{word}", f"symptom|{statement.role}|{field}|{word}"]
    return found


def _change(r: Reading, k: str, i: int, j: int, new: list[str]) -> list[str]:
    """Features of new tokens in place of tokens[i:j]."""
    last = len(r.texts) - 1
    before, after = r.texts[i - 1] if i else "", r.texts[j] if j <= last else ""
    left, right = r.classes[i - 1] if i else "", r.classes[j] if j <= last else ""
    classes = [r.classify(text, new[n - 1] if n else before) for n, text in enumerate(new)]
    added = " ".join(classes[:4]) + (" ..." if len(new) > 4 else "")
    old = " ".join(r.classes[i:j][:4]) + (" ..." if j - i > 4 else "")
    names = [text for text in new if is_name(text) and text in r.aliases]
    line = Counter(r.texts[t] for t in r.line_tokens(i))
    gone = Counter(r.texts[i:j])
    found = [f"new|{k}|{added}", f"new|{added}", f"change|{k}|{old}|{added}", f"change|{old}|{added}",
             f"left|{left}|{classes[0] if classes else right}", f"right|{classes[-1] if classes else left}|{right}",
             f"around|{left}|{added}|{right}", f"grows|{k}|{max(-6, min(6, len(new) - (j - i)))}"]
    if names:
        first = names[0]
        uses, near = r.uses[first] - gone[first], r.last_use(first, i)
        again = line[first] - gone[first]
        cls = r.names[first]
        found += [f"name|{k}|{cls}|{min(4, uses)}", f"name|{cls}|{min(4, uses)}|{again > 0}", f"again|{k}|{again > 0}",
                  f"near|{k}|{near}", f"near|{cls}|{near}", f"count|{k}|{min(3, len(names))}"]
        olds = [text for text in r.texts[i:j] if is_name(text) and text in r.aliases]
        if olds:
            left_over = r.uses[olds[0]] - gone[olds[0]]
            kin = first[:1] == olds[0][:1], first[-2:] == olds[0][-2:], len(first) == len(olds[0])
            found += [f"kin|{k}|{kin}", f"swap|{k}|{r.names[olds[0]]}|{cls}",
                      f"swap|{min(3, left_over)}|{min(3, uses)}|{k}"]
    mirrored = bool(new) and (i > 1 and new[0] == r.texts[i - 2] or j < last and new[-1] == r.texts[j + 1])
    seen = r.pairs[before, new[0]] if new else r.pairs[before, after]
    then = r.pairs[new[-1], after] if new else 1
    known = f"{min(2, seen)}|{min(2, then)}"
    found += [f"mirrored|{k}|{mirrored}", f"seen|{k}|{known}", f"seen|{known}"]
    found += [f"error|{name}|{classes[0] if classes else '-'}" for name in r.errors[:1]]
    found += [f"symptom|{old}|{added}|{word}" for word in r.symptoms]
    return found
