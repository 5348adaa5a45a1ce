"""What to do next with a repairer, computed from what was measured: every sentence carries its numbers.

`Advice.level` is "red" where something is wrong, "act" where the numbers say what would help, "fine" where they say
that nothing need be done, "open" where they are too few to say. Unusual: differences count by their 95 % intervals
alone, and "too few to say" is said.
"""

from dataclasses import dataclass

import numpy as np

from hrm_lab.metrics import bootstrap, format_score, paired_difference

LEVELS = ("red", "act", "open", "fine")
LEAST = 5  # bugs of a group that is spoken of
FLAT = 0.02  # of a loss in nats, or of a logarithm of a rank: what counts as no change


@dataclass(frozen=True)
class Advice:
    """`about`: what was looked at; `text`: what was seen and what follows."""

    level: str
    about: str
    text: str


def learning(history: list[dict]) -> Advice:
    """Is the falling loss learning? From the rows of `policy_train`; if the rank does not fall with it, a red flag."""
    if len(history) < 2:
        return Advice("open", "learning", f"{len(history)} evaluation(s), too few to say; train longer.")
    first, best, last = history[0], min(history, key=lambda row: row["log_rank"]), history[-1]
    loss, rank = last["loss"] - first["loss"], best["log_rank"] - first["log_rank"]
    said = (f"validation loss {first['loss']:.3f} -> {last['loss']:.3f}, rank of the repair "
            f"{np.exp(first['log_rank']):.2f} -> {np.exp(best['log_rank']):.2f} at its best (step {best['step']} of "
            f"{last['step']}, n = {last['n']})")
    if loss < -FLAT and rank >= -FLAT:
        return Advice("red", "learning", f"The loss falls and the rank does not: {said}. Falling loss is not learning.")
    if rank >= -FLAT:
        return Advice("act", "learning", f"Neither fell: {said}. Change the rate or the features before the time.")
    if last["log_rank"] - best["log_rank"] > 5 * FLAT:
        return Advice("act", "learning", f"The rank rose again after its best: {said}. Stop there; the best is kept.")
    return Advice("fine", "learning", f"The rank fell with the loss: {said}.")


def longer(history: list[dict]) -> Advice:
    """Would more steps help? By the slope of the rank over the logarithm of the steps in the second half."""
    rows = history[len(history) // 2:]
    if len(rows) < 3:
        return Advice("open", "more steps", f"{len(rows)} evaluation(s) in the second half, too few for a slope.")
    x, y = np.log([row["step"] for row in rows]), np.array([row["log_rank"] for row in rows])
    slope, level = np.polyfit(x, y, 1)
    spread = np.sqrt(((y - slope * x - level) ** 2).sum() / (len(rows) - 2) / ((x - x.mean()) ** 2).sum())
    factor, low, high = (np.exp(np.log(2) * (slope + z * spread)) for z in (0, -2, 2))
    said = f"twice the steps: rank x {factor:.2f} (95 % about {low:.2f}-{high:.2f}, {len(rows)} evaluations)"
    if high < 1:
        return Advice("act", "more steps", f"By the slope of the second half, {said}. Train longer.")
    return Advice("open" if low < 1 - 5 * FLAT else "fine", "more steps",
                  f"By the slope of the second half, {said}: no gain to be seen.")


def rank_ratio(a: np.ndarray, b: np.ndarray) -> dict:
    """Rank of the repair by a over that by b, geometric mean over the same bugs; (N,) from 1."""
    return bootstrap(np.log(a) - np.log(b), "x", lambda values: float(np.exp(values.mean())))


def more_data(whole: np.ndarray, half: np.ndarray) -> Advice:
    """Would more examples help? Ranks of the repair (N,) after training on all examples and on half of them."""
    ratio = rank_ratio(whole, half)
    said = f"rank with all examples over that with half: {format_score(ratio)}"
    if ratio["high"] < 1:
        return Advice("act", "more data", f"{said}. Twice the data helps; make more.")
    return Advice("open" if ratio["value"] < 1 else "fine", "more data", f"{said}: no gain that excludes chance.")


def earned(name: str, own: list[int], other: str, rival: list[int], budget: int) -> Advice:
    """Did an order earn its place? Executions to the repair of the same bugs, 0: unsolved; paired, within `budget`."""
    a, b = (np.array([0 < n <= budget for n in spent]) for spent in (own, rival))
    found = paired_difference(a, b)
    capped = [np.where((np.array(n) > 0) & (np.array(n) <= budget), n, 2 * budget) for n in (own, rival)]
    ratio = rank_ratio(*capped)
    points, low, high = (100 * found[key] for key in ("value", "low", "high"))
    said = (f"{name} minus {other}, solved within {budget}: {points:+.1f} points ({low:+.1f} to {high:+.1f}, "
            f"n = {found['n']}); executions x {ratio['value']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f}, unsolved "
            f"counted as {2 * budget})")
    if found["low"] > 0 or ratio["high"] < 1:
        return Advice("fine", f"{name} or {other}", f"{said}. {name} earns its place.")
    if found["high"] < 0 or ratio["low"] > 1:
        return Advice("act", f"{name} or {other}", f"{said}. Use {other}.")
    return Advice("open", f"{name} or {other}", f"{said}: not told apart. Use the simpler one.")


def weakest(groups: dict[str, dict], whole: dict, what: str) -> Advice:
    """Which group fails most? Groups and `whole` are shares solved; groups of fewer than LEAST bugs are left out."""
    kept = {name: score for name, score in groups.items() if score["n"] >= LEAST}
    if len(kept) < 2:
        return Advice("open", what, f"Groups by {what} with at least {LEAST} bugs: {len(kept)}, too few to compare.")
    worst = sorted((name for name in kept if kept[name]["high"] < whole["value"]), key=lambda name: kept[name]["value"])
    if worst:
        said = ", ".join(f"{name} {format_score(kept[name])}" for name in worst[:3])
        return Advice("act", what, f"Solved less than all ({format_score(whole)}): {said}. Look there first.")
    name = min(kept, key=lambda name: kept[name]["value"])
    return Advice("open", what, f"The least solved is {name}, {format_score(kept[name])}; of all "
                                f"{format_score(whole)}: not told apart.")


def leaked(hits: int, evaluated: int) -> Advice:
    """Is anything judged that was trained on?"""
    if hits:
        return Advice("red", "leaks", f"{hits} of {evaluated} evaluation programs are in the training data: every "
                                      "number about them is void. Take them out and train anew.")
    return Advice("fine", "leaks", f"none of {evaluated} evaluation programs is in the training data, nor a "
                                   "near-duplicate or its fix.")


def table(given: list[Advice]) -> list[dict]:
    """Rows for a notebook, the gravest first."""
    signs = {"red": "\u2717 red flag", "act": "\u2192 do", "open": "? open", "fine": "\u2713 fine"}
    return [{"": signs[one.level].replace(" ", "\u00a0"), "about": one.about, "what the numbers say": one.text}
            for one in sorted(given, key=lambda one: LEVELS.index(one.level))]
