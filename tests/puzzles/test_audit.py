"""The audit must see what no model can learn, and what a score would only remember."""

from dataclasses import replace

import numpy as np
import pytest

from hrm_lab.puzzles.dataset import Meta, Split, audit, card
from hrm_lab.puzzles.toys import copy_increment


def tiny(rows, targets, tasks=None, ids=None):
    n = len(rows)
    return Split(np.array(rows, np.int32), np.array(targets, np.int32), np.array(ids or [0] * n, np.int32),
                 np.array(tasks or [0] * n, np.int32), np.zeros(n, np.float32), np.arange(n, dtype=np.int32),
                 Meta(seq_len=len(rows[0]), vocab_size=10, tasks=("a", "b")))


def test_untyped_copy_increment_cannot_pass_half():
    result = audit(*copy_increment(4000, 1000, 0, typed=False))
    assert result["train"]["best_exact_match"] == result["test"]["best_exact_match"] == 0.5
    assert result["train"]["conflicting_inputs"] == 2000
    assert any("no model can pass 50.0 % exact match: 2,000 inputs each have up to 2 different targets" in w
               for w in result["warnings"])
    assert result["test"]["best_exact_match_if_only_this_task"] == {"copy": 1.0, "increment": 1.0}


def test_typed_copy_increment_is_clean():
    result = audit(*copy_increment(4000, 1000, 0))
    assert result["train"]["best_exact_match"] == 1.0 and result["overlap"] == 0 and not result["warnings"]
    assert result["train"]["per_task"] == {"copy": 2000, "increment": 2000}


def test_ceiling_counts_the_most_frequent_target_of_each_input():
    """Input 1 has targets 5, 5, 6 and input 2 has 7: the best map gets 3 of 4."""
    split = tiny([[1], [1], [1], [2]], [[5], [5], [6], [7]], tasks=[0, 0, 1, 1])
    seen = audit(split, split)["train"]
    assert seen["best_exact_match"] == 0.75
    assert seen["duplicate_inputs"] == 0.5 and seen["conflicting_inputs"] == 1
    assert seen["best_exact_match_if_only_this_task"] == {"a": 1.0, "b": 1.0}


def test_the_puzzle_identifier_is_part_of_what_the_model_sees():
    split = tiny([[1], [1]], [[5], [6]], ids=[1, 2])
    assert audit(split, split)["train"]["best_exact_match"] == 1.0


def test_overlap_unseen_tokens_and_missing_tasks_are_reported():
    train, test = tiny([[1], [2]], [[5], [6]]), tiny([[2], [3]], [[6], [9]])
    result = audit(train, test)
    assert result["overlap"] == result["overlap_solved"] == 0.5
    text = " ".join(result["warnings"])
    assert "50.0 % of the test examples occur in train" in text and "[9]" in text and "no example of b" in text


def test_another_target_for_the_same_input_is_no_leak():
    train, test = tiny([[1]], [[5]], ids=[0]), tiny([[1]], [[5 + 1]], ids=[0])
    result = audit(train, test)
    assert result["overlap"] == 1.0 and result["overlap_solved"] == 0.0


def test_entropy_of_four_equal_tokens_is_two_bits():
    split = tiny([[1, 2, 3, 4]], [[1, 2, 3, 4]])
    assert audit(split, split)["train"]["token_entropy_bits"] == pytest.approx(2.0)


def test_card_tells_source_sizes_ceiling_and_warnings():
    train, test = copy_increment(200, 100, 0, typed=False)
    train = replace(train, meta=replace(train.meta, licence="CC0-1.0"))
    text = card(train, test, audit(train, test))
    for part in ("# copy-increment-untyped", "CC0-1.0", "| examples | 200 | 100 |", "50.0 % | 50.0 %", "**Warning:**",
                 "difficulty, ten bins"):
        assert part in text
