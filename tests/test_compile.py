"""Compiled level stacks: the same answers, compiled once a shape, never again for ragged batches."""

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from conftest import tiny, toy_split
from hrm_lab import act
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
