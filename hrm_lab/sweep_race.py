"""The race of a sweep's cells: who goes on after which epoch, decided from the curves of their first seeds. No torch.

All cells start, with one seed each. After each cut a share of them goes on; those that wait there are compared with
each other, so that nothing depends on the order of the cells or on one lucky first one. Only the winners of the last
cut get their other seeds: with three seeds a grid of twelve takes 27 % of its epochs.

What is unusual: cells are ranked by *token accuracy* (the mean of the last evaluations), not by exact match, which is
zero for most cells until late, and not by its forecast. Forecasts of both, of the loss, and mixtures of them were tried
on recorded runs and found the best cell less often or no more often (`benchmarks/pruning.py`). The forecast is what a
stopped cell is shown with. Source: Jamieson and Talwalkar 2016 (arXiv 1502.07943), successive halving.
"""

from dataclasses import dataclass

import numpy as np

from hrm_lab.alarms import EPOCHS
from hrm_lab.forecast import Forecast, forecast

METRIC = "exact_match"
LEADING = "token_accuracy"  # what cells are ranked by before their end
CUTS = ((5, 2 / 3), (15, 1 / 3), (EPOCHS, 1 / 6))
RECENT = 3  # evaluations whose mean counts


@dataclass(frozen=True)
class Stage:
    """The first `seeds` seeds are trained to `epoch`."""

    seeds: int
    epoch: int


def checked(cuts: tuple[tuple[int, float], ...]):
    """ValueError unless the cuts are (epoch, share) in order, from epoch 5: a forecast needs five evaluations."""
    epochs, shares = [epoch for epoch, _ in cuts], [share for _, share in cuts]
    if (epochs != sorted(set(epochs)) or any(not isinstance(e, int) or not 5 <= e <= EPOCHS for e in epochs)
            or any(not 0 < share < 1 for share in shares) or shares != sorted(shares, reverse=True)):
        raise ValueError(f"sweep.cuts: got {cuts!r}, expected (epoch, share of all cells kept), epochs increasing "
                         f"from 5 to {EPOCHS}, shares falling between 0 and 1")


def stages(cuts: tuple[tuple[int, float], ...], seeds: int) -> list[Stage]:
    """The stages of a cell that is never cut; a single seed needs no cut at the end."""
    return [Stage(1, epoch) for epoch, _ in cuts if seeds > 1 or epoch < EPOCHS] + [Stage(seeds, EPOCHS)]


def survivors(seen: list[dict[str, np.ndarray]], share: float, count: int, ended=None) -> list[int]:
    """Which cells go on, the best first: `share` of the `count` that began, at least one.

    seen: for each cell the curves of its first seed, metric -> (epochs,); ended: (cells,) exact match on the whole
    validation split where the first seeds have ended: then it decides, and the tokens only between equals.
    """
    tokens = [curves[LEADING][-RECENT:].mean() for curves in seen]
    first = np.zeros(len(seen)) if ended is None else np.asarray(ended)
    order = np.lexsort((-np.arange(len(seen)), tokens, first))[::-1]
    return [int(i) for i in order[:max(1, round(share * count))]]


def at_the_end(curve: np.ndarray, n: int, bank=None) -> Forecast | None:
    """Exact match of one seed at the last epoch, forecast from (epochs,); None where that is not possible."""
    try:
        return forecast(np.arange(1, len(curve) + 1), curve, n, [EPOCHS], bank=bank)
    except ValueError:
        return None
