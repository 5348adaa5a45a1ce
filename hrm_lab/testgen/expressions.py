"""Small expressions over named values, evaluated by walking the syntax tree: no `eval`, no attribute, no loop.

They are the only "code" that a domain holds (boundary cells such as `low - 0.1`, reference behaviours, mutants), so a
domain is data that anyone may add. Unusual: numbers are exact decimals (`0.3 - 0.1 == 0.2`), a date plus a number
is a date that many days later, and every node costs fuel, so that an expression ends or is refused.
`render` fills templates: `{low - 0.1}`, `{fields:and}`.
"""

import ast
import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal, DecimalException, localcontext
from functools import lru_cache

from . import identifiers

FUEL = 2000  # nodes
LONGEST = 500  # characters of an expression
LARGEST = Decimal(10) ** 15
SIZE = 1000  # characters of a text, items of a list
HOLE = re.compile(r"\{([^{}\n]+)\}")
STYLES = ("and", "or", "plus", "cap")

Value = Decimal | bool | str | date | tuple


class ExpressionError(ValueError):
    """An expression that is not allowed or cannot be evaluated; one line."""


@lru_cache(maxsize=20_000)
def parse(text: str) -> ast.expr:
    """The syntax tree of an expression. Raises `ExpressionError`: too long, no expression."""
    if len(text) > LONGEST:
        raise ExpressionError(f"expression of {len(text):,} characters; expected at most {LONGEST}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError(f"expression {text[:60]!r}: {type(error).__name__}; expected one expression") from None


def evaluate(text: str, names: Mapping[str, Value], fuel: int = FUEL) -> Value:
    """The value of an expression. Raises `ExpressionError` naming the expression and what is wrong."""
    left = [fuel]
    try:
        with localcontext() as context:
            context.prec = 28
            return _value(parse(text), names, left)
    except ExpressionError as error:
        raise ExpressionError(f"{text[:80]!r}: {error}") from None
    except (DecimalException, ArithmeticError, ValueError, TypeError, LookupError, AttributeError,
            RecursionError) as error:
        raise ExpressionError(f"{text[:80]!r}: {type(error).__name__} {str(error)[:80]}") from None


def names_of(text: str) -> set[str]:
    """The names that an expression reads (functions apart)."""
    tree = parse(text)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called}


def _value(node: ast.expr, names: Mapping[str, Value], fuel: list[int]) -> Value:
    fuel[0] -= 1
    if fuel[0] < 0:
        raise ExpressionError("out of fuel; expected a smaller expression")

    def at(part):
        return _value(part, names, fuel)

    match node:
        case ast.Constant(value=bool() | str()):
            return node.value
        case ast.Constant(value=int() | float()):
            return number(repr(node.value))
        case ast.Name(id=name):
            if name not in names:
                raise ExpressionError(f"no value for {name!r}; expected one of {', '.join(sorted(names)[:20])}")
            value = names[name]
            return tuple(value) if isinstance(value, list) else as_decimal(value)
        case ast.UnaryOp(op=ast.Not()):
            return not truth(at(node.operand))
        case ast.UnaryOp(op=ast.USub()):
            return -numeric(at(node.operand))
        case ast.BoolOp():
            wanted = isinstance(node.op, ast.Or)
            return wanted if any(truth(at(part)) == wanted for part in node.values) else not wanted
        case ast.BinOp():
            return _binary(node.op, at(node.left), at(node.right))
        case ast.Compare():
            left = at(node.left)
            for op, part in zip(node.ops, node.comparators, strict=True):
                right = at(part)
                if not _compare(op, left, right):
                    return False
                left = right
            return True
        case ast.IfExp():
            return at(node.body if truth(at(node.test)) else node.orelse)
        case ast.Tuple() | ast.List():
            return _sized(tuple(at(part) for part in node.elts))
        case ast.Subscript():
            held = at(node.value)
            if not isinstance(held, str | tuple):
                raise ExpressionError(f"{show(held)} has no parts; expected a text or a list")
            if isinstance(node.slice, ast.Slice):
                ends = [None if part is None else whole(at(part)) for part in (node.slice.lower, node.slice.upper)]
                if node.slice.step is not None:
                    raise ExpressionError("a slice with a step; expected [from:to]")
                return held[slice(*ends)]
            return held[whole(at(node.slice))]
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            return _sized(as_decimal(FUNCTIONS[name](*[at(part) for part in node.args])))
    what = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else type(node).__name__
    raise ExpressionError(f"{what!r} is not allowed; expected arithmetic, comparisons, and, or, not, if-else, in, "
                          f"parts of lists, and {', '.join(FUNCTIONS)}")


def _binary(op: ast.operator, left: Value, right: Value) -> Value:
    if isinstance(left, date):
        if isinstance(op, ast.Sub) and isinstance(right, date):
            return Decimal((left - right).days)
        if isinstance(op, ast.Add | ast.Sub):
            return left + timedelta(whole(right) * (1 if isinstance(op, ast.Add) else -1))
    if isinstance(op, ast.Add) and type(left) is type(right) and isinstance(left, str | tuple):
        return _sized(left + right)
    a, b = numeric(left), numeric(right)
    match op:
        case ast.Add():
            return _bounded(a + b)
        case ast.Sub():
            return _bounded(a - b)
        case ast.Mult():
            return _bounded(a * b)
        case ast.Div():
            return _bounded(a / b)
        case ast.FloorDiv():
            return _bounded((a - modulo(a, b)) / b)
        case ast.Mod():
            return modulo(a, b)
    raise ExpressionError(f"{type(op).__name__} is not allowed; expected + - * / // %")


def modulo(a: Decimal, b: Decimal) -> Decimal:
    """The remainder with the divisor's sign, as Python's % of whole numbers (Decimal's own takes the dividend's)."""
    rest = a % b
    return rest + b if rest and (rest < 0) != (b < 0) else rest


def _compare(op: ast.cmpop, left: Value, right: Value) -> bool:
    if isinstance(op, ast.Eq | ast.NotEq):
        return (left == right) == isinstance(op, ast.Eq)
    if isinstance(op, ast.In | ast.NotIn):
        if not (isinstance(right, tuple) or isinstance(left, str) and isinstance(right, str)):
            raise ExpressionError(f"in {show(right)}; expected a list")
        return (left in right) == isinstance(op, ast.In)
    if type(left) is not type(right) or isinstance(left, bool | tuple):
        raise ExpressionError(f"{show(left)} against {show(right)}; expected two numbers, dates or texts")
    match op:
        case ast.Lt():
            return left < right
        case ast.LtE():
            return left <= right
        case ast.Gt():
            return left > right
        case ast.GtE():
            return left >= right
    raise ExpressionError(f"{type(op).__name__} is not allowed; expected == != < <= > >= in")


# ---------------------------------------------------------------- values


def number(text: str) -> Decimal:
    """An exact number. Raises `ExpressionError`: no plain decimal number, or too large."""
    if not re.fullmatch(r"[+-]?\d{1,16}(\.\d{1,12})?(e[+-]?\d{1,2})?", text.strip(), re.ASCII):
        raise ExpressionError(f"{text[:40]!r}; expected a number such as 12 or -0.5")
    return _bounded(Decimal(text.strip()))


def as_decimal(value) -> Value:
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


def numeric(value: Value) -> Decimal:
    if not isinstance(value, Decimal):
        raise ExpressionError(f"{show(value)!r} is no number")
    return value


def whole(value: Value) -> int:
    if numeric(value) != int(value):
        raise ExpressionError(f"{show(value)} is no whole number")
    return int(value)


def truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f"{show(value)!r} is neither true nor false; expected a comparison")
    return value


def _bounded(value: Decimal) -> Decimal:
    if abs(value) > LARGEST:
        raise ExpressionError(f"a number above {LARGEST}")
    return value


def _sized(value: Value) -> Value:
    if isinstance(value, str | tuple) and len(value) > SIZE:
        raise ExpressionError(f"a text or list of {len(value)} parts; expected at most {SIZE}")
    return value


def show(value: Value) -> str:
    """The text of a value: plain decimals, ISO dates, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        text = format(value.normalize(), "f")
        return "0" if text == "-0" else text
    if isinstance(value, tuple | list):
        return ", ".join(map(show, value))
    return value.isoformat() if isinstance(value, date) else str(value)


def read(kind: str, text: str) -> Value:
    """A value of kind number, date, text or list ("a+b") from its text. Raises `ExpressionError`."""
    if kind == "number":
        return number(text)
    if kind == "date":
        try:
            return date.fromisoformat(text.strip())
        except ValueError:
            raise ExpressionError(f"{text[:40]!r}; expected a date such as 2026-03-01") from None
    return tuple(part.strip() for part in text.split("+")) if kind == "list" else text


# ---------------------------------------------------------------- functions


def _clock(minutes: Decimal) -> str:
    return "{:02}:{:02}".format(*divmod(whole(minutes) % 1440, 60))


def _minutes(text: str) -> int:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text, re.ASCII):
        raise ExpressionError(f"{text[:20]!r}; expected a time such as 21:30")
    return int(text[:2]) * 60 + int(text[3:])


def _round(value: Decimal, places: Decimal = Decimal(0)) -> Decimal:
    return numeric(value).quantize(Decimal(1).scaleb(-whole(places)), ROUND_HALF_UP)


def _months(start: date, count: Decimal) -> date:
    """The same day that many months later, or the last day of that month."""
    total = start.year * 12 + start.month - 1 + whole(count)
    year, month = total // 12, total % 12 + 1
    last = (date(year + month // 12, month % 12 + 1, 1) - timedelta(1)).day
    return date(year, month, min(start.day, last))


def _without(items: tuple, index: Decimal) -> tuple:
    at = range(len(items))[whole(index)]
    return items[:at] + items[at + 1:]


FUNCTIONS = {
    "abs": lambda x: abs(numeric(x)), "min": lambda *x: min(map(numeric, x)), "max": lambda *x: max(map(numeric, x)),
    "round": _round, "floor": lambda x: numeric(x).to_integral_value("ROUND_FLOOR"),
    "ceil": lambda x: numeric(x).to_integral_value("ROUND_CEILING"),
    "date": lambda text: read("date", text), "day": lambda d: d, "days": lambda a, b: (b - a).days,
    "months": _months, "weekday": lambda d: d.isoweekday(), "clock": _clock, "minutes": _minutes,
    "len": len, "text": show, "number": lambda x: x if isinstance(x, Decimal) else number(x),
    "pad": lambda x, n: show(x).zfill(whole(n)),
    "upper": lambda text: text.upper(), "lower": lambda text: text.lower(),
    "starts": lambda text, part: text.startswith(part), "ends": lambda text, part: text.endswith(part),
    "split": lambda text, sep: tuple(text.split(sep)), "join": lambda items, sep: sep.join(map(show, items)),
    "without": _without, "others": lambda items, one: tuple(item for item in items if item != one),
    "all_in": lambda items, held: set(items) <= set(held),
    "any_in": lambda items, held: bool(set(items) & set(held)),
    "check_37_36": identifiers.check_37_36, "check_mod_10": identifiers.check_mod_10,
    "check_mod_11": identifiers.check_mod_11,
}


# ---------------------------------------------------------------- templates


def split_style(hole: str) -> tuple[str, str]:
    """(expression, style) of what stands in braces."""
    text, colon, style = hole.rpartition(":")
    return (text, style) if colon and style in STYLES else (hole, "")


def render(template: str, names: Mapping[str, Value]) -> str:
    """The template with each `{expression}` or `{expression:style}` replaced by its value's text."""

    def fill(match):
        text, style = split_style(match[1])
        return styled(evaluate(text, names), style)

    return HOLE.sub(fill, template)


def styled(value: Value, style: str) -> str:
    """A value's text; a list as "a, b and c" (and, or) or "a+b" (plus); cap: with a capital first letter."""
    if style == "cap":
        return show(value)[:1].upper() + show(value)[1:]
    if style and not isinstance(value, tuple):
        raise ExpressionError(f"{show(value)!r} with style {style}; expected a list")
    if style == "plus":
        return "+".join(map(show, value))
    if style and len(value) > 1:
        return f"{', '.join(map(show, value[:-1]))} {style} {show(value[-1])}"
    return show(value)
