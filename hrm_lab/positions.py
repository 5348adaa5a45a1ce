"""Where a token stands: rotary embeddings over positions or over rows and columns, and masks for heads on a grid.

`grid` and `near` masks are ours; axial rotation turns half of a head's planes by the row, half by the column.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in half-split form; x (B, heads, T, d), cos and sin (T, d)."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


def rotation_tables(c) -> tuple[Tensor, Tensor]:
    """cos and sin, (prefix + T, d): over positions, or over rows and columns (half the planes each)."""
    d = c.hidden // c.heads
    if c.positions == "rope":
        at = torch.arange(c.positions_total, dtype=torch.float32)
        angles = torch.outer(at, c.rope_theta ** (-torch.arange(0, d, 2, dtype=torch.float32) / d))
    else:
        rates = c.rope_theta ** (-torch.arange(0, d, 4, dtype=torch.float32) / d)  # (d / 4,)
        row, column = grid_ids(c.grid)[:, :2].float().unbind(1)
        angles = torch.cat((torch.outer(row, rates), torch.outer(column, rates)), dim=1)
        angles = F.pad(angles, (0, 0, c.prefix, 0))  # the prefix is not turned
    angles = torch.cat((angles, angles), dim=1)
    return angles.cos(), angles.sin()


def grid_ids(grid: tuple[int, ...]) -> Tensor:
    """(T, 3): row, column and box of each cell."""
    rows, columns, box_rows, box_columns = grid
    r = torch.arange(rows).repeat_interleave(columns)
    c = torch.arange(columns).repeat(rows)
    return torch.stack((r, c, (r // box_rows) * (columns // box_columns) + c // box_columns), dim=1)


def peer_masks(c) -> Tensor:
    """(heads, prefix + T, prefix + T): 0 where a head looks at a cell, -inf where it does not.

    The heads take turns. `grid`: one looks along rows, one along columns, one inside boxes (where there are boxes),
    one everywhere. `near`: one looks at a cell and the four beside it, one everywhere, so that the weights know no
    size. The model is told what a row or a neighbour is and need not learn it, and it is indifferent to every
    symmetry of the grid. The prefix sees and is seen by all.
    """
    ids = grid_ids(c.grid)
    if c.positions == "near":
        kinds = [(ids[:, None, :2] - ids[None, :, :2]).abs().sum(-1) <= 1]
    else:
        kinds = [ids[:, k, None] == ids[None, :, k] for k in range(3 if c.grid[2] * c.grid[3] > 1 else 2)]
    kinds.append(torch.ones_like(kinds[0]))
    masks = torch.stack([kinds[h % len(kinds)] for h in range(c.heads)])
    seen = F.pad(masks, (c.prefix, 0, c.prefix, 0), value=True)
    return torch.zeros(seen.shape).masked_fill(~seen, -math.inf)
