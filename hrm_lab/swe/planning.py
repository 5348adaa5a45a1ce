"""Is the H level of a policy a plan? Freeze it after each cycle, and give one bug the H state of another.

`after_cycles`: the H state stays as it is after its k-th cycle while the L cycles go on; if H holds the place of the
repair, the place must be lost where it is frozen early. `swap`: H of another bug, or as it was at first, in place of
the own one, then the L cycles of one H cycle; what moves is split by the chain rule, KL(all) = KL(place) +
KL(kind | place) + KL(text | place, kind), so that the parts add up. Unusual: the same L cycles with the own H state are
what both are measured against. A place is the first token of an edit's span; candidates weigh as in training.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hrm_lab.metrics import bootstrap, paired_difference, proportion

from .linear import log_softmax, rank
from .policy import Policy, collate
from .policy_data import Example

NEAR = 2  # tokens: what counts as the other bug's place
HITS = ("place", "place in 3", "kind", "edit", "place by H alone")
PARTS = ("place", "kind", "text")


def cycles(policy: Policy) -> int:
    """H cycles in all segments. Raises ValueError: a policy without an H level of its own."""
    if policy.config.variant != "hrm":
        raise ValueError(f"policy: variant {policy.config.variant!r}; expected hrm, which has H cycles")
    return policy.config.segments * policy.config.H_cycles


def states(policy: Policy, batch: dict[str, Tensor], frozen: int) -> tuple[Tensor, Tensor]:
    """(z_H, z_L), each (B, T, D), after all segments; H is updated in its first `frozen` cycles only."""
    x = policy.table(batch["tokens"]).sum(-2)
    z_H, z_L = policy.H_init.expand_as(x), policy.L_init.expand_as(x)
    for cycle in range(cycles(policy)):
        z_L = think(policy, batch, z_H, z_L)
        if cycle < frozen:
            z_H = policy.H_level(z_H, z_L, *place_of(policy, batch))
    return z_H, z_L


def think(policy: Policy, batch: dict[str, Tensor], z_H: Tensor, z_L: Tensor) -> Tensor:
    """The L cycles of one H cycle: z_L (B, T, D)."""
    x = policy.table(batch["tokens"]).sum(-2)
    for _ in range(policy.config.L_cycles):
        z_L = policy.L_level(z_L, z_H + x, *place_of(policy, batch))
    return z_L


def place_of(policy: Policy, batch: dict[str, Tensor]) -> tuple:
    """Rotations and mask, as the levels take them."""
    T = batch["tokens"].shape[1]
    return (policy.cos[:T], policy.sin[:T]), batch["mask"]


def logits(policy: Policy, batch: dict[str, Tensor], z_H: Tensor, z_L: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(all, those of H alone) with the candidates' weights, (B, N) each; -inf where there is no candidate."""
    plan, text, *_ = policy.heads(z_H, z_L, batch)
    wide = policy.trust * policy.wide[batch["wide"]].sum(-1) if policy.config.wide else 0.0
    return tuple((part + batch["weight"]).cpu().numpy() for part in (plan + text + wide, plan))


def grouped(scores: np.ndarray, *labels: np.ndarray) -> np.ndarray:
    """log-probability (n_groups,) of each group of rows with equal labels; scores (n,). Group 0 is that of row 0."""
    _, first, inverse = np.unique(np.stack(labels), axis=1, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # by first appearance
    mass = np.bincount(order[inverse.ravel()], np.exp(scores - scores.max()))
    return np.log(mass / mass.sum())


@torch.no_grad()
def after_cycles(policy: Policy, examples: Sequence[Example]) -> dict[int, dict[str, np.ndarray]]:
    """H cycles before it was frozen -> name of HITS -> (n,) bool: is the repair's the most probable?

    "place": of all places; "place in 3": among three; "kind": place and kind; "edit": the repair itself; "place by H
    alone": by the plan's logits without the L level and the linear prior. A tie is no hit.
    """
    found = {k: {name: [] for name in HITS} for k in range(cycles(policy) + 1)}
    for one in examples:
        batch, start = collate([one]), one.span[:, 0]
        for k, hits in found.items():
            whole, plan = (part[0] for part in logits(policy, batch, *states(policy, batch, k)))
            at = rank(grouped(whole, start))
            for name, hit in zip(HITS, (at <= 1, at <= 3, rank(grouped(whole, start, one.kind)) <= 1, rank(whole) <= 1,
                                        rank(grouped(plan, start)) <= 1), strict=True):
                hits[name].append(hit)
    return {k: {name: np.array(hits) for name, hits in own.items()} for k, own in found.items()}


@torch.no_grad()
def swap(policy: Policy, examples: Sequence[Example]) -> dict[str, list[dict]]:
    """Each example with the H state of the next one ("another bug's"), and with that at the start ("none").

    Rows: "place", "kind", "text": KL in nats from the scores with the own H state, split; "same place", "same edit":
    whether the most probable one stays; "first": whether the place of the repair is the most probable now, "first
    before" whether it was; "toward": change of the log-probability of edits within NEAR tokens of the other bug's
    repair (None where there are none). Raises ValueError: fewer than two examples.
    """
    if len(examples) < 2:
        raise ValueError(f"examples: got {len(examples)}, expected at least two to swap")
    batches = [collate([one]) for one in examples]
    ended = [states(policy, batch, cycles(policy)) for batch in batches]
    rows = {"another bug's": [], "none": []}
    for n, (one, batch) in enumerate(zip(examples, batches, strict=True)):
        other = (n + 1) % len(examples)
        z_H, z_L = ended[n]
        def scores(plan, batch=batch, z_L=z_L):
            return log_softmax(logits(policy, batch, plan, think(policy, batch, plan, z_L))[0][0])
        own, target = scores(z_H), int(examples[other].span[0, 0])
        for name, plan in (("another bug's", fitted(ended[other][0], z_H.shape[1])),
                           ("none", policy.H_init.expand_as(z_H))):
            rows[name].append(moved(own, scores(plan), one, target))
    return rows


def fitted(z_H: Tensor, length: int) -> Tensor:
    """(1, T, D) cut to `length` tokens, or with its last token repeated up to there."""
    lacking = max(0, length - z_H.shape[1])
    return torch.cat([z_H[:, :length], z_H[:, -1:].expand(-1, lacking, -1)], 1)


def moved(own: np.ndarray, new: np.ndarray, one: Example, target: int) -> dict:
    """What differs between two log-probabilities (n,) of the candidates of one bug: a row of `swap`."""
    start = one.span[:, 0]
    places = grouped(own, start), grouped(new, start)
    kinds = grouped(own, start, one.kind), grouped(new, start, one.kind)
    place, both, whole = (divergence(*pair) for pair in (places, kinds, (own, new)))
    near = abs(start.astype(int) - target) <= NEAR
    toward = float(np.logaddexp.reduce(new[near]) - np.logaddexp.reduce(own[near])) if near.any() else None
    return {"place": place, "kind": both - place, "text": whole - both, "toward": toward,
            "same place": bool(places[0].argmax() == places[1].argmax()),
            "same edit": bool(own.argmax() == new.argmax()),
            "first before": bool(rank(places[0]) <= 1), "first": bool(rank(places[1]) <= 1)}


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p, q) in nats of log-probabilities (n,)."""
    return float(np.sum(np.exp(p) * (p - q)))


# ---------------------------------------------------------------- what it says


def summary(frozen: dict[int, dict[str, np.ndarray]], swapped: dict[str, list[dict]]) -> dict[str, dict]:
    """Scores of both: place accuracy by cycle, what the last one adds, what a swap moves and where to."""
    last = max(frozen)
    found = {f"place_after/{k}": proportion(int(hits["place"].sum()), len(hits["place"]))
             for k, hits in frozen.items()}
    found["place_full_minus_frozen"] = paired_difference(frozen[last]["place"], frozen[0]["place"])
    rows = swapped["another bug's"]
    for part in PARTS:
        found[f"swap_moves/{part}"] = bootstrap([row[part] for row in rows], "nats")
    for name in ("same place", "same edit"):
        found[f"swap_keeps/{name.split()[1]}"] = proportion(sum(row[name] for row in rows), len(rows))
    found["place_own_minus_swapped"] = paired_difference(*([row[name] for row in rows]
                                                                 for name in ("first before", "first")))
    pulled = [row["toward"] for row in rows if row["toward"] is not None]
    if pulled:
        found["swap_toward_other"] = bootstrap(pulled, "nats")
    return found


def verdict(found: dict[str, dict]) -> str:
    """In words what `summary` says, by the intervals alone."""
    kept, pulled = found["place_full_minus_frozen"], found.get("swap_toward_other")
    needed, led = kept["low"] > 0, pulled is not None and pulled["low"] > 0
    parts = {part: found[f"swap_moves/{part}"]["value"] for part in PARTS}
    most = max(parts, key=parts.get)
    moves = (f"A swap moves the {most} most ({', '.join(f'{part} {value:.3g}' for part, value in parts.items())} nats)"
             if sum(parts.values()) > 0.01 else f"A swap moves next to nothing ({sum(parts.values()):.2g} nats in all)")
    head = ("**A plan**: without the H cycles the place is found less often, and another bug's H state draws "
            "the scores to that bug's place" if needed and led else
            "**Used, but not carried over**: the place needs the H cycles, yet another bug's H state does not draw the "
            "scores to its place" if needed else
            "**A pull without use**: another bug's H state draws the scores to its place, but the place is found as "
            "often without the H cycles" if led else "**No plan that these numbers show**: two levels of recurrence")
    points, low, high = (100 * kept[key] for key in ("value", "low", "high"))
    words = [head, f"With all H cycles minus none the place of the repair is first {points:+.1f} points more often "
                   f"({low:+.1f} to {high:+.1f}, n = {kept['n']})", moves]
    if pulled:
        words.append(f"The log-probability near the other bug's place changes by {pulled['value']:+.3f} "
                     f"({pulled['low']:+.3f} to {pulled['high']:+.3f}, n = {pulled['n']})")
    return ". ".join(words) + "."
