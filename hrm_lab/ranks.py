"""The processes that train one model together: which lanes are mine, and the little that they tell each other.

Every process (rank) holds an equal, contiguous share of the global batch's lanes, and a full copy of all the rest:
weights, optimiser state, data stream, exploration generator. Each draws for the lanes of all and keeps its own, so
that the data do not depend on the number of processes. A step needs two exchanges: the mask of halted lanes, and
the gradients, averaged over one flat buffer.

Unusual: no DistributedDataParallel. Its hooks expect one forward a backward; a segment calls the levels many times,
most of them without gradient. One process is the same code with every exchange left out, and only more than one
needs Accelerate, which `hrm_lab.distributed` imports.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def share(batch: int, count: int) -> int:
    """Lanes of each process. ValueError if the processes would not get equally many."""
    if batch % count:
        raise ValueError(f"TrainConfig.batch: got {batch} lanes for {count} processes, expected a multiple of {count}")
    return batch // count


class Ranks:
    """The exchanges; `accelerator` is an `accelerate.Accelerator`, or None for one process."""

    def __init__(self, accelerator=None):
        self.accelerator = accelerator
        self.rank = accelerator.process_index if accelerator else 0
        self.count = accelerator.num_processes if accelerator else 1
        self.chief = self.rank == 0  # evaluates, decides and writes; the others wait

    def mine(self, t: Tensor) -> Tensor:
        """(batch, ...) in the order of lanes -> (batch / count, ...) of this process."""
        return t.chunk(self.count)[self.rank]

    def gather(self, t: Tensor) -> Tensor:
        """(b, ...) of each process -> (b * count, ...) in the order of lanes, on all of them; any dtype."""
        if self.count == 1:
            return t
        raw = t.detach().contiguous().reshape(-1).view(torch.uint8)  # not every backend sends bool or bf16
        return self.accelerator.gather(raw).view(t.dtype).view(-1, *t.shape[1:])

    def average(self, tensors: list[Tensor]):
        """Replace each tensor by its mean over the processes: one exchange for all of them."""
        if self.count > 1:
            flat = self.accelerator.reduce(torch.cat([t.reshape(-1) for t in tensors]), "mean")
            for t, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                t.copy_(mean.view_as(t))

    def take(self, take: Callable, halted: Tensor) -> Callable:
        """`take(n)` for the halted lanes (b,) of this process: drawn for those of all processes, in order of lanes."""
        if self.count == 1:
            return take
        each = self.gather(halted).view(self.count, -1).sum(1).tolist()  # halted lanes of each process
        drawn = take(sum(each)) if sum(each) else ()
        first = sum(each[:self.rank])
        return lambda n: tuple(column[first:first + n] for column in drawn)

    def table(self, numbers: list[float]) -> np.ndarray:
        """k numbers of each process -> (count, k) float64, on all of them."""
        if self.count == 1:
            return np.array([numbers])
        return self.gather(torch.tensor([numbers], dtype=torch.float64, device=self.accelerator.device)).cpu().numpy()

    def chief_says(self, yes: bool) -> bool:
        """The first process's answer, on all of them."""
        return bool(self.table([yes])[0, 0])

    def same(self, tensors: list[Tensor], step: int):
        """RuntimeError unless all processes hold the same values (to a checksum)."""
        if self.count > 1:
            sums = self.table([float(torch.stack([t.detach().double().sum() for t in tensors]).sum())])[:, 0].tolist()
            other = next((i for i, found in enumerate(sums) if found != sums[0]), 0)
            if other:
                raise RuntimeError(f"step {step}: the weights of process {other} sum to {sums[other]!r}, expected "
                                   f"{sums[0]!r} as in process 0 (all need the same hardware and versions)")

    def wait(self):
        """Until every process is here."""
        if self.count > 1:
            self.accelerator.wait_for_everyone()
