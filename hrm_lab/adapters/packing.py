"""Rows of one step as one sequence: no padding, and the prompt's common beginning computed once.

Unusual: rows of one format begin with the same tokens (the system message's rules), a third to a half of every prompt.
A pack holds that prefix once, then what is left of each row; each row attends to the prefix and to itself. Under causal
attention this is the very computation of the rows one by one, so that losses and gradients are theirs up to rounding
(tested), for fewer tokens. Logits are computed where a label is predicted and nowhere else. The attention is registered
with transformers under the name `ATTENTION` and takes the layout from keyword arguments of the model's forward; it
never repeats keys and values for grouped queries (Ainslie et al. 2023, arXiv 2305.13245).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .formats import IGNORE, Row

ATTENTION = "hrm_lab_packed"


@dataclass(frozen=True)
class Pack:
    """Rows side by side: `shared` tokens of all, then `lengths[i]` more of row i; L = shared + sum(lengths)."""

    ids: Tensor  # (1, L)
    positions: Tensor  # (1, L)
    shared: int
    lengths: tuple[int, ...]
    at: Tensor  # (N,) places whose hidden state predicts a label
    labels: Tensor  # (N,)
    row: Tensor  # (N,) which row a label belongs to


def common(rows: Sequence[Row]) -> int:
    """How many tokens all rows begin with, none of them a label, and at least one left over in each."""
    if len(rows) == 1:
        return 0
    first = rows[0].ids
    end = min(min(len(r.ids) - 1, next((i for i, y in enumerate(r.labels) if y != IGNORE), len(r.ids))) for r in rows)
    return next((i for i in range(end) if any(r.ids[i] != first[i] for r in rows)), end)


def pack(rows: Sequence[Row], device: torch.device | str = "cpu") -> Pack:
    """The rows as one sequence. Raises ValueError: a row is empty, or its ids and labels are not equally many."""
    for r in rows:
        if not r.ids or len(r.ids) != len(r.labels):
            raise ValueError(f"row {r.id}: {len(r.ids)} ids and {len(r.labels)} labels; expected equally many, above 0")
    shared = common(rows)
    ids, positions = list(rows[0].ids[:shared]), list(range(shared))
    at, labels, owner = [], [], []
    for i, r in enumerate(rows):
        start = len(ids) - shared  # where position p of this row lies, for p >= shared: start + p
        for p in range(1, len(r.ids)):
            if r.labels[p] != IGNORE:
                at.append(p - 1 if p - 1 < shared else start + p - 1)
                labels.append(r.labels[p])
                owner.append(i)
        ids += r.ids[shared:]
        positions += range(shared, len(r.ids))

    def tensor(values, shape):
        return torch.tensor(values, dtype=torch.long, device=device).reshape(shape)

    return Pack(tensor(ids, (1, -1)), tensor(positions, (1, -1)), shared, tuple(len(r.ids) - shared for r in rows),
                tensor(at, -1), tensor(labels, -1), tensor(owner, -1))


def split(rows: Sequence[Row], most: int) -> list[list[int]]:
    """Indices of rows in packs of at most `most` tokens each, a longer row alone; short rows first."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), i))
    packs: list[list[int]] = []
    for i in order:
        if packs:
            together = [rows[j] for j in (*packs[-1], i)]
            shared = common(together)
            if shared + sum(len(r.ids) - shared for r in together) <= most:
                packs[-1].append(i)
                continue
        packs.append([i])
    return packs


def logits(model, packed: Pack) -> Tensor:
    """(N, V) in the model's dtype: one line of logits for each label. The model's attention must be `ATTENTION`."""
    return model(input_ids=packed.ids, position_ids=packed.positions, use_cache=False, logits_to_keep=packed.at,
                 shared=packed.shared, lengths=packed.lengths).logits[0]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: float = 0.0) -> Tensor:
    """Causal grouped attention of (B, H, T, D) on (B, K, S, D): T the last of S places, H a multiple of K.

    In the given dtype; torch's softmax of a narrow one computes in fp32, and what it keeps for the gradient is narrow.
    """
    B, H, T, D = q.shape
    K, S = k.shape[1:3]
    rows = H // K * T
    later = torch.full((T, S), float("-inf"), dtype=q.dtype, device=q.device).triu(S - T + 1)
    scores = torch.baddbmm(later.repeat(H // K, 1).expand(B * K, -1, -1), q.reshape(B * K, rows, D),
                           k.reshape(B * K, S, D).transpose(1, 2), alpha=scale)
    shares = F.dropout(scores.softmax(-1), dropout)
    return (shares @ v.reshape(B * K, S, D)).view(B, H, T, D)


def packed_attention(module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
                     scaling: float | None = None, dropout: float = 0.0, shared: int = 0,
                     lengths: tuple[int, ...] = (), store=None, **more) -> tuple[Tensor, None]:
    """Attention in the layout of a `Pack` (lengths given), on what a `decode.Store` holds, or plainly causal.

    A store is filled by a packed call and read by the others. Returns ((B, T, H, D), None).
    Raises ValueError: the model asks for attention of another kind (a window that is shorter, soft caps, sinks).
    """
    window = more.get("sliding_window")
    if more.get("softcap") is not None or more.get("s_aux") is not None or (window and key.shape[2] > window):
        raise ValueError(f"{type(module).__name__}: got a sliding window, a soft cap or sinks; "
                         "expected causal attention to all places")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if store is not None and not lengths:
        return store.attend(module.layer_idx, query, key, value, scale).transpose(1, 2).contiguous(), None
    if not lengths:
        return attend(query, key, value, scale, dropout).transpose(1, 2).contiguous(), None
    if store is not None:
        store.fill(module.layer_idx, key, value, shared, lengths)
    parts, start = [], shared
    if shared:
        parts.append(attend(query[:, :, :shared], key[:, :, :shared], value[:, :, :shared], scale, dropout))
    for length in lengths:
        end = start + length
        own = [torch.cat((t[:, :, :shared], t[:, :, start:end]), 2) for t in (key, value)]
        parts.append(attend(query[:, :, start:end], *own, scale, dropout))
        start = end
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def register():
    """Make `ATTENTION` known to transformers. A model that uses it makes no mask, and refuses padding."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, packed_attention)
    AttentionMaskInterface.register(ATTENTION, _no_mask)


def _no_mask(*_, attention_mask: Tensor | None = None, **__):
    if attention_mask is not None and not attention_mask.all():
        raise ValueError(f"attention {ATTENTION}: got padding, expected rows packed without it (`pack`), or a model "
                         "loaded with another attention")
