"""Bugs: each has its repair in the space of the buggy program, and the repair gives the original back."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_edits import SOURCES
from test_languages import PROGRAMS

from hrm_lab.swe.edits import KINDS, apply, candidates
from hrm_lab.swe.inject import UNDONE_BY, inject
from hrm_lab.swe.languages import normalise, valid


def check(code, bug, language="python", within=None):
    original = normalise(code, language)
    assert valid(bug.code, language) and normalise(bug.code, language) != original
    assert normalise(apply(bug.code, bug.repair), language) == original
    if within:
        within = within[0], within[1] + len(bug.code) - len(code)
    assert original in {normalise(apply(bug.code, edit), language) for edit in candidates(bug.code, language, within)
                        if edit.start <= bug.repair.start + 200 and edit.end >= bug.repair.start - 200}


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), code=st.sampled_from(SOURCES))
def test_a_bug_can_be_repaired(seed, code):
    check(code, inject(code, random.Random(seed)))


@pytest.mark.parametrize("language", PROGRAMS)
def test_in_every_language(language):
    kinds = set()
    for seed in range(6):
        bug = inject(PROGRAMS[language], random.Random(seed), language)
        check(PROGRAMS[language], bug, language)
        kinds.add(bug.repair.kind)
    assert len(kinds) >= 3


def test_the_kind_of_repair_is_as_asked():
    code = PROGRAMS["python"]
    for kind in ("comparison", "name", "constant", "add-operand", "swap-operands", "delete"):
        bug = inject(code, random.Random(1), kind=kind)
        assert bug.repair.kind == kind
        check(code, bug)
    assert inject("x = 1\n", random.Random(0), kind="dedent") is None


def test_a_bug_stays_inside():
    code = "def f(x, y):\n    return x + y\n\n\ndef g(x, y):\n    return x - y\n"
    low = code.index("def g")
    for seed in range(8):
        bug = inject(code, random.Random(seed), within=(low, len(code)))
        assert bug.code[:low] == code[:low] and bug.repair.start >= low
        check(code, bug, within=(low, len(code)))


def test_the_same_seed_gives_the_same_bug():
    assert inject(SOURCES[0], random.Random(5)) == inject(SOURCES[0], random.Random(5))


def test_tables_name_kinds_that_exist():
    assert set(UNDONE_BY) <= set(KINDS) and {kind for kinds in UNDONE_BY.values() for kind in kinds} <= set(KINDS)
    with pytest.raises(ValueError, match="'typo'; expected one of comparison"):
        inject("x = 1\n", random.Random(0), kind="typo")
