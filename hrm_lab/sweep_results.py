"""What a sweep found: its cells with intervals, the best one, what each setting is worth, what pruning saved.

A cell is judged by all its seeds on the same puzzles (`hrm_lab.ablation_results.share`: Student's t over seeds, a
bootstrap over puzzles). Unusual: the best cell is chosen on validation, its score is then given on the test split, and
every cell whose difference from it could be luck is named beside it; a pruned cell stands with its forecast, or with
its only seed, marked so.
"""

import numpy as np

from hrm_lab import metrics
from hrm_lab.ablation_results import share
from hrm_lab.alarms import EPOCHS

METRIC = "exact_match"


def outcomes(cell: dict, split: str) -> np.ndarray:
    """(seeds, puzzles) bool of a finished cell."""
    own = cell[split]
    return np.array([np.unpackbits(np.frombuffer(bytes.fromhex(line), np.uint8), count=own["n"])
                     for line in own["exact"]]).astype(bool)


def finished(cells: list[dict]) -> list[dict]:
    return [cell for cell in cells if cell["state"] == "COMPLETE"]


def best(cells: list[dict]) -> dict:
    """The finished cell with the best validation; ValueError without one."""
    done = finished(cells)
    if not done:
        raise ValueError(f"sweep: got {len(cells)} cells, none of them finished, expected at least one")
    return max(done, key=lambda cell: cell["value"])


def ties(cells: list[dict]) -> list[dict]:
    """Finished cells whose exact match on validation differs from the best one's by no more than luck may do."""
    first = best(cells)
    return [cell for cell in finished(cells) if cell is not first
            and share(outcomes(first, "valid"), outcomes(cell, "valid"))["low"] <= 0]


def trained(cells: list[dict]) -> tuple[int, int]:
    """(epochs that were trained, epochs that all seeds of all cells would take)."""
    curves = [cell["curves"][METRIC] for cell in cells]
    return sum(len(seed) for own in curves for seed in own), max(map(len, curves)) * len(cells) * EPOCHS


def course(cell: dict) -> np.ndarray:
    """(epochs,) exact match, the mean of the seeds that were trained, as far as all of them were."""
    seeds = cell["curves"][METRIC]
    return np.mean([seed[:min(map(len, seeds))] for seed in seeds], axis=0)


def estimate(cell: dict) -> float:
    """One number for any cell: what it reached, else the median of its last forecast, else where it stood."""
    if cell["state"] == "COMPLETE":
        return cell["value"]
    if cell["stopped"]["quantiles"] is None:
        return float(np.nan_to_num(course(cell)[-1]))
    return cell["stopped"]["quantiles"][2]


def standing(cell: dict) -> str:
    """What the number of a stopped cell is: where it diverged, the forecast after an epoch, or its first seed's end."""
    epoch = cell["stopped"]["epoch"]
    return "diverged" if cell["stopped"]["why"] == "diverged" else (
        "one seed" if epoch == EPOCHS else f"forecast at {epoch}")


def importances(cells: list[dict]) -> dict[str, float]:
    """Setting -> share of the variance over a full grid that its mean effect explains; and what is left, "interaction".

    The main effects of an analysis of variance, exact where every combination occurs once; ValueError otherwise.
    """
    names = list(cells[0]["cell"])
    levels = {name: sorted({cell["cell"][name] for cell in cells}, key=str) for name in names}
    keys = {tuple(cell["cell"][name] for name in names) for cell in cells}
    if not len(keys) == len(cells) == np.prod([len(v) for v in levels.values()]):
        raise ValueError(f"importances: got {len(cells)} cells, expected each combination of the grid once")
    values = np.array([estimate(cell) for cell in cells])
    total = ((values - values.mean()) ** 2).sum()
    found = {}
    for name in names:
        groups = [values[[cell["cell"][name] == level for cell in cells]] for level in levels[name]]
        between = sum(len(g) * (g.mean() - values.mean()) ** 2 for g in groups)
        found[name] = float(between / total) if total else 0.0
    return found | {"interaction": max(0.0, 1 - sum(found.values())) if total else 0.0}


def named(cell: dict) -> str:
    return ", ".join(f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"
                     for name, value in cell["cell"].items())


def table(cells: list[dict]) -> list[dict]:
    """A row a cell, the best first: its settings, what it reached or would have, how it ended, what it took."""
    rows = []
    for cell in sorted(cells, key=lambda c: -estimate(c)):
        if cell["state"] == "COMPLETE":
            s = share(outcomes(cell, "valid"))
            reached = f"{100 * s['value']:.1f} % ({100 * s['low']:.1f} to {100 * s['high']:.1f})"
            told = {"exact match, validation": reached, "ended": f"epoch {EPOCHS}"}
        else:
            why, q = cell["stopped"], cell["stopped"]["quantiles"]
            said = (f"forecast {100 * q[2]:.0f} % ({100 * q[0]:.0f} to {100 * q[4]:.0f}, 90 %)" if q else
                    "–" if why["why"] == "diverged" else f"{100 * estimate(cell):.1f} %, one seed")
            told = {"exact match, validation": said, "ended": f"epoch {why['epoch']}: {why['why']}"}
        seeds = cell["curves"][METRIC]
        rows.append({**cell["cell"], **told, "seeds": ", ".join(f"{100 * curve[-1]:.0f}" for curve in seeds) + " %",
                     "CPU-s": f"{cell['cpu_seconds']:.1f}"})
    return rows


def scores(cells: list[dict]) -> dict[str, dict]:
    """Flat scores for `notebooks.finish`."""
    first, (spent, whole) = best(cells), trained(cells)
    return {"best/exact_match": share(outcomes(first, "test")),
            "best/exact_match_validation": share(outcomes(first, "valid")),
            "cells": metrics.plain(len(cells), len(cells), "cells"),
            "cells_pruned": metrics.plain(len(cells) - len(finished(cells)), len(cells), "cells"),
            "epochs_trained": metrics.plain(spent / whole, whole, "share"),
            "sweep_cpu_seconds": metrics.plain(sum(cell["cpu_seconds"] for cell in cells), len(cells), "CPU-s")}


def findings(cells: list[dict]) -> list[str]:
    """What the sweep shows, as markdown sentences computed from its numbers."""
    first, found, (spent, whole) = best(cells), scores(cells), trained(cells)
    same, others = ties(cells), len(finished(cells)) - 1
    which = "The other finished cell" if others == 1 else f"{len(same)} of the other {others} finished cells"
    out = [f"**Best cell:** {named(first)}, chosen on validation; exact match on the test split "
           f"{metrics.format_score(found['best/exact_match'])}, seeds x puzzles."]
    out.append(f"{which} cannot be told from it: {'; '.join(map(named, same))}." if same else
               "Every other finished cell is worse by more than luck over seeds and puzzles explains.")
    out.append(f"{len(cells) - len(finished(cells))} of {len(cells)} cells were stopped early: {spent:,} of {whole:,} "
               f"epochs were trained ({100 * spent / whole:.0f} %).")
    seeds = len(first["curves"][METRIC])
    if seeds < 3:
        out.append(f"**{seeds} seed{'s' * (seeds > 1)} a cell:** too few to tell a setting from luck.")
    return out
