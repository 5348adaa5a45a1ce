"""Batches of pairs: separate lengths, every example once an epoch, refusals that name the example; the tokenizer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.testgen import tokenizer
from hrm_lab.testgen.batches import Pair, collate, epoch_order

RAGGED = [Pair((5, 6, 7, 8, 9), (4, 2)), Pair((5,), (9, 8, 7, 2), 2.0)]
TEST = ["\nGiven a file", "\nWhen it arrives"] * 5
BPE = tokenizer.train(["when a file arrives, it is checked"] * 5, TEST, 340, [" {NUM1}", "{NUM1}", "NUM1"])


def test_source_and_target_are_padded_apart():
    batch = collate(RAGGED)
    assert batch.source.tolist() == [[5, 6, 7, 8, 9], [5, 0, 0, 0, 0]] and batch.target.tolist() == [[4, 2, 0, 0],
                                                                                                     [9, 8, 7, 2]]
    assert batch.source_mask.sum(1).tolist() == [5, 1] and batch.target_mask.sum(1).tolist() == [2, 4]
    assert batch.weight.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("pairs,text", [([], "got 0 examples"), ([RAGGED[0], Pair((), (2,))], "example 1: source"),
                                        ([RAGGED[0], Pair((5,), ())], "example 1: target")])
def test_what_cannot_be_batched_is_refused_by_name(pairs, text):
    with pytest.raises(ValueError, match=text):
        collate(pairs)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_holds_every_example_once_in_an_order_of_its_own(n, batch, epoch):
    pairs = [Pair((5,), (5,) * (1 + k % 7)) for k in range(n)]
    order = epoch_order(pairs, batch, 0, epoch)
    assert sorted(np.concatenate(order)) == list(range(n)) and max(map(len, order)) <= batch
    assert [list(a) for a in order] == [list(a) for a in epoch_order(pairs, batch, 0, epoch)]


@settings(deadline=None)
@given(st.text(max_size=60).map(lambda t: t.replace("<pad>", "").replace("<end>", "").replace("<begin>", "")))
def test_tokens_give_the_text_back(text):
    ids = tokenizer.encode(BPE, text + " {NUM1 + 1} {NUM1}")
    assert tokenizer.decode(BPE, ids) == text + " {NUM1 + 1} {NUM1}"
    assert not {tokenizer.PAD, tokenizer.BEGIN, tokenizer.END} & set(ids)


def test_examples_of_one_length_do_not_share_their_batches():
    pairs = [Pair((5,), (5,) * (1 + k % 4)) for k in range(400)]
    assert all(len({len(pairs[n].target) for n in rows}) == 4 for rows in epoch_order(pairs, 32, 0, 1))


def test_a_placeholder_is_one_token_and_digits_stand_alone():
    assert len(tokenizer.encode(BPE, "{NUM1}")) == 1
    assert len(tokenizer.encode(BPE, "2026")) == 4


def test_a_tokenizer_is_saved_and_a_broken_file_refused(tmp_path):
    tokenizer.save(BPE, tmp_path / "t.json")
    assert tokenizer.load(tmp_path / "t.json").to_str() == BPE.to_str()
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="bad.json"):
        tokenizer.load(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="vocab_size: got 100"):
        tokenizer.train(["a"], ["b"], 100, [])


def test_a_token_spans_words_in_tests_and_not_in_requirements():
    text = "a\nGiven a file\nWhen it arrives"
    assert len(tokenizer.encode(BPE, text)) <= 4
    by_words = tokenizer.by_words(BPE)
    assert tokenizer.decode(by_words, tokenizer.encode(by_words, text)) == text
    assert all(len(by_words.decode([i]).split()) <= 1 for i in tokenizer.encode(by_words, text))
