"""Figures about code to repair: the bugs, a policy's training, searches, the H level. Style and palette: plots.py.

Unusual: parts and curves differ in colour and in hatching or dashes, so that they can be told apart in print. No torch.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from hrm_lab.metrics import proportion
from hrm_lab.plots import BLUE, DASHES, GREEN, INK, MUTED, ORANGE, PALETTE, RED, WIDTH, log_axis

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
        ax.legend(loc="center right")
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
    ax.set(xlabel="lines of the function (logarithmic)", ylabel="candidate edits (logarithmic)", title=title)
    log_axis(ax.xaxis)
    log_axis(ax.yaxis)
    ax.legend(loc="lower right")
    return fig


# ---------------------------------------------------------------- training


def policy_curves(histories: dict[str, list[dict]], baseline: float | None = None, title: str = "") -> Figure:
    """Loss and rank of the repair over steps, from metrics.jsonl of `policy_train`: run -> rows.

    The rank is the geometric mean over validation bugs; `baseline` is that of the linear prior alone.
    """
    if not any(histories.values()):
        raise ValueError("histories: got no rows, expected at least one evaluation")
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.5))
    for i, (name, rows) in enumerate(histories.items()):
        steps = [row["step"] for row in rows]
        look = {"marker": "o", "markersize": 4, "color": PALETTE[i % len(PALETTE)]}
        left.plot(steps, [row["train_loss"] for row in rows], linestyle=":", label=f"{name}, training (one batch)",
                  alpha=0.7, **look)
        left.plot(steps, [row["loss"] for row in rows], linestyle="-", label=f"{name}, validation", **look)
        right.plot(steps, np.exp([row["log_rank"] for row in rows]), linestyle=DASHES[i % len(DASHES)], label=name,
                   **look)
    if baseline is not None:
        right.axhline(baseline, color=MUTED, linestyle="--", linewidth=1.4, label="linear prior (baseline)")
    left.set(title="Loss", xlabel="step", ylabel="cross-entropy, nats")
    right.set(title="Rank of the repair, validation", xlabel="step", ylabel="geometric mean of the rank")
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.24), ncols=1, handlelength=2.2)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return fig


# ---------------------------------------------------------------- searches


def solved_curves(executions: dict[str, list[int]], budget: int, title: str = "") -> Figure:
    """Share solved within so many executions, with Wilson's 95 % bands: order -> executions a bug, 0: unsolved."""
    if not executions or not all(map(len, executions.values())):
        raise ValueError("executions: got none, expected at least one search of each order")
    fig, ax = plt.subplots(figsize=(WIDTH, 4.2))
    at = np.arange(1, max(2, budget) + 1)
    for i, (name, spent) in enumerate(executions.items()):
        spent = np.asarray(spent)
        found = [proportion(int(((spent > 0) & (spent <= limit)).sum()), len(spent)) for limit in at]
        colour = PALETTE[i % len(PALETTE)]
        ax.fill_between(at, [s["low"] for s in found], [s["high"] for s in found], color=colour, alpha=0.1, linewidth=0,
                        step="post")
        ax.plot(at, [s["value"] for s in found], color=colour, drawstyle="steps-post",
                linestyle=DASHES[(i + i // len(PALETTE)) % len(DASHES)], label=f"{name} (n = {len(spent)})")
    ax.set(xscale="log", xlim=(1, max(2, budget)), ylim=(-0.02, 1.02), title=title,
           xlabel="executions of the tests (logarithmic)", ylabel="share solved")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.18), ncols=2)
    return fig


def tier_bars(tiers: dict[str, list[int]], names: tuple[str, ...], title: str = "") -> Figure:
    """Share of proposals by the tier that they reach: order -> tiers; `names` of the tiers from 0."""
    fig, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.42 * len(tiers)))
    shades = plt.get_cmap("cividis")(np.linspace(0.95, 0.05, len(names)))
    left = np.zeros(len(tiers))
    for tier, name in enumerate(names):
        share = np.array([np.mean(np.asarray(own) == tier) if len(own) else 0.0 for own in tiers.values()])
        ax.barh(list(tiers), share, left=left, color=shades[tier], edgecolor="white", label=f"{tier} {name}")
        for y, (start, width) in enumerate(zip(left, share, strict=True)):
            if width >= 0.06:
                ax.text(start + width / 2, y, f"{100 * width:.0f} %", ha="center", va="center", fontsize=9,
                        color="white" if tier > len(names) / 2 else INK)
        left += share
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of proposals", title=title)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.grid(visible=False)
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.7 / (0.3 + 0.42 * len(tiers))), ncols=3)
    return fig


def insight_curves(searches: dict[str, list[dict]], title: str = "") -> Figure:
    """What feedback does as a search goes on: search -> rows of `feedback.insight` with "executions"."""
    units = {"insight_strength": "insight strength\n(log-probability)", "integration_gate": "integration gate",
             "feedback_magnitude": "feedback magnitude\n(share of the prior)",
             "planning_refinement": "planning refinement\n(nats)"}
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 4.8), sharex=True)
    for ax, (key, label) in zip(axes.flat, units.items(), strict=True):
        for i, (name, rows) in enumerate(searches.items()):
            ax.plot([row["executions"] for row in rows], [row[key] for row in rows], color=PALETTE[i % len(PALETTE)],
                    linestyle=DASHES[i % len(DASHES)], label=name)
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0)
    for ax in axes[1]:
        ax.set_xlabel("executions")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return fig


# ---------------------------------------------------------------- the H level


def planning_figure(after: dict[str, list[dict]], moves: dict[str, dict[str, dict]], title: str = "") -> Figure:
    """Left: what -> score of its place after 0, 1, ... H cycles. Right: given H state -> part -> score in nats."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.7), width_ratios=(1.2, 1))
    for i, (name, scores) in enumerate(after.items()):
        value = np.array([s["value"] for s in scores])
        reach = [value - [s["low"] for s in scores], [s["high"] for s in scores] - value]
        left.errorbar(np.arange(len(scores)) + 0.06 * i, value, yerr=np.maximum(reach, 0), label=name, capsize=3,
                      marker="os^D"[i % 4], color=PALETTE[i % len(PALETTE)], linestyle=DASHES[i % len(DASHES)])
    n = next(iter(after.values()))[0]["n"]
    left.set(title="Is it the repair's?", xlabel="H cycles before H was frozen", ylabel=f"share of bugs (n = {n})")
    left.set_ylim(-0.03, 1.03)
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.2), ncols=2)
    parts = list(next(iter(moves.values())))
    height = 0.8 / len(moves)
    for i, (name, scores) in enumerate(moves.items()):
        value = np.array([scores[part]["value"] for part in parts])
        reach = [value - [scores[part]["low"] for part in parts], [scores[part]["high"] for part in parts] - value]
        right.barh(np.arange(len(parts)) + i * height, value, height * 0.9, xerr=np.maximum(reach, 0), label=name,
                   color=(BLUE, ORANGE)[i % 2], hatch=HATCHES[i % 2], edgecolor="white", linewidth=0,
                   error_kw={"ecolor": INK, "capsize": 3, "elinewidth": 1.2})
    right.set_yticks(np.arange(len(parts)) + height * (len(moves) - 1) / 2, parts)
    right.invert_yaxis()
    right.set(title="What another H state moves", xlabel="KL from the scores with the own one, nats")
    right.set_xlim(left=0)
    right.xaxis.set_major_locator(MaxNLocator(4))
    right.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    right.grid(axis="y", visible=False)
    right.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.2), title="H state given")
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return fig
