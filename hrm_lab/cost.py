"""What a segment costs before it is run: FLOPs, bytes, parameters, memory, seconds, and the worth of halting early.

- `work` counts one segment analytically; its FLOPs are those of every matrix product, exactly (a multiply-add is 2).
- `TimeModel` turns work into seconds: a constant a step and a block, FLOPs at a rate, bytes at a bandwidth, with
  non-negative coefficients fitted to measured steps. It is a roofline whose terms add up: products and elementwise
  operations run one after the other in eager PyTorch, so their times add rather than hide behind each other.
- `published` holds the papers' settings, so that "how long would the paper's run take here" has an answer.
- `lane_widths` simulates lanes that halt at different depths under four policies.

Unusual: cost depends on where the gradient flows, which differs between the variants; `level_calls` follows
`HRM.recur`, and the tests hold it to PyTorch's own FLOP counter.
Sources: HRM (arXiv 2506.21734) section 2, TRM (arXiv 2510.04871) section 4, Williams et al. 2009 for the roofline.
"""

import math
from dataclasses import astuple, dataclass
from itertools import combinations

import numpy as np

from hrm_lab.metrics import bootstrap, score
from hrm_lab.model import HRMConfig

POLICIES = ("full", "wait", "compact", "refill")


@dataclass(frozen=True)
class Call:
    """One pass through a level's stack: how many blocks, and whether backward goes through them."""

    level: str  # "H" or "L"; trm shares one stack, "L"
    blocks: int
    gradient: bool


@dataclass(frozen=True)
class Work:
    """What one step asks of the machine. Backward counts as two forwards."""

    steps: float
    blocks: float  # block calls: each is a dozen kernels to launch
    flops: float  # in matrix products
    bytes: float  # read and written by everything else
    parameter_bytes: float  # weights that the optimiser updates; 0 in inference


def level_calls(c: HRMConfig, training: bool = True) -> list[Call]:
    """The level calls of one segment in order, with the second pass of the Q-continue target."""
    H = ("L", c.L_layers) if c.variant == "trm" else ("H", c.H_layers)
    if c.variant == "plain":
        return [Call("L", c.L_layers, training), Call(*H, training)]
    one_step = c.gradient == "one-step" or (not c.gradient and c.variant == "hrm")
    calls = []
    for i in range(c.H_cycles):
        last = training and i == c.H_cycles - 1
        calls += [Call("L", c.L_layers, last and (j == c.L_cycles - 1 or not one_step)) for j in range(c.L_cycles)]
        calls.append(Call(*H, last))
    return calls + (level_calls(c, training=False) if training and second_pass(c) else [])


def second_pass(c: HRMConfig) -> bool:
    """Whether a training step runs the model once more without gradient, for the Q-continue target."""
    return c.q_continue and c.halt_max_steps > 1


def inner_width(width: int, expansion: float, multiple: int) -> int:
    """SwiGLU's inner width as `model.SwiGLU` rounds it."""
    return -(-round(expansion * width * 2 / 3) // multiple) * multiple


def block_flops(c: HRMConfig) -> int:
    """FLOPs of the matrix products of one block, forward, on one puzzle."""
    T, D = c.positions_total, c.hidden
    mlp = 6 * T * D * inner_width(D, c.expansion, c.inner_multiple)
    if c.mixer == "mlp":
        return mlp + 6 * D * T * inner_width(T, c.expansion, c.mixer_multiple)
    return mlp + 8 * T * D * D + 4 * T * T * D  # q, k, v and out; scores and values


def block_elements(c: HRMConfig) -> int:
    """Numbers that the operations between the products of one block read and write, forward, on one puzzle."""
    T, D = c.positions_total, c.hidden
    # SwiGLU: 2 written by the product, silu 2, times 3, 1 read by the product; two sums and two norms: 10 D
    seen = T * (10 * D + 8 * inner_width(D, c.expansion, c.inner_multiple))
    if c.mixer == "mlp":
        return seen + D * (8 * inner_width(T, c.expansion, c.mixer_multiple) + 4 * T)  # and two transposes
    rotation = 14 * T * D if c.positions in ("rope", "axial") else 0  # q and k: negate, join, two products, sum
    return seen + rotation + 9 * T * D + 4 * c.heads * T * T  # q, k, v, out and the softmax over the scores


def work(c: HRMConfig, batch: int, training: bool = True, element_bytes: int = 4) -> Work:
    """One segment on `batch` lanes: a training step (forward, backward, update), or inference."""
    forwards = sum(call.blocks * (3 if call.gradient else 1) for call in level_calls(c, training))
    head = 2 * c.hidden * (c.positions_total * c.vocab_size + 2)  # answers, and the two halting logits
    passes = 3 + second_pass(c) if training else 1
    return Work(1.0, forwards, float(batch * (forwards * block_flops(c) + passes * head)),
                float(batch * forwards * block_elements(c) * element_bytes), 4.0 * parameters(c) * training)


def matrices(c: HRMConfig) -> list[tuple[int, int]]:
    """(rows, columns) of every weight in the level stacks."""
    D = c.hidden

    def swiglu(width: int, multiple: int):
        inner = inner_width(width, c.expansion, multiple)
        return [(2 * inner, width), (width, inner)]

    mix = [(3 * D, D), (D, D)] if c.mixer == "attention" else swiglu(c.positions_total, c.mixer_multiple)
    blocks = c.L_layers + (c.H_layers if c.variant != "trm" else 0)
    return (mix + swiglu(D, c.inner_multiple)) * blocks


def parameters(c: HRMConfig) -> int:
    """Number of trained parameters, as `model.count_parameters` counts them."""
    D, rows = c.hidden, 2 * c.vocab_size + 2  # embedding and head; the Q head's two rows
    rows += c.positions_total if c.positions == "learned" else 0
    rows += 0 if c.num_puzzles else c.prefix
    return D * rows + 2 + c.num_puzzles * c.puzzle_dim + sum(r * k for r, k in matrices(c))


def muon_flops(c: HRMConfig, iterations: int = 5) -> int:
    """FLOPs of orthogonalising every matrix of the stacks once: what Muon adds to a step, whatever the batch."""
    sizes = [(min(m), max(m)) for m in matrices(c)]
    return iterations * sum(4 * small * small * large + 2 * small**3 for small, large in sizes)


def training_bytes(c: HRMConfig, batch: int, element_bytes: int = 4, ema: bool = False) -> int:
    """Estimate of the memory a training step holds: weights, gradients, two moments (and the average) and what
    backward needs of the calls with gradient. Without the framework itself and the kernels' scratch space."""
    T, D = c.positions_total, c.hidden
    inner = inner_width(D, c.expansion, c.inner_multiple)
    rotated = 2 * D if c.positions in ("rope", "axial") else 0
    kept = T * (3 * D + 4 * inner)  # the MLP's input, its two inner products and norm
    if c.mixer == "attention":
        kept += T * (6 * D + rotated)  # input, q, k, v, heads' output and its reordered copy
    else:
        kept += D * (2 * T + 4 * inner_width(T, c.expansion, c.mixer_multiple))
    blocks = sum(call.blocks for call in level_calls(c) if call.gradient)
    return parameters(c) * 4 * (4 + ema) + batch * blocks * kept * element_bytes


# ---------------------------------------------------------------- seconds


@dataclass(frozen=True)
class TimeModel:
    """Seconds a unit of each part of `Work`; all >= 0."""

    per_step: float = 0.0
    per_block: float = 0.0
    per_flop: float = 0.0
    per_byte: float = 0.0
    per_parameter_byte: float = 0.0

    def seconds(self, w: Work) -> float:
        return float(np.dot(astuple(self), astuple(w)))


def accelerator(flops_per_second: float, utilisation: float = 0.4, block_seconds: float = 0.0) -> TimeModel:
    """A device that reaches `utilisation` (MFU) of its matrix products' rate; everything else is inside that share."""
    if not (flops_per_second > 0 and 0 < utilisation <= 1):
        raise ValueError(f"accelerator: got {flops_per_second:g} FLOP/s at utilisation {utilisation:g}, "
                         "expected a positive rate and a utilisation in (0, 1]")
    return TimeModel(per_block=block_seconds, per_flop=1 / (flops_per_second * utilisation))


def fit(works: list[Work], seconds: np.ndarray) -> TimeModel:
    """Non-negative least squares on relative errors: a step of a millisecond counts as much as one of a second.

    Exact: with five columns, the best of all subsets whose plain least-squares solution is non-negative.
    """
    y = np.asarray(seconds, float)
    if len(y) != len(works) or len(y) < 5 or not (np.isfinite(y).all() and (y > 0).all()):
        raise ValueError(f"fit: got {len(works)} settings and seconds {y.tolist()}, "
                         "expected at least 5 of each and positive seconds")
    X = np.array([astuple(w) for w in works]) / y[:, None]  # (N, 5): each row should sum to 1
    scale = np.maximum(X.max(0), 1e-300)  # columns from 1 to 1e12: bring them together
    best, found = math.inf, np.zeros(X.shape[1])
    for k in range(1, X.shape[1] + 1):
        for columns in map(list, combinations(range(X.shape[1]), k)):
            A = X[:, columns] / scale[columns]
            b = np.linalg.lstsq(A, np.ones(len(y)), rcond=None)[0]
            error = float(np.square(A @ b - 1).sum())
            if (b >= 0).all() and error < best:
                best, found = error, np.zeros(X.shape[1])
                found[columns] = b / scale[columns]
    return TimeModel(*found.tolist())


def held_out_errors(works: list[Work], seconds: np.ndarray) -> np.ndarray:
    """(N,) predicted / measured - 1 of each setting, by a model fitted to all the others."""
    y, errors = np.asarray(seconds, float), []
    for i in range(len(works)):
        others = [w for j, w in enumerate(works) if j != i]
        errors.append(fit(others, np.delete(y, i)).seconds(works[i]) / y[i] - 1)
    return np.array(errors)


def predict(works: list[Work], seconds: np.ndarray, asked: Work, draws: int = 200, seed: int = 0) -> dict:
    """Seconds of one step of `asked`, a score whose interval comes from fits to resampled settings (n of them).

    The interval says how much the answer hangs on which settings were measured, not whether the model holds far
    outside them: see `held_out_errors` for that.
    """
    y, rng, found = np.asarray(seconds, float), np.random.default_rng(seed), []
    for _ in range(draws):
        rows = rng.integers(0, len(y), len(y))
        found.append(fit([works[i] for i in rows], y[rows]).seconds(asked))
    low, high = np.quantile(found, [0.025, 0.975])
    return score(fit(works, y).seconds(asked), len(y), float(low), float(high), "s")


# ---------------------------------------------------------------- the papers' settings


@dataclass(frozen=True)
class Setting:
    """A published training run."""

    model: HRMConfig
    batch: int
    steps: int
    source: str


def published() -> dict[str, Setting]:
    """The papers' Sudoku and maze runs, by the READMEs and configs of their public repositories.

    steps = epochs * 1,000 groups / global batch, as their `pretrain.py` has it.
    """
    hrm = dict(variant="hrm", hidden=512, heads=8, H_layers=4, L_layers=4, H_cycles=2, L_cycles=2, positions="rope",
               num_puzzles=1, prefix=1, puzzle_dim=512, q_pool="first", q_continue=True, loss="stablemax",
               halt_max_steps=16)
    trm = dict(variant="trm", hidden=512, heads=8, L_layers=2, H_cycles=3, num_puzzles=1, prefix=16, puzzle_dim=512,
               q_pool="first", loss="stablemax", halt_max_steps=16)
    sapient, samsung = "sapientinc/HRM README", "SamsungSAILMontreal/TinyRecursiveModels README"
    return {
        "HRM Sudoku 9x9": Setting(HRMConfig(vocab_size=11, seq_len=81, **hrm), 384, 20000 * 1000 // 384,
                                  f"{sapient}: one GPU, 20,000 epochs, batch 384"),
        "HRM maze 30x30": Setting(HRMConfig(vocab_size=6, seq_len=900, **hrm), 768, 20000 * 1000 // 768,
                                  f"{sapient}: 20,000 epochs; config: batch 768"),
        "TRM-mlp Sudoku 9x9": Setting(HRMConfig(vocab_size=11, seq_len=81, L_cycles=6, mixer="mlp", positions="none",
                                                **trm), 768, 50000 * 1000 // 768,
                                      f"{samsung}: 50,000 epochs; config: batch 768"),
        "TRM maze 30x30": Setting(HRMConfig(vocab_size=6, seq_len=900, L_cycles=4, positions="rope", **trm), 768,
                                  50000 * 1000 // 768, f"{samsung}: 50,000 epochs; config: batch 768"),
    }


# ---------------------------------------------------------------- lanes that halt at different times


def halting_depths(mean: float, max_steps: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n,) segments used and (n,) bool solved, for puzzles that are solved in each segment with equal probability.

    `mean` is the expected depth with the cut at max_steps; a puzzle that is not solved by then is given up there.
    """
    if not 1 <= mean <= max_steps:
        raise ValueError(f"halting_depths: got a mean of {mean:g} segments, expected 1 to max_steps = {max_steps}")
    low, high = 0.0, 1.0  # the chance p a segment: mean = (1 - (1 - p)^max) / p falls with p
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if (1 - (1 - p) ** max_steps) / p > mean else (low, p)
    u = rng.random(n)
    depth = np.ceil(np.log1p(-u) / np.log1p(-high)) if high < 1 - 1e-9 else np.ones(n)
    depth = np.maximum(depth, 1)
    return np.minimum(depth, max_steps).astype(np.int64), depth <= max_steps


def lane_widths(depths: np.ndarray, lanes: int, max_steps: int, policy: str) -> np.ndarray:
    """(segments run,) lanes that each segment computes, to answer puzzles of these depths (N,) in order.

    full: every batch to max_steps. wait: every batch until its slowest puzzle halts. compact: the same, but a lane
    that halted is dropped (`act.evaluate`). refill: a lane that halted takes the next puzzle at once (`act.refill`).
    """
    if policy not in POLICIES:
        raise ValueError(f"lane_widths: got policy {policy!r}, expected one of {', '.join(POLICIES)}")
    if policy == "refill":
        free_at = np.zeros(lanes, np.int64)  # segment at which each lane is free
        spans = np.zeros((2, len(depths)), np.int64)
        for i, d in enumerate(depths):
            lane = free_at.argmin()
            spans[:, i] = free_at[lane], free_at[lane] + d
            free_at[lane] += d
        time = np.arange(free_at.max())
        return (np.searchsorted(np.sort(spans[0]), time, side="right")
                - np.searchsorted(np.sort(spans[1]), time, side="right"))
    widths = []
    for start in range(0, len(depths), lanes):
        batch = depths[start:start + lanes]
        segments = max_steps if policy == "full" else batch.max()
        open_ = [(batch >= s).sum() if policy == "compact" else len(batch) for s in range(1, segments + 1)]
        widths += open_
    return np.array(widths, np.int64)


def worth_of_halting(c: HRMConfig, model: TimeModel, lanes: int, means: list[float], puzzles: int = 1024,
                     training: bool = False, repeats: int = 20, seed: int = 0) -> list[dict]:
    """Seconds a puzzle under each policy, by mean halting depth; each a score with its interval over `repeats`.

    Rows: mean, solved (share within halt_max_steps), `seconds/<policy>` a puzzle seen, `solved_seconds/<policy>`
    a puzzle solved (over the repeats that solved one), `saving/<policy>` (times cheaper than full depth).
    """
    one, none = model.seconds(work(c, 1, training)), model.seconds(work(c, 0, training))
    rows = []
    for mean in means:
        rng = np.random.default_rng([seed, round(1000 * mean)])
        found: dict[str, list] = {}
        for _ in range(repeats):
            depths, solved = halting_depths(mean, c.halt_max_steps, puzzles, rng)
            found.setdefault("solved", []).append(solved.mean())
            for policy in POLICIES:
                widths = lane_widths(depths, lanes, c.halt_max_steps, policy)
                seconds = (len(widths) * none + widths.sum() * (one - none)) / puzzles  # work is linear in lanes
                found.setdefault(f"seconds/{policy}", []).append(seconds)
                if solved.any():
                    found.setdefault(f"solved_seconds/{policy}", []).append(seconds / solved.mean())
                found.setdefault(f"saving/{policy}", []).append(found["seconds/full"][-1] / seconds)
        rows.append({"mean": mean, **{name: bootstrap(np.array(v)) for name, v in found.items()}})
    return rows
