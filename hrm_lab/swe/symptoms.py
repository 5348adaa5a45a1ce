"""What failing tests show of a bug, as a few words: how many fail, and how what they got differs from what they wanted.

`symptoms` reads an `Evidence` and says, for example, ("fails some", "int more", "int by one"): models of repairs learn
which kinds of repair go with which words. Unusual: no text of the tests enters, only how two values relate, so that
what is learnt from the tests of one package holds for those of another.
"""

import ast
import re
from collections import Counter

COMPARED = re.compile(r".*\bassert (.+?) (==|is|!=|<=|>=|<|>|in|not in|is not) (.+)", re.DOTALL)
ERROR = re.compile(r"\b([A-Z]\w*(?:Error|Exception|Iteration|Warning|Exit))\b")
HANGS = re.compile(r"\b(fuel|cpu|wall|RecursionError)\b")
EQUAL = ("==", "is")
MOST = 6  # words
HALF = 0.5  # of the failing tests must show a word


def symptoms(evidence) -> tuple[str, ...]:
    """At most MOST words, those that most failing tests show first; () when nothing is known."""
    failing = getattr(evidence, "failing", ()) if evidence is not None else ()
    if not failing:
        return ()
    total = len(failing) + len(evidence.passing)
    share = len(failing) / total
    found = ["fails all" if share == 1 else "fails most" if share > HALF else "fails some"]
    counts, said = Counter(), [evidence.messages.get(name, "") for name in failing]
    for message in said:
        counts.update(words(message))
    return (*found, *(word for word, n in counts.most_common() if n >= HALF * len(failing)))[:MOST]


def comparison(message: str) -> tuple[str, str, str] | None:
    """(what a failing comparison got, its sign, what it wanted), as printed; None if the message shows none."""
    found = COMPARED.search(message)
    return found and (found[1], found[2], found[3].split("\n")[0])


def words(message: str) -> list[str]:
    """What one failing test's message shows, without repeats."""
    if HANGS.search(message):
        return ["hangs"]
    compared = comparison(message)
    if compared is None:
        error = ERROR.search(message)
        return [] if error is None else ["untrue"] if error[1] == "AssertionError" else [f"raises {error[1]}"]
    (got, whole), how, (wanted, also_whole) = value(compared[0]), compared[1], value(compared[2])
    if how not in EQUAL:
        return [f"not {how}"]
    if got is UNREAD or wanted is UNREAD:
        return []
    return list(dict.fromkeys(relation(got, wanted, whole and also_whole)))


class _Unread:
    """A value that cannot be read from its text."""


UNREAD = _Unread()


def value(text: str):
    """(value of a printed literal, whether it is whole); what `...` cuts off is left out, UNREAD if nothing is left."""
    text = text.strip()
    whole = not text.endswith("...")
    text = text.removesuffix("...")
    tries = [text]
    if not whole:
        close = {"[": "]", "(": ")", "{": "}"}.get(text[:1], text[:1])
        tries = [text + close, text.rsplit(",", 1)[0] + close]
    for one in tries:
        try:
            return ast.literal_eval(one), whole
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return UNREAD, whole


def relation(got, wanted, whole: bool = True) -> list[str]:
    """Words for how `got` differs from `wanted`; not `whole`: their ends are not known."""
    a, b = type(got).__name__, type(wanted).__name__
    if got is None or wanted is None:
        return ["got None" if got is None else "wanted None"]
    if a != b and not {a, b} <= {"int", "float"}:
        return [f"{a} for {b}"]
    if isinstance(got, bool):
        return [f"got {got}"]
    if isinstance(got, int | float):
        return number(got, wanted, "number")
    if isinstance(got, dict):
        return ["dict keys" if set(got) != set(wanted) else "dict values"]
    if isinstance(got, set | frozenset):
        return ["set lacks"] * bool(wanted - got) + ["set has more"] * bool(got - wanted)
    if isinstance(got, str | list | tuple | bytes):
        return sequence(got, wanted, "text" if isinstance(got, str | bytes) else "list", whole)
    return []


def number(got, wanted, what: str) -> list[str]:
    found = [f"{what} more" if got > wanted else f"{what} less"]
    if abs(got - wanted) == 1:
        found.append(f"{what} by one")
    elif got == -wanted and got:
        found.append(f"{what} negated")
    elif abs(got - wanted) < 1 and got != wanted:
        found.append(f"{what} fraction")
    elif not got or not wanted:
        found.append(f"{what} zero {'got' if not got else 'wanted'}")
    elif isinstance(got, int) and isinstance(wanted, int) and (got % wanted == 0 or wanted % got == 0):
        found.append(f"{what} times")
    return found


def sequence(got, wanted, what: str, whole: bool) -> list[str]:
    if not len(got) or not len(wanted):
        return [f"{what} empty {'got' if not len(got) else 'wanted'}"]
    found = []
    if whole:
        if len(got) != len(wanted):
            found.append(f"{what} {'longer' if len(got) > len(wanted) else 'shorter'}")
            if abs(len(got) - len(wanted)) == 1:
                found.append(f"{what} length by one")
        short, long = sorted((got, wanted), key=len)
        if len(short) < len(long):
            found += [f"{what} lacks end" if short is got else f"{what} goes on"] * (long[:len(short)] == short)
            found += [f"{what} lacks start" if short is got else f"{what} begins early"] * (long[-len(short):] == short)
        elif got[::-1] == wanted:
            found.append(f"{what} reversed")
        elif sorted(map(repr, got)) == sorted(map(repr, wanted)):
            found.append(f"{what} order")
    if isinstance(got, str) and isinstance(wanted, str):
        if got.lower() == wanted.lower():
            found.append("text case")
        elif "".join(got.split()) == "".join(wanted.split()):
            found.append("text spaces")
    if not whole or len(got) == len(wanted):
        pairs = [(x, y) for x, y in zip(got, wanted, strict=False) if x != y]
        found.append(f"{what} all differ" if len(pairs) == min(len(got), len(wanted)) > 1 else f"{what} some differ")
        if pairs and not isinstance(got, str | bytes):
            kinds = [[f"in {word}" for word in relation(x, y)] for x, y in pairs[:10] if type(x) is type(y)]
            found += kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else []
    return found
