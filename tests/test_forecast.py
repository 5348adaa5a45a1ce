"""The forecast: ordered, bounded, repeatable, and right about as often as it says on made-up curves."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab import plots_compute
from hrm_lab.forecast import LEVELS, describe, forecast

STEPS = np.arange(1, 9) * 50
shares = st.lists(st.floats(0, 1), min_size=8, max_size=8).filter(lambda v: max(v) > min(v))


@settings(max_examples=25, deadline=None)
@given(shares, st.integers(1, 5000), st.integers(0, 3))
def test_quantiles_are_ordered_bounded_and_repeatable(values, n, seed):
    a, b = (forecast(STEPS, values, n, [450, 800, 4000], draws=300, seed=seed) for _ in range(2))
    assert a.quantiles.shape == (3, len(LEVELS)) and a.samples.shape == (300, 3)
    assert (np.diff(a.quantiles, axis=1) >= 0).all()
    assert a.samples.min() >= 0 and a.samples.max() <= 1
    np.testing.assert_array_equal(a.samples, b.samples)
    assert a.last == values[-1] and sum(a.families.values()) == pytest.approx(1)


def curve(i, rng):
    """Step -> share: a sigmoid, a power law or an exponential rise, of random height and pace."""
    top, pace, power = rng.uniform(0.3, 1), rng.uniform(0.15, 0.7) * 1000, rng.uniform(0.5, 2)
    return [lambda t: top / (1 + np.exp(-(t - pace) / (0.25 * pace))),
            lambda t: top * (1 - (1 + t / pace) ** -power),
            lambda t: top * (1 - np.exp(-t / pace))][i % 3]


def test_the_interval_covers_made_up_curves():
    rng, n, inside, within_half = np.random.default_rng(0), 400, [], []
    for i in range(60):
        f, steps = curve(i, rng), np.arange(1, 11) * 40  # 40 % of the run is seen
        seen = rng.binomial(n, f(steps).clip(0, 1)) / n
        later = rng.binomial(n, min(1, f(1000.0))) / n
        q = forecast(steps, seen, n, [1000], draws=1000, seed=i).quantiles[0]
        inside.append(q[0] <= later <= q[4])
        within_half.append(q[1] <= later <= q[3])
    assert np.mean(inside) >= 0.75
    assert 0.2 <= np.mean(within_half) <= 0.9  # neither blind nor sure of everything


def test_more_examples_and_nearer_steps_are_more_certain():
    values = [0.1, 0.25, 0.37, 0.47, 0.55, 0.61, 0.66, 0.7]

    def width(n, at):
        q = forecast(STEPS, values, n, [at], seed=1).quantiles[0]
        return q[4] - q[0]

    assert width(2000, 450) < width(2000, 1600) and width(2000, 450) < width(20, 450)


def test_samples_are_joint_over_the_steps():
    f = forecast(STEPS, [0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.62], 1000, [800, 900])
    assert np.corrcoef(f.samples.T)[0, 1] > 0.7
    both = (f.samples >= 0.75).all(1).mean()
    assert both <= (f.samples >= 0.75).mean(0).min()


def test_it_says_that_it_is_uncalibrated_and_names_the_last_value():
    f = forecast(STEPS, np.linspace(0.1, 0.5, 8), 100, [800, 900])
    lines = describe(f, "exact match")
    assert len(lines) == 2 and "uncalibrated" in lines[0] and "last value 0.500" in lines[0] and "step 800" in lines[0]


@pytest.mark.parametrize("change,text", [
    (dict(steps=STEPS[:4], values=[0.1, 0.2, 0.3, 0.4]), "at least 5"),
    (dict(steps=STEPS[:7]), "at least 5 of each"),
    (dict(values=[0.1, np.nan] + [0.3] * 6), r"values\[1\]: got nan"),
    (dict(values=[0.1, 0.2, 1.5] + [0.3] * 5), r"values\[2\]: got 1.5"),
    (dict(values=[0.25] * 8), "constant 0.25 8 times"),
    (dict(steps=STEPS[::-1]), "increasing"),
    (dict(n=0), "at least 1 example"),
    (dict(at=[400]), "after the last, 400"),
    (dict(at=[900, 800]), "increasing steps"),
    (dict(at=[]), "increasing steps"),
])
def test_what_cannot_be_forecast_is_refused(change, text):
    arguments = dict(steps=STEPS, values=np.linspace(0.1, 0.5, 8), n=100, at=[800]) | change
    with pytest.raises(ValueError, match=text):
        forecast(**arguments)


def test_the_fan_shows_what_was_seen_what_was_forecast_and_what_came():
    values = np.linspace(0.1, 0.8, 8)
    fig = plots_compute.forecast_fan(STEPS, values, 6, forecast(STEPS[:6], values[:6], 100, [350, 400, 800]))
    ax = fig.axes[0]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "forecast, 90 % interval", "50 % interval", "median", "last value seen", "seen", "came afterwards"}
    assert [len(line.get_xdata()) for line in ax.get_lines()] == [3, 6, 2] and "exact match" in ax.get_ylabel()
    plt.close(fig)
