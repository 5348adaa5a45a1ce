"""A domain is a folder of data: one YAML file a family of requirements (families.py), with an executable oracle.

`draw` makes records on five axes that never meet: train; values, names, paraphrase and family are held out.
Unusual: what is held out is decided by a hash of the value itself, so that no draw, seed or later run can move a
value, a name or a family to the other side; and no code is in a domain (expressions.py evaluates).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random
from zlib import crc32

from . import expressions
from .expressions import HOLE, ExpressionError, Value, evaluate, names_of, render, show, split_style
from .families import EACH, DomainError, Family, family, read_yaml
from .names import made_up
from .records import AXES, Record, key

ROOT = Path(__file__).resolve().parents[2] / "data" / "testgen"
TRIES = 400


@dataclass(frozen=True, eq=False)
class Domain:
    """A name, the licence of its texts, and its families by name."""

    name: str
    licence: str
    families: dict[str, Family]


def load(folder: Path | str) -> Domain:
    """The domain in a folder (`domain.yaml` and one file a family). Raises `DomainError`."""
    folder = Path(folder)
    about = read_yaml(folder / "domain.yaml")
    if set(about) != {"name", "licence"}:
        raise DomainError(f"{folder / 'domain.yaml'}: fields {sorted(about)}; expected name and licence")
    made = [family(path) for path in sorted(folder.glob("*.yaml")) if path.name != "domain.yaml"]
    if len(made) != len({one.name for one in made}):
        raise DomainError(f"{folder}: a family twice; expected one file a family")
    return Domain(about["name"], about["licence"], {one.name: one for one in made})


# ---------------------------------------------------------------- slots


def side(family: Family, slot: str, value: Value) -> bool:
    """Whether a value is held out: one in four, by a hash of family, slot and value."""
    return crc32(f"{family.name}.{slot}={show(value)}".encode()) % 4 == 0


def values(family: Family, slots: dict[str, str | list[str]]) -> dict[str, Value]:
    """The typed values of a record's slots. Raises `ExpressionError`: a slot that is missing or ill-typed."""
    found: dict[str, Value] = {}
    for name, (kind, arguments) in family.slots.items():
        if kind == "let":
            found[name] = evaluate(str(arguments), found)
            continue
        for inner in arguments[0] if kind == "oneof" else [name]:
            if inner not in slots:
                raise ExpressionError(f"no slot {inner!r}; expected the slots of {family.name}")
            text = slots[inner]
            if kind == "sample":
                found[inner] = tuple(text)
            elif kind in ("number", "date"):
                found[inner] = expressions.read(kind, str(text))
            else:
                first = arguments[0][inner] if kind == "oneof" else ""
                found[inner] = text if isinstance(first, str) else expressions.number(str(text))
    return found


def _draw_slots(family: Family, axis: str, rng: Random) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, (kind, arguments) in family.slots.items():
        if kind == "let":
            found[name] = evaluate(str(arguments), found)
        elif kind == "oneof":
            found |= {inner: v if isinstance(v, str) else expressions.number(str(v))
                      for inner, v in rng.choice(arguments).items()}
        elif kind == "choice":
            found[name] = rng.choice(arguments)
        else:
            wanted = axis == ("names" if kind == "name" else "values")
            for _ in range(TRIES):
                value = _one(kind, arguments, found, rng, f"{family.name}: slot {name!r}")
                if (held_out_name(value) if kind == "name" else side(family, name, value)) == wanted:
                    break
            else:
                raise DomainError(f"{family.name}: slot {name!r} has no value for axis {axis}; expected a wider range")
            found[name] = value
    return found


def held_out_name(name: str) -> bool:
    """One made-up name in four is never in training, whatever the domain."""
    return crc32(name.lower().encode()) % 4 == 0


def _one(kind: str, arguments, found: dict[str, Value], rng: Random, where: str) -> Value:
    if kind == "name":
        return made_up(rng)
    if kind == "number":
        low, high, step = (evaluate(str(part), found) for part in arguments)
        if step <= 0 or high < low:
            raise DomainError(f"{where} goes from {show(low)} to {show(high)} by {show(step)}; expected from <= to")
        return low + rng.randint(0, int((high - low) / step)) * step
    if kind == "date":
        low, high = (expressions.read("date", part) if re.match(r"\d{4}-", part) else evaluate(part, found)
                     for part in map(str, arguments))
        if high < low:
            raise DomainError(f"{where} goes from {low} to {high}; expected from <= to")
        return low + expressions.timedelta(rng.randint(0, (high - low).days))
    if kind == "sample":
        size = rng.randint(*arguments["size"])
        picked = rng.sample(range(len(arguments["of"])), size)
        return tuple(arguments["of"][i] for i in (sorted(picked) if arguments.get("ordered") else picked))
    signs = {"A": "ABCDEFGHJKLMNPQRSTUVWXYZ", "#": "0123456789", "~": "0123456789ABCDEF"}
    return "".join(rng.choice(signs[sign]) if sign in signs else sign for sign in arguments)


# ---------------------------------------------------------------- texts


def draft(family: Family, found: dict[str, Value], rename: dict[str, str] | None = None) -> str:
    """The expected test with expressions left in braces: the slots in `rename` under their new names, all else as text.

    `render(draft(f, v, {"low": "NUM1"}), {"NUM1": v["low"]})` is the test itself. Rows of `{each slot}` are written
    out, so the number of rows is that of the values.
    """
    rename = rename or {}

    def fill(match):
        text, style = split_style(match[1])
        kept = _rewrite(text, family, found, rename)
        if names_of(kept) & set(rename.values()):
            return "{" + kept + (f":{style}" if style else "") + "}"
        return expressions.styled(evaluate(text, found), style)

    lines = []
    for line in family.test.splitlines():
        if (each := EACH.search(line)) and "|" in line:
            lines += [EACH.sub(rf"\1[{i}]", line) for i in range(len(found[each[1]]))]
        else:
            lines.append(line)
    return align("\n".join(HOLE.sub(fill, line) for line in lines)) + "\n"


def _rewrite(text: str, family: Family, found: dict[str, Value], rename: dict[str, str]) -> str:
    """An expression in the names of `rename`; other names become constants, "let" slots their expression."""

    def swap(match):
        name = match[0]
        if name in rename:
            return rename[name]
        if family.slots.get(name, ("",))[0] == "let":
            inner = _rewrite(str(family.slots[name][1]), family, found, rename)
            return f"({inner})" if names_of(inner) & set(rename.values()) else _constant(found[name])
        return _constant(found[name]) if name in names else name

    names = names_of(text) & set(found)
    return re.sub(r"""'[^']*'|"[^"]*"|\b[a-z_]\w*\b""", lambda m: m[0] if m[0][0] in "'\"" else swap(m), text)


def _constant(value: Value) -> str:
    if isinstance(value, tuple):
        return "(" + "".join(_constant(part) + ", " for part in value) + ")"
    if isinstance(value, expressions.date):
        return f"date('{value}')"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if isinstance(value, str) else show(value)


def align(text: str) -> str:
    """Table rows with one space around each cell."""
    return re.sub(r"(?m)^( *)\|(.*)\|\s*$",
                  lambda m: f"{m[1]}| " + " | ".join(cell.strip() for cell in m[2].split("|")) + " |", text)


def expected(family: Family, found: dict[str, Value]) -> str:
    """The family's test for these values, in Gherkin."""
    return draft(family, found)


# ---------------------------------------------------------------- records


def record(domain: Domain, family: Family, found: dict[str, Value], wording: int, axis: str) -> Record:
    """The record of these values in wording number `wording` (the held-out ones come after the others)."""
    slots = {name: list(value) if isinstance(value, tuple) else show(value) for name, value in found.items()}
    said = render((*family.requirements, *family.paraphrases)[wording], found)
    group = f"{domain.name}/{family.name}/{key(repr(sorted(slots.items())))[:10]}"
    return Record(f"{group}/{wording}", group, f"grammar:{domain.name}", domain.licence, domain.name, family.name,
                  said, expected(family, found), slots, axis)


def draw(domain: Domain, n: int, seed: int, axis: str = "train", families: tuple[str, ...] = ()) -> list[Record]:
    """n records of different requirements on one axis, the families in turn; the same for the same seed.

    values, names and paraphrase differ from train in that one respect; family differs in the family alone.
    Raises `DomainError`: an unknown axis, no family on it, or fewer than n different requirements.
    """
    if axis not in AXES:
        raise DomainError(f"axis {axis!r}; expected one of {', '.join(AXES)}")
    chosen = [one for one in domain.families.values() if one.held_out == (axis == "family")
              and (not families or one.name in families)]
    if not chosen:
        raise DomainError(f"{domain.name}: no family on axis {axis}; expected at least one")
    rng, made, seen, tries = Random(f"{domain.name}/{axis}/{seed}"), [], set(), 0
    while len(made) < n:
        one = chosen[len(made) % len(chosen)]
        known = len(one.requirements)
        wording = known + rng.randrange(len(one.paraphrases)) if axis == "paraphrase" else rng.randrange(known)
        new = record(domain, one, _draw_slots(one, axis, rng), wording, axis)
        tries += 1
        if key(new.input) not in seen:
            seen.add(key(new.input))
            made.append(new)
        elif tries > 20 * n + 1000:
            raise DomainError(f"{domain.name}: {len(made)} different requirements on axis {axis}; expected {n}")
    return made
