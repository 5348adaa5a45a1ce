"""The Hierarchical Reasoning Model and its relatives behind one config.

- `variant="hrm"`: separate H and L stacks, one-step gradient (Wang et al. 2025, arXiv 2506.21734).
- `variant="trm"`: one shared stack, gradient through the whole last H cycle
  (Jolicoeur-Martineau 2025, arXiv 2510.04871).
- `variant="plain"`: the same blocks once through, no recursion and no carry: the control.

Notable: post-norm without learned scales, no bias outside the Q head, fp32 weights cast to the
activations' dtype in each product (so bf16 needs no autocast and no loss scaling), positions that
know about grids, and token mixing by an MLP in place of attention. One call of `HRM` is one
*segment*; `hrm_lab.act` strings segments together.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_lab import onednn
from hrm_lab.positions import peer_masks, rotate, rotation_tables

VARIANTS = ("hrm", "trm", "plain")
POSITIONS = ("none", "learned", "rope", "grid", "near", "axial")
MASKED = ("grid", "near")  # heads that look at some cells only (see positions.py)
MIXERS = ("attention", "mlp")
LOSSES = ("softmax", "stablemax")
GRADIENTS = ("", "one-step", "last-cycle")
LONG = 256  # tokens from which attention on a CPU goes through the fused kernel


@dataclass(frozen=True)
class HRMConfig:
    """Shape of one model. `seq_len` counts the puzzle's tokens, without the prefix."""

    vocab_size: int
    seq_len: int
    variant: str = "hrm"
    hidden: int = 128
    heads: int = 4
    H_layers: int = 2
    L_layers: int = 2  # trm: depth of the one shared stack
    H_cycles: int = 2
    L_cycles: int = 2
    gradient: str = ""  # "": one-step for hrm, last-cycle for trm
    mixer: str = "attention"
    expansion: float = 4.0
    inner_multiple: int = 256  # SwiGLU's width is rounded up to a multiple of this (official: 256)
    mixer_multiple: int = 256  # the same for the token-mixing MLP
    positions: str = "learned"
    grid: tuple[int, ...] | None = None  # rows, columns, rows of a box, columns of a box
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    num_puzzles: int = 0  # 0: no puzzle embedding
    prefix: int = 0  # positions that the puzzle embedding takes in front of the sequence
    puzzle_dim: int = 0  # width of a puzzle embedding, at most prefix * hidden; the rest is zero
    q_pool: str = "mean"  # what the Q head reads: "mean" over positions, or the "first" (official)
    q_bias: float = -5.0  # initial halt and continue logits (official: -5); short runs want one nearer to zero
    loss: str = "softmax"
    halt_max_steps: int = 8
    halt_exploration: float = 0.1
    halt_confidence: float = 0.5  # halt when the head gives the answer this probability of being right (official: 0.5)
    q_continue: bool = False  # True: the paper's Q-learning target, at the price of a second pass
    latents: int = 1  # initial z_L a puzzle, run side by side; training learns from the best one (see act.py)

    def __post_init__(self):
        for name, known in (("variant", VARIANTS), ("positions", POSITIONS), ("mixer", MIXERS),
                            ("loss", LOSSES), ("gradient", GRADIENTS), ("q_pool", ("mean", "first"))):
            if getattr(self, name) not in known:
                raise ValueError(f"HRMConfig.{name}: got {getattr(self, name)!r}, expected one of {', '.join(known)}")
        unit = 4 if self.positions == "axial" else 2
        if self.hidden % self.heads or (self.hidden // self.heads) % unit:
            raise ValueError(f"HRMConfig.hidden: got {self.hidden} with {self.heads} heads, "
                             f"expected a width per head that is a multiple of {unit}")
        if self.positions in (*MASKED, "axial") and (not self.grid or self.grid[0] * self.grid[1] != self.seq_len):
            raise ValueError(f"HRMConfig.grid: got {self.grid}, expected rows x columns = seq_len ({self.seq_len}) "
                             f"for positions={self.positions!r}")
        if self.num_puzzles and not 0 < self.puzzle_dim <= self.prefix * self.hidden:
            raise ValueError(f"HRMConfig.puzzle_dim: got {self.puzzle_dim}, "
                             f"expected 1 to prefix * hidden = {self.prefix * self.hidden}")
        if self.variant == "plain" and self.halt_max_steps != 1:
            raise ValueError(f"HRMConfig.halt_max_steps: got {self.halt_max_steps}, "
                             "expected 1 for the plain transformer, which has no recursion")
        if self.latents != 1 and (self.latents < 1 or self.variant == "plain" or self.q_continue):
            raise ValueError(f"HRMConfig.latents: got {self.latents}, expected at least 1, and 1 for the plain "
                             "transformer and with q_continue")

    @property
    def positions_total(self) -> int:
        return self.prefix + self.seq_len


class Linear(nn.Module):
    """y = x W^T (+ b), LeCun truncated-normal init, weight cast to x's dtype."""

    def __init__(self, fan_in: int, fan_out: int, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(truncated_normal(fan_out, fan_in, std=fan_in**-0.5))
        self.bias = nn.Parameter(torch.zeros(fan_out)) if bias else None
        self.compiled_product = None  # takes the place of torch's in a compiled graph, fp32, without bias

    def forward(self, x: Tensor) -> Tensor:
        if self.compiled_product and torch.compiler.is_compiling() and x.dtype == torch.float32:
            return self.compiled_product(x, self.weight)
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), gate and up in one product (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, expansion: float, multiple: int):
        super().__init__()
        inner = -(-round(expansion * width * 2 / 3) // multiple) * multiple
        self.gate_up = Linear(width, 2 * inner)
        self.down = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Attention(nn.Module):
    """Bidirectional multi-head attention; queries and keys optionally rotated."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = Linear(hidden, 3 * hidden)
        self.out = Linear(hidden, hidden)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        B, T, D = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        y = attend(q, k, v, mask)
        return self.out(y.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    """Token mixing and SwiGLU, each followed by residual + RMSNorm (post-norm, no learned scale)."""

    def __init__(self, c: HRMConfig):
        super().__init__()
        self.eps = c.norm_eps
        if c.mixer == "attention":
            self.attention = Attention(c.hidden, c.heads)
        else:
            self.mix = SwiGLU(c.positions_total, c.expansion, c.mixer_multiple)
        self.mlp = SwiGLU(c.hidden, c.expansion, c.inner_multiple)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        if hasattr(self, "attention"):
            x = rms_norm(x + self.attention(x, rotation, mask), self.eps)  # (B, T, D)
        else:
            x = x.transpose(1, 2)  # (B, D, T): norm over positions, as in TRM
            x = rms_norm(x + self.mix(x), self.eps).transpose(1, 2)
        return rms_norm(x + self.mlp(x), self.eps)


class Level(nn.Module):
    """A stack of blocks; `injection` is added to the state before the first one."""

    def __init__(self, c: HRMConfig, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(Block(c) for _ in range(depth))

    def forward(self, z: Tensor, injection: Tensor, *where) -> Tensor:
        z = z + injection
        for layer in self.layers:
            z = layer(z, *where)
        return z


class HRM(nn.Module):
    """One segment of recurrent reasoning: (tokens, z_H, z_L) -> (z_H, z_L, logits, q)."""

    def __init__(self, c: HRMConfig):
        super().__init__()
        self.config, self.compiled = c, False
        std = c.hidden**-0.5  # embeddings are scaled by sqrt(hidden), so they enter with variance 1
        self.embed = nn.Parameter(truncated_normal(c.vocab_size, c.hidden, std=std))
        self.head = Linear(c.hidden, c.vocab_size)
        self.q_head = Linear(c.hidden, 2, bias=True)
        with torch.no_grad():  # nothing halts before the model has learnt to judge itself
            self.q_head.weight.zero_()
            self.q_head.bias.fill_(c.q_bias)
        if c.num_puzzles:
            self.puzzle_embed = nn.Parameter(torch.zeros(c.num_puzzles, c.puzzle_dim))
        elif c.prefix:
            self.prefix_embed = nn.Parameter(truncated_normal(c.prefix, c.hidden, std=std))
        if c.positions == "learned":
            self.position_embed = nn.Parameter(truncated_normal(c.positions_total, c.hidden, std=std))
        elif c.positions in MASKED:
            self.register_buffer("peers", peer_masks(c), persistent=False)
        if c.positions in ("rope", "axial"):
            cos, sin = rotation_tables(c)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        if c.variant != "trm":
            self.H_level = Level(c, c.H_layers)
        self.L_level = Level(c, c.L_layers)
        self.register_buffer("H_init", truncated_normal(c.hidden, std=1.0))
        self.register_buffer("L_init", truncated_normal(*((c.latents, 1) if c.latents > 1 else ()), c.hidden, std=1.0))

    def initial_state(self, batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """z_H, z_L for fresh puzzles, each (batch, prefix + T, D), or (batch, latents, prefix + T, D) of several."""
        c = self.config
        shape = (batch, *((c.latents,) if c.latents > 1 else ()), c.positions_total, c.hidden)
        return self.H_init.to(dtype).expand(shape), self.L_init.to(dtype).expand(shape)

    def embed_inputs(self, inputs: Tensor, puzzle_ids: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, T) token ids and (B,) puzzle ids -> (B, prefix + T, D)."""
        c = self.config
        x = F.embedding(inputs, self.embed)
        if c.num_puzzles:
            p = F.pad(F.embedding(puzzle_ids, self.puzzle_embed), (0, c.prefix * c.hidden - c.puzzle_dim))
            x = torch.cat((p.view(-1, c.prefix, c.hidden), x), dim=1)
        elif c.prefix:
            x = torch.cat((self.prefix_embed.expand(len(x), -1, -1), x), dim=1)
        if c.positions == "learned":
            x = math.sqrt(0.5) * (x + self.position_embed)
        return (math.sqrt(c.hidden) * x).to(dtype)

    def forward(self, inputs: Tensor, puzzle_ids: Tensor, z_H: Tensor, z_L: Tensor):
        """One segment.

        inputs (B, T) int64, puzzle_ids (B,) int64, z_H and z_L (B, prefix + T, D) without gradient.
        Returns z_H and z_L (still attached: detach before the next segment), logits (B, T, vocab)
        and q (B, 2): the halt and continue logits, fp32.
        """
        z_H, z_L = self.recur(self.embed_inputs(inputs, puzzle_ids, z_H.dtype), z_H, z_L)
        return z_H, z_L, self.head(z_H)[:, self.config.prefix:], self.judge(z_H)

    def judge(self, z_H: Tensor) -> Tensor:
        pooled = z_H.mean(1) if self.config.q_pool == "mean" else z_H[:, 0]
        return self.q_head(pooled).float()

    def recur(self, x: Tensor, z_H: Tensor, z_L: Tensor, watch=None) -> tuple[Tensor, Tensor]:
        """The cycles of one segment on embedded input x; `watch(z_H, z_L)` sees the states after each update."""
        c = self.config
        where = ((self.cos.to(x.dtype), self.sin.to(x.dtype)) if c.positions in ("rope", "axial") else None,
                 self.peers.to(x.dtype) if c.positions in MASKED else None)
        if c.variant == "plain":
            z_L = self.L_level(torch.zeros_like(x), x, *where)
            return self.H_level(torch.zeros_like(x), z_L, *where), z_L
        H_level = self.L_level if c.variant == "trm" else self.H_level
        one_step = c.gradient == "one-step" or (not c.gradient and c.variant == "hrm")
        grad = torch.is_grad_enabled()
        for i in range(c.H_cycles):
            last_cycle = i == c.H_cycles - 1
            for j in range(c.L_cycles):
                last_step = j == c.L_cycles - 1
                with torch.set_grad_enabled(grad and last_cycle and (last_step or not one_step)):
                    z_L = self.L_level(z_L, z_H + x, *where)
                if watch:
                    watch(z_H, z_L)
            with torch.set_grad_enabled(grad and last_cycle):
                z_H = H_level(z_H, z_L, *where)
            if watch:
                watch(z_H, z_L)
        return z_H, z_L

    def compile_levels(self):
        """Compile only the level stacks: a third of the time of compiling the whole step, same speed.

        torch keeps the result in its cache on disk, so that the next process with these shapes need not compile.
        """
        self.compiled = True
        levels = [self.L_level] if self.config.variant == "trm" else [self.L_level, self.H_level]
        if onednn.available(self.H_init.device):
            for linear in (m for level in levels for m in level.modules() if isinstance(m, Linear)):
                linear.compiled_product = onednn.product
        for level in levels:
            level.compile(dynamic=False)

    def ragged(self):
        """A context in which a batch of a size that was not compiled runs as it is, in place of compiling anew."""
        return torch.compiler.set_stance("eager_on_recompile") if self.compiled else nullcontext()


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v; each (B, heads, T, d), mask (heads, T, T) with 0 or -inf.

    Short sequences on a CPU go through two plain products: torch's fused kernel works in tiles for long ones and
    is slower there, several times so in its bf16 gradient.
    """
    if q.is_cuda or q.shape[-2] > LONG:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, heads, T, T)
    return (scores if mask is None else scores + mask).softmax(-1) @ v


class RMSNorm(torch.autograd.Function):
    """y = x / rms(x) over the last dimension; the gradient needs only y and 1 / rms, half of the work of autograd's."""

    @staticmethod
    def forward(ctx, x: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        inverse = (norm.square() / x.shape[-1] + eps).rsqrt().to(x.dtype)
        y = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        y, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, y).unsqueeze(-1) / y.shape[-1]
        return torch.addcmul(grad, y, along, value=-1) * inverse, None


def rms_norm(x: Tensor, eps: float) -> Tensor:
    if x.is_cuda or torch.compiler.is_compiling():
        return F.rms_norm(x, x.shape[-1:], eps=eps)
    return RMSNorm.apply(x, eps)


def truncated_normal(*shape: int, std: float) -> Tensor:
    """Normal cut at two standard deviations, rescaled so that the result has `std` (as the official code)."""
    return nn.init.trunc_normal_(torch.empty(shape), std=1.0, a=-2.0, b=2.0) * (std / 0.8796256610342398)


def log_stablemax(logits: Tensor) -> Tensor:
    """log s(x) / sum s(x), s(x) = x + 1 for x >= 0, 1 / (1 - x) below (Prieto et al. 2025, arXiv 2501.04697)."""
    s = torch.where(logits < 0, 1 / (1 - logits.clamp(max=0)), logits.clamp(min=0) + 1)
    return torch.log(s / s.sum(-1, keepdim=True))


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
