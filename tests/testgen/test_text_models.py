"""The text models keep one contract: nats of target tokens only, no padding leaks, a cache that changes nothing."""


import pytest
import torch

from hrm_lab.model import count_parameters
from hrm_lab.testgen.batches import Pair, collate, padded
from hrm_lab.testgen.prefix_lm import hrm_text, join, plain_lm
from hrm_lab.testgen.seq2seq import Seq2Seq, Seq2SeqConfig
from hrm_lab.testgen.tokenizer import END

pytest.importorskip("transformers")
SIZE = 20
LONG, SHORT = Pair((5, 6, 7, 8, 9, 2), (4, 11, 2)), Pair((5, 2), (9, 8, 7, 12, 2))


def hrm(**changes):
    torch.manual_seed(0)
    return Seq2Seq(Seq2SeqConfig(SIZE, hidden=16, heads=2, expansion=2, longest=32, **changes)).eval()


def causal(make):
    torch.manual_seed(0)
    return make(SIZE, hidden=16, heads=2).eval()


def text_models():
    return {"hrm": hrm(), "plain": hrm(H_cycles=0), "HRM-Text": causal(hrm_text), "Llama": causal(plain_lm)}


MODELS = text_models()
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@each_model
def test_the_loss_of_a_pair_does_not_depend_on_its_batch(model):
    together = model.nll(collate([LONG, SHORT]))
    assert together.shape == (2, 5)
    for row, pair in zip(together, [LONG, SHORT], strict=True):
        torch.testing.assert_close(row[:len(pair.target)], model.nll(collate([pair]))[0], atol=2e-5, rtol=1e-4)
    assert together[0, 3:].tolist() == [0, 0]


@each_model
def test_a_token_is_predicted_without_seeing_itself_or_what_follows(model):
    for n in range(5):
        other = Pair(SHORT.source, (*SHORT.target[:n], 15, *SHORT.target[n + 1:]))
        a, b = model.nll(collate([SHORT]))[0], model.nll(collate([other]))[0]
        torch.testing.assert_close(a[:n], b[:n])
        assert n == 4 or not torch.allclose(a[n + 1:], b[n + 1:])


@each_model
def test_the_target_depends_on_every_source_token(model):
    base = model.nll(collate([LONG]))
    for n in range(5):
        source = (*LONG.source[:n], 17, *LONG.source[n + 1:])
        assert not torch.equal(base, model.nll(collate([Pair(source, LONG.target)])))


@each_model
def test_greedy_writing_with_a_cache_is_the_most_probable_continuation(model):
    sources = [LONG.source, SHORT.source, (6, 9, 2)]
    found = model.generate(*padded(sources), 7, lambda logits, rows: logits[:, 1:].argmax(-1) + 1)  # padding is no word
    for source, ids in zip(sources, found, strict=True):
        said: list[int] = []
        while len(said) < 7:
            token = 1 + int(torch.stack([model.nll(collate([Pair(source, (*said, t))]))[0, -1]
                                         for t in range(1, SIZE)]).argmin())
            if token == END:
                break
            said.append(token)
        assert ids == said


@each_model
def test_writing_obeys_the_chooser_and_the_limit(model):
    seen = []

    def choose(logits, rows):
        seen.append(rows.tolist())
        return torch.where(rows == 1, torch.tensor(END), torch.tensor(7))

    assert model.generate(*padded([LONG.source, LONG.source, SHORT.source]), 3, choose) == [[7] * 3, [], [7] * 3]
    assert all(1 not in rows for rows in seen if rows != seen[0] and len(rows) < 3)


def test_the_control_has_the_same_parameters_and_no_recursion():
    assert count_parameters(hrm()) == count_parameters(hrm(H_cycles=0))
    assert hrm().state_dict().keys() == hrm(H_cycles=0).state_dict().keys()
    batch = collate([LONG])
    assert not torch.allclose(hrm().nll(batch), hrm(H_cycles=0).nll(batch))
    assert not torch.allclose(hrm(H_cycles=1).nll(batch), hrm(H_cycles=2).nll(batch))


def test_gradient_reaches_every_parameter():
    model = hrm()
    model.nll(collate([LONG, SHORT])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_too_long_texts_are_refused_with_their_length():
    with pytest.raises(ValueError, match="source: got 40 tokens, expected at most 32"):
        hrm().nll(collate([Pair((5,) * 40, (2,))]))
    with pytest.raises(ValueError, match="target: got 40 tokens"):
        hrm().nll(collate([Pair((5,), (5,) * 40)]))
    with pytest.raises(ValueError, match="H_cycles: got -1"):
        Seq2SeqConfig(SIZE, H_cycles=-1)


def test_joined_rows_hold_no_padding_between_source_and_target():
    ids, is_source = join(collate([LONG, SHORT]))
    assert ids.tolist() == [[*LONG.source, *LONG.target], [*SHORT.source, *SHORT.target, 0, 0]]
    assert is_source.sum(1).tolist() == [6, 2]


def test_hrm_text_agrees_with_the_library_on_mask_and_loss():
    """The library's own loss with labels of the target, and its own `generate`, against this contract."""
    model, source, target = MODELS["HRM-Text"], LONG.source, LONG.target
    ids = torch.tensor([[*source, *target]])
    kinds = torch.tensor([[1] * len(source) + [0] * len(target)])
    labels = torch.where(kinds == 1, -100, ids)
    own = model.nll(collate([LONG]))
    theirs = model.lm(input_ids=ids, token_type_ids=kinds, labels=labels).loss
    torch.testing.assert_close(own.sum() / len(target), theirs, atol=1e-5, rtol=1e-5)
    swapped = torch.tensor([[6, 5, *source[2:], *target]])  # a prefix that sees itself in both directions
    first = model.lm(input_ids=ids, token_type_ids=kinds).logits[0, 0]
    later = model.lm(input_ids=torch.cat([ids[:, :4], swapped[:, 4:5] * 0 + 13, ids[:, 5:]], 1), token_type_ids=kinds)
    assert not torch.allclose(first, later.logits[0, 0])
    said = model.lm.generate(torch.tensor([source]), token_type_ids=torch.ones(1, len(source), dtype=torch.long),
                             max_new_tokens=5, do_sample=False)[0, len(source):].tolist()
    mine = model.generate(*padded([source]), 5)[0]
    assert said[:len(mine)] == mine
