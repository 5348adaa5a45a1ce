"""Optimisers: Adam-atan2, Muon in fp32 with all matrices of a shape orthogonalised at once, sign SGD for puzzles.

Why here and not from a library: torch.optim.Muon orthogonalises matrix by matrix in bf16, which a CPU
without bf16 units does several times slower than fp32, and there is no Adam-atan2 in torch.
Sources: Everett et al. 2024 (arXiv 2407.05872) for atan2, Jordan et al. 2024 for Muon, the HRM paper for
sign SGD on puzzle embeddings.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

OPTIMIZERS = ("adamw", "adam-atan2", "muon")


class Optimizer(torch.optim.Optimizer):
    """torch's, but constructing it does not import the compiler, which takes a second."""

    add_param_group = torch.optim.Optimizer.add_param_group.__wrapped__


class AdamAtan2(Optimizer):
    """Adam without epsilon: the update is lr * atan2(m, sqrt(v)), so it does not depend on the loss's scale."""

    def __init__(self, params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 0.1):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p].update(m=torch.zeros_like(p), v=torch.zeros_like(p), t=torch.zeros(()))
            m, v, t = ([self.state[p][k] for p in params] for k in "mvt")
            beta1, beta2 = group["betas"]
            torch._foreach_add_(t, 1)
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
            step = float(t[0])
            correction = (1 - beta2**step) ** 0.5
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            root = torch._foreach_sqrt(v)
            torch._foreach_div_(root, correction / (1 - beta1**step))  # atan2 is scale-free: one division does both
            updates = [torch.atan2(a, b) for a, b in zip(m, root, strict=True)]
            torch._foreach_add_(params, updates, alpha=-group["lr"])


class Muon(Optimizer):
    """Momentum, then the nearest semi-orthogonal matrix by five Newton-Schulz steps; for matrices only."""

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.1):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for shape, params in shapes.items():
                for p in params:
                    if not self.state[p]:
                        self.state[p]["m"] = torch.zeros_like(p)
                m, grads = [self.state[p]["m"] for p in params], [p.grad for p in params]
                torch._foreach_lerp_(m, grads, 1 - group["momentum"])
                nesterov = torch._foreach_lerp(grads, m, group["momentum"])
                directions = orthogonalise(torch.stack(nesterov)) * max(1.0, shape[0] / shape[1]) ** 0.5
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(directions.unbind(0)), alpha=-group["lr"])


class SignSGD(Optimizer):
    """Sign of the gradient with decay, only on the rows that the batch used."""

    def __init__(self, params, lr: float = 1e-2, weight_decay: float = 0.1):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                rows = p.grad.abs().sum(1).nonzero().squeeze(1)
                p[rows] = p[rows] * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * p.grad[rows].sign()


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz on a batch (K, rows, columns): singular values near 1, vectors kept. bf16 on CUDA, else fp32."""
    x = g.bfloat16() if g.is_cuda else g
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
    return (x if wide else x.mT).to(g.dtype)


def build(name: str, model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float],
          puzzle_lr: float) -> list[torch.optim.Optimizer]:
    """The optimisers of a model: the named one, and sign SGD for puzzle embeddings if there are any.

    Muon takes the matrices inside the level stacks; everything else gets Adam-atan2 at a twentieth of its rate
    (Muon's usual 0.02 against 1e-3).
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: got {name!r}, expected one of {', '.join(OPTIMIZERS)}")
    puzzles = [p for n, p in model.named_parameters() if n == "puzzle_embed"]
    rest = {n: p for n, p in model.named_parameters() if n != "puzzle_embed"}
    built = [SignSGD(puzzles, lr=puzzle_lr, weight_decay=weight_decay)] if puzzles else []
    if name == "muon":
        inside = [p for n, p in rest.items() if "_level." in n]
        outside = [p for n, p in rest.items() if "_level." not in n]
        return [*built, Muon(inside, lr=lr, weight_decay=weight_decay),
                AdamAtan2(outside, lr=lr / 20, betas=betas, weight_decay=weight_decay)]
    if name == "adamw":
        return [*built, torch.optim.AdamW(rest.values(), lr=lr, betas=betas, weight_decay=weight_decay, fused=True)]
    return [*built, AdamAtan2(rest.values(), lr=lr, betas=betas, weight_decay=weight_decay)]
