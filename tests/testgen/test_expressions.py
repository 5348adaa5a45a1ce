"""Expressions: exact, limited, and nothing else than expressions."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.testgen import expressions, identifiers
from hrm_lab.testgen.expressions import ExpressionError, evaluate, names_of, read, render, show

NAMES = {"low": Decimal("0.3"), "n": Decimal(7), "start": date(2028, 2, 28), "items": ("a", "b", "c"), "word": "AB1"}


@pytest.mark.parametrize("text, wanted", [
    ("low - 0.1", "0.2"), ("low - 0.1 == 0.2", "yes"), ("-7 // 2", "-4"), ("-7 % 3", "2"), ("n / 2", "3.5"),
    ("start + 2", "2028-03-01"), ("start - 1", "2028-02-27"), ("start + n - start", "7"),
    ("day(start) - 1", "2028-02-27"),
    ("days(start, start + 30)", "30"), ("months(date('2026-01-31'), 1)", "2026-02-28"),
    ("months(start, -2)", "2027-12-28"),
    ("months(date('2026-12-31'), 2)", "2027-02-28"), ("items[0]", "a"), ("items[-1]", "c"), ("word[:-1]", "AB"),
    ("without(items, -1)", "a, b"), ("others(items, 'b')", "a, c"), ("all_in(['a'], items)", "yes"),
    ("any_in(['x'], items)", "no"), ("'b' in items and n > 6", "yes"), ("1 < n <= 7", "yes"), ("not n == 7", "no"),
    ("'x' if n > 7 else 'y'", "y"), ("round(2.5)", "3"), ("round(2.345, 2)", "2.35"), ("floor(-0.5)", "-1"),
    ("clock(minutes('00:00') - 1)", "23:59"), ("pad(n, 3)", "007"), ("text(n) + word", "7AB1"), ("len(items)", "3"),
    ("min(n, 3) + max(1, 2)", "5"), ("abs(-2)", "2"), ("join(items, '+')", "a+b+c"), ("split('a+b', '+')", "a, b"),
    ("1e3", "1000"), ("0.0", "0"), ("-0.0", "0"), ("number('12') + number(n)", "19"), ("weekday(start)", "1"),
])
def test_values(text, wanted):
    assert show(evaluate(text, NAMES)) == wanted


@pytest.mark.parametrize("text", [
    "__import__('os')", "word.upper()", "open('x')", "lambda: 1", "[x for x in items]", "n ** 9", "{1: 2}", "n := 1",
    "items[::2]", "low and n", "'a' < 1", "nobody", "1 +", "n if n else 1", "word * 3", "items[9]", "1 / 0",
    "number('1e99')", "9e14 * 9e14", "round(n, 99)", "f'{n}'", "text(n=1)", "clock(0.5)", "minutes('25:00')",
    "date('2026-02-30')", "start + 9999999", "(" * 300 + ")" * 300, "1" + "+1" * 400, "without(items, 7)",
    "pad(n, 1e6)",
    "len(n)", "upper(n)", "all_in(1, 2)", "starts(1, 2)", "max()", "months(start, 1e9)",
])
def test_what_is_refused(text):
    with pytest.raises(ExpressionError) as error:
        evaluate(text, NAMES)
    assert "\n" not in str(error.value)


def test_fuel_is_spent():
    with pytest.raises(ExpressionError, match="fuel"):
        evaluate("1 + 1 + 1 + 1", {}, fuel=5)


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_one_error(text):
    try:
        show(evaluate(text, NAMES))
    except ExpressionError as error:
        assert "\n" not in str(error)


@given(st.recursive(st.integers(-50, 50).map(str), lambda part: st.tuples(part, st.sampled_from("+-*"), part).map(
    lambda t: f"({t[0]} {t[1]} {t[2]})"), max_leaves=8))
def test_whole_numbers_are_those_of_python(text):
    assert evaluate(text, {}) == eval(text)


@given(st.integers(-50, 50), st.integers(-9, 9).filter(bool))
def test_division_is_that_of_python(a, b):
    assert (evaluate(f"{a} // {b}", {}), evaluate(f"{a} % {b}", {})) == (a // b, a % b)


@given(st.decimals(-10**6, 10**6, allow_nan=False, places=3))
def test_a_number_comes_back_from_its_text(value):
    assert read("number", show(value)) == value


@given(st.dates(date(1990, 1, 1), date(2100, 1, 1)), st.integers(-3000, 3000))
def test_days_are_added_and_taken_away(start, n):
    assert evaluate("day + n - n", {"day": start, "n": n}) == start


def test_templates():
    assert render("{items:and} / {items:or} / {items:plus} / {word:cap}, {n}", NAMES) == \
        "a, b and c / a, b or c / a+b+c / AB1, 7"
    assert render("{x:and}", {"x": ("one",)}) == "one"
    with pytest.raises(ExpressionError):
        render("{nobody}", NAMES)


def test_names_are_found():
    assert names_of("max(a, b[0]) + len(c)") == {"a", "b", "c"}


def test_a_list_and_a_bad_date_as_text():
    assert read("list", "a + b") == ("a", "b") and read("text", " a") == " a"
    for kind, text in (("date", "2026-13-01"), ("number", "1,5"), ("number", "nan"), ("number", "١")):
        with pytest.raises(ExpressionError):
            read(kind, text)


# public identifiers with their check characters
@pytest.mark.parametrize("identifier", ["7791-8534-2C23-9030-8610-5", "EA73-79D7-1B2B-B378-3A73-M",
                                        "07A9-90F4-F212-704C-0523-9", "A1-2425G-ABC1234-002-M"])
def test_check_characters_of_public_identifiers(identifier):
    assert identifiers.check_37_36(identifier[:-2]) == identifier[-1]


def test_check_digits_of_books_and_articles():
    assert identifiers.check_mod_11("0-306-40615") == "2" and identifiers.check_mod_11("155404295") == "X"
    assert identifiers.check_mod_10("400638133393") == "1" and identifiers.check_mod_10("978030640615") == "7"


@given(st.text("0123456789ABCDEF", min_size=20, max_size=20), st.integers(0, 19), st.sampled_from("0123456789ABCDEF"))
def test_one_wrong_sign_is_always_found(stem, at, sign):
    other = stem[:at] + sign + stem[at + 1:]
    assert (identifiers.check_37_36(stem) == identifiers.check_37_36(other)) == (stem == other)


def test_no_function_reaches_outside():
    assert not {"open", "eval", "exec", "getattr", "type"} & set(expressions.FUNCTIONS)
