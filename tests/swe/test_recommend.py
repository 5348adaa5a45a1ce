"""Advice follows the numbers: each is driven to say each of its things, and never says more than the intervals do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.metrics import proportion
from hrm_lab.swe.recommend import (
    LEVELS,
    Advice,
    earned,
    leaked,
    learning,
    longer,
    more_data,
    rank_ratio,
    table,
    weakest,
)


def history(losses, ranks):
    return [{"step": 40 * n, "loss": loss, "log_rank": float(np.log(rank)), "train_loss": loss, "n": 50}
            for n, (loss, rank) in enumerate(zip(losses, ranks, strict=True), 1)]


@pytest.mark.parametrize("losses, ranks, level, words", [
    ((3.0, 2.8, 2.6), (9.0, 9.1, 9.0), "red", "Falling loss is not learning"),
    ((3.0, 3.0, 3.1), (9.0, 9.1, 9.3), "act", "Neither fell"),
    ((3.0, 2.8, 2.6), (9.0, 6.0, 8.0), "act", "rose again"),
    ((3.0, 2.8, 2.6), (9.0, 7.0, 6.0), "fine", "fell with the loss"),
    ((3.0,), (9.0,), "open", "too few"),
])
def test_a_loss_that_falls_without_the_rank_is_a_red_flag(losses, ranks, level, words):
    found = learning(history(losses, ranks))
    assert found.level == level and words in found.text


def test_more_steps_are_advised_while_the_rank_falls():
    falling = history([3.0] * 12, [20 * 0.93 ** n for n in range(12)])
    flat = history([3.0] * 12, [9.0 + 0.3 * (n % 2) for n in range(12)])
    assert longer(falling).level == "act" and "Train longer" in longer(falling).text
    assert longer(flat).level in ("open", "fine") and longer(falling[:4]).level == "open"


def test_more_data_is_advised_if_half_of_it_was_worse():
    rng = np.random.default_rng(0)
    whole = rng.integers(1, 50, 60).astype(float)
    assert more_data(whole, whole * 1.5).level == "act"
    assert more_data(whole, whole).level == "fine"


@given(st.lists(st.integers(1, 900), min_size=2, max_size=30))
def test_the_ratio_of_ranks_is_that_of_the_geometric_means(ranks):
    ranks = np.array(ranks, float)
    found = rank_ratio(3 * ranks, ranks)
    assert found["value"] == pytest.approx(3) and found["low"] == pytest.approx(3) and found["n"] == len(ranks)


def test_an_order_earns_its_place_or_gives_way_or_is_not_told_apart():
    quick, slow = [1, 2, 3, 2] * 10, [40, 0, 60, 30] * 10
    assert earned("HRM", quick, "linear", slow, 100).level == "fine"
    assert earned("HRM", slow, "linear", quick, 100).text.endswith("Use linear.")
    same = earned("HRM", quick, "linear", quick, 100)
    assert same.level == "open" and "n = 40" in same.text


def test_what_was_solved_beyond_the_budget_counts_as_unsolved():
    assert "-100.0 points" in earned("a", [101] * 20, "b", [100] * 20, 100).text


def test_a_group_that_fails_more_than_all_is_named_and_a_small_one_is_not():
    whole = proportion(80, 100)
    groups = {"text": proportion(75, 80), "web": proportion(3, 18), "systems": proportion(0, 2)}
    found = weakest(groups, whole, "domain")
    assert found.level == "act" and "web" in found.text and "systems" not in found.text and "n = 18" in found.text
    assert weakest({"text": proportion(40, 50), "web": proportion(38, 50)}, whole, "domain").level == "open"
    assert "too few" in weakest({"text": whole}, whole, "domain").text


def test_the_gravest_stands_first():
    given = [Advice(level, "x", "y") for level in ("fine", "open", "red", "act")]
    assert [row[""].replace("\u00a0", " ").split()[-1] for row in table(given)] == ["flag", "do", "open", "fine"]
    assert {one.level for one in given} == set(LEVELS)


def test_a_leak_voids_the_numbers():
    assert leaked(0, 20).level == "fine" and leaked(1, 20).level == "red" and "void" in leaked(1, 20).text
