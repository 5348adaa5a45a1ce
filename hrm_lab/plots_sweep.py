"""Figures of a sweep: the heat map of its cells, and where each cell's training ended. No torch.

Unusual: a cell that was stopped early is hatched and shows its forecast: the map has no holes and hides nothing.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hrm_lab.alarms import EPOCHS
from hrm_lab.plots import BLUE, INK, MUTED, RED, WIDTH
from hrm_lab.sweep_results import best, course, estimate, named, standing


def heat_map(cells: list[dict]) -> Figure:
    """A panel for each value of the settings after the second; the first setting downwards, the second across."""
    names = list(cells[0]["cell"])
    levels = [sorted({cell["cell"][name] for cell in cells}, key=lambda v: (str(type(v)), v)) for name in names]
    down, across, rest = names[0], names[1] if len(names) > 1 else None, names[2:]
    panels = sorted({tuple(cell["cell"][name] for name in rest) for cell in cells}, key=str)
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 1.3 + 0.62 * len(levels[0])), squeeze=False, sharey=True)
    winner = best(cells)
    values = [estimate(cell) for cell in cells]
    norm = plt.Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1e-9)
    colours = plt.get_cmap("cividis")
    for ax, panel in zip(axes[0], panels, strict=True):
        for cell, value in zip(cells, values, strict=True):
            if tuple(cell["cell"][name] for name in rest) != panel:
                continue
            y = levels[0].index(cell["cell"][down])
            x = levels[1].index(cell["cell"][across]) if across else 0
            pruned = cell["state"] != "COMPLETE"
            face = colours(norm(value))
            ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=1,
                                       hatch="///" if pruned else None))
            if cell is winner:
                ax.add_patch(plt.Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=RED, linewidth=2.5))
            said = f"{100 * value:.1f} %" + (f"\n{standing(cell)}" if pruned else "")
            ax.text(x, y, said, ha="center", va="center", fontsize=10, color=INK,
                    bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1.5})
        ax.set(xlim=(-0.5, (len(levels[1]) if across else 1) - 0.5), ylim=(len(levels[0]) - 0.5, -0.5), xlabel=across,
               title=", ".join(f"{name} {value:g}" for name, value in zip(rest, panel, strict=True)))
        ax.set_xticks(range(len(levels[1]) if across else 1), [f"{v:g}" for v in levels[1]] if across else [""])
        ax.set_yticks(range(len(levels[0])), [f"{v:g}" for v in levels[0]])
        ax.grid(False)
    axes[0][0].set_ylabel(down)
    fig.supxlabel("exact match on validation, mean of seeds; framed: best; hatched: stopped early, "
                  "its first seed's forecast, or end", x=0.01, ha="left", fontsize=10, color=MUTED)
    return fig


def heat_map_alt(cells: list[dict]) -> str:
    told = sorted(cells, key=lambda cell: -estimate(cell))
    return (f"Exact match of {len(cells)} cells of the sweep, best {named(told[0])} with "
            f"{100 * estimate(told[0]):.1f} %, worst {named(told[-1])} with "
            f"{100 * estimate(told[-1]):.1f} %; "
            f"{sum(cell['state'] != 'COMPLETE' for cell in cells)} were stopped early and show their forecast.")


def courses(cells: list[dict]) -> Figure:
    """The curve of every cell over epochs: finished ones in blue (mean of seeds), stopped ones in grey with a cross."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.4))
    winner, told = best(cells), set()
    for cell in sorted(cells, key=lambda c: c["state"] == "COMPLETE"):
        curve = course(cell)
        x, done = np.arange(1, len(curve) + 1), cell["state"] == "COMPLETE"
        label = "best" if cell is winner else "finished" if done else "stopped early"
        ax.plot(x, curve, color=BLUE if done else MUTED, linewidth=3 if cell is winner else 1.5,
                linestyle="-" if done else "--", label=None if label in told else label)
        if not done:
            ax.plot(x[-1], curve[-1], marker="x", color=RED, markersize=8, markeredgewidth=2)
        told.add(label)
    ax.set(xlabel="epoch (fiftieths of a run)", ylabel="exact match", xlim=(0, EPOCHS + 0.5))
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def importance_bars(shares: dict[str, float]) -> Figure:
    """The share of the variance over the grid that each setting explains, the largest on top."""
    rest = [name for name in ("interaction",) if name in shares]
    names = [*rest, *sorted(shares.keys() - {"interaction"}, key=lambda name: shares[name])]
    values = [shares[name] for name in names]
    fig, ax = plt.subplots(figsize=(WIDTH * 0.75, 0.9 + 0.4 * len(names)))
    bars = ax.barh(names, values, color=[MUTED if name in rest else BLUE for name in names])
    ax.bar_label(bars, [f"{100 * v:.0f} %" for v in values], padding=3, fontsize=10)
    ax.set(xlim=(0, 1.08), xlabel="share of the variance between cells")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.grid(axis="y", visible=False)
    return fig
