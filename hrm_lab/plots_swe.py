"""Figures about code to repair: which repairs, how hard, how many candidates. Style and palette are those of plots.py.

Unusual: parts of a dataset differ in colour and hatching, so that they can be told apart in print. No torch.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hrm_lab.plots import GREEN, INK, PALETTE, RED, WIDTH

HATCHES = ("", "//", "..", "xx")


def stacked_bars(counts: dict[str, dict[str, int]], xlabel: str, most: int = 25, title: str = "") -> Figure:
    """Horizontal bars, the longest on top: counts[part][name]; the `most` longest, the rest summed as "others"."""
    if not any(counts.values()):
        raise ValueError("counts: got none, expected at least one name")
    total = {}
    for part in counts.values():
        for name, n in part.items():
            total[name] = total.get(name, 0) + n
    order = sorted(total, key=lambda name: (-total[name], name))
    names, rest = order[:most], order[most:]
    shown = {part: [own.get(name, 0) for name in names] + ([sum(own.get(name, 0) for name in rest)] if rest else [])
             for part, own in counts.items()}
    names = names + ([f"{len(rest)} others"] if rest else [])
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.24 * len(names)))
    left = np.zeros(len(names))
    for i, (part, values) in enumerate(shown.items()):
        ax.barh(names, values, left=left, label=part, color=PALETTE[i % len(PALETTE)], hatch=HATCHES[i % len(HATCHES)],
                edgecolor="white", linewidth=0)
        left += values
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", visible=False)
    ax.margins(y=0.01)
    if len(shown) > 1:
        ax.legend(loc="lower right")
    return fig


def complexity_histogram(values: dict[str, list[float]], title: str = "") -> Figure:
    """How complexity in [0, 1] is spread in each part of a dataset, as a share of the part."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.0))
    kept = {part: own for part, own in values.items() if len(own)}
    bins = np.linspace(0, 1, 16)
    for i, (part, own) in enumerate(kept.items()):
        ax.hist(own, bins=bins, weights=np.full(len(own), 1 / len(own)), histtype="step", linewidth=2,
                color=PALETTE[i % len(PALETTE)], linestyle=("-", "--", ":")[i % 3], label=f"{part} (n = {len(own):,})")
    ax.set(xlabel="complexity", ylabel="share of the part", xlim=(0, 1), title=title)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f} %"))
    ax.legend()
    return fig


def space_scatter(lines: list[int], candidates: list[int], inside: list[bool], title: str = "") -> Figure:
    """Candidates of each program against its lines; a cross where the known repair is not among them."""
    lines, candidates, inside = (np.asarray(x) for x in (lines, candidates, inside))
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6))
    ax.plot(lines[inside], candidates[inside], "o", color=GREEN, alpha=0.6, markersize=5, label="repair among them")
    if (~inside).any():
        ax.plot(lines[~inside], candidates[~inside], "x", color=RED, markersize=7, label="repair not among them")
    ax.axhline(np.median(candidates), color=INK, linestyle=":", linewidth=1.2,
               label=f"median {np.median(candidates):,.0f}")
    ax.set(xlabel="lines of the function (logarithmic)", ylabel="candidate edits (logarithmic)", xscale="log",
           yscale="log", title=title)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axis.set_minor_formatter(FuncFormatter(lambda v, _: ""))
    ax.legend(loc="lower right")
    return fig
