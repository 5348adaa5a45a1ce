"""What the forecasts of a run say to its alarms: the bands that it was expected to stay in, the chances of its targets.

`hrm_lab.alarms` knows no forecast; this gives it `bands` and `chances` from nothing but the history, so that the panel,
a plan and a report warn alike. Unusual: a band is what was expected *then*. It is made again from the rows known at
epochs MADE, and kept for a process, so that watching a run costs each forecast once.
"""

from functools import lru_cache

import numpy as np

from hrm_lab import alarms
from hrm_lab.forecast import forecast, kind_of
from hrm_lab.forecast_bank import shipped
from hrm_lab.forecast_targets import Outlook, Target, outlook, series

MADE = (5, 10, 15, 25, 35)  # epochs (fiftieths) by which a forecast is held against what comes
FAN = 8  # later epochs at which it is computed


def bands(history: list[dict], steps: int, names: tuple[str, ...] = ("loss", "exact_match")) -> list[alarms.Band]:
    """The 99 % bands of the forecasts that were possible at MADE; none where there were too few evaluations."""
    found, rows = [], alarms.plan_rows(history, steps)
    for metric in names:
        epochs, values, n = series(rows, metric, "epoch")
        before = 0
        for known in (int((epochs <= point + 1e-9).sum()) for point in MADE):
            if before < known < len(epochs):
                before = known
                band = expected(metric, tuple(epochs[:known]), tuple(values[:known]),
                                None if n is None else tuple(n[:known]))
                if band is not None:
                    at, low, high = band
                    found.append(alarms.Band(metric, round(epochs[known - 1] * steps / alarms.EPOCHS),
                                             at * steps / alarms.EPOCHS, low, high))
    return found


@lru_cache(maxsize=256)
def expected(metric: str, epochs: tuple, values: tuple, n: tuple | None) -> tuple[np.ndarray, ...] | None:
    """Later epochs and the ends of the 99 % band there; None where no forecast can be made."""
    end = alarms.EPOCHS
    at = np.unique(np.append(np.linspace(epochs[-1], end, FAN + 1)[1:], min(epochs[-1] + 1, end)))
    try:
        seen = forecast(epochs, values, n, at, kind_of(metric, values), shipped("hrm"))
    except ValueError:
        return None
    return at, *seen.band99.T


def chances(seen: Outlook, step: int) -> list[alarms.Chance]:
    """The probability of each required target that has a forecast or is decided."""
    return [alarms.Chance(f"{o.target.metric} {o.target.op} {o.target.value:g}", step, o.p)
            for o in seen.each if o.target.required and o.p is not None]


def of(history: list[dict], steps: int, targets: tuple[Target, ...] = (), metric: str = "exact_match") -> dict:
    """`bands` and `chances` for `alarms.check`, from a history of at least one row; targets in fiftieths."""
    rows = alarms.plan_rows(history, steps)
    seen = outlook(rows, list(targets), bank=shipped("hrm"))
    return {"bands": bands(history, steps, ("loss", metric)), "chances": chances(seen, history[-1]["step"])}
