"""More compute at the end: several attempts at each puzzle, and the halting head chooses among them.

An *attempt* is one run of the model with early halting. The first is the plain one; the others start from noisy
states (Gaussian noise at the start or before every segment: PTRM, arXiv 2605.19943), see the puzzle under another
symmetry (voting, as for ARC), or both; and an attempt that has not become sure may think for longer than in training.
`search` runs them, `choose` picks an answer, `curve` sets accuracy against compute. Nothing here looks at labels
or at a puzzle's rules, but for `pass@K`, the ceiling that a perfect choice would reach.

Unusual:
- Noise is a function of (seed, attempt, puzzle, segment) alone (counter-based Philox), so it does not depend on the
  batch, and the first k of K attempts are what a search with k attempts gives: one search is the whole curve.
- The compute reported is the compute done: lanes that have halted leave the batch, and attempts that were not
  needed were not made (`until_sure`).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hrm_lab import act, cost, metrics
from hrm_lab.model import HRM, HRMConfig
from hrm_lab.puzzles.augment import symmetries

CHOICES = ("confidence", "vote")


@dataclass(frozen=True)
class Search:
    """How hard to think about each puzzle. The default is one pass with the model's own early halting."""

    attempts: int = 1
    sigma: float = 0.0  # standard deviation of the noise on z_H and z_L, whose cells have a scale of 1
    noise: str = "start"  # "start": on the initial states; "every": before every segment
    symmetric: bool = False  # attempt k sees the puzzle under the k-th random symmetry of its kind
    longer: int = 1  # an attempt may take this many times halt_max_steps
    halt_at: float | None = None  # confidence at which an attempt stops; None: as trained, 1: never (full depth)
    until_sure: bool = False  # no further attempt at a puzzle once one has stopped by itself
    seed: int = 0

    def __post_init__(self):
        for name in ("attempts", "longer"):
            if getattr(self, name) < 1:
                raise ValueError(f"Search.{name}: got {getattr(self, name)}, expected at least 1")
        if self.sigma < 0:
            raise ValueError(f"Search.sigma: got {self.sigma}, expected 0 or more")
        if self.noise not in ("start", "every"):
            raise ValueError(f"Search.noise: got {self.noise!r}, expected start or every")
        if self.halt_at is not None and not 0 < self.halt_at <= 1:
            raise ValueError(f"Search.halt_at: got {self.halt_at}, expected None or above 0 and at most 1")
        if self.attempts > 1 and not self.sigma and not self.symmetric:
            raise ValueError(f"Search.attempts: got {self.attempts} equal ones, expected sigma > 0 or symmetric=True")


@dataclass(frozen=True)
class Attempts:
    """K attempts at each of N puzzles. An attempt that was not made has 0 steps."""

    predictions: np.ndarray  # (K, N, T), mapped back where the puzzle was seen under a symmetry
    confidence: np.ndarray  # (K, N) sigmoid of the halt logit where the attempt ended
    steps: np.ndarray  # (K, N) segments run
    sure: np.ndarray  # (K, N) bool: it stopped by itself

    def first(self, k: int) -> "Attempts":
        """What a search with k attempts would have given."""
        return Attempts(*(a[:k] for a in vars(self).values()))

    def until_sure(self) -> "Attempts":
        """What a search until sure would have given: nothing after the first attempt that stopped by itself."""
        made = np.cumsum(self.sure, axis=0) - self.sure == 0  # (K, N)
        return Attempts(self.predictions * made[..., None], self.confidence * made, self.steps * made, self.sure & made)


@torch.no_grad()
def search(model: HRM, split, c: Search, limit: int = 0, batch: int = 256,
           dtype: torch.dtype = torch.float32) -> Attempts:
    """Attempt the first `limit` puzzles of a split (0: all) as `c` says; labels are not read.

    Raises ValueError where the kind of puzzle has fewer symmetries than `c.attempts`.
    """
    n, K, meta = min(limit or len(split.inputs), len(split.inputs)), c.attempts, split.meta
    pairs = [(lambda x: x, lambda x: x)] * K
    if c.symmetric:
        pairs = symmetries(meta.augment, meta.grid, K, np.random.default_rng(c.seed))
        if len(pairs) < K:
            raise ValueError(f"Search.attempts: got {K}, expected at most {len(pairs)}: {meta.name} has no more "
                             f"symmetries of the kind {meta.augment!r} to vote over")
    out = Attempts(np.zeros((K, n, model.config.seq_len), np.int64), np.zeros((K, n)), np.zeros((K, n), np.int64),
                   np.zeros((K, n), bool))
    for k, (apply, invert) in enumerate(pairs):
        rows = np.arange(n)
        if c.until_sure:
            rows = rows[~out.sure.any(0)]
        for start in range(0, len(rows), batch):
            part = rows[start:start + batch]
            attempt(model, apply(split.inputs[part]), split.puzzle_ids[part], c, k, part, out, dtype)
        made = out.steps[k] > 0
        out.predictions[k, made] = invert(out.predictions[k, made])
    return out


def attempt(model: HRM, inputs: np.ndarray, puzzle_ids: np.ndarray, c: Search, k: int, rows: np.ndarray,
            out: Attempts, dtype: torch.dtype):
    """Attempt k at the puzzles `rows` (n,), written into `out`; inputs (n, T), puzzle_ids (n,)."""
    device, most = model.H_init.device, c.longer * model.config.halt_max_steps
    x, ids = (torch.from_numpy(a.astype(np.int64)).to(device) for a in (inputs, puzzle_ids))
    z_H, z_L = model.initial_state(len(rows), dtype)
    for s in range(1, most + 1):
        if c.sigma and k and (s == 1 or c.noise == "every"):
            drawn = noise(c.seed, k, s, rows, z_H[0].shape)
            z_H, z_L = (z + c.sigma * torch.from_numpy(d).to(z) for z, d in zip((z_H, z_L), drawn, strict=True))
        z_H, z_L, logits, q = act.step(model, x, ids, z_H, z_L)
        sure = stops(model.config, c, q)
        ends = sure | (s == most)
        at = rows[ends.cpu().numpy()]
        out.predictions[k, at] = logits[ends].argmax(-1).cpu().numpy()
        out.confidence[k, at] = q[ends, 0].sigmoid().cpu().numpy()
        out.steps[k, at], out.sure[k, at] = s, sure[ends].cpu().numpy()
        if ends.all():
            return
        if ends.any():  # go on with the others only
            rows = rows[~ends.cpu().numpy()]
            x, ids, z_H, z_L = (t[~ends] for t in (x, ids, z_H, z_L))


def stops(config: HRMConfig, c: Search, q: Tensor) -> Tensor:
    """(B, 2) halt and continue logits -> (B,) bool: sure enough to stop."""
    if c.halt_at is None:
        return act.wants_to_halt(config, q)
    return q[:, 0] > (math.inf if c.halt_at == 1 else math.log(c.halt_at / (1 - c.halt_at)))


def noise(seed: int, attempt: int, segment: int, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise for z_H and z_L of the puzzles `rows` (n,): (2, n, *shape) float32."""
    drawn = [np.random.Generator(np.random.Philox(key=seed, counter=(0, segment, attempt, row)))
             .standard_normal((2, *shape), np.float32) for row in rows.tolist()]
    return np.stack(drawn, axis=1)


# ---------------------------------------------------------------- choosing and judging


def choose(found: Attempts, by: str = "confidence") -> tuple[np.ndarray, np.ndarray]:
    """One answer a puzzle: predictions (N, T) and the attempt that it comes from (N,).

    by: "confidence" takes the attempt that is surest of itself, "vote" the answer (all of it, not cell by cell, so that
    it stays of one piece) whose attempts have the largest confidence together.
    """
    if by not in CHOICES:
        raise ValueError(f"choose: got by={by!r}, expected {' or '.join(CHOICES)}")
    weight = np.where(found.steps > 0, found.confidence, -1.0)  # (K, N)
    if by == "vote":
        same = (found.predictions[:, None] == found.predictions[None]).all(-1)  # (K, K, N)
        weight = np.where(found.steps > 0, (same * np.maximum(weight, 0)).sum(1), -1.0)
    which = weight.argmax(0)
    return found.predictions[which, np.arange(len(which))], which


def judge(found: Attempts, labels: np.ndarray, by: str = "confidence") -> dict:
    """Outcomes of each puzzle against labels (N or more, T): `exact` of the choice, `any`, `segments`.

    All (N,). `any` (some attempt is exact) is what a perfect choice would reach, so no method.
    """
    labels = labels[:found.steps.shape[1]]
    right = np.stack([act.judge(p, labels)[0] for p in found.predictions]) & (found.steps > 0)
    return {"exact": right[choose(found, by)[1], np.arange(len(labels))], "any": right.any(0),
            "segments": found.steps.sum(0)}


def point(outcome: dict, baseline: dict, config: HRMConfig) -> dict:
    """One point of the curve: accuracy, compute, and the paired difference to `baseline` on the same puzzles.

    outcome, baseline: of `judge`. Segments, level calls and GFLOP are means a puzzle; `selection_failures` are the
    puzzles that some attempt solved and the choice missed.
    """
    exact, n = outcome["exact"], len(outcome["exact"])
    segments = metrics.bootstrap(outcome["segments"], "segments")
    calls = config.latents * len(cost.level_calls(config, training=False))
    flops = config.latents * cost.work(config, 1, training=False).flops
    return {"exact_match": metrics.proportion(int(exact.sum()), n),
            "minus_one_pass": metrics.paired_difference(exact, baseline["exact"]),
            "pass_at_k": metrics.proportion(int(outcome["any"].sum()), n),
            "selection_failures": metrics.proportion(int((outcome["any"] & ~exact).sum()), n),
            "segments": segments, "level_calls": metrics.plain(segments["value"] * calls, n, "calls"),
            "gflop": metrics.plain(segments["value"] * flops / 1e9, n, "GFLOP")}


# ---------------------------------------------------------------- accuracy against compute


def tune(model: HRM, valid, c: Search, sigmas: list[float], limit: int = 0) -> tuple[Search, list[dict]]:
    """The noise that solves most validation puzzles, the cheapest among equals: a search as `c`, but until sure.

    Returns it, and one row a sigma tried: search, exact_match, segments (a puzzle).
    """
    rows = []
    for sigma in sigmas:
        s = replace(c, sigma=sigma, until_sure=True)
        outcome = judge(search(model, valid, s, limit), valid.labels)
        rows.append({"search": s, "segments": float(outcome["segments"].mean()),
                     "exact_match": metrics.proportion(int(outcome["exact"].sum()), len(outcome["exact"]))})
    return max(rows, key=lambda row: (row["exact_match"]["value"], -row["segments"]))["search"], rows


def curve(model: HRM, split, c: Search, levels: list[float], limit: int = 0) -> list[dict]:
    """Accuracy against compute on a split: one row a point, with `method`, `setting` and the fields of `point`.

    c: of `tune`. The first row is one pass that halts as trained; all rows are paired with it. Then: one pass with
    other confidences to stop at, and never (full depth); more segments than in training; noise and symmetries with
    1, 2, 4, ... attempts, with all of them run and with none after the first sure one, chosen from by confidence, and
    all of them also by vote. Raises ValueError where the kind of puzzle has fewer symmetries than attempts.
    """
    rows, baseline = [], None
    counts = [2**i for i in range(c.attempts.bit_length()) if 2**i <= c.attempts]

    def add(method: str, settings: list[str], found: list[Attempts], by: str = "confidence"):
        nonlocal baseline
        for setting, one in zip(settings, found, strict=True):
            outcome = judge(one, split.labels, by)
            baseline = baseline or outcome
            rows.append({"method": method, "setting": setting, **point(outcome, baseline, model.config)})

    passes = [search(model, split, Search(halt_at=level), limit) for level in (None, *levels, 1.0)]
    add("one pass", ["as trained", *(f"halts at {level:g}" for level in levels), "full depth"], passes)
    add("longer", ["2 x segments", "4 x segments"],
        [search(model, split, Search(halt_at=c.halt_at, longer=m), limit) for m in (2, 4)])
    for name, s in (("noise", c), ("symmetries", replace(c, sigma=0.0, symmetric=True))):
        found = search(model, split, replace(s, until_sure=False), limit)
        cheap = found.until_sure()
        add(f"{name}, all", [f"{k} of {k}" for k in counts], [found.first(k) for k in counts])
        add(f"{name}, until sure", [f"up to {k}" for k in counts], [cheap.first(k) for k in counts])
        add(f"{name}, all, by vote", [f"{c.attempts} of {c.attempts}"], [found], "vote")
    return rows


def finding(task: str, rows: list[dict]) -> str:
    """The sentence that rows of `curve` allow: the most accurate setting, the cheapest among equals, and its price."""
    one, best = rows[0], max(rows, key=lambda row: (row["exact_match"]["value"], -row["segments"]["value"]))
    gain, share = best["minus_one_pass"], best["exact_match"]
    if best is one:
        return f"{task}: nothing beats one pass, {metrics.format_score(share)}."
    sure = "" if gain["low"] > 0 else ", an interval that includes no gain at all"
    return (f"{task}: {best['method']} ({best['setting']}) solves {metrics.format_score(share)} with "
            f"{best['segments']['value']:.2f} segments a puzzle, one pass "
            f"{metrics.format_score(one['exact_match'])} with {one['segments']['value']:.2f}; paired difference "
            f"{100 * gain['value']:+.1f} points ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}{sure}).")
