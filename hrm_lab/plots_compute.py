"""Accuracy against the compute spent on a puzzle, one line a method. No torch.

Unusual: lines differ in colour, dashes and marker, and cost is on a logarithmic axis, where doubling it is one step.
Style and palette are those of plots.py.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from hrm_lab.plots import DASHES, INK, PALETTE, WIDTH

MARKERS = "osD^vPX"


def compute_curve(rows: list[dict], title: str = "") -> Figure:
    """Exact match with its 95 % interval against mean segments a puzzle.

    rows: points in the order of their lines, each with `method`, `exact_match` and `segments` (scores); the first is
    the reference, marked by a star and a dotted line. Lines of one method connect its points by compute.
    """
    if not rows:
        raise ValueError("rows: got none, expected at least one point")
    fig, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        points = sorted((row["segments"]["value"], row["exact_match"]["value"], row["exact_match"]["low"],
                         row["exact_match"]["high"]) for row in rows if row["method"] == method)
        x, y, low, high = zip(*points, strict=True)
        look = {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}
        ax.plot(x, y, marker=MARKERS[i % len(MARKERS)], label=method, **look)
        ax.vlines(x, low, high, color=look["color"], linewidth=1.2, alpha=0.55)
    first = rows[0]
    ax.axhline(first["exact_match"]["value"], color=INK, linestyle=":", linewidth=1)
    ax.plot(first["segments"]["value"], first["exact_match"]["value"], marker="*", markersize=16, color=INK,
            linestyle="none", label="as trained")
    ax.set(title=title, xlabel=f"segments a puzzle (mean of n = {first['exact_match']['n']:,}, logarithmic)",
           ylabel="exact match", xscale="log")
    ax.xaxis.set_major_locator(plt.LogLocator(base=2))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.18), ncols=3, columnspacing=1.2)
    return fig
