"""An HRM over the tokens of a program that scores every candidate edit in one forward pass.

The H level says where and what kind (its state over the span and beside it, and the kind), the L level which text (its
state there, the new tokens, and its state at other uses of the names that they bring). Segments of H_cycles x L_cycles
recurrence are strung together and halt when the Q head expects its first edit to be the repair (Wang et al. 2025,
arXiv 2506.21734); `variant="plain"` runs the same blocks once and is the control.

Unusual: the network adds to the scores of a linear prior (the wide part of Cheng et al. 2016, arXiv 1606.07792),
which is fitted first, stays as it is, and is left out by `wide=False`. Names enter by sub-words, alias and class
(reading.py), so that programs with names never seen are read as well. Programs longer than `LONGEST` tokens are cut:
edits beyond score by what the wide part says and by the last token.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_lab.files import write_json
from hrm_lab.model import HRMConfig, Level, Linear, truncated_normal
from hrm_lab.positions import rotation_tables
from hrm_lab.runs import load_checkpoint, read_json, save_checkpoint
from hrm_lab.swe.edits import KINDS, Edit
from hrm_lab.swe.features import SIZE, features
from hrm_lab.swe.policy_data import FIELDS, Example
from hrm_lab.swe.reading import BUCKETS, Reading

LONGEST = 1024


@dataclass(frozen=True)
class PolicyConfig:
    """Shape of a policy. `segments`: at most; 1 for the plain control."""

    variant: str = "hrm"
    hidden: int = 96
    heads: int = 4
    H_layers: int = 1
    L_layers: int = 1
    H_cycles: int = 2
    L_cycles: int = 3
    segments: int = 2
    halt_confidence: float = 0.8
    wide: bool = True

    def __post_init__(self):
        if self.variant not in ("hrm", "plain"):
            raise ValueError(f"PolicyConfig.variant: got {self.variant!r}, expected hrm or plain")
        if self.segments < 1 or self.variant == "plain" and self.segments != 1:
            raise ValueError(f"PolicyConfig.segments: got {self.segments}, expected at least 1, and 1 for plain")


PRESETS = {"smoke": PolicyConfig(hidden=32), "laptop": PolicyConfig(),
           "full": PolicyConfig(hidden=1024, heads=16, H_layers=3, L_layers=3, segments=3)}


class Policy(nn.Module):
    def __init__(self, c: PolicyConfig):
        super().__init__()
        self.config, D = c, c.hidden
        blocks = HRMConfig(vocab_size=1, seq_len=LONGEST, hidden=D, heads=c.heads, positions="rope", inner_multiple=32)
        self.H_level, self.L_level = Level(blocks, c.H_layers), Level(blocks, c.L_layers)
        cos, sin = rotation_tables(blocks)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("H_init", truncated_normal(D, std=1.0))
        self.register_buffer("L_init", truncated_normal(D, std=1.0))
        self.table = nn.Embedding(BUCKETS, D, padding_idx=0)  # of tokens
        self.texts = nn.Embedding(BUCKETS, D, padding_idx=0)  # of added tokens
        self.kinds = nn.Embedding(len(KINDS), 2 * D)
        for table in (self.table, self.texts, self.kinds):
            nn.init.normal_(table.weight, std=0.3)
        with torch.no_grad():
            self.table.weight[0], self.texts.weight[0] = 0, 0
        self.places = Linear(D, 3 * D)  # H: mean of the span, token before, token after
        self.words = Linear(D, 5 * D)   # L: the same, first and last name that the text brings
        self.deeper = Linear(D, D)
        self.where = Linear(D, 1)
        self.what = Linear(D, 2)  # score and value
        self.q_head = Linear(D, 1, bias=True)
        if c.wide:
            self.register_buffer("wide", torch.zeros(SIZE))
            self.trust = nn.Parameter(torch.ones(()))  # in the linear prior
        with torch.no_grad():  # the network starts as the linear prior
            for head in (self.where, self.what, self.q_head):
                head.weight.zero_()

    def segment(self, x: Tensor, z_H: Tensor, z_L: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """One segment on embedded tokens (B, T, D); mask (B, 1, 1, T), 0 or -inf. One-step gradient."""
        c, T = self.config, x.shape[1]
        where = ((self.cos[:T].to(x.dtype), self.sin[:T].to(x.dtype)), mask)
        if c.variant == "plain":
            z_L = self.L_level(torch.zeros_like(x), x, *where)
            return self.H_level(torch.zeros_like(x), z_L, *where), z_L
        grad = torch.is_grad_enabled()
        for i in range(c.H_cycles):
            for j in range(c.L_cycles):
                with torch.set_grad_enabled(grad and i == c.H_cycles - 1 and j == c.L_cycles - 1):
                    z_L = self.L_level(z_L, z_H + x, *where)
            with torch.set_grad_enabled(grad and i == c.H_cycles - 1):
                z_H = self.H_level(z_H, z_L, *where)
        return z_H, z_L

    def heads(self, z_H: Tensor, z_L: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """plan (B, N), text (B, N), value (B, N) and halt (B,) logits of the states, fp32."""
        span, kinds = batch["span"], self.kinds(batch["kind"]).to(z_H.dtype)
        kind_H, kind_L = kinds.chunk(2, -1)
        inside = batch["mask"][:, 0, 0] == 0  # (B, T)
        last = inside.sum(-1, keepdim=True) - 1
        plan = kind_H + around(self.places(z_H), span, last)
        words, *names = self.words(z_L).split([3 * self.config.hidden, self.config.hidden, self.config.hidden], -1)
        text = kind_L + around(words, span, last)
        for k in range(2):
            at = batch["pointer"][..., k]
            text = text + torch.where(at[..., None] > 0, pick(names[k], at), 0)
        added = F.embedding_bag(batch["added"].flatten(0, 1), self.texts.weight, mode="sum",
                                padding_idx=0)  # never holds (B, N, added, D)
        text = text + added.view_as(text).to(z_H.dtype)
        text = F.silu(text)
        text = F.silu(self.deeper(text)) + text
        what = self.what(text).float()
        inside = inside.to(z_H.dtype)[..., None]
        pooled = (z_H * inside).sum(1) / inside.sum(1)
        where, halt = self.where(F.silu(plan)).float(), self.q_head(pooled).float()
        return where[..., 0], what[..., 0], what[..., 1], halt[..., 0]

    def forward(self, batch: dict[str, Tensor], dtype: torch.dtype = torch.float32):
        """Yields (scores (B, N), value (B, N), halt (B,), plan (B, N)) after each segment; no gradient in the carry.

        batch["base"] (B, N), if there, replaces the linear prior's scores.
        """
        x = self.table(batch["tokens"]).sum(-2).to(dtype)  # (B, T, D)
        z_H, z_L = self.H_init.to(dtype).expand_as(x), self.L_init.to(dtype).expand_as(x)
        wide = 0.0
        if self.config.wide:
            wide = self.trust * (batch["base"] if "base" in batch else self.wide[batch["wide"]].sum(-1))
        for _ in range(self.config.segments):
            z_H, z_L = self.segment(x, z_H, z_L, batch["mask"].to(dtype))
            plan, text, value, halt = self.heads(z_H, z_L, batch)
            yield plan + text + wide, value, halt, plan
            z_H, z_L = z_H.detach(), z_L.detach()

    @torch.no_grad()
    def judge(self, program: str, edits: list[Edit], evidence=None, language: str = "python") -> tuple[np.ndarray, ...]:
        """log-probabilities (n_edits,), values (n_edits,), and the segments used."""
        reading = Reading(program, language, evidence)
        arrays = reading.edit_ids(edits) | {"tokens": reading.token_ids(), "wide": features(reading, edits),
                                            "weight": np.zeros(len(edits), np.float32)}
        batch = collate([Example(**arrays)], next(self.parameters()).device)
        used = 0
        for scores, value, halt, _ in self.forward(batch):  # noqa: B007 (the last ones count)
            used += 1
            if halt.sigmoid().item() > self.config.halt_confidence:
                break
        return scores[0].log_softmax(-1).cpu().numpy(), value[0].sigmoid().cpu().numpy(), used

    def scores(self, program: str, edits: list[Edit], evidence=None, language: str = "python") -> np.ndarray:
        """(n_edits,) log-probabilities that an edit is the repair."""
        return self.judge(program, edits, evidence, language)[0]

    def value(self, program: str, edits: list[Edit], evidence=None, language: str = "python") -> np.ndarray:
        """(n_edits,) each edit's own probability that the program passes after it; they need not add up to one."""
        return self.judge(program, edits, evidence, language)[1]

    def save(self, folder: str | Path, **meta):
        """model.safetensors and config.json in a folder."""
        save_checkpoint(Path(folder) / "model.safetensors", self.state_dict(), meta)
        write_json(Path(folder) / "config.json", asdict(self.config))

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "Policy":
        """Raises CheckpointError, ValueError: missing or altered weights or config."""
        values = read_json(Path(folder) / "config.json")
        if unknown := set(values) - set(PolicyConfig.__dataclass_fields__):
            raise ValueError(f"{folder}/config.json: got {sorted(unknown)}, expected fields of PolicyConfig")
        policy = cls(PolicyConfig(**values))
        policy.load_state_dict(load_checkpoint(Path(folder) / "model.safetensors")[0])
        return policy.to(device).eval()


def pick(x: Tensor, at: Tensor) -> Tensor:
    """x (B, T, D) at (B, N) -> (B, N, D)."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))


def around(x: Tensor, span: Tensor, last: Tensor) -> Tensor:
    """x (B, T, 3 D), span (B, N, 2), last token (B, 1) -> (B, N, D): span mean + before + after."""
    inside, before, after = x.chunk(3, -1)
    sums = F.pad(inside.float().cumsum(1), (0, 0, 1, 0))  # (B, T + 1, D)
    low, high = span.unbind(-1)
    mean = (pick(sums, high) - pick(sums, low)) / (high - low).clamp(min=1)[..., None]
    return mean.to(x.dtype) + pick(before, low - 1) + pick(after, high.minimum(last))


def collate(examples: list[Example], device: torch.device | str = "cpu", rounded: bool = False) -> dict[str, Tensor]:
    """A padded batch: tokens (B, T, 8), span, kind, added, pointer, wide, weight (B, N, ...), mask (B, 1, 1, T).

    rounded: T is a multiple of 32, from 256 on of 128. The kernels of a CPU keep memory for each shape that they met.
    """
    T = min(LONGEST, max(len(e.tokens) for e in examples))
    if rounded:
        step = 32 if T <= 256 else 128
        T = -(-T // step) * step
    N, B = max(len(e.kind) for e in examples), len(examples)
    found = {}
    for name in FIELDS:
        like = getattr(examples[0], name)
        filler = -np.inf if name == "weight" else 1 if name == "span" else 0
        rows = np.full((B, T if name == "tokens" else N, *like.shape[1:]), filler,
                       np.float32 if name == "weight" else np.int64)
        for b, e in enumerate(examples):
            part = getattr(e, name)[:rows.shape[1]]
            if name in ("span", "pointer"):
                part = np.minimum(part, T if name == "span" else T - 1)
            rows[b, :len(part)] = part
        found[name] = torch.from_numpy(rows).to(device)
    mask = torch.full((B, 1, 1, T), -torch.inf)
    for b, e in enumerate(examples):
        mask[b, ..., :len(e.tokens)] = 0
    found["mask"] = mask.to(device)
    return found
