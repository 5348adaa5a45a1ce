"""Figures of notebook 03: the numbers that they show are those given, and empty data are refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hrm_lab import plots_swe
from hrm_lab.metrics import proportion, score
from hrm_lab.plots import png


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


HISTORY = [{"step": 40 * n, "loss": 3.0 - n / 10, "train_loss": 2.9, "log_rank": 2.0 - n / 10} for n in range(1, 4)]


def drawable(fig):
    assert png(fig, "x").startswith(b"\x89PNG") and fig.get_size_inches()[0] <= 9
    for ax in fig.axes:
        assert ax.get_xlabel() or ax.get_ylabel()
    return fig


def test_training_curves_show_the_rank_itself_and_its_baseline():
    fig = drawable(plots_swe.policy_curves({"HRM": HISTORY, "plain": HISTORY}, baseline=9.0))
    left, right = fig.axes
    assert np.allclose(right.lines[0].get_ydata(), np.exp([row["log_rank"] for row in HISTORY]))
    assert set(right.lines[2].get_ydata()) == {9.0} and len(left.lines) == 4
    with pytest.raises(ValueError, match="at least one evaluation"):
        plots_swe.policy_curves({"HRM": []})


def test_a_curve_of_searches_counts_what_was_solved_in_time():
    fig = drawable(plots_swe.solved_curves({"linear": [1, 10, 0, 200], "uniform": [0, 0, 0, 50]}, 100))
    x, y = fig.axes[0].lines[0].get_data()
    assert y[0] == 0.25 and y[-1] == 0.5 and x[-1] == 100
    with pytest.raises(ValueError, match="at least one search"):
        plots_swe.solved_curves({"linear": []}, 100)


def test_bars_of_tiers_add_up():
    fig = drawable(plots_swe.tier_bars({"linear": [5, 5, 0, 1], "no-op": [0, 0, 0, 0]}, tuple("abcdef")))
    widths = [[bar.get_width() for bar in bars] for bars in fig.axes[0].containers]
    assert np.allclose(np.sum(widths, axis=0), 1) and widths[5][0] == 0.5 and widths[0][1] == 1


def test_insight_and_planning_draw_what_they_are_given():
    rows = [{"executions": n, "insight_strength": 0.1 * n, "integration_gate": 1.0, "feedback_magnitude": 0.2,
             "planning_refinement": 0.01 * n} for n in range(4)]
    assert len(drawable(plots_swe.insight_curves({"a": rows, "b": rows})).axes[0].lines) == 2
    parts = {part: score(value, 9, value - 0.1, value + 0.1, "nats") for part, value in (("place", 0.5), ("text", 0.2))}
    fig = drawable(plots_swe.planning_figure({"place": [proportion(k, 9) for k in range(5)]},
                                             {"another bug's": parts, "none": parts}))
    assert [bar.get_width() for bar in fig.axes[1].patches[:2]] == [0.5, 0.2]
