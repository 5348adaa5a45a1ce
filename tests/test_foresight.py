"""What was expected then is held against what came, from nothing but the rows."""

import numpy as np

from hrm_lab import alarms, foresight
from hrm_lab.forecast_targets import read_targets


def history(values, every=10):
    return [{"step": every * (i + 1), "loss": 1.0, "exact_match": float(v), "n": 200} for i, v in enumerate(values)]


RISING = 1 - 0.93 ** np.arange(1, 51)


def test_a_band_is_what_was_expected_then():
    whole = foresight.bands(history(RISING), 500)
    assert [(b.metric, b.made) for b in whole] == [(m, 10 * e) for m in ("loss", "exact_match") for e in foresight.MADE]
    other = foresight.bands(history([*RISING[:15], *np.zeros(35)]), 500)
    for one, again in zip(whole, other, strict=True):
        assert one.steps[0] == one.made + 10 and one.steps[-1] == 500 and (one.low < one.high).all()
        assert (one.made > 150 and one.metric != "loss") or np.array_equal(one.high, again.high)


def test_few_and_bad_rows_have_no_band():
    assert foresight.bands(history(RISING[:4]), 500) == []
    coarse = foresight.bands(history(RISING[5::6], 60), 500)
    assert [(b.metric, b.made) for b in coarse] == [("loss", 300), ("exact_match", 300)]  # the fifth row
    assert {b.metric for b in foresight.bands(history([2.0] * 50), 500)} == {"loss"}  # no share, so no forecast


def test_a_fall_is_seen_and_a_target_out_of_reach():
    rows = history([*RISING[:20], *np.zeros(10)])
    said = foresight.of(rows, 500, tuple(read_targets({"exact_match": ">0.9", "loss": "<0.5"})))
    assert [c.name for c in said["chances"]] == ["exact_match > 0.9", "loss < 0.5"]
    found = alarms.active(alarms.check(rows, 500, **said))
    assert {"band", "chance"} <= {alarm.rule for alarm in found}
    fine = foresight.of(history(RISING[:30]), 500)
    assert "band" not in {alarm.rule for alarm in alarms.check(history(RISING[:30]), 500, **fine)}
