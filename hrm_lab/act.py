"""Adaptive computation time: the carry, halting, the loss, and evaluation with and without early halting.

A *lane* is one row of the batch. Each optimiser step runs one segment on every lane; a lane that halted
is given a new puzzle and the initial states before the next step, the others go on from their detached
states (`Carry`). That is deep supervision: one loss and one update a segment. Only as many new puzzles
are drawn as lanes halted, so no sample is thrown away.

With `latents` = K > 1 a lane holds K states that differ in their initial z_L. Training runs all of them without
gradient and then the one with the lowest loss again with gradient (winner takes all, so the latents may specialise);
elsewhere the halting head chooses. It is trained on all K: the winner alone is the best of K by its label, and a head
that saw nothing else would be too sure of the others.

Source: HRM section 2 (ACT, Q-learning targets), TRM section 4 (halt-only loss), the public `sic` code (K latents).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrm_lab.model import HRM, log_stablemax

IGNORE = -100


@dataclass
class Carry:
    """What the lanes remember between segments."""

    inputs: Tensor  # (B, T) int64
    labels: Tensor  # (B, T) int64, IGNORE where not scored
    puzzle_ids: Tensor  # (B,) int64
    z_H: Tensor  # (B, prefix + T, D), or (B, K, prefix + T, D) for K latents
    z_L: Tensor  # as z_H
    steps: Tensor  # (B,) int64: segments done on the lane's puzzle
    halted: Tensor  # (B,) bool: the lane wants a new puzzle


def initial_carry(model: HRM, batch: int, device: torch.device, dtype: torch.dtype) -> Carry:
    """Every lane halted: the first `refill` gives each its puzzle."""
    T = model.config.seq_len
    z_H, z_L = (z.clone() for z in model.initial_state(batch, dtype))
    return Carry(inputs=torch.zeros(batch, T, dtype=torch.int64, device=device),
                 labels=torch.full((batch, T), IGNORE, dtype=torch.int64, device=device),
                 puzzle_ids=torch.zeros(batch, dtype=torch.int64, device=device), z_H=z_H, z_L=z_L,
                 steps=torch.zeros(batch, dtype=torch.int64, device=device),
                 halted=torch.ones(batch, dtype=torch.bool, device=device))


def refill(model: HRM, carry: Carry, take):
    """Give each halted lane a puzzle from `take(n) -> inputs, labels, puzzle_ids, ...` (numpy) and fresh states."""
    lanes = carry.halted.nonzero().squeeze(1)
    if len(lanes) == 0:
        return
    inputs, labels, puzzle_ids = (torch.from_numpy(a).to(lanes.device) for a in take(len(lanes))[:3])
    carry.inputs[lanes], carry.labels[lanes], carry.puzzle_ids[lanes] = inputs, labels, puzzle_ids
    carry.z_H[lanes], carry.z_L[lanes] = model.initial_state(len(lanes), carry.z_H.dtype)
    carry.steps[lanes] = 0


def segment(model: HRM, carry: Carry, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """One segment on every lane, in training: updates the carry, returns the loss (scalar) and its parts."""
    return one_pass(model, carry, least_steps(model.config, len(carry.steps), generator))


def learn(model: HRM, carry: Carry, generator: torch.Generator, rank: int = 0, ranks: int = 1,
          lanes: int = 0) -> dict[str, Tensor]:
    """A segment and its gradient on every lane of this rank, `lanes` at a time (0: all at once); the parts of the loss.

    The passes' gradients add up to that of the whole batch. Each needs only its own lanes' activations, which is what
    a small memory, or a cache, has room for. Returned parts are means over the passes, weighted by their lanes.
    """
    least, sums = least_steps(model.config, len(carry.steps) * ranks, generator).chunk(ranks)[rank], {}
    lanes = lanes or len(least)
    for start in range(0, len(least), lanes):
        some = slice(start, start + lanes)
        piece = Carry(**{name: t[some] for name, t in vars(carry).items()})  # views
        weight = len(piece.steps) / len(least)
        loss, parts = one_pass(model, piece, least[some])
        (weight * loss).backward()
        carry.z_H[some], carry.z_L[some], carry.halted[some] = piece.z_H, piece.z_L, piece.halted
        sums = {name: sums.get(name, 0.0) + weight * part for name, part in parts.items()}
    return sums


def one_pass(model: HRM, carry: Carry, least: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """`segment` with the steps that each lane must take at least, (B,) on any device."""
    c = model.config
    if c.latents == 1:
        z_H, z_L, logits, q = model(carry.inputs, carry.puzzle_ids, carry.z_H, carry.z_L)
    else:
        z_H, z_L, logits, q, solved = compete(model, carry)
    carry.z_H, carry.z_L = z_H.detach(), z_L.detach()
    carry.steps += 1
    scored = carry.labels != IGNORE
    answer = answer_loss(c.loss, logits, carry.labels).mean()
    with torch.no_grad():
        right = (logits.argmax(-1) == carry.labels) | ~scored  # (B, T)
        exact = right.all(1)
    if c.latents == 1:
        halt_loss = F.binary_cross_entropy_with_logits(q[:, 0], exact.float())
    else:
        halt_loss = F.binary_cross_entropy_with_logits(q[..., 0], solved)
        q = q.gather(1, q[..., :1].argmax(1, keepdim=True).expand(-1, -1, 2)).squeeze(1)  # (B, 2): the most sure
    loss = answer + 0.5 * halt_loss
    last = carry.steps >= c.halt_max_steps
    if c.q_continue and c.halt_max_steps > 1:
        with torch.no_grad():
            next_q = model(carry.inputs, carry.puzzle_ids, carry.z_H, carry.z_L)[3]
            target = torch.where(last, next_q[:, 0], next_q.amax(1)).sigmoid()
        loss = loss + 0.5 * F.binary_cross_entropy_with_logits(q[:, 1], target)
    carry.halted = last | (wants_to_halt(c, q.detach()) & (carry.steps >= least.to(carry.steps.device)))
    parts = {"loss": loss.detach(), "answer_loss": answer.detach(), "halt_loss": halt_loss.detach(),
             "token_accuracy": (right & scored).sum() / scored.sum().clamp(min=1), "exact_match": exact.float().mean()}
    return loss, parts


def compete(model: HRM, carry: Carry) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One training segment of K latents: gradient through the one whose answer has the lowest loss only.

    Returns z_H and z_L (B, K, prefix + T, D), the winner's logits (B, T, V), q (B, K, 2), where the losers' has a
    gradient to the Q head but not beyond, and which latents have every token right (B, K) float.
    """
    lanes = torch.arange(len(carry.inputs), device=carry.inputs.device)
    with torch.no_grad():
        z_H, z_L, logits, _ = run_latents(model, carry.inputs, carry.puzzle_ids, carry.z_H, carry.z_L)
        B, K, T, V = logits.shape
        labels = carry.labels.repeat_interleave(K, 0)
        loss = answer_loss(model.config.loss, logits.view(B * K, T, V), labels)
        solved = ((logits.argmax(-1) == carry.labels[:, None]) | (carry.labels == IGNORE)[:, None]).all(2).float()
        best = loss.view(B, K).argmin(1)
    _, _, logits, own = model(carry.inputs, carry.puzzle_ids, carry.z_H[lanes, best], carry.z_L[lanes, best])
    q = model.judge(z_H.flatten(0, 1)).view(B, K, 2)
    won = F.one_hot(best, K).bool().unsqueeze(2)  # (B, K, 1)
    return z_H, z_L, logits, torch.where(won, own[:, None], q), solved


def run_latents(model: HRM, inputs: Tensor, puzzle_ids: Tensor, z_H: Tensor, z_L: Tensor):
    """One segment on each of K latents: all of the model's outputs with (B, K, ...) in front."""
    B, K = z_H.shape[:2]
    out = model(inputs.repeat_interleave(K, 0), puzzle_ids.repeat_interleave(K), z_H.flatten(0, 1), z_L.flatten(0, 1))
    return tuple(t.unflatten(0, (B, K)) for t in out)


def step(model: HRM, inputs: Tensor, puzzle_ids: Tensor, z_H: Tensor, z_L: Tensor):
    """One segment outside training, as `model(...)`; of several latents the most confident one answers."""
    with model.ragged():
        if model.config.latents == 1:
            return model(inputs, puzzle_ids, z_H, z_L)
        z_H, z_L, logits, q = run_latents(model, inputs, puzzle_ids, z_H, z_L)
    lanes, best = torch.arange(len(q), device=q.device), q[..., 0].argmax(1)
    return z_H, z_L, logits[lanes, best], q[lanes, best]


def wants_to_halt(c, q: Tensor) -> Tensor:
    """(B, 2) halt and continue logits -> (B,) bool."""
    return q[:, 0] > q[:, 1] if c.q_continue else q[:, 0] > math.log(c.halt_confidence / (1 - c.halt_confidence))


def least_steps(c, lanes: int, generator: torch.Generator) -> Tensor:
    """(lanes,) Exploration: with probability `halt_exploration` a lane goes on to a random depth from 2 to the most."""
    explore = torch.rand(lanes, generator=generator) < c.halt_exploration
    depth = torch.randint(2, max(c.halt_max_steps, 2) + 1, (lanes,), generator=generator)
    return explore * depth


def token_loss(kind: str, logits: Tensor, labels: Tensor) -> Tensor:
    """(B, T, V), (B, T) -> (B, T) cross-entropy in nats, 0 where the label is IGNORE."""
    if kind == "softmax":
        return F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    logp = log_stablemax(logits.float()).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -torch.where(labels == IGNORE, 0.0, logp)


def answer_loss(kind: str, logits: Tensor, labels: Tensor) -> Tensor:
    """(B, T, V), (B, T) -> (B,) nats a scored token."""
    return token_loss(kind, logits, labels).sum(1) / (labels != IGNORE).sum(1).clamp(min=1)


@dataclass(frozen=True)
class Evaluation:
    """Outcomes over N puzzles; `full` arrays are None when only early halting was run."""

    predictions: np.ndarray  # (N, T) at the segment where the model halted
    exact: np.ndarray  # (N,) bool
    token_accuracy: np.ndarray  # (N,) share of scored tokens
    steps: np.ndarray  # (N,) segments used, 1 to halt_max_steps
    confidence: np.ndarray  # (N,) sigmoid of the halt logit there
    loss: np.ndarray  # (N,) nats a scored token at the halting segment
    full_predictions: np.ndarray | None
    full_exact: np.ndarray | None
    exact_by_step: np.ndarray | None  # (segments, N) bool


@torch.no_grad()
def evaluate(model: HRM, split, full: bool = True, limit: int = 0, batch: int = 256,
             dtype: torch.dtype = torch.float32) -> Evaluation:
    """Answer every puzzle of a split (inputs, labels, puzzle_ids as numpy arrays).

    full=True runs all segments and reads both the answer where the model halts and the one at full depth.
    full=False stops each puzzle where it halts and goes on with the rest only: several times cheaper.
    limit: only the first `limit` puzzles (0: all).
    """
    c, device = model.config, model.H_init.device
    n = min(limit or len(split.inputs), len(split.inputs))
    predictions = np.zeros((n, c.seq_len), np.int64)
    full_predictions = np.zeros_like(predictions) if full else None
    steps, confidence, loss = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    by_step = np.zeros((c.halt_max_steps, n), bool) if full else None
    for start in range(0, n, batch):
        rows = np.arange(start, min(start + batch, n))
        inputs = torch.from_numpy(split.inputs[rows].astype(np.int64)).to(device)
        labels = torch.from_numpy(split.labels[rows].astype(np.int64)).to(device)
        ids = torch.from_numpy(split.puzzle_ids[rows].astype(np.int64)).to(device)
        z_H, z_L = model.initial_state(len(rows), dtype)
        open_ = torch.ones(len(rows), dtype=torch.bool, device=device)
        for s in range(1, c.halt_max_steps + 1):
            z_H, z_L, logits, q = step(model, inputs, ids, z_H, z_L)
            answer = logits.argmax(-1)
            halting = open_ & (wants_to_halt(c, q) | (s == c.halt_max_steps))
            at = rows[halting.cpu().numpy()]
            if len(at):
                predictions[at], steps[at] = answer[halting].cpu().numpy(), s
                confidence[at] = q[halting, 0].sigmoid().cpu().numpy()
                loss[at] = answer_loss(c.loss, logits[halting], labels[halting]).cpu().numpy()
            open_ = open_ & ~halting
            if full:
                right = ((answer == labels) | (labels == IGNORE)).all(1)
                by_step[s - 1, rows] = right.cpu().numpy()
                full_predictions[rows] = answer.cpu().numpy()
            elif not open_.all():  # go on with those that have not halted
                if not open_.any():
                    break
                rows = rows[open_.cpu().numpy()]
                inputs, labels, ids, z_H, z_L = (t[open_] for t in (inputs, labels, ids, z_H, z_L))
                open_ = torch.ones(len(rows), dtype=torch.bool, device=device)
    exact, share = judge(predictions, split.labels[:n])
    return Evaluation(predictions, exact, share, steps, confidence, loss, full_predictions,
                      judge(full_predictions, split.labels[:n])[0] if full else None, by_step)


def judge(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, T), (N, T) -> every scored token right (N,) bool, share of scored tokens right (N,)."""
    scored = labels != IGNORE
    right = (predictions == labels) & scored
    return (right == scored).all(1), right.sum(1) / np.maximum(scored.sum(1), 1)


@torch.no_grad()
def trace(model: HRM, inputs: np.ndarray, puzzle_id: int = 0) -> list[dict]:
    """Every update of one puzzle (T,): what the model would answer if it stopped there, and how sure it is.

    Returns one dict a state update: segment, update (within the segment), answer (T,), halt (probability). Of several
    latents the most confident one answers.
    """
    c, device, frames = model.config, model.H_init.device, []
    x = torch.from_numpy(np.asarray(inputs, np.int64))[None].to(device)
    ids = torch.tensor([puzzle_id], device=device)
    z_H, z_L = (z.flatten(0, -3) for z in model.initial_state(1))  # (latents, prefix + T, D)
    for s in range(c.halt_max_steps):
        seen = []
        z_H, z_L = model.recur(model.embed_inputs(x, ids, z_H.dtype).expand_as(z_H), z_H, z_L,
                               watch=lambda h, _, seen=seen: seen.append(h))
        for i, h in enumerate(seen or [z_H]):
            h = h[model.judge(h)[:, 0].argmax()][None]
            frames.append({"segment": s + 1, "update": i + 1,
                           "answer": model.head(h)[0, c.prefix:].argmax(-1).cpu().numpy(),
                           "halt": float(model.judge(h)[0, 0].sigmoid())})
    return frames
