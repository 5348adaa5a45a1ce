"""A hierarchical reasoning model that writes text: the lab's H and L levels over the source, a small decoder behind
them.

The recursion (Wang et al. 2025, arXiv 2506.21734) runs over the source alone, which is short, and its last H state is
read by an autoregressive decoder through cross-attention (Vaswani et al. 2017, arXiv 1706.03762). Why not one stack for
all (HRM-Text): decoding then pays the whole recursion for every token; `prefix_lm.py` has that form. `H_cycles=0` runs
each level once, without recursion: the plain control, with exactly the same parameters.

The contract that every model of test generation keeps: `nll(batch) -> (B, T)` nats of each target token, zero on
padding; `generate(sources, limit, choose) -> token ids`. Unusual: target tokens and output share their embeddings, the
source has its own; the mean state of the source is added at every position of the target. Post-norm without learned
scales, as in the lab's own blocks; products in bf16 where the processor is fast in it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_lab.model import HRMConfig, Level, Linear, SwiGLU, attend, rms_norm, truncated_normal
from hrm_lab.positions import rotate, rotation_tables
from hrm_lab.testgen.batches import Batch, real
from hrm_lab.testgen.tokenizer import BEGIN, END


@dataclass(frozen=True)
class Seq2SeqConfig:
    """Shape of a model. `H_cycles` 0: every layer once (the control); `longest`: tokens of a source or a target."""

    vocab_size: int
    hidden: int = 96
    heads: int = 4
    H_layers: int = 1
    L_layers: int = 1
    H_cycles: int = 2
    L_cycles: int = 2
    decoder_layers: int = 2
    expansion: float = 4.0
    longest: int = 512

    def __post_init__(self):
        for name, least in (("H_cycles", 0), ("L_cycles", 1), ("decoder_layers", 1), ("vocab_size", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"Seq2SeqConfig.{name}: got {getattr(self, name)}, expected at least {least}")


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention and SwiGLU, each followed by residual + RMSNorm."""

    def __init__(self, c: HRMConfig):
        super().__init__()
        D = c.hidden
        self.heads, self.eps = c.heads, c.norm_eps
        self.qkv, self.out = Linear(D, 3 * D), Linear(D, D)
        self.query, self.memory, self.read = Linear(D, D), Linear(D, 2 * D), Linear(D, D)
        self.mlp = SwiGLU(D, c.expansion, c.inner_multiple)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, T, parts D) -> parts tensors (B, heads, T, D / heads)."""
        B, T, _ = x.shape
        return x.view(B, T, parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, source: tuple[Tensor, Tensor],
                source_mask: Tensor, cache: tuple[Tensor, Tensor] | None = None, at: int = 0) -> Tensor:
        """x (B, T, D); source: keys and values of the memory; cache: keys and values, filled from position `at`."""
        B, T, D = x.shape
        q, k, v = self.split(self.qkv(x), 3)
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        if cache is not None:
            cache[0][:, :, at:at + T], cache[1][:, :, at:at + T] = k, v
            k, v = cache[0][:, :, :at + T], cache[1][:, :, :at + T]
        x = rms_norm(x + self.out(attend(q, k, v, mask).transpose(1, 2).reshape(B, T, D)), self.eps)
        (q,) = self.split(self.query(x), 1)
        x = rms_norm(x + self.read(attend(q, *source, source_mask).transpose(1, 2).reshape(B, T, D)), self.eps)
        return rms_norm(x + self.mlp(x), self.eps)


class Seq2Seq(nn.Module):
    """(a) of the three forms: HRM encoder, autoregressive decoder."""

    def __init__(self, c: Seq2SeqConfig):
        super().__init__()
        self.config, D = c, c.hidden
        blocks = HRMConfig(vocab_size=c.vocab_size, seq_len=c.longest, hidden=D, heads=c.heads, positions="rope",
                           expansion=c.expansion, inner_multiple=32)
        self.embed = nn.Parameter(truncated_normal(c.vocab_size, D, std=D**-0.5))  # of target tokens, and the output
        self.source_embed = nn.Parameter(truncated_normal(c.vocab_size, D, std=D**-0.5))
        self.H_level, self.L_level = Level(blocks, c.H_layers), Level(blocks, c.L_layers)
        self.glance = Linear(D, D)
        self.decoder = nn.ModuleList(DecoderBlock(blocks) for _ in range(c.decoder_layers))
        cos, sin = rotation_tables(blocks)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("H_init", truncated_normal(D, std=1.0))
        self.register_buffer("L_init", truncated_normal(D, std=1.0))

    def embedded(self, ids: Tensor, table: Tensor, dtype: torch.dtype) -> Tensor:
        return (F.embedding(ids, table) * math.sqrt(self.config.hidden)).to(dtype)

    def logits(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., vocab) in fp32."""
        return F.linear(x, self.embed.to(x.dtype)).float()

    def encode(self, ids: Tensor, lengths: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(B, S) ids -> the H state (B, S, D) and its mask (B, 1, 1, S), 0 or -inf. Gradient through the last H cycle.
        """
        c, S = self.config, ids.shape[1]
        if c.longest < S:
            raise ValueError(f"source: got {S} tokens, expected at most {c.longest}")
        mask = torch.zeros(len(ids), 1, 1, S, dtype=dtype, device=ids.device)
        mask = mask.masked_fill(~real(lengths, S)[:, None, None], -torch.inf)
        x = self.embedded(ids, self.source_embed, dtype)
        where = ((self.cos[:S].to(dtype), self.sin[:S].to(dtype)), mask)
        if c.H_cycles == 0:
            z_L = self.L_level(torch.zeros_like(x), x, *where)
            return self.H_level(torch.zeros_like(x), z_L, *where), mask
        z_H, z_L = self.H_init.to(dtype).expand_as(x), self.L_init.to(dtype).expand_as(x)
        grad = torch.is_grad_enabled()
        for i in range(c.H_cycles):
            with torch.set_grad_enabled(grad and i == c.H_cycles - 1):
                for _ in range(c.L_cycles):
                    z_L = self.L_level(z_L, z_H + x, *where)
                z_H = self.H_level(z_H, z_L, *where)
        return z_H, mask

    def decode(self, ids: Tensor, gist: Tensor, sources: list, source_mask: Tensor, dtype: torch.dtype, caches=None,
               at: int = 0) -> Tensor:
        """(B, T) ids from position `at` on -> (B, T, D); with caches T is 1. gist (B, 1, D) is added at every
        position.
        """
        T = ids.shape[1]
        if at + T > self.config.longest:
            raise ValueError(f"target: got {at + T} tokens, expected at most {self.config.longest}")
        x = self.embedded(ids, self.embed, dtype) + gist
        rotation = self.cos[at:at + T].to(dtype), self.sin[at:at + T].to(dtype)
        mask = None if T == 1 else torch.full((T, T), -torch.inf, dtype=dtype, device=ids.device).triu(1)
        for n, layer in enumerate(self.decoder):
            x = layer(x, rotation, mask, sources[n], source_mask, caches and caches[n], at)
        return x

    def memories(self, z_H: Tensor, source_mask: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """What the decoder knows of the source, once for all target tokens: the gist (B, 1, D), each layer's keys,
        values."""
        inside = (source_mask[:, 0, 0] == 0).to(z_H.dtype)[..., None]  # (B, S, 1)
        gist = self.glance((z_H * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True))
        return gist, [layer.split(layer.memory(z_H), 2) for layer in self.decoder]

    def nll(self, batch: Batch, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, T) nats of each target token given the source and the tokens before it; 0 on padding."""
        z_H, source_mask = self.encode(batch.source, batch.source_lengths, dtype)
        before = F.pad(batch.said[:, :-1], (1, 0), value=BEGIN)
        x, mask = self.decode(before, *self.memories(z_H, source_mask), source_mask, dtype), batch.target_mask
        nll = F.cross_entropy(self.logits(x[mask]), batch.target[mask], reduction="none")  # half of a batch is padding
        return nll.new_zeros(mask.shape).masked_scatter(mask, nll)

    @torch.no_grad()
    def generate(self, source: Tensor, lengths: Tensor, limit: int, choose=None,
                 dtype: torch.dtype = torch.float32) -> list[list[int]]:
        """Target ids of each source row, greedily, up to and without the end token, at most `limit` tokens.

        choose(logits (B, vocab), rows (B,) indices of the sources that are still open) -> (B,) ids; default argmax.
        Rows that have ended leave the batch.
        """
        z_H, source_mask = self.encode(source, lengths, dtype)
        (gist, sources), rows = self.memories(z_H, source_mask), torch.arange(len(source), device=source.device)
        c, limit = self.config, min(limit, self.config.longest)
        shape = (len(source), c.heads, limit, c.hidden // c.heads)
        caches = [(z_H.new_zeros(shape), z_H.new_zeros(shape)) for _ in self.decoder]
        found: list[list[int]] = [[] for _ in range(len(source))]
        last = torch.full((len(source), 1), BEGIN, device=source.device)
        for at in range(limit):
            logits = self.logits(self.decode(last, gist, sources, source_mask, dtype, caches, at)[:, -1])
            picked = choose(logits, rows) if choose else logits.argmax(-1)
            going = (picked != END).nonzero().squeeze(1)
            if len(going) < len(picked):
                rows, picked, source_mask, gist = rows[going], picked[going], source_mask[going], gist[going]
                sources = [(k[going], v[going]) for k, v in sources]
                caches = [(k[going], v[going]) for k, v in caches]
            for row, token in zip(rows.tolist(), picked.tolist(), strict=True):
                found[row].append(token)
            if not len(rows):
                break
            last = picked[:, None]
        return found
