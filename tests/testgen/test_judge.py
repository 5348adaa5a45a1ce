"""The judge runs the test: what it finds out counts, not how it is written."""

import pytest

from hrm_lab.testgen.domain import ROOT, draw, load
from hrm_lab.testgen.judge import coverage, duplicates, judge, stands

MEDIA = load(ROOT / "media")
(RECORD,) = draw(MEDIA, 1, 4, families=("retries",))
TRIES, PARTNER = int(RECORD.slots["tries"]), RECORD.slots["partner"]
HEAD = f"""@delivery
Feature: delivery retries for {PARTNER}
  Scenario Outline: a transfer is retried up to {TRIES} times
    Given a package ready for {PARTNER}
    When the transfer fails <failures> times in a row
    Then the package is <outcome>
    Examples:
      | failures | outcome |
"""


def outline(*rows):
    return HEAD + "".join(f"      | {' | '.join(map(str, row))} |\n" for row in rows)


FULL = [(0, "delivered"), (TRIES, "delivered"), (TRIES + 1, "escalated")]


def test_rows_in_another_order_and_other_rows_are_right_too():
    for rows in (FULL, FULL[::-1], [*FULL, (TRIES + 5, "escalated")]):
        found = judge(RECORD, outline(*rows), MEDIA)
        assert (found.correct, found.mutation) == (True, 1.0)


def test_plain_scenarios_are_run_like_rows():
    text = "Feature: f\n" + "".join(
        f"  Scenario: s{n}\n    Given a package ready for {PARTNER}\n    When the transfer fails {n} times in a row\n"
        f"    Then the package is {said}\n" for n, said in FULL)
    found = judge(RECORD, text, MEDIA)
    assert found.correct and found.mutation == 1.0 and found.slots == 1.0


def test_a_test_without_its_boundary_is_correct_and_weak():
    found = judge(RECORD, outline((0, "delivered"), (TRIES + 9, "escalated")), MEDIA)
    assert found.correct and 0 < found.mutation < 1


@pytest.mark.parametrize("text, reason", [
    (outline((TRIES, "escalated"), (0, "delivered")), "the reference delivered"),
    (outline((0, "delivered"), (TRIES, "delivered")), "no case with outcome escalated"),
    (outline(*FULL).replace(PARTNER, "Somebody"), "the requirement says"),
    (outline(("many", "delivered")), "no step definition"),
    (outline(*FULL).replace("    When the transfer fails <failures> times in a row\n", ""), "no step like: when"),
    (outline(*FULL).replace(f"    Given a package ready for {PARTNER}\n", ""), "no step like: given"),
    (outline(*FULL).replace("is <outcome>", "becomes <outcome>"), "no step definition"),
    (outline(*FULL).replace("Given", "When", 1), "no step definition"),
    (outline(*FULL).replace(PARTNER, PARTNER * 9_000), "characters"),
    (outline(*FULL).replace(PARTNER, "a b " * 200), "no step definition"),
    (outline(), "without rows"), (outline((1,)), "cell"), ("", "no feature"), ("Feature: x\n", "no scenario"),
    ("no gherkin at all", "expected"),
    (HEAD.replace("Then", "And"), ""), ("Feature: x\n  Scenario: y\n", "without Then"),
    (outline(*FULL).replace(f"    Given a package ready for {PARTNER}\n", "    Given an order of Velora\n"), "another"),
])
def test_what_is_not_correct_says_why(text, reason):
    found = judge(RECORD, text, MEDIA)
    assert not found.correct and found.mutation == 0.0
    assert reason in found.reason and found.reason and "\n" not in found.reason


def test_steps_of_another_family_can_be_run_and_are_wrong():
    (other,) = draw(MEDIA, 1, 4, families=("sla_hours",))
    found = judge(RECORD, other.target, MEDIA)
    assert found.valid and found.executable and not found.correct


def test_the_value_must_stand_as_a_whole():
    assert stands("2", "up to 2 times") and stands("-1", "at -1 dBTP.") and stands("Velora+", "for Velora+.")
    assert not stands("2", "12 or 2.5 or 2026-01-02 or 21:2") and not stands("Velo", "Velora")
    assert not stands("Velora", "Velora+")


def test_coverage_counts_what_the_expected_test_states():
    assert coverage(RECORD, RECORD.target) == 1.0
    assert coverage(RECORD, RECORD.target.replace(PARTNER, "X")) == 0.5


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="family"):
        judge(RECORD, "", load(ROOT / "library"))


def test_duplicates_are_counted_but_for_case_and_spaces():
    assert duplicates(["a b", "A  b\n", "c"]) == 1 and duplicates([]) == 0
