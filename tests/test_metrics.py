"""Scores and their intervals, against published values and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab import metrics


def test_wilson_against_the_published_example():
    """Newcombe 1998 (single proportion), table I: 81 of 263 and 0 of 20, method 3."""
    s = metrics.proportion(81, 263)
    assert (round(s["low"], 4), round(s["high"], 4)) == (0.2553, 0.3662)
    s = metrics.proportion(0, 20)
    assert (s["low"], round(s["high"], 4)) == (0.0, 0.1611)


def test_paired_difference_against_the_published_example():
    """Newcombe 1998 (paired), table III: 36, 12, 2, 0 -> 0.2, method 10 without continuity correction."""
    a = np.array([1] * 36 + [1] * 12 + [0] * 2, bool)
    b = np.array([1] * 36 + [0] * 12 + [1] * 2, bool)
    s = metrics.paired_difference(a, b)
    assert s["value"] == pytest.approx(0.2)
    assert s["low"] == pytest.approx(0.0569, abs=2e-3) and s["high"] == pytest.approx(0.3404, abs=2e-3)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_interval_holds_the_value_and_stays_in_range(k, extra):
    s = metrics.proportion(k, k + extra)
    assert 0 <= s["low"] <= s["high"] <= 1
    assert k + extra == 0 or s["low"] <= s["value"] <= s["high"]


def test_coverage_by_simulation():
    rng = np.random.default_rng(0)
    inside = 0
    for k in rng.binomial(50, 0.9, 2000):
        s = metrics.proportion(int(k), 50)
        inside += s["low"] <= 0.9 <= s["high"]
    assert inside / 2000 > 0.92
    inside = 0
    for _ in range(300):
        s = metrics.bootstrap(rng.normal(3, 1, 60), draws=300)
        inside += s["low"] <= 3 <= s["high"]
    assert inside / 300 > 0.88


def test_per_task_shows_the_task_that_the_mean_hides():
    right, tasks = np.array([True] * 50 + [False] * 50), np.array([0] * 50 + [1] * 50)
    table = metrics.per_task("exact_match", right, tasks, ("copy", "increment"))
    assert [table[k]["value"] for k in ("exact_match", "exact_match/copy", "exact_match/increment")] == [0.5, 1.0, 0.0]
    assert list(metrics.per_task("exact_match", right, tasks, ("all",))) == ["exact_match"]


def test_refusals():
    with pytest.raises(ValueError, match="got 3 successes of 2"):
        metrics.proportion(3, 2)
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        metrics.bootstrap(np.array([]))
    with pytest.raises(ValueError, match="two equal"):
        metrics.paired_difference(np.ones(3), np.ones(4))
    assert math.isnan(metrics.proportion(0, 0)["value"])


def test_format():
    assert metrics.format_score(metrics.proportion(496, 500)) == "99.2 % (n = 500, 98.0-99.7)"
    assert metrics.format_score(metrics.plain(12.345, 1, "s")) == "12.35 s (n = 1)"
    assert metrics.format_score(metrics.plain(1, 1, "segments")) == "1 segment (n = 1)"
    assert metrics.format_score(metrics.plain(1, 1, "CPU-s")) == "1 CPU-s (n = 1)"
    found = metrics.paired_difference(np.repeat((1, 0), (30, 20)), np.repeat((1, 0), (26, 24)))
    assert metrics.format_score(found) == "+8.0 points (n = 50, +0.6 to +15.2)"


def test_cells_say_value_and_interval():
    assert metrics.format_cell(metrics.proportion(3, 4)) == "75.0\u202f% (30.1\u201195.4)"
    assert metrics.format_cell(metrics.bootstrap([4008.0, 4008.0])) == "4,008 (4,008\u20114,008)"
    gain = metrics.score(0.08, 50, -0.027, 0.183, metrics.DIFFERENCE)
    assert metrics.format_cell(gain) == "+8.0 (-2.7\u00a0to\u00a0+18.3)"
    assert metrics.format_cell(metrics.score(1.0042, 9, 1.0034, 1.0049, "")) == "1.004 (1.003\u20111.005)"
