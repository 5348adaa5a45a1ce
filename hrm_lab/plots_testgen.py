"""Figures about generated tests: training, base against fine-tuned, rounds of feedback. Style and palette: plots.py.

Unusual: a perplexity never stands alone; what the tests are worth when they are run is drawn beside it. No torch.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hrm_lab.plots import DASHES, INK, MUTED, PALETTE, WIDTH, log_axis

MARKS = ("o", "s", "D", "^", "v", "P")


def writing_curves(histories: dict[str, list[dict]], title: str = "") -> Figure:
    """Perplexity and the share of correct tests on validation over epochs: run -> rows with `epoch`, `perplexity`,
    `train_loss` and perhaps `correct`."""
    if not any(histories.values()):
        raise ValueError("histories: got no rows, expected at least one epoch")
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.5))
    for i, (name, rows) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in rows]
        look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKS[i % len(MARKS)], "markersize": 4}
        left.plot(epochs, [row["perplexity"] for row in rows], linestyle="-", label=f"{name}, validation", **look)
        left.plot(epochs, np.exp([row["train_loss"] for row in rows]), linestyle=":", alpha=0.7,
                  label=f"{name}, training", **look)
        if all("correct" in row for row in rows):
            right.plot(epochs, [row["correct"] for row in rows], linestyle=DASHES[i % len(DASHES)], label=name, **look)
    left.set(title="Perplexity a target token", xlabel="epoch", ylabel="perplexity (logarithmic)")
    right.set(title="Correct tests, validation", xlabel="epoch", ylabel="share correct", ylim=(-0.03, 1.03))
    log_axis(left.yaxis)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.24), handlelength=2.2)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return fig


def compared(tables: dict[str, dict[str, dict]], scores: dict[str, str], title: str = "") -> Figure:
    """Shares with 95 % intervals, one panel a score: panel key -> title; writer -> (score -> {"value", ...})."""
    fig, axes = plt.subplots(1, len(scores), figsize=(WIDTH, 1.2 + 0.34 * len(tables)), sharey=True, squeeze=False)
    for ax, (key, name) in zip(axes[0], scores.items(), strict=True):
        for y, (writer, table) in enumerate(tables.items()):
            score = table[key]
            mine = writer.startswith("fine-tuned")
            colour = PALETTE[0] if mine else MUTED
            ax.plot([score["low"], score["high"]], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt")
            ax.plot(score["value"], y, marker="o" if mine else "D", markersize=7, color=colour, markeredgewidth=1.6,
                    markerfacecolor=colour if mine else "white", clip_on=False, zorder=3)
        ax.set(xlim=(-0.03, 1.03), title=name, xlabel="share")
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(tables)), list(tables))
    axes[0, 0].set_ylim(len(tables) - 0.5, -0.5)
    axes[0, 0].tick_params(axis="y", labelcolor=INK)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return fig


def feedback_rounds(rounds: dict[str, list[dict]], title: str = "") -> Figure:
    """Acceptance with 95 % intervals after each round of verdicts: arm -> scores, round 0 first."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.3))
    for i, (arm, rows) in enumerate(rounds.items()):
        at = np.arange(len(rows)) + 0.04 * (i - (len(rounds) - 1) / 2)
        low, value, high = (np.array([row[key] for row in rows]) for key in ("low", "value", "high"))
        ax.errorbar(at, value, np.clip([value - low, high - value], 0, None), color=PALETTE[i % len(PALETTE)],
                    linestyle=DASHES[i % len(DASHES)], marker=MARKS[i % len(MARKS)], capsize=3,
                    label=f"{arm} (n = {rows[0]['n']:,})")
    ax.set(title=title, xlabel="round of verdicts", ylabel="share of fresh tests accepted", ylim=(-0.03, 1.03))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(loc="lower right")
    return fig
