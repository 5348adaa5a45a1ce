"""Symptoms: how what the tests got relates to what they wanted, whatever the values are."""

from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.symptoms import MOST, comparison, relation, symptoms, value, words

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3), max_leaves=8)


def known(messages: dict[str, str], passing: int = 0) -> Evidence:
    return Evidence(tuple(messages), tuple(f"p{i}" for i in range(passing)), messages)


def test_relations_of_values():
    assert relation(4, 5) == ["number less", "number by one"]
    assert relation(-3, 3) == ["number less", "number negated"]
    assert relation(6, 3) == ["number more", "number times"]
    assert relation(None, 3) == ["got None"]
    assert relation("a", 3) == ["str for int"]
    assert relation(True, False) == ["got True"]
    assert relation([1, 2], [1, 2, 3]) == ["list shorter", "list length by one", "list lacks end"]
    assert relation([2, 1, 3], [3, 1, 2])[0] == "list reversed"
    assert relation("Abc", "abc") == ["text case", "text some differ"]
    assert relation([], [1]) == ["list empty got"]
    assert relation({"a": 1}, {"a": 2}) == ["dict values"]


@given(VALUES, VALUES)
def test_any_two_values_relate_without_an_error(got, wanted):
    assert all(isinstance(word, str) for word in relation(got, wanted))
    read, whole = value(repr(got))
    assert whole and (read == got or repr(got) in ("inf", "-inf") or "inf" in repr(got))


def test_what_is_cut_off_is_not_compared():
    got, whole = value("[1, 2, 3, 45...")
    assert got == [1, 2, 3, 45] and not whole
    assert words("AssertionError: assert [1, 2, 3, 45... == [1, 2, 4, 4...") == [
        "list some differ"]


def test_messages_of_all_sorts():
    assert words("AssertionError: no 1 (assert it): assert 5 == 4") == ["number more", "number by one"]
    assert words("assert 5 == 4\n +  where 5 = f(3)") == ["number more", "number by one"]
    assert words("out of fuel") == ["hangs"]
    assert words("TypeError: unsupported operand") == ["raises TypeError"]
    assert words("AssertionError: ") == ["untrue"]
    assert words("") == []


def test_the_share_of_failing_tests_comes_first_and_half_of_them_must_agree():
    told = symptoms(known({"a": "assert 5 == 4", "b": "assert 7 == 6", "c": "TypeError: x"}, passing=9))
    assert told == ("fails some", "number more", "number by one") and len(told) <= MOST
    assert symptoms(known({"a": "assert 5 == 4"}))[0] == "fails all"
    assert symptoms(Evidence.none()) == () == symptoms(None)


def test_a_comparison_is_read_up_to_the_end_of_its_line():
    assert comparison("AssertionError: assert f(1) == [2]\n +  where 3 = f(1)") == ("f(1)", "==", "[2]")
    assert comparison("assert 3 not in (3, 4)") == ("3", "not in", "(3, 4)")
    assert comparison("TypeError: no == 3") is None
