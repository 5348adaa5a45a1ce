"""Every score with its n and a 95 % interval.

A score is a dict `{"value", "n", "low", "high", "unit"}`, its numbers shares of 1 where the unit is "share" (shown in
percent) or DIFFERENCE (of two shares; shown in points); a table of scores is a flat dict
name -> score, with one entry for each task (`exact_match/increment`), because a mean hides a failure.
Sources: Wilson (1927) for proportions, Newcombe (1998, method 10) for paired differences of
proportions, the percentile bootstrap for everything else.
"""

import math
import re

import numpy as np

Z95 = 1.959963984540054
DIFFERENCE = "difference of shares"  # a unit


def proportion(successes: int, n: int) -> dict:
    """Share of successes with Wilson's interval; n = 0 gives the interval [0, 1]."""
    if not 0 <= successes <= n:
        raise ValueError(f"proportion: got {successes} successes of {n}, expected 0 <= successes <= n")
    if n == 0:
        return score(math.nan, 0, 0.0, 1.0, "share")
    p, z2 = successes / n, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return score(p, n, low, high, "share")


def paired_difference(a: np.ndarray, b: np.ndarray) -> dict:
    """Share right in a minus share right in b over the same examples; a and b (N,) bool. Newcombe's method 10."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"paired_difference: got shapes {a.shape} and {b.shape}, expected two equal (N,) with N > 0")
    n = len(a)
    p1, p2 = proportion(int(a.sum()), n), proportion(int(b.sum()), n)
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    neither = n - both - only_a - only_b
    margin = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    cross = both * neither - only_a * only_b
    phi = 0.0 if margin == 0 else cross / math.sqrt(margin)
    d = p1["value"] - p2["value"]
    l1, u1, l2, u2 = (p1["value"] - p1["low"], p1["high"] - p1["value"],
                      p2["value"] - p2["low"], p2["high"] - p2["value"])
    low = d - math.sqrt(max(0.0, l1 * l1 - 2 * phi * l1 * u2 + u2 * u2))
    high = d + math.sqrt(max(0.0, u1 * u1 - 2 * phi * u1 * l2 + l2 * l2))
    return score(d, n, low, high, DIFFERENCE)


def bootstrap(values: np.ndarray, unit: str = "", statistic=np.mean, draws: int = 2000, seed: int = 0) -> dict:
    """A statistic of (N,) numbers with its percentile interval over `draws` resamples."""
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"bootstrap: got shape {values.shape}, expected (N,) finite numbers with N > 0")
    rng = np.random.default_rng(seed)
    stats = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(draws)]
    low, high = np.quantile(stats, [0.025, 0.975])
    return score(float(statistic(values)), len(values), float(low), float(high), unit)


def plain(value: float, n: int, unit: str = "") -> dict:
    """A number without an interval of its own (a duration, a count, an entropy)."""
    return score(float(value), n, None, None, unit)


def score(value: float, n: int, low: float | None, high: float | None, unit: str) -> dict:
    return {"value": float(value), "n": int(n), "low": low, "high": high, "unit": unit}


def per_task(name: str, right: np.ndarray, tasks: np.ndarray, names: tuple[str, ...]) -> dict:
    """Flat scores of a yes/no outcome: the mean, and each task apart where there are several."""
    right, tasks = np.asarray(right, bool), np.asarray(tasks)
    table = {name: proportion(int(right.sum()), len(right))}
    if len(names) > 1:
        for i, task in enumerate(names):
            mine = right[tasks == i]
            table[f"{name}/{task}"] = proportion(int(mine.sum()), len(mine))
    return table


def in_words(s: dict, space: str = " ", plain="{:.4g}".format) -> tuple[str, str, str, str]:
    """Value, low, high ("" where there is none) and unit as people read them; `plain` shows numbers that are no shares.

    space: what stands before the unit, one that breaks or not.
    """
    unit = s["unit"]
    show = {"share": lambda x: f"{100 * x:.1f}", DIFFERENCE: lambda x: f"{100 * x:+.1f}"}.get(unit, plain)
    unit = {"share": "%", DIFFERENCE: "points"}.get(unit, unit)
    value, low, high = ("" if s[key] is None else show(s[key]) for key in ("value", "low", "high"))
    if value == "1" and re.fullmatch("[a-z]{2,}s", unit):  # 1 segment
        unit = unit.removesuffix("s")
    return value, low, high, space * bool(unit) + unit


def format_score(s: dict) -> str:
    """`99.2 % (n = 500, 98.0-99.7)`: how a score is printed everywhere; `+8.0 points (n = 50, -2.7 to +18.3)`."""
    value, low, high, unit = in_words(s)
    interval = f", {low}{' to ' if s['unit'] == DIFFERENCE else '-'}{high}" if low or high else ""
    return f"{value}{unit} (n = {s['n']:,}{interval})"


def format_cell(s: dict) -> str:
    """A score in a table that says n elsewhere, `71.4 % (58.5-81.6)`, in letters that break between the two only."""
    value, low, high, unit = in_words(s, "\u202f", lambda x: f"{x:,.0f}" if x >= 100 else f"{x:.4g}")
    to = "\u00a0to\u00a0" if s["unit"] == DIFFERENCE else "\u2011"
    return f"{value}{unit if s['unit'] == 'share' else ''} ({low}{to}{high})"
