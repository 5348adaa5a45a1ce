"""What an edit did to one program is told to its twins in others."""

from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.feedback import Seen
from hrm_lab.swe.orders import Uniform
from hrm_lab.swe.search import search
from hrm_lab.swe.twins import ODDS, odds, twin

TWO = "def both(a, b):\n    first = a - 1\n    second = b + 2\n    return [first, second]\n"
TESTS = ("assert both(1, 5)[0] == 2\nassert both(4, 1)[0] == 5\n"
         "assert both(1, 5)[1] == 3\nassert both(1, 1)[1] == -1\n")


def seen(outcomes, said=""):
    names = {"P": "passed", "F": "failed", "E": "error"}
    return Seen.from_lists([names[one] for one in outcomes], [said * (one != "P") for one in outcomes])


def test_a_twin_is_the_same_edit_of_the_other_program():
    made = Edit("operator", 30, 31, "+")
    assert TWO[30] == "-"
    edits, after = candidates(TWO), apply(TWO, made)
    others = [(one, twin(one, made)) for one in edits]
    assert all((one.end <= made.start or one.start >= made.end) == (other is not None) for one, other in others)
    longer = Edit("operator", 30, 31, "** 2 +")
    for one, _ in others:
        if other := twin(one, longer):
            both = sorted((one, longer), key=lambda edit: -edit.start)
            if one.start != longer.start:
                assert apply(apply(TWO, longer), other) == apply(apply(TWO, both[0]), both[1])
    assert sum(other in set(candidates(after)) for _, other in others if other) > len(edits) / 2


def test_odds_speak_of_the_tests_that_still_fail():
    before = seen("FFFP", "AssertionError: assert 1 == 2")
    here = seen("PFFP", "AssertionError: assert 1 == 2")
    assert odds(before, seen("FPPP", "AssertionError: assert 1 == 2"), here) == ODDS["mends the rest"] > 2
    assert odds(before, seen("FPFP", "AssertionError: assert 1 == 2"), here) == ODDS["mended"]
    assert odds(before, seen("FPPF", "AssertionError: assert 1 == 2"), here) == ODDS["mixed"]
    assert odds(before, before, here) == ODDS["same"]
    assert odds(before, seen("EEEE", "TypeError: no"), here) == ODDS["crash"] < 0


def test_two_edits_that_mend_different_tests_are_put_together():
    how = {"tree": False, "probe": False}
    told = search(TWO, TESTS, Uniform(0), budget=700, **how)
    assert told.resolved and len(told.edits) == 2
    last = told.trace[-1]
    tried = [step.edit for step in told.trace if step.parent == -1]
    assert any(twin(edit, told.trace[last.parent].edit) == last.edit for edit in tried)  # it was seen alone before
    assert not search(TWO, TESTS, Uniform(0), budget=told.executions, twins=False, **how).resolved
