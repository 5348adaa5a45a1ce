"""The official HRM and TRM weights give the official outputs here (recorded tensors: tests/fixtures/README.md)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hrm_lab import act
from hrm_lab.official import from_state_dict, load_official

FIXTURES = Path(__file__).parent / "fixtures"
FILES = sorted(FIXTURES.glob("official_*.safetensors"))


def read(path):
    with safe_open(path, "pt") as f:
        tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        return tensors, json.loads(f.metadata()["config"]), f.metadata()


@pytest.fixture(params=FILES, ids=lambda p: p.stem)
def recorded(request):
    tensors, config, meta = read(request.param)
    state = {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}
    return tensors, from_state_dict(state, config | {"loss_type": meta["loss_type"]})


def test_there_are_four_recordings():
    assert len(FILES) == 4


def test_three_segments_give_the_recorded_outputs(recorded):
    t, model = recorded
    z_H, z_L = model.initial_state(len(t["inputs"]))
    for k in (1, 2, 3):
        with torch.no_grad():
            z_H, z_L, logits, q = model(t["inputs"].long(), t["puzzle_identifiers"].long(), z_H, z_L)
        for name, ours in (("logits", logits), ("z_H", z_H), ("z_L", z_L), ("q_halt", q[:, 0])):
            assert float((ours - t[f"{name}_{k}"]).abs().max()) < 1e-4, f"{name}_{k}"


def test_the_loss_and_the_gradient_are_theirs(recorded):
    t, model = recorded
    B = len(t["inputs"])
    carry = act.initial_carry(model, B, torch.device("cpu"), torch.float32)
    act.refill(model, carry, lambda n: (t["inputs"].long().numpy(), t["labels"].long().numpy(),
                                        t["puzzle_identifiers"].long().numpy()))
    loss, parts = act.segment(model, carry, torch.Generator().manual_seed(0))
    assert float(parts["answer_loss"]) * B == pytest.approx(float(t["lm_loss_1"]), abs=1e-4)
    assert float(parts["halt_loss"]) * B == pytest.approx(float(t["q_halt_loss_1"]), abs=1e-4)
    assert float(loss.detach()) * B == pytest.approx(float(t["train/loss"]), abs=2e-4)
    loss.backward()
    assert float(model.head.weight.grad.norm()) * B == pytest.approx(
        float(next(v for k, v in t.items() if k.startswith("train/grad_norm/") and "lm_head" in k)), rel=1e-3)
    depth = model.L_level.layers[0].mlp.down.weight.grad.norm()
    assert float(depth) * B == pytest.approx(float(next(
        v for k, v in t.items() if k.startswith("train/grad_norm/") and "L_level.layers.0.mlp.down" in k)), rel=1e-3)


def test_a_file_loads_by_its_path_and_a_foreign_key_is_named(tmp_path):
    tensors, config, _ = read(FILES[0])
    assert load_official_state(tmp_path, tensors, config)
    with pytest.raises(ValueError, match="foreign.weight"):
        load_official_state(tmp_path, tensors | {"state/foreign.weight": torch.zeros(1)}, config)
    short = {k: v for k, v in tensors.items() if "lm_head" not in k}
    with pytest.raises(ValueError, match="no weights for head.weight"):
        load_official_state(tmp_path, short, config)
    (tmp_path / "step_1").write_bytes(b"PK\x03\x04 not safetensors")
    with pytest.raises(ValueError, match="step_1: not a safetensors file"):
        load_official(tmp_path / "step_1", config)


def load_official_state(tmp_path, tensors, config):
    path = tmp_path / "weights.safetensors"
    save_file({k: v for k, v in tensors.items() if k.startswith("state/")}, path)
    return load_official(path, config)
