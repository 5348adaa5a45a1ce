"""Tiny data and models that every test can afford."""

import numpy as np
import pytest
import torch

from hrm_lab.model import HRMConfig
from hrm_lab.puzzles.dataset import IGNORE, Meta, Split

torch.set_num_threads(1)


def toy_split(n: int = 64, seq_len: int = 6, seed: int = 0) -> Split:
    """Copy (task token 1) or increment (task token 2) of digits 3..7; the task token's label is ignored."""
    rng = np.random.default_rng(seed)
    tasks = np.arange(n) % 2
    digits = rng.integers(0, 5, (n, seq_len - 1))
    inputs = np.concatenate((tasks[:, None] + 1, digits + 3), axis=1).astype(np.int32)
    labels = np.concatenate((np.full((n, 1), IGNORE), (digits + tasks[:, None]) % 5 + 3), axis=1).astype(np.int32)
    meta = Meta(seq_len=seq_len, vocab_size=8, name="toy", tasks=("copy", "increment"), total_groups=n)
    return Split(inputs, labels, np.zeros(n, np.int32), tasks.astype(np.int32), np.linspace(0, 1, n, dtype=np.float32),
                 np.arange(n, dtype=np.int32), meta)


@pytest.fixture
def toy():
    return toy_split()


def tiny(**changes) -> HRMConfig:
    """A model of a few thousand parameters over the toy data."""
    values = dict(vocab_size=8, seq_len=6, hidden=16, heads=2, H_layers=1, L_layers=1, inner_multiple=16,
                  mixer_multiple=8, expansion=2, halt_max_steps=3)
    return HRMConfig(**values | changes)
