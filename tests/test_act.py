"""Adaptive computation time: lanes, halting, targets, and the two ways to evaluate."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conftest import tiny, toy_split
from hrm_lab import act
from hrm_lab.model import HRM
from hrm_lab.puzzles.dataset import Sampler


def start(model, lanes=8):
    carry = act.initial_carry(model, lanes, torch.device("cpu"), torch.float32)
    return carry, Sampler(toy_split(), seed=0), torch.Generator().manual_seed(0)


def set_q(model, halt, go_on=0.0):
    with torch.no_grad():
        model.q_head.weight.zero_()
        model.q_head.bias.copy_(torch.tensor([halt, go_on]))


def test_only_halted_lanes_get_a_new_puzzle():
    model = HRM(tiny())
    carry, sampler, generator = start(model)
    act.refill(model, carry, sampler.take)
    assert sampler.drawn == 8
    act.segment(model, carry, generator)
    carry.halted = torch.arange(8) < 3
    before, states = carry.inputs.clone(), carry.z_H.clone()
    act.refill(model, carry, sampler.take)
    assert sampler.drawn == 11
    assert torch.equal(carry.inputs[3:], before[3:]) and torch.equal(carry.z_H[3:], states[3:])
    assert torch.equal(carry.z_H[0], model.H_init.expand(6, -1))
    assert carry.steps.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_halting_follows_the_q_head_and_ends_at_the_maximum():
    model = HRM(tiny(halt_exploration=0.0))
    set_q(model, halt=5.0)
    carry, sampler, generator = start(model)
    act.refill(model, carry, sampler.take)
    act.segment(model, carry, generator)
    assert carry.halted.all()
    set_q(model, halt=-5.0)
    act.refill(model, carry, sampler.take)
    for step in (1, 2, 3):
        act.segment(model, carry, generator)
        assert carry.halted.all() == (step == 3)


def test_exploration_keeps_a_known_share_of_lanes_going():
    config = tiny(halt_exploration=0.25, halt_max_steps=5)
    least = act.least_steps(config, 20000, torch.Generator().manual_seed(0))
    assert (least > 0).float().mean() == pytest.approx(0.25, abs=0.02)
    assert set(least.tolist()) == {0, 2, 3, 4, 5}


@pytest.mark.parametrize("changes", [{}, {"q_continue": True}, {"latents": 2}])
def test_passes_over_some_lanes_add_up_to_one_over_all(changes):
    """Three passes of 3, 3 and 2 lanes: the same gradient, states, halting and exploration as one pass over eight."""
    found = []
    for lanes in (0, 3):
        torch.manual_seed(0)
        model = HRM(tiny(halt_exploration=0.5, **changes)).double()
        carry, sampler, generator = start(model)
        carry.z_H, carry.z_L = carry.z_H.double(), carry.z_L.double()
        for _ in range(2):
            act.refill(model, carry, sampler.take)
            parts = act.learn(model, carry, generator, lanes=lanes)
        found.append([*(p.grad for p in model.parameters()), *vars(carry).values(), parts["loss"]])
    for whole, pieces in zip(*found, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-6, atol=1e-7)


def test_q_learning_target_is_the_next_segments_best_value():
    model = HRM(tiny(q_continue=True, halt_exploration=0.0))
    set_q(model, halt=0.3, go_on=0.7)
    carry, sampler, generator = start(model)
    act.refill(model, carry, sampler.take)
    loss, parts = act.segment(model, carry, generator)
    target = torch.tensor(0.7).sigmoid()  # max(halt, continue) of a constant head
    expected = 0.5 * F.binary_cross_entropy_with_logits(torch.tensor(0.7), target)
    assert float(loss.detach() - parts["loss"]) == 0
    rest = loss.detach() - parts["answer_loss"] - 0.5 * parts["halt_loss"]
    assert float(rest) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "stablemax"])
def test_token_loss_ignores_unscored_positions(kind):
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[1, 2, act.IGNORE], [4, 0, 3]])
    loss = act.token_loss(kind, logits, labels)
    assert loss[0, 2] == 0 and (loss[labels != act.IGNORE] > 0).all()


def test_early_halting_gives_the_same_answers_whether_or_not_the_rest_runs_on():
    torch.manual_seed(0)
    model, data = HRM(tiny(halt_max_steps=6)), toy_split(100)
    with torch.no_grad():  # a head that halts at different depths for different puzzles
        model.q_head.weight.normal_(std=2.0)
        model.q_head.bias.zero_()
    whole, early = act.evaluate(model, data, batch=32), act.evaluate(model, data, full=False, batch=32)
    assert len(set(early.steps.tolist())) > 1
    assert np.array_equal(whole.steps, early.steps) and np.array_equal(whole.predictions, early.predictions)
    assert np.allclose(whole.loss, early.loss, atol=1e-5)
    assert early.full_exact is None and whole.exact_by_step.shape == (6, 100)
    assert np.array_equal(whole.full_exact, whole.exact_by_step[-1])


def test_judge_counts_scored_tokens_only():
    labels = np.array([[1, 2, act.IGNORE], [1, 2, 3]])
    exact, share = act.judge(np.array([[1, 2, 9], [1, 2, 9]]), labels)
    assert exact.tolist() == [True, False] and share.tolist() == [1.0, pytest.approx(2 / 3)]


def test_trace_ends_where_evaluation_at_full_depth_ends():
    torch.manual_seed(0)
    model, data = HRM(tiny(H_cycles=2, L_cycles=2)), toy_split(1)
    frames = act.trace(model, data.inputs[0])
    assert len(frames) == 3 * 6  # segments x (2 x (2 L updates + 1 H update))
    assert np.array_equal(frames[-1]["answer"], act.evaluate(model, data).full_predictions[0])


# ---------------------------------------------------------------- several latents


def several(K=3, **changes):
    torch.manual_seed(0)
    model = HRM(tiny(latents=K, halt_exploration=0.0, **changes))
    return model, *start(model)


def test_a_lane_starts_from_k_different_states_and_is_refilled_whole():
    model, carry, sampler, generator = several()
    act.refill(model, carry, sampler.take)
    assert carry.z_L.shape == (8, 3, 6, 16) and carry.inputs.shape == (8, 6)
    assert not torch.equal(carry.z_L[0, 0], carry.z_L[0, 1]) and torch.equal(carry.z_H[0, 0], carry.z_H[0, 1])
    act.segment(model, carry, generator)
    carry.halted = torch.arange(8) < 3
    before = carry.z_L.clone()
    act.refill(model, carry, sampler.take)
    assert torch.equal(carry.z_L[3:], before[3:]) and torch.equal(carry.z_L[:3], model.initial_state(3)[1])


def test_only_the_best_latent_is_learned_from():
    """Its loss and the gradient of the stacks are those of a model that has no other latent."""
    model, carry, sampler, generator = several()
    act.refill(model, carry, sampler.take)
    outputs = [model(carry.inputs, carry.puzzle_ids, carry.z_H[:, k], carry.z_L[:, k]) for k in range(3)]
    losses = torch.stack([act.answer_loss("softmax", out[2], carry.labels) for out in outputs])  # (K, B)
    assert len(set(losses.argmin(0).tolist())) > 1
    losses.amin(0).mean().backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss, parts = act.segment(model, carry, generator)
    loss.backward()
    assert float(parts["answer_loss"]) == pytest.approx(float(losses.detach().amin(0).mean()), abs=1e-6)
    for name, p in model.named_parameters():
        if not name.startswith("q_head"):  # its weights start at zero, so the halting loss reaches nothing else yet
            torch.testing.assert_close(p.grad, expected[name], atol=1e-6, rtol=1e-4, msg=name)
    for k in range(3):
        torch.testing.assert_close(carry.z_H[:, k], outputs[k][0].detach())


def test_the_head_is_trained_on_all_latents():
    model, carry, sampler, generator = several()
    set_q(model, halt=0.0)
    act.refill(model, carry, sampler.take)
    with torch.no_grad():
        q = [model(carry.inputs, carry.puzzle_ids, carry.z_H[:, k], carry.z_L[:, k]) for k in range(3)]
        pooled = torch.stack([z_H.mean(1) for z_H, *_ in q])  # (K, B, D)
    loss, parts = act.segment(model, carry, generator)
    loss.backward()
    assert float(parts["exact_match"]) == 0 and float(parts["halt_loss"]) == pytest.approx(math.log(2))
    # 0.5 (weight of the loss) x 0.5 (a probability of one half where nothing is right) x the mean feature
    torch.testing.assert_close(model.q_head.weight.grad[0], 0.25 * pooled.mean((0, 1)), atol=1e-6, rtol=1e-4)


def test_the_most_confident_latent_answers_and_halts():
    model, data = several(halt_max_steps=4)[0], toy_split(60)
    with torch.no_grad():
        model.q_head.weight.normal_(std=2.0)
        model.q_head.bias.fill_(-7.0)  # some halt early
    whole, early = act.evaluate(model, data, batch=32), act.evaluate(model, data, full=False, batch=32)
    assert len(set(early.steps.tolist())) > 1 and np.array_equal(whole.predictions, early.predictions)
    inputs, ids = torch.from_numpy(data.inputs.astype(np.int64)), torch.zeros(60, dtype=torch.int64)
    z_H, z_L = model.initial_state(60)
    each = [model(inputs, ids, z_H[:, k], z_L[:, k]) for k in range(3)]
    q = torch.stack([e[3][:, 0] for e in each])  # (K, N)
    _, _, logits, chosen = act.step(model, inputs, ids, z_H, z_L)
    torch.testing.assert_close(chosen[:, 0], q.amax(0))
    assert len(set(q.argmax(0).tolist())) > 1
    torch.testing.assert_close(logits[5], each[int(q[:, 5].argmax())][2][5])


def test_trace_of_several_latents_ends_with_the_chosen_answer():
    model, data = several(halt_max_steps=2)[0], toy_split(1)
    with torch.no_grad():
        model.q_head.weight.normal_(std=2.0)
    frames = act.trace(model, data.inputs[0])
    assert np.array_equal(frames[-1]["answer"], act.evaluate(model, data).full_predictions[0])


@pytest.mark.parametrize("changes", [{"latents": 0}, {"latents": 2, "q_continue": True},
                                     {"latents": 2, "variant": "plain", "halt_max_steps": 1}])
def test_latents_that_cannot_compete_are_refused(changes):
    with pytest.raises(ValueError, match=f"latents: got {changes['latents']}, expected at least 1"):
        tiny(**changes)
