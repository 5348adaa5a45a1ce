"""Each warning speaks when its fault is there, is silent when it is not, and ends when the fault does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.alarms import Alarm, Band, Chance, active, check

STEPS = 500  # an epoch is 10 steps


def history(**columns):
    """Rows ten steps apart; a column is a function of the epoch 1..50 or a list."""
    n = max((len(c) for c in columns.values() if not callable(c)), default=50)
    rows = [{"step": 10 * (i + 1), "split": "valid"} for i in range(n)]
    for name, c in columns.items():
        for i, row in enumerate(rows):
            row[name.replace("__", "/")] = float(c(i + 1) if callable(c) else c[i])
    return rows


def rules(alarms):
    return {alarm.rule for alarm in alarms}


def good(e):
    return 1 - np.exp(-e / 8)


def falling(e):
    return 0.95 ** e


def test_a_healthy_run_raises_nothing_early():
    rows = history(loss=lambda e: 0.9 ** e, train_loss=lambda e: 0.9 ** e, token_accuracy=good, exact_match=good,
                   exact_match__copy=good, exact_match__increment=good)
    assert check(rows, STEPS) == []


def test_the_rule_of_the_report_begins_after_epoch_ten():
    rows = history(loss=lambda e: max(0.5, 1 - 0.05 * e), exact_match=good)
    slow = [a for a in check(rows, STEPS) if a.rule == "slow"]
    assert len(slow) == 1 and slow[0].until is None
    assert 130 <= slow[0].since <= 150  # the floor is reached at epoch 10
    assert not [a for a in check(rows[:9], STEPS) if a.rule == "slow"]


def test_an_alarm_ends_with_its_fault():
    loss = [0.9 ** e for e in range(1, 16)] + [0.9 ** 15] * 10 + [0.9 ** e for e in range(16, 41)]
    slow = [a for a in check(history(loss=loss), STEPS) if a.rule == "slow"]
    assert len(slow) == 1 and slow[0].until is not None and 150 < slow[0].since < slow[0].until < 320
    assert active(slow) == [] and "over at step" in str(slow[0])


def test_overfitting_is_seen():
    rows = history(loss=lambda e: abs(e - 20) / 20 + 0.5, train_loss=falling)
    over = [a for a in check(rows, STEPS) if a.rule == "overfit"]
    assert len(over) == 1 and 280 <= over[0].since <= 290 and over[0].until is None
    assert "overfit" not in rules(check(history(loss=falling, train_loss=falling), STEPS))


def test_a_mean_that_hides_a_task_is_seen():
    """The report's run: copy is learnt, increment is not, and the mean rises to one half."""
    rows = history(loss=falling, token_accuracy=lambda e: 0.5 + 0.4 * good(e), exact_match=lambda e: 0.5 * good(e),
                   exact_match__copy=good, exact_match__increment=lambda e: 0.0)
    found = check(rows, STEPS)
    assert {"task", "gap"} <= rules(found)
    assert any("increment stands still" in a.text for a in found if a.rule == "task")
    assert not any("copy" in a.text for a in found)


def test_a_falling_loss_without_the_task_is_seen():
    rows = history(loss=falling, token_accuracy=lambda e: 0.3, exact_match=lambda e: 0.0)
    assert "loss" in rules(check(rows, STEPS))
    solved = history(loss=falling, token_accuracy=lambda e: 1.0, exact_match=lambda e: 1.0)
    assert "loss" not in rules(check(solved, STEPS))


def test_what_counts_as_solved_follows_the_ceiling():
    rows = history(loss=falling, token_accuracy=lambda e: 0.9, exact_match=lambda e: 0.5)
    assert {"gap", "loss"} <= rules(check(rows, STEPS))
    found = check(rows, STEPS, ceiling=0.5)
    assert not {"gap", "loss"} & rules(found)
    assert found[0] == Alarm("ceiling", 0, None, found[0].text) and "50.0 %" in found[0].text


def test_a_target_that_has_become_unlikely():
    chances = [Chance("loss < 0.3", 100, 0.4), Chance("loss < 0.3", 200, 0.07), Chance("loss < 0.3", 300, 0.3),
               Chance("exact_match > 0.9", 100, 0.6)]
    found = check(history(loss=falling), STEPS, chances=chances)
    chance = [a for a in found if a.rule == "chance"]
    assert [(a.since, a.until) for a in chance] == [(200, 300)] and "7 %" in chance[0].text


def test_leaving_the_band_needs_two_evaluations_running():
    band = Band("exact_match", 100, np.array([110.0, 500.0]), np.array([0.4, 0.4]), np.array([0.6, 0.6]))
    values = [0.5] * 50
    values[20] = 0.9
    assert "band" not in rules(check(history(exact_match=values), STEPS, bands=[band]))
    values[21:] = [0.9] * 29
    found = [a for a in check(history(exact_match=values), STEPS, bands=[band]) if a.rule == "band"]
    assert [(a.since, a.until) for a in found] == [(220, None)] and "made at step 100" in found[0].text
    before = [0.9] * 10 + [0.5] * 40  # what was there before the forecast is no surprise
    assert "band" not in rules(check(history(exact_match=before), STEPS, bands=[band]))


def test_no_history_and_missing_columns_say_nothing():
    assert check([], STEPS) == []
    assert check([{"step": 10}], STEPS) == []
    assert [a.rule for a in check([], STEPS, ceiling=0.5)] == ["ceiling"]


def test_rows_out_of_order_are_refused():
    with pytest.raises(ValueError, match="expected positive increasing"):
        check([{"step": 20}, {"step": 10}], STEPS)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(1e-6, 10)), min_size=1, max_size=30))
def test_any_curve_gets_ordered_spans(values):
    rows = [{"step": 7 * (i + 1), "exact_match": a, "token_accuracy": max(a, b), "loss": c, "train_loss": c}
            for i, (a, b, c) in enumerate(values)]
    found = check(rows, 7 * len(rows))
    steps = {row["step"] for row in rows}
    assert [a.since for a in found] == sorted(a.since for a in found)
    assert all(a.since in steps and (a.until is None or a.until > a.since) for a in found)
