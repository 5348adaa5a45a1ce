"""Pairs of token ids, batches of them with truly separate lengths, and their order in an epoch.

Unusual: source and target are padded apart, each to the longest of its own kind in the batch, and the loss mask comes
from the target's length alone. (One shared maximum for both, a mask from the input's length and a loss over padding
are how a model of this kind is most often broken in silence.) Batches are not sorted by length: tests of one family are
equally long, so that sorting puts one family in a batch, and a model learns to write tests without ever telling
families apart (perplexity 1.04 and one test in twenty correct; measured). Their order depends on seed and epoch
alone, so that a resumed run needs no more than its step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrm_lab.testgen.tokenizer import PAD


@dataclass(frozen=True)
class Pair:
    """One example as token ids; `target` ends with the end token; `weight` scales its loss."""

    source: tuple[int, ...]
    target: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """source (B, S), target (B, T) int64 padded with PAD; *_lengths (B,) int64; weight (B,) float32.

    said (B, T): the target as the model reads it, which in training may have hidden tokens.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    target_lengths: Tensor
    weight: Tensor
    said: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    @property
    def source_mask(self) -> Tensor:
        """(B, S) bool: a source token, not padding."""
        return real(self.source_lengths, self.source.shape[1])

    @property
    def target_mask(self) -> Tensor:
        """(B, T) bool: a target token, not padding."""
        return real(self.target_lengths, self.target.shape[1])


def real(lengths: Tensor, width: int) -> Tensor:
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def padded(rows: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Ids (B, longest) and lengths (B,) of rows of ids."""
    lengths = torch.tensor([len(row) for row in rows])
    out = torch.full((len(rows), int(lengths.max())), PAD)
    for b, row in enumerate(rows):
        out[b, :len(row)] = torch.tensor(row)
    return out, lengths


def collate(pairs: list[Pair]) -> Batch:
    """Raises ValueError naming the example: no example at all, an empty source or an empty target."""
    if not pairs:
        raise ValueError("batch: got 0 examples, expected at least 1")
    for n, pair in enumerate(pairs):
        for field in ("source", "target"):
            if not getattr(pair, field):
                raise ValueError(f"batch: example {n}: {field} has 0 tokens, expected at least 1")

    target, lengths = padded([p.target for p in pairs])
    weight = torch.tensor([p.weight for p in pairs], dtype=torch.float32)
    return Batch(*padded([p.source for p in pairs]), target, lengths, weight, target.clone())


def epoch_order(pairs: list[Pair], batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch as arrays of indices: every example once, in random order."""
    order = np.random.default_rng((seed, epoch)).permutation(len(pairs))
    return [order[at:at + batch] for at in range(0, len(order), batch)]
