"""Compiled level stacks: the same answers, compiled once a shape, never again for ragged batches."""

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from conftest import tiny, toy_split
from hrm_lab import act, onednn
from hrm_lab.train import TrainConfig, Trainer


@pytest.fixture
def trainers(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    config = TrainConfig(steps=50, batch=8, warmup=2)
    return [Trainer(tiny(halt_max_steps=3), TrainConfig(**vars(config) | {"compile": compiled}), toy_split(),
                    torch.device("cpu")) for compiled in (False, True)]


def test_compiled_training_follows_eager_and_ragged_evaluation_compiles_nothing(trainers, monkeypatch):
    eager, compiled = trainers
    losses = np.array([[float(t.advance()["loss"]) for t in trainers] for _ in range(6)])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], atol=1e-4)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    monkeypatch.setattr(act, "wants_to_halt", lambda c, q: torch.arange(len(q)) % 3 == 0)
    found = [act.evaluate(t.model, toy_split(60, seed=1), full=False, batch=25) for t in trainers]
    assert 1 < found[0].steps.mean() < 3  # lanes left at different times, so that batches were ragged
    np.testing.assert_array_equal(found[0].predictions, found[1].predictions)
    compiled.advance()
    assert counters["stats"]["unique_graphs"] == graphs


needs_onednn = pytest.mark.skipif(not onednn.available(torch.device("cpu")), reason="no oneDNN for this processor")


@needs_onednn
@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 6), (2, 3, 5, 9)])
def test_onednns_product_and_its_gradients_are_those_of_torch(shape):
    torch.manual_seed(0)
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(11, shape[-1], requires_grad=True)
    turned = x.transpose(0, -2)  # views, too
    grad = torch.randn(*turned.shape[:-1], 11)
    ours, reference = onednn.product(turned, weight), torch.nn.functional.linear(turned, weight)
    torch.testing.assert_close(ours, reference)
    for a, b in zip(torch.autograd.grad(ours, (x, weight), grad), torch.autograd.grad(reference, (x, weight), grad),
                    strict=True):
        torch.testing.assert_close(a, b)


@needs_onednn
def test_onednns_products_run_in_compiled_levels_only(trainers):
    def products(work) -> int:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            work()
        return sum(e.count for e in seen.key_averages() if e.key == "hrm_lab::product")

    eager, compiled = trainers
    compiled.advance()
    linears = 4 * len(eager.model.L_level.layers)
    assert products(eager.advance) == 0
    assert products(compiled.advance) > linears  # each cycle, and the gradients
    assert products(lambda: act.evaluate(compiled.model, toy_split(60, seed=1), full=False, batch=25)) == 0
