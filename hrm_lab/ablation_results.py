"""What an ablation found: shares over seeds and puzzles, differences to the base, a table, sentences.

What is unusual: an interval covers the luck of the training (seeds) as well as the choice of puzzles, and it is honest
for two to five seeds, where a bootstrap over seeds is far too narrow. Sources: Student's t over seeds, in a bootstrap
over puzzles; half a pseudo-puzzle for each outcome after Agresti and Min (2005), so that 0 of n right is not certain.
"""

from functools import lru_cache

import numpy as np

from hrm_lab import metrics

DRAWS = 4000
PARTS = {  # arm that lacks it -> what the base has
    "trm, flat": "inner cycles rather than more segments, at the same depth",
    "loop, deep": "inner cycles rather than a plain transformer in the loop, at the same depth",
    "loop": "inner cycles rather than a plain transformer in the loop, at as many segments",
    "hrm": "one network for both levels", "trm, one-step": "the gradient through the whole cycle",
    "no outer loop": "the outer loop", "plain": "all recursion together", "no halting": "halting",
    "no EMA": "averaged weights", "no augmentation": "augmentation", "learned positions": "heads that know the grid",
    "token mixing": "attention rather than an MLP"}


def outcomes(rows: list[dict], which: str = "exact") -> np.ndarray:
    """(seeds, puzzles) bool of an arm's rows; which: "exact" (early halting) or "full_exact"."""
    return np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(row[which]), np.uint8), count=row["n"]).astype(bool)
                     for row in rows])


@lru_cache(maxsize=4)
def resamples(n: int) -> np.ndarray:
    """(DRAWS, n + 4) float32: how much each puzzle, and each pseudo-puzzle of `share`, weighs in each resample."""
    odds = np.concatenate([np.ones(n), np.full(4, 0.5)]) / (n + 2)
    return (np.random.default_rng(0).multinomial(n, odds, size=DRAWS) / n).astype(np.float32)


def share(a: np.ndarray, b: np.ndarray | None = None) -> dict:
    """Share right in a, or in a minus in b, over seeds and puzzles, with its 95 % interval; a, b (seeds, puzzles) bool.

    Puzzles are resampled, the same ones for a and b. In each resample the spread over seeds (independent in a and b)
    gives one draw of Student's t: to resample two to five seeds would give far too narrow an interval. One seed shows
    no spread: then the interval covers the puzzles only. n is seeds x puzzles.
    """
    if a.ndim != 2 or a.size == 0 or (b is not None and b.shape != a.shape):
        raise ValueError(f"share: got {a.shape} and {getattr(b, 'shape', None)}, expected equal (seeds, puzzles)")
    seeds, n = a.shape
    weights = resamples(n)
    # four pseudo-puzzles: right in both, in a only, in b only, in neither
    means = [weights @ np.concatenate([part, np.tile(extra, (seeds, 1))], axis=1).astype(np.float32).T  # (DRAWS, seeds)
             for part, extra in ((a, [1, 1, 0, 0]), (b, [1, 0, 1, 0])) if part is not None]
    drawn = means[0].mean(1) - (means[1].mean(1) if b is not None else 0)
    if seeds > 1:
        spread = np.sqrt(sum(m.var(1, ddof=1) for m in means) / seeds)
        drawn = drawn + spread * np.random.default_rng(1).standard_t(len(means) * (seeds - 1), DRAWS)
    value = a.mean() - (b.mean() if b is not None else 0)
    low, high = np.quantile(drawn, [0.025, 0.975]).clip(-1.0 if b is not None else 0.0, 1.0)
    return metrics.score(value, a.size, float(min(low, value)), float(max(high, value)),
                         "share" if b is None else metrics.DIFFERENCE)


def scores(rows: dict[str, list[dict]]) -> dict[str, dict]:
    """Flat scores: <arm>/exact_match, <arm>/exact_match_full and, but for the base, <arm>/minus_base."""
    table, base = {}, outcomes(rows["trm"])
    for name, own in rows.items():
        table[f"{name}/exact_match"] = share(outcomes(own))
        table[f"{name}/exact_match_full"] = share(outcomes(own, "full_exact"))
        if name != "trm":
            table[f"{name}/minus_base"] = share(outcomes(own), base)
    return table


def table(arms, rows: dict[str, list[dict]], found: dict[str, dict]) -> dict[str, dict]:
    """Arm -> the cells of its line, as people read them; arms: those of the study."""
    lines = {}
    for arm in arms:
        if arm.name in rows:
            own, exact = rows[arm.name], found[f"{arm.name}/exact_match"]
            difference = found.get(f"{arm.name}/minus_base")
            mean = {k: np.mean([row[k] for row in own]) for k in ("steps", "cpu_seconds", "segments")}
            lines[arm.name] = {
                "question": arm.question, "exact match": f"{100 * exact['value']:.1f} %",
                "95 % interval": f"{100 * exact['low']:.1f} to {100 * exact['high']:.1f}",
                "minus base": points(difference) if difference else "–",
                "at full depth": f"{100 * found[f'{arm.name}/exact_match_full']['value']:.1f} %",
                "segments": f"{mean['segments']:.1f}", "steps": f"{mean['steps']:,.0f}",
                "CPU-s": f"{mean['cpu_seconds']:.1f}", "rate": f"{own[0]['lr']:g}",
                "parameters": f"{own[0]['parameters']:,}" + ("" if arm.same_size else " (not equal)"),
                "seeds x puzzles": f"{len(own)} x {own[0]['n']:,}"}
    return lines


def points(s: dict) -> str:
    """A difference of shares: `+1.2 (-0.3 to +2.7)`, in points."""
    return f"{100 * s['value']:+.1f} ({100 * s['low']:+.1f} to {100 * s['high']:+.1f})"


def findings(rows: dict[str, list[dict]], found: dict[str, dict]) -> list[str]:
    """What the arms show, as markdown sentences computed from the scores; the first one answers the question."""
    groups = {"Worth their cost": [], "Not worth their cost": [], "Too close to tell": []}
    for name, part in PARTS.items():
        if name in rows:
            s = found[f"{name}/minus_base"]
            group = "Worth their cost" if s["high"] < 0 else "Not worth their cost" if s["low"] > 0 else \
                "Too close to tell"
            groups[group].append(f"{part} (`{name}` {points(s)})")
    seeds, n = outcomes(rows["trm"]).shape
    out = [f"**At equal CPU-seconds**, in points without each part against the base, {seeds} seed{'s' * (seeds > 1)} x "
           f"{n:,} puzzles. " + " ".join(f"{group}: {'; '.join(parts)}." for group, parts in groups.items() if parts)]
    if seeds == 1:
        out.append("**One seed:** the intervals cover the choice of puzzles, not the luck of the training.")
    if bad := [f"{name} (seed {row['seed']})" for name, own in rows.items() for row in own if row["diverged"]]:
        out.append(f"**Diverged:** {', '.join(bad)}; their exact match is what the broken weights give.")
    return out
