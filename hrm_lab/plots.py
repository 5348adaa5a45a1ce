"""Figures with alt text: training curves, predictions against the truth, halting, intervals (scrubber: scrub.py).

What is unusual: every figure is shown through `show(fig, alt)`, so none can reach a report without a description;
and nothing is told by colour alone (crosses on wrong cells, line styles, hollow markers for baselines).
Palette: Okabe and Ito (2008), "Color Universal Design". Figures are at most 9 inches wide at 110 dpi, so that they
are read at 100 %, and bring their own white ground for pages in dark mode. NumPy in, no torch.
"""

import base64
import io
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import display
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from hrm_lab.metrics import DIFFERENCE, in_words, proportion
from hrm_lab.scrub import ARC_COLOURS, grid_svg, scrub, trace_frames  # noqa: F401 (notebooks take them from here)

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, MUTED, GIVEN = "#222222", "#6b6b6b", "#e4e4e4"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))
IGNORE = -100  # label of a cell that is not scored
WIDTH = 8.6  # inches


def use_style():
    """Set seaborn's and matplotlib's defaults for every figure that follows. Notebooks call it once."""
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE, rc={
        "figure.dpi": 110, "savefig.dpi": 110, "figure.facecolor": "white", "savefig.facecolor": "white",
        "figure.constrained_layout.use": True, "font.size": 11, "axes.labelsize": 11, "axes.titlesize": 12,
        "axes.titleweight": "bold", "axes.titlelocation": "left", "xtick.labelsize": 10, "ytick.labelsize": 10,
        "legend.fontsize": 10, "legend.frameon": False, "lines.linewidth": 2, "axes.spines.top": False,
        "axes.spines.right": False, "axes.edgecolor": "#999999", "grid.color": "#e8e8e8", "text.color": INK,
        "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    })


use_style()


def png(fig: Figure, alt: str) -> bytes:
    """The figure as PNG with `alt` as its description; ValueError without one."""
    if not alt.strip():
        raise ValueError("alt: got an empty text, expected a sentence that says what the figure shows")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Description": alt, "Software": None})
    return buffer.getvalue()


def show(fig: Figure, alt: str):
    """Display the figure with its alt text, which is also its caption in the report, and close it."""
    data = base64.b64encode(png(fig, alt)).decode()
    display({"image/png": data, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)
    plt.close(fig)


def save(fig: Figure, path: Path | str, alt: str):
    """Write the figure as PNG, whole or not at all, with `alt` in its tEXt field "Description"."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(png(fig, alt))
    os.replace(temporary, path)


def log_axis(axis):
    """Make an axis logarithmic, with plain numbers (0.02, 0.05, 0.1) at it. Call it when everything is drawn."""
    low, high = axis.get_data_interval()
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


# ---------------------------------------------------------------- training


def training_curves(history: list[dict], title: str = "") -> Figure:
    """Loss, token accuracy and exact match over steps, from the rows of training_history.json.

    Rows have `step`, `loss`, `token_accuracy` and `exact_match` on held-out data, and if known `train_loss`,
    `train_token_accuracy`, `exact_match_full` (all segments; `exact_match` is with early halting) and
    `exact_match/<task>`. Accuracies are shares in 0..1.
    """
    if not history:
        raise ValueError("history: got no rows, expected at least one evaluation")
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 3.5))
    lone = {"marker": "o"} if len(history) == 1 else {}

    def line(ax, key, label, **look):
        points = [(row["step"], row[key]) for row in history if row.get(key) is not None]
        if points:
            ax.plot(*zip(*points, strict=True), label=label, **lone | look)
        return bool(points)

    line(left, "train_loss", "training", color=ORANGE, linestyle="--")
    line(left, "loss", "held out", color=BLUE)
    left.set(title="Loss", xlabel="step")
    if all(row["loss"] > 0 for row in history):
        log_axis(left.yaxis)
    line(middle, "train_token_accuracy", "training", color=ORANGE, linestyle="--")
    line(middle, "token_accuracy", "held out", color=BLUE)
    middle.set(title="Token accuracy", xlabel="step")
    tasks = sorted({key for row in history for key in row if key.startswith("exact_match/")})
    for i, key in enumerate(tasks):
        line(right, key, key.split("/", 1)[1], color=PALETTE[i % 6], linestyle=DASHES[i % 6])
    line(right, "exact_match", "all tasks" if tasks else "early halting", color=INK, linewidth=3 if tasks else 2,
         alpha=0.45 if tasks else 1)
    line(right, "exact_match_full", "full depth", color=PURPLE, linestyle=":")
    right.set(title="Exact match, held out", xlabel="step")
    for ax in (middle, right):
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    for ax in (left, middle, right):
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if len(ax.get_lines()) > 1:
            # Below the axes: no line is ever hidden by it.
            ax.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.2), ncols=2, columnspacing=1, handlelength=1.6)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return fig


def halting_histogram(steps_used: np.ndarray, max_steps: int) -> Figure:
    """How many segments each puzzle took before the model halted. steps_used (N,) integers in 1..max_steps."""
    steps = np.asarray(steps_used)
    if steps.size == 0 or steps.min() < 1 or steps.max() > max_steps:
        got = f"{steps.min()}..{steps.max()}" if steps.size else "none"
        raise ValueError(f"steps_used: got {got}, expected at least one number in 1..{max_steps}")
    share = np.bincount(steps, minlength=max_steps + 1)[1:] / steps.size
    fig, ax = plt.subplots(figsize=(WIDTH * 0.75, 3))
    bars = ax.bar(range(1, max_steps + 1), share, color=BLUE, width=0.8)
    if max_steps <= 16:
        ax.bar_label(bars, [f"{100 * s:.0f}" if s >= 0.005 else "" for s in share], color=MUTED, fontsize=10, padding=2)
    ax.plot(steps.mean(), 0.99, marker="v", markersize=9, color=RED, transform=ax.get_xaxis_transform())
    ax.set(title=f"Segments before halting: mean {steps.mean():.2f} (red), n = {steps.size:,}",
           xlabel="segments", ylabel="share of puzzles")
    ax.set_xlim(0.4, max_steps + 0.6)
    ax.set_ylim(0, share.max() * 1.18)
    ax.xaxis.set_major_locator(MaxNLocator(16, integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(axis="x", visible=False)
    return fig


# ---------------------------------------------------------------- scores


def metric_forest(rows: list[dict], title: str = "") -> Figure:
    """Scores as points with their 95 % intervals, the first row on top.

    A row is a score {"value", "n", "low", "high", "unit"} with its "name", and "baseline": True for a baseline (a
    hollow grey diamond). Shares are shown in percent, differences of shares in points, around a line at 0. All rows
    should have the same unit.
    """
    if not rows:
        raise ValueError("rows: got none, expected at least one score")
    percent, difference = (all(row["unit"] == unit for row in rows) for unit in ("share", DIFFERENCE))
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.36 * len(rows)))
    for y, row in enumerate(rows):
        baseline = row.get("baseline", False)
        colour = MUTED if baseline else BLUE
        if row["low"] is not None:
            ax.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt", zorder=2)
        ax.plot(row["value"], y, marker="D" if baseline else "o", markersize=8, color=colour, zorder=3,
                markerfacecolor="white" if baseline else colour, markeredgewidth=1.8, clip_on=False)
        value, *_, unit = in_words(row)
        ax.annotate(f"{value}{unit}   n = {row['n']:,}", (1.02, y), xycoords=("axes fraction", "data"), va="center",
                    color=INK, fontsize=10)
    names = [row["name"] + ("  (baseline)" if row.get("baseline") else "") for row in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.tick_params(axis="y", labelcolor=INK)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    if difference:
        ax.axvline(0, color=MUTED, linewidth=1, zorder=1)
    elif percent:
        ax.set_xlim(-0.02, 1.02)
    if percent or difference:
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, symbol="" if difference else "%"))
    ax.set(title=title, xlabel="difference in points with 95 % interval" if difference else "value with 95 % interval")
    ax.grid(axis="y", visible=False)
    return fig


def difficulty_curve(difficulty: np.ndarray, correct: np.ndarray, bins: int = 6) -> Figure:
    """Exact match against difficulty, in bins of equal count, with Wilson's 95 % interval.

    difficulty (N,) floats from easy to hard; correct (N,) bool.
    """
    difficulty, correct = np.asarray(difficulty, float), np.asarray(correct, bool)
    if difficulty.shape != correct.shape or difficulty.ndim != 1 or difficulty.size == 0:
        raise ValueError(f"difficulty and correct: got {difficulty.shape} and {correct.shape}, expected two equal (N,)")
    edges = np.unique(np.quantile(difficulty, np.linspace(0, 1, bins + 1)))
    which = np.clip(np.searchsorted(edges, difficulty, side="right") - 1, 0, max(len(edges) - 2, 0))
    used = np.unique(which)
    scores = [proportion(int(correct[which == b].sum()), int((which == b).sum())) for b in used]
    x = [difficulty[which == b].mean() for b in used]
    fig, ax = plt.subplots(figsize=(WIDTH * 0.75, 3.3))
    ax.fill_between(x, [s["low"] for s in scores], [s["high"] for s in scores], color=BLUE, alpha=0.18, linewidth=0)
    ax.errorbar(x, [s["value"] for s in scores], yerr=[[s["value"] - s["low"] for s in scores],
                [s["high"] - s["value"] for s in scores]], color=BLUE, marker="o", capsize=3)
    for at, score in zip(x, scores, strict=True):
        ax.annotate(f"n={score['n']:,}", (at, score["low"]), xytext=(0, -6), textcoords="offset points", ha="center",
                    va="top", fontsize=10, color=MUTED)
    ax.set(title="Exact match by difficulty", xlabel="difficulty (easy to hard)", ylabel="exact match")
    ax.set_ylim(-0.12, 1.05)
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return fig


# ---------------------------------------------------------------- predictions


def prediction_grid(inputs: np.ndarray, labels: np.ndarray, predictions: np.ndarray | None, meta, k: int = 6) -> Figure:
    """The first k puzzles: given cells grey, wrong predictions crossed out, with what was right beside them.

    inputs, labels, predictions (N, T) token ids, labels IGNORE where not scored; meta: the dataset's `Meta`. Without
    predictions the puzzles and their solutions. Sequences (meta.grid is None) are rows of input, truth and prediction,
    grids grids.
    """
    judged = predictions is not None
    predictions = predictions if judged else np.where(np.asarray(labels) == IGNORE, inputs, labels)
    inputs, labels, predictions = (np.asarray(a)[:k] for a in (inputs, labels, predictions))
    if not inputs.shape == labels.shape == predictions.shape or inputs.ndim != 2 or len(inputs) == 0:
        raise ValueError(f"inputs, labels, predictions: got {inputs.shape}, {labels.shape}, {predictions.shape}, "
                         "expected three equal (N, T) with N > 0")
    names = np.array(meta.tokens or [str(i) for i in range(meta.vocab_size)])
    return (_grids if meta.grid else _sequences)(inputs, labels, predictions, names, meta, judged)


def _verdict(wrong):
    return "exact" if wrong == 0 else f"{wrong} wrong"


def _strike(ax, x, y, width=0.34):
    ax.plot([x - width, x + width], [y + 0.34, y - 0.34], color=RED, linewidth=1.8)


def _legend(fig, text):
    fig.supxlabel(text, x=0.01, ha="left", fontsize=10, color=MUTED)


def _sequences(inputs, labels, predictions, names, meta, judged):
    k, length = inputs.shape
    step = 3.7 if judged else 2.7
    fig, ax = plt.subplots(figsize=(WIDTH, 0.245 * step * k + 0.5))
    for i in range(k):
        scored = labels[i] != IGNORE
        wrong = scored & (predictions[i] != labels[i])
        top = step * i
        lines = (("input", inputs[i], inputs[i] != meta.pad_id), ("truth", labels[i], scored),
                 ("predicted", predictions[i], scored))[:2 + judged]
        for row, (word, ids, seen) in enumerate(lines):
            ax.text(-0.8, top + row, word, ha="right", va="center", color=MUTED, fontsize=10)
            for t in np.flatnonzero(seen):
                face = GIVEN if row == 0 else "#fbe3d6" if row == 2 and wrong[t] else "white"
                ax.add_patch(plt.Rectangle((t - 0.5, top + row - 0.5), 1, 1, facecolor=face, edgecolor="#bbbbbb",
                                           linewidth=0.6))
                ax.text(t, top + row, names[ids[t]], ha="center", va="center", fontsize=10)
                if row == 2 and wrong[t]:
                    _strike(ax, t, top + row)
        if judged:
            colour = RED if wrong.any() else MUTED
            ax.text(length - 0.2, top + 2, _verdict(wrong.sum()), va="center", fontsize=10, color=colour)
    ax.set(xlim=(-3.2, length + 2.4), ylim=(step * k - 0.7, -0.7))
    ax.axis("off")
    _legend(fig, f"grey: input    {'struck out: wrong    ' * judged}not shown: padding and cells that are not scored")
    return fig


def _grids(inputs, labels, predictions, names, meta, judged):
    rows, columns, box_rows, box_columns = meta.grid
    across, down = 3, -(-len(inputs) // 3)
    fig, axes = plt.subplots(down, across, figsize=(WIDTH, 3.1 * down * rows / columns), squeeze=False)
    coloured = max(rows, columns) > 9 or meta.augment == "arc"
    for ax in axes.flat:
        ax.axis("off")
    for ax, given, truth, guess in zip(axes.flat, inputs, labels, predictions, strict=False):
        given, truth, guess = (a.reshape(rows, columns) for a in (given, truth, guess))
        wrong = (truth != IGNORE) & (guess != truth)
        if judged:
            ax.set_title(_verdict(wrong.sum()), color=RED if wrong.any() else MUTED, fontsize=10, fontweight="normal")
        if coloured:
            _coloured(ax, np.where(truth == IGNORE, given, guess), wrong, names, meta)
        else:
            _lettered(ax, given, truth, guess, wrong, names)
        box = (box_rows if box_rows > 1 else rows, box_columns if box_columns > 1 else columns)
        ax.hlines(np.arange(0, rows + 1, box[0]) - 0.5, -0.5, columns - 0.5, color=INK, linewidth=1.3)
        ax.vlines(np.arange(0, columns + 1, box[1]) - 0.5, -0.5, rows - 0.5, color=INK, linewidth=1.3)
        ax.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6), aspect="equal")
    wrong = ("    crossed: wrong" if coloured else "    struck out: wrong, with the truth beside it in green") * judged
    found = "predicted" if judged else "the solution"
    _legend(fig, (found if coloured else f"grey: given    blue: {found}") + wrong)
    return fig


def _lettered(ax, given, truth, guess, wrong, names):
    """Every token as text; a wrong one struck out, with the truth beside it."""
    rows, columns = given.shape
    size = min(14, 78 / columns)
    for r in range(rows):
        for c in range(columns):
            known = given[r, c] == truth[r, c]
            face = GIVEN if known else "#fbe3d6" if wrong[r, c] else "white"
            ax.add_patch(plt.Rectangle((c - 0.5, r - 0.5), 1, 1, facecolor=face, edgecolor="#bbbbbb", linewidth=0.6))
            at = {"ha": "center", "va": "center_baseline"}
            if wrong[r, c]:
                ax.text(c - 0.22, r, names[guess[r, c]], fontsize=size * 0.85, color=INK, **at)
                ax.text(c + 0.24, r, names[truth[r, c]], fontsize=size * 0.85, color="#00694d", fontweight="bold", **at)
                _strike(ax, c - 0.22, r, 0.2)
            else:
                ax.text(c, r, names[guess[r, c]], fontsize=size, color=INK if known else BLUE,
                        fontweight="bold" if known else "normal", **at)


def _coloured(ax, shown, wrong, names, meta):
    """One colour a token, for grids too large for text; crosses on wrong cells."""
    if meta.augment == "arc":
        colours = ["#ffffff", "#dddddd", *ARC_COLOURS]
    else:
        known = {"#": "#3d3d3d", " ": "white", ".": "white", "S": GREEN, "G": PURPLE, "o": SKY}
        colours = [known.get(name, PALETTE[i % 6]) for i, name in enumerate(names)]
    ax.imshow(shown, cmap=ListedColormap(colours), vmin=-0.5, vmax=len(colours) - 0.5, interpolation="nearest")
    r, c = np.nonzero(wrong)
    ax.plot(c, r, linestyle="none", marker="x", color=RED, markersize=max(3, 110 / wrong.shape[1]), markeredgewidth=1.6)
