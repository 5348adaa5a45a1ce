"""Generation in batches: what one by one gives, what transformers gives, and under a grammar."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from hrm_lab.adapters import constrain, decode, models

ENDS = frozenset({2})


@pytest.fixture(scope="module")
def loaded():
    return models.load("tiny", dtype="fp32", device="cpu", seed=1)


def prompts(n=9, shared=6, seed=0):
    rng = np.random.default_rng(seed)
    start = rng.integers(5, 250, shared).tolist()
    return [start + rng.integers(5, 250, rng.integers(1, 12)).tolist() for _ in range(n)]


@pytest.mark.parametrize("shared", [0, 6])
def test_batched_is_one_by_one_is_transformers(loaded, shared):
    model, tokenizer = loaded
    asked = prompts(shared=shared)
    some = frozenset(range(2, len(tokenizer), 9))  # many ends, so that rows finish at different times
    one = [decode.generate(model, [p], some, longest=12)[0] for p in asked]
    assert len({len(o.ids) for o in one}) > 2
    assert decode.generate(model, asked, some, longest=12, batch=4) == one
    assert decode.generate(model, asked, some, longest=12, batch=16) == one
    plain = models.load("tiny", dtype="fp32", device="cpu", attention="eager", seed=1)[0]
    for p, mine in zip(asked, one, strict=True):
        whole = plain.generate(torch.tensor([p]), attention_mask=torch.ones(1, len(p)), do_sample=False,
                               max_new_tokens=12, eos_token_id=sorted(some), pad_token_id=0)[0, len(p):].tolist()
        assert tuple(whole[:-1] if mine.stopped else whole) == mine.ids


def test_rows_stop_at_their_own_end_or_at_the_limit(loaded):
    model, _ = loaded
    free = decode.generate(model, prompts(), frozenset(), longest=6)
    assert all(len(o.ids) == 6 and not o.stopped for o in free)
    end = free[0].ids[3]
    found = decode.generate(model, prompts(), frozenset({end}), longest=6)
    for o, whole in zip(found, free, strict=True):
        at = whole.ids.index(end) if end in whole.ids else 6
        assert o.ids == whole.ids[:at] and o.stopped == (at < 6)


def test_a_prompt_without_ids_is_refused(loaded):
    with pytest.raises(ValueError, match="prompt 1: got no ids"):
        decode.generate(loaded[0], [[5], []], ENDS)


# ---------------------------------------------------------------- grammars

SCHEMA = {"type": "object", "properties": {"name": {"enum": ["area", "weather"]}, "yes": {"type": "boolean"}},
          "required": ["name", "yes"], "additionalProperties": False, "x-guidance": {"whitespace_flexible": False}}


def test_under_a_grammar_every_answer_parses(loaded):
    pytest.importorskip("llguidance")
    model, tokenizer = loaded
    asked = prompts(6)
    grammars = [f"start: %json {json.dumps(SCHEMA)}", 'start: "yes" | "no"'] * 3
    choose = constrain.Constraint(tokenizer, grammars, model.config.vocab_size)
    found = decode.generate(model, asked, ENDS, longest=60, choose=choose)
    for i, output in enumerate(found):
        text = tokenizer.decode(output.ids)
        assert output.stopped and output.steered > 0
        if i % 2:
            assert text in ("yes", "no")
        else:
            assert set(json.loads(text)) == {"name", "yes"}


def test_both_are_the_two_apart(loaded):
    model, _ = loaded
    asked = prompts(6)

    def choose(logits, rows):
        """Rows of odd numbers are kept from tokens above 100."""
        free = logits.argmax(-1)
        bound = logits[:, :100].argmax(-1)
        tokens = [int(bound[at] if i % 2 else free[at]) for at, i in enumerate(rows)]
        return tokens, [token != int(free[at]) for at, token in enumerate(tokens)]

    free = decode.generate(model, asked, ENDS, longest=8)
    apart = decode.generate(model, asked, ENDS, longest=8, choose=choose)
    assert decode.both(model, asked, ENDS, choose, longest=8) == (free, apart)
    assert [o.steered > 0 for o in apart] == [False, True] * 3


def test_a_wrong_grammar_is_named(loaded):
    pytest.importorskip("llguidance")
    model, tokenizer = loaded
    with pytest.raises(ValueError, match="grammar of row 1"):
        constrain.Constraint(tokenizer, ['start: "a"', "start: nowhere"], model.config.vocab_size)
