"""The model family: what each variant computes, and where its gradient flows."""

import math

import pytest
import torch
import torch.nn.functional as F

from conftest import tiny
from hrm_lab.model import HRM, HRMConfig, attend, log_stablemax, rms_norm
from hrm_lab.positions import grid_ids, peer_masks, rotate, rotation_tables


def run(model, B=3, T=6):
    torch.manual_seed(1)
    inputs = torch.randint(0, 8, (B, T))
    return model(inputs, torch.zeros(B, dtype=torch.int64), *model.initial_state(B))


@pytest.mark.parametrize("variant", ["hrm", "trm", "plain"])
@pytest.mark.parametrize("mixer", ["attention", "mlp"])
@pytest.mark.parametrize("positions", ["none", "learned", "rope", "grid", "near", "axial"])
def test_shapes_of_every_combination(variant, mixer, positions):
    model = HRM(tiny(variant=variant, mixer=mixer, positions=positions, grid=(2, 3, 1, 1), heads=4, prefix=1,
                     halt_max_steps=1 if variant == "plain" else 3))
    z_H, z_L, logits, q = run(model)
    assert z_H.shape == z_L.shape == (3, 7, 16) and logits.shape == (3, 6, 8) and q.shape == (3, 2)


def count_calls(model):
    """(level, with gradient) for each call, in order."""
    calls = []
    for name in ("H_level", "L_level"):
        if hasattr(model, name):
            level = getattr(model, name)
            level.register_forward_hook(lambda m, a, out, n=name: calls.append((n[0], out.requires_grad)))
    run(model)
    return calls


def test_hrm_has_the_one_step_gradient_and_trm_the_whole_last_cycle():
    hrm = count_calls(HRM(tiny(variant="hrm", H_cycles=2, L_cycles=3)))
    assert "".join(n for n, _ in hrm) == "LLLHLLLH"
    assert [g for _, g in hrm] == [False] * 6 + [True] * 2
    trm = count_calls(HRM(tiny(variant="trm", H_cycles=2, L_cycles=3)))
    assert len(trm) == 8 and [g for _, g in trm] == [False] * 4 + [True] * 4
    switched = count_calls(HRM(tiny(variant="hrm", gradient="last-cycle", H_cycles=2, L_cycles=3)))
    assert [g for _, g in switched] == [False] * 4 + [True] * 4


def test_the_plain_control_ignores_the_carry():
    model = HRM(tiny(variant="plain", halt_max_steps=1))
    inputs, ids = torch.ones(2, 6, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    z_H, z_L = model.initial_state(2)
    torch.testing.assert_close(model(inputs, ids, z_H, z_L)[2], model(inputs, ids, z_H + 1, z_L - 1)[2])


def test_one_block_is_what_its_formula_says():
    """An independent reference: explicit softmax attention and norms in fp64 for a one-layer model."""
    model = HRM(tiny(variant="plain", halt_max_steps=1, positions="none", heads=1)).double()
    block, x = model.L_level.layers[0], torch.randn(2, 6, 16, dtype=torch.float64)
    q, k, v = (x @ block.attention.qkv.weight.T).split(16, dim=-1)
    attended = torch.softmax(q @ k.mT / 4, dim=-1) @ v @ block.attention.out.weight.T

    def norm(y):
        return y / torch.sqrt((y**2).mean(-1, keepdim=True) + 1e-5)

    y = norm(x + attended)
    gate, up = (y @ block.mlp.gate_up.weight.T).chunk(2, dim=-1)
    expected = norm(y + (gate / (1 + torch.exp(-gate)) * up) @ block.mlp.down.weight.T)
    torch.testing.assert_close(block(x, None, None), expected)


def test_rotation_depends_on_the_distance_only():
    cos, sin = rotation_tables(tiny(positions="rope", hidden=16, heads=2))
    a, b = torch.randn(8), torch.randn(8)

    def product(i, j):
        return float(rotate(a[None], cos[i:i + 1], sin[i:i + 1]) @ rotate(b[None], cos[j:j + 1], sin[j:j + 1]).T)

    assert product(0, 2) == pytest.approx(product(3, 5), abs=1e-5)
    assert abs(product(0, 2) - product(0, 3)) > 1e-4


def test_axial_rotation_moves_with_rows_and_columns():
    c = HRMConfig(vocab_size=8, seq_len=9, positions="axial", grid=(3, 3, 1, 1), hidden=16, heads=2)
    cos, sin = rotation_tables(c)
    a, b = torch.randn(8), torch.randn(8)

    def product(i, j):
        return float(rotate(a[None], cos[i:i + 1], sin[i:i + 1]) @ rotate(b[None], cos[j:j + 1], sin[j:j + 1]).T)

    assert product(0, 4) == pytest.approx(product(4, 8), abs=1e-5)  # the same step of one row and one column
    assert abs(product(0, 1) - product(0, 3)) > 1e-4  # a row is not a column


def test_heads_on_a_4x4_sudoku_look_along_rows_columns_boxes_and_everywhere():
    assert grid_ids((4, 4, 2, 2))[[0, 6, 15]].tolist() == [[0, 0, 0], [1, 2, 1], [3, 3, 3]]
    masks = peer_masks(HRMConfig(vocab_size=6, seq_len=16, positions="grid", grid=(4, 4, 2, 2), hidden=16, heads=4))
    seen = [(masks[h, 5] == 0).nonzero().squeeze(1).tolist() for h in range(4)]  # cell 5: row 1, column 1, first box
    assert seen == [[4, 5, 6, 7], [1, 5, 9, 13], [0, 1, 4, 5], list(range(16))]


def test_heads_near_a_cell_see_it_and_the_four_beside_it_and_the_weights_know_no_size():
    small, large = (HRMConfig(vocab_size=6, seq_len=side * side, positions="near", grid=(side, side, 1, 1), hidden=16,
                              heads=2) for side in (3, 4))
    seen = [(peer_masks(large)[h, 5] == 0).nonzero().squeeze(1).tolist() for h in range(2)]
    assert seen == [[1, 4, 5, 6, 9], list(range(16))]
    HRM(large).load_state_dict(HRM(small).state_dict())


def test_puzzle_embedding_is_the_prefix():
    model = HRM(tiny(num_puzzles=3, prefix=2, puzzle_dim=20))
    with torch.no_grad():
        model.puzzle_embed[1] += 1
    inputs, state = torch.ones(2, 6, dtype=torch.int64), model.initial_state(2)
    logits = model(inputs, torch.tensor([0, 1]), *state)[2]
    assert not torch.allclose(logits[0], logits[1])


def test_stablemax_is_a_distribution_and_rms_norm_has_unit_scale():
    x = torch.randn(5, 7) * 10
    torch.testing.assert_close(log_stablemax(x).exp().sum(-1), torch.ones(5))
    assert log_stablemax(torch.zeros(1, 4))[0, 0] == pytest.approx(-math.log(4))
    torch.testing.assert_close((rms_norm(x, 1e-5) ** 2).mean(-1), torch.ones(5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_rms_norm_and_attention_agree_with_torch_in_value_and_gradient(dtype):
    near = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {}
    x = torch.randn(3, 2, 7, 4, dtype=dtype, requires_grad=True)
    mask = torch.zeros(2, 7, 7, dtype=dtype).masked_fill(torch.rand(2, 7, 7) < 0.3, -math.inf)
    mask[:, range(7), range(7)] = 0  # every position sees at least itself
    weight = torch.randn(3, 2, 7, 4, dtype=dtype)
    for ours, reference in ((rms_norm(x, 1e-5), F.rms_norm(x, (4,), eps=1e-5)),
                            (attend(x, x.flip(0), x * 2, mask),
                             F.scaled_dot_product_attention(x, x.flip(0), x * 2, attn_mask=mask))):
        torch.testing.assert_close(ours, reference, **near)
        found, expected = (torch.autograd.grad(y, x, weight)[0] for y in (ours, reference))
        torch.testing.assert_close(found, expected, **near)


@pytest.mark.parametrize(("change", "message"), [
    ({"variant": "hrn"}, "variant: got 'hrn', expected one of hrm, trm, plain"),
    ({"hidden": 17}, "hidden: got 17 with 2 heads"),
    ({"positions": "grid"}, "grid: got None"),
    ({"num_puzzles": 4}, "puzzle_dim: got 0"),
    ({"variant": "plain", "halt_max_steps": 4}, "halt_max_steps: got 4, expected 1"),
])
def test_bad_configs_name_field_value_and_expectation(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)
