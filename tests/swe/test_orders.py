"""Priors that are not learnt."""

import numpy as np
import pytest

from hrm_lab.swe.edits import apply, candidates
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.orders import BOUND, Counting, Uniform

SUM = "def total(xs, n):\n    s = 0\n    for i in range(1, n):\n        s += xs[n - i]\n    return s\n"


def test_counting_prefers_one_more_or_one_less_at_a_bound_of_range_and_nothing_else():
    edits = candidates(SUM)
    scores = Counting(Uniform()).scores(SUM, edits, Evidence.none())
    assert np.exp(scores).sum() == pytest.approx(1)
    better = {apply(SUM, edit) for edit, score in zip(edits, scores, strict=True) if score > scores.min() + 1e-6}
    assert better == {SUM.replace("range(1, n)", f"range(1, n {sign} 1)") for sign in "+-"}
    assert scores.max() - scores.min() == pytest.approx(BOUND)
