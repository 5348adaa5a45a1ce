"""The analytic cost: exactly PyTorch's own FLOP counts, the fit, and the simulated lanes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conftest import tiny
from hrm_lab import act, cost, optim
from hrm_lab.model import HRM, count_parameters

SHAPES = {
    "hrm": {}, "trm": dict(variant="trm", L_layers=2, H_cycles=3), "plain": dict(variant="plain", halt_max_steps=1),
    "deep-gradient": dict(gradient="last-cycle", L_cycles=3, H_layers=2),
    "shallow-trm": dict(variant="trm", gradient="one-step", L_cycles=3),
    "q-continue": dict(q_continue=True), "q-continue-once": dict(q_continue=True, halt_max_steps=1),
    "prefix": dict(prefix=2), "puzzles": dict(prefix=2, num_puzzles=3, puzzle_dim=20, q_pool="first"),
    "wide": dict(hidden=24, heads=3, expansion=4, inner_multiple=8),
}


def counted(function) -> int:
    """FLOPs by PyTorch's counter; plain attention, because it has no formula for the CPU's fused one."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("mixer", ["attention", "mlp"])
@pytest.mark.parametrize("positions", ["learned", "rope", "grid"])
@pytest.mark.parametrize("name", SHAPES)
def test_flops_are_those_that_torch_counts(name, positions, mixer):
    c = tiny(mixer=mixer, positions=positions, grid=(2, 3, 1, 1), **SHAPES[name])
    model, batch = HRM(c), 3
    carry = act.initial_carry(model, batch, torch.device("cpu"), torch.float32)
    assert cost.parameters(c) == count_parameters(model)
    assert counted(lambda: act.segment(model, carry, torch.Generator())[0].backward()) == cost.work(c, batch).flops
    with torch.no_grad():
        inference = counted(lambda: model(carry.inputs, carry.puzzle_ids, carry.z_H, carry.z_L))
    assert inference == cost.work(c, batch, training=False).flops
    assert cost.work(c, batch, training=False).parameter_bytes == 0


def test_level_calls_name_the_gradient():
    assert [(k.level, k.gradient) for k in cost.level_calls(tiny(H_cycles=2, L_cycles=2))] == [
        ("L", False), ("L", False), ("H", False), ("L", False), ("L", True), ("H", True)]
    assert not any(k.gradient for k in cost.level_calls(tiny(variant="trm"), training=False))


@pytest.mark.parametrize("variant", ["hrm", "trm"])
def test_muon_flops_are_those_that_torch_counts(variant):
    model = HRM(c := tiny(variant=variant))
    muon = optim.build("muon", model, 0.02, 0.0, (0.9, 0.95), 0.01)[0]
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    assert counted(muon.step) == cost.muon_flops(c)


@pytest.mark.parametrize("changes", [{}, dict(positions="rope"), dict(variant="trm"), dict(mixer="mlp", seq_len=12)])
def test_memory_is_what_backward_keeps(changes):
    c, batch, storages = tiny(hidden=32, inner_multiple=32, halt_max_steps=2, **changes), 16, {}
    model = HRM(c)
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}

    def keep(t):
        if t.untyped_storage().data_ptr() not in weights:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage()  # held, so that no address is used twice
        return t

    carry = act.initial_carry(model, batch, torch.device("cpu"), torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        act.segment(model, carry, torch.Generator())
    kept = sum(s.nbytes() for s in storages.values())
    assert kept == pytest.approx(cost.training_bytes(c, batch) - 16 * cost.parameters(c), rel=0.25)


def test_the_published_hrm_has_its_published_size():
    found = cost.published()
    assert cost.parameters(found["HRM Sudoku 9x9"].model) == 27_275_266 + 512  # and the one puzzle embedding
    assert cost.parameters(found["TRM-mlp Sudoku 9x9"].model) == pytest.approx(5e6, rel=0.1)
    assert found["HRM Sudoku 9x9"].steps == 52_083


# ---------------------------------------------------------------- seconds

GRID = [tiny(seq_len=T, hidden=D, heads=2, H_cycles=H) for T in (6, 40) for D in (16, 64) for H in (1, 3)]


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.sampled_from([0.0, 1.0, 5.0])] * 5))
def test_fit_recovers_a_machine_that_obeys_the_model(units):
    true = cost.TimeModel(1e-5 + 1e-3 * units[0], 1e-4 * units[1], 1e-11 * units[2], 1e-10 * units[3], 1e-9 * units[4])
    works = [cost.work(c, batch) for c in GRID for batch in (1, 16)]
    seconds = np.array([true.seconds(w) for w in works])
    found = cost.fit(works, seconds)
    np.testing.assert_allclose([found.seconds(w) for w in works], seconds, rtol=1e-5)
    assert min(vars(found).values()) >= 0
    assert np.abs(cost.held_out_errors(works, seconds)).max() < 1e-3


def test_fit_never_returns_a_negative_coefficient():
    rng = np.random.default_rng(0)
    works = [cost.work(c, batch) for c in GRID for batch in (1, 16)]
    assert min(vars(cost.fit(works, rng.uniform(0.1, 1, len(works)))).values()) >= 0


def test_errors_say_what_was_expected():
    works = [cost.work(c, 1) for c in GRID]
    for call, text in ((lambda: cost.fit(works[:3], [1, 2, 3]), "at least 5"),
                       (lambda: cost.fit(works, [0.0] * len(works)), "positive seconds"),
                       (lambda: cost.accelerator(1e12, 2.0), "utilisation in"),
                       (lambda: cost.halting_depths(9.0, 8, 4, np.random.default_rng(0)), "1 to max_steps = 8"),
                       (lambda: cost.lane_widths(np.ones(3, int), 2, 8, "none"), "one of full")):
        with pytest.raises(ValueError, match=text):
            call()


def test_accelerator_is_flops_over_rate():
    w = cost.work(tiny(), 4)
    assert cost.accelerator(1e12, 0.5).seconds(w) == pytest.approx(w.flops / 5e11)


# ---------------------------------------------------------------- lanes


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=40), st.integers(1, 9))
def test_no_policy_loses_work(depths, lanes):
    depths = np.array(depths)
    full, wait, compact, refill = (cost.lane_widths(depths, lanes, 8, p) for p in cost.POLICIES)
    assert full.sum() == 8 * len(depths)
    assert full.sum() >= wait.sum() >= compact.sum() == refill.sum() == depths.sum()
    assert max(map(max, (full, wait, compact, refill))) <= lanes
    assert len(refill) <= len(wait) == len(compact) <= len(full)
    assert refill.min() >= 1


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 8), st.integers(0, 5))
def test_depths_have_their_mean(mean, seed):
    depths, solved = cost.halting_depths(mean, 8, 20_000, np.random.default_rng(seed))
    assert depths.min() >= 1 and depths.max() <= 8
    assert depths.mean() == pytest.approx(mean, abs=0.12)
    assert solved[depths < 8].all()


def test_halting_early_pays_most_when_puzzles_are_easy():
    c = tiny(halt_max_steps=8)
    rows = cost.worth_of_halting(c, cost.accelerator(1e9), 16, [1.0, 2.0, 8.0], puzzles=64, repeats=5)
    savings = [row["saving/compact"]["value"] for row in rows]
    assert savings[0] == pytest.approx(8) and savings[2] == pytest.approx(1) and savings[0] > savings[1] > savings[2]
    for row in rows:
        s = row["seconds/refill"]
        assert s["low"] <= s["value"] <= s["high"] and s["n"] == 5
    overhead = cost.worth_of_halting(c, cost.TimeModel(per_block=1.0), 16, [2.0], puzzles=64, repeats=5)[0]
    assert overhead["saving/compact"] == overhead["saving/wait"]  # narrow batches save nothing where launches cost all
    assert overhead["saving/refill"]["value"] > overhead["saving/compact"]["value"]
