"""Training of a policy on injected bugs: the repair against its rivals, after every segment.

    python -m hrm_lab.swe.policy_train --data data/built/policy --out runs/policy --variant hrm --seconds 300

Deep supervision: each segment has its loss and its step. Curriculum: the first pass goes from short programs to long
ones. The rate warms up, then halves when the rank of the repair has not fallen for `PATIENCE` evaluations, and the best
EMA weights are kept. Unusual: the linear prior under the network is fitted on the same examples, so in training each
example is scored by one that was fitted on the other half (stacked generalisation: Wolpert 1992); else the network
would learn to trust a prior that knows the answers.
"""

import argparse
import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hrm_lab import optim, runs
from hrm_lab.files import write_json
from hrm_lab.model import count_parameters
from hrm_lab.swe.linear import LinearPrior, rank
from hrm_lab.swe.policy import PRESETS, Policy, PolicyConfig, collate
from hrm_lab.swe.policy_data import Example, load
from hrm_lab.swe.reading import ADDED_WIDTH, bucket

PATIENCE = 3
ERRORS = ("AssertionError",) * 6 + ("IndexError", "TypeError", "ValueError", "KeyError", "NameError", "AttributeError",
                                     "RecursionError", "ZeroDivisionError", "fuel", "cpu")


@dataclass(frozen=True)
class PolicyTraining:
    """One run. `seconds`: of wall time; `every`: steps from one evaluation to the next."""

    batch: int = 16
    rate: float = 0.005  # Muon's; the rest learns at a twentieth
    weight_decay: float = 0.05
    warmup: int = 20
    every: int = 100
    ema: float = 0.99
    seconds: float = 300.0
    steps: int = 100_000
    halt_weight: float = 0.1
    value_weight: float = 0.1
    seed: int = 0


def losses(scores: Tensor, value: Tensor, halt: Tensor, weight: Tensor, c: PolicyTraining) -> Tensor:
    """Cross-entropy of the repair (row 0) + what the Q and value heads owe; (B, N), (B, N), (B,), (B, N)."""
    there = weight > -torch.inf
    logits = scores + weight
    main = -logits.log_softmax(-1)[:, 0].mean()
    right = (scores.masked_fill(~there, -torch.inf).argmax(-1) == 0).float()
    gold = torch.zeros_like(value)
    gold[:, 0] = 1
    each = F.binary_cross_entropy_with_logits(value, gold, reduction="none")
    share = there * (0.5 / (there.sum(-1, keepdim=True) - 1).clamp(min=1))
    share[:, 0] = 0.5  # a repair weighs as much as all rivals of the sample
    return (main + c.halt_weight * F.binary_cross_entropy_with_logits(halt, right)
            + c.value_weight * (each * share).sum(-1).mean())


def distract(batch: dict[str, Tensor], rng: np.random.Generator):
    """Change a batch: half of the programs get a random type of error, half lose the sub-words of their names.

    Injected bugs have not been run, so an error says nothing; but its row of the table must not be noise when a program
    comes with a real one. Without sub-words programs cannot be learnt by heart.
    """
    tokens = batch["tokens"]
    silent = torch.from_numpy(rng.random(len(tokens)) < 0.5).to(tokens.device)
    tokens[silent, :, 6:] = 0
    batch["added"][silent, :, 2::ADDED_WIDTH] = 0
    for b in np.flatnonzero(rng.random(len(tokens)) < 0.5):
        for k in range(1 + (rng.random() < 0.2)):
            tokens[b, k, 0] = bucket("error", k, rng.choice(ERRORS))


def stacked(data: list[Example], seed: int) -> tuple[LinearPrior, list[Tensor]]:
    """A linear prior of all examples, and for each the scores (n,) of one that was fitted without its half."""
    halves = [LinearPrior.fit(data[k::2] or data, seed=seed) for k in range(2)]
    bases = [torch.from_numpy(halves[1 - n % 2].weights[e.wide].sum(1)) for n, e in enumerate(data)]
    return LinearPrior.fit(data, seed=seed), bases


@torch.no_grad()
def validate(policy: Policy, examples: list[Example], c: PolicyTraining, device) -> dict:
    """Loss, mean logarithm and median of the rank of the repair after the last segment."""
    policy.eval()
    total, ranks = 0.0, []
    for at in range(0, len(examples), 4):
        part = examples[at:at + 4]
        batch = collate(part, device, rounded=True)
        *_, (scores, *_) = policy(batch)
        total -= float((scores + batch["weight"]).log_softmax(-1)[:, 0].sum())
        ranks += [rank(row[:len(e.kind)].cpu().numpy()) for row, e in zip(scores, part, strict=True)]
    policy.train()
    ranks = np.array(ranks)
    return {"loss": total / len(examples), "log_rank": float(np.log(ranks).mean()),
            "median_rank": float(np.median(ranks)), "n": len(ranks),
            "exact_match": float(np.mean(ranks <= 1)),
            **{f"in_{k}": float(np.mean(ranks <= k)) for k in (10, 30, 100)}}


def train(config: PolicyConfig, c: PolicyTraining, data: list[Example], valid: list[Example], out: Path,
          device: str = "auto") -> Policy:
    """Train, log to `out`/metrics.jsonl, save the best weights in `out`; returns them. Raises ValueError: no data."""
    if not data or not valid:
        raise ValueError(f"examples: got {len(data)} to train on and {len(valid)} to validate, expected some of each")
    place = runs.pick_device(device)
    dtype = torch.bfloat16 if runs.fast_in_bf16(place) else torch.float32
    torch.manual_seed(c.seed)
    rng, clock = np.random.default_rng(c.seed), runs.Clock()
    policy = Policy(config).to(place)
    if config.wide:
        whole, bases = stacked(data, c.seed)
        policy.wide.copy_(torch.from_numpy(whole.weights))
    average = copy.deepcopy(policy)
    optimisers = optim.build("muon", policy, c.rate, c.weight_decay, (0.9, 0.95), 0.0)
    rates = [[group["lr"] for group in o.param_groups] for o in optimisers]
    out.mkdir(parents=True, exist_ok=True)
    runs.rewind_metrics(out, 0)  # of an earlier run
    write_json(out / "run.json", {"policy": asdict(config), "training": asdict(c), "examples": len(data),
                                  "parameters": count_parameters(policy), **runs.facts(place)})
    best, waited, factor, step, order = float("inf"), 0, 1.0, 0, []
    turn = sorted(range(len(data)), key=lambda n: len(data[n].tokens) + rng.random())  # the curriculum
    while step < c.steps and clock.wall < c.seconds and factor > 0.05:
        if not order:
            order, turn = list(turn), rng.permutation(len(data))
        batch = collate([data[n] for n in order[:c.batch]], place, rounded=True)
        if config.wide:
            batch["base"] = pad_sequence([bases[n] for n in order[:c.batch]], batch_first=True).to(place)
        order = order[c.batch:]
        distract(batch, rng)
        each = [losses(scores, value, halt, batch["weight"], c) for scores, value, halt, _ in policy(batch, dtype)]
        sum(each).backward()
        scale = factor * min(1.0, (step + 1) / c.warmup)
        for o, rate in zip(optimisers, rates, strict=True):
            for group, r in zip(o.param_groups, rate, strict=True):
                group["lr"] = r * scale
            o.step()
            o.zero_grad()
        with torch.no_grad():
            policy.table.weight[0], policy.texts.weight[0] = 0, 0
            keep = min(c.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(policy.parameters()), 1 - keep)
        step += 1
        if step % c.every == 0:
            row = {"step": step, "seconds": round(clock.wall, 1), "cpu": round(clock.cpu, 1), "rate": scale,
                   "train_loss": each[-1].item(), **validate(average, valid, c, place)}
            runs.append_metrics(out, row)
            print(" ".join(f"{k}={v:.4g}" for k, v in row.items()), flush=True)
            waited = 0 if row["log_rank"] < best else waited + 1
            if row["log_rank"] < best:
                best = row["log_rank"]
                average.save(out, step=step, examples=len(data))
            if waited >= PATIENCE:
                factor, waited = factor / 2, 0
    if best == float("inf"):
        average.save(out, step=step, examples=len(data))
    return Policy.load(out, str(place))


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.policy_train", description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder with train-*.npz and valid-*.npz of policy_data")
    parser.add_argument("--out", required=True)
    parser.add_argument("--preset", default="laptop", choices=tuple(PRESETS))
    parser.add_argument("--variant", default="hrm", choices=("hrm", "plain"))
    parser.add_argument("--deep-only", action="store_true", help="without the wide part")
    parser.add_argument("--seconds", type=float, default=PolicyTraining.seconds)
    parser.add_argument("--steps", type=int, default=PolicyTraining.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--valid", type=int, default=60, help="validation examples")
    given = parser.parse_args(arguments)
    runs.set_threads()
    data, valid = ([e for path in sorted(Path(given.data).glob(f"{split}-*.npz")) for e in load(path)]
                   for split in ("train", "valid"))
    config = PRESETS[given.preset]
    config = replace(config, variant=given.variant, wide=not given.deep_only,
                     segments=1 if given.variant == "plain" else config.segments)
    train(config, PolicyTraining(seconds=given.seconds, steps=given.steps, seed=given.seed), data,
          valid[:given.valid], Path(given.out))


if __name__ == "__main__":
    main()
