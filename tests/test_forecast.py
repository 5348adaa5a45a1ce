"""The forecast: ordered, bounded, repeatable, and right about as often as it says on made-up curves."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab import plots_forecast
from hrm_lab.forecast import LEVELS, at_the_ends, describe, forecast, kind_of, naive_fit
from hrm_lab.forecast_bank import shipped
from hrm_lab.forecast_targets import Target

STEPS = np.arange(1, 9) * 50
shares = st.lists(st.floats(0, 1), min_size=5, max_size=12)
losses = st.lists(st.floats(0, 1e6), min_size=5, max_size=12).filter(lambda v: v[0] > 1e-9)


def same(a, b):
    np.testing.assert_array_equal(a.samples, b.samples)
    assert a.quantiles.shape == (3, len(LEVELS)) and a.samples.shape == (300, 3)
    assert (np.diff(a.quantiles, axis=1) >= 0).all() and np.isfinite(a.samples).all()


@settings(max_examples=20, deadline=None)
@given(shares, st.none() | st.integers(1, 5000), st.integers(0, 3), st.booleans())
def test_an_accuracy_s_quantiles_are_ordered_bounded_and_repeatable(values, n, seed, calibrated):
    steps, bank = STEPS[0] * np.arange(1, len(values) + 1), shipped() if calibrated else None
    a, b = (forecast(steps, values, n, [900, 1500, 4000], bank=bank, draws=300, seed=seed) for _ in range(2))
    same(a, b)
    assert a.samples.min() >= 0 and a.samples.max() <= 1 and 0 <= a.naive.min() <= a.naive.max() <= 1
    assert a.last == values[-1] and sum(a.families.values()) == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(losses, st.integers(0, 3), st.booleans())
def test_a_loss_of_any_scale_gets_an_answer(values, seed, calibrated):
    steps, bank = np.arange(1, len(values) + 1), shipped() if calibrated else None
    a, b = (forecast(steps, values, None, [13, 20, 50], "loss", bank, 300, seed) for _ in range(2))
    same(a, b)
    assert a.samples.min() >= 0 and a.samples.max() <= 6.001 * max(values) and a.last == values[-1]


def test_a_loss_is_forecast_as_a_share_of_its_first_value():
    values = 3 * np.exp(-0.1 * np.arange(1, 11)) + 0.4
    a, b = (forecast(np.arange(1, 11), scale * values, None, [30], "loss", shipped()) for scale in (1, 1000))
    np.testing.assert_allclose(1000 * a.quantiles, b.quantiles, rtol=1e-6)


@pytest.mark.parametrize("values,kind", [([0.0] * 8, "accuracy"), ([1.0] * 8, "accuracy"), ([0.5] * 8, "accuracy"),
                                         ([2.3] * 8, "loss"), ([5, 1e-30, 0, 0, 0, 0, 0, 0], "loss")])
def test_a_constant_curve_gets_an_answer_around_it(values, kind):
    f = forecast(STEPS, values, None, [500], kind, shipped())
    assert f.quantiles[0, 0] <= max(f.last, 1.001e-6 * values[0]) <= f.quantiles[0, 4] * 1.001


def test_an_accuracy_that_stood_at_an_end_is_forecast_to_stay_exactly_there():
    """Else what came, 0 or 1, would lie just outside of intervals that end at .001 or .999."""
    for end in (0.0, 1.0):
        f = forecast(STEPS, [0.5, *[end] * 7], None, [450], bank=shipped("hrm"))
        assert (f.quantiles[0] == end).sum() >= 3
    samples = np.array([[0.001], [0.5], [0.999]])
    assert at_the_ends(samples, 0.9).tolist() == [[0.0], [0.5], [1.0]]
    assert at_the_ends(samples, 0.9985).tolist() == [[0.0], [0.5], [0.999]]  # seen between: it can stay there


def test_a_loss_that_has_risen_many_times_above_its_first_stays_where_it_is():
    values = 0.7 * (1 + 60 / (1 + np.exp(-(np.arange(1, 21) - 6) / 1.5)))  # 1 to 61 times, level since epoch 15
    f = forecast(np.arange(1, 21), values, None, [50], "loss", shipped())
    assert f.quantiles[0, 2] == pytest.approx(values[-1], rel=0.05) and f.quantiles[0, 4] > values[-1]


def curve(i, rng):
    """Step -> share: a sigmoid, a power law or an exponential rise, of random height and pace."""
    top, pace, power = rng.uniform(0.3, 1), rng.uniform(0.15, 0.7) * 1000, rng.uniform(0.5, 2)
    return [lambda t: top / (1 + np.exp(-(t - pace) / (0.25 * pace))),
            lambda t: top * (1 - (1 + t / pace) ** -power),
            lambda t: top * (1 - np.exp(-t / pace))][i % 3]


def test_the_raw_interval_covers_made_up_curves():
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


@pytest.mark.parametrize("bank", [None, shipped()])
def test_samples_are_joint_over_the_steps(bank):
    f = forecast(STEPS, [0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.62], 1000, [800, 900], bank=bank)
    assert np.corrcoef(f.samples.T)[0, 1] > 0.7
    both = (f.samples >= 0.75).all(1).mean()
    assert both <= (f.samples >= 0.75).mean(0).min()


def test_a_forecast_says_what_it_rests_on_and_what_to_beat():
    f = forecast(STEPS, np.linspace(0.1, 0.5, 8), 100, [800, 900])
    lines = describe(f, "exact match")
    assert len(lines) == 2 and "uncalibrated" in lines[0] and "last value 0.5," in lines[0]
    assert "exact match at 800" in lines[0] and "logistic fit" in lines[0]
    f = forecast(STEPS, np.linspace(2, 1, 8), None, [800], "loss", shipped())
    assert "calibrated on" in describe(f)[0] and "exponential fit" in describe(f)[0]


def test_the_naive_fit_is_the_straight_line_of_the_logs():
    steps = np.arange(1.0, 9)
    np.testing.assert_allclose(naive_fit(steps, 5 * np.exp(-0.2 * steps), np.array([20.0]), "loss"), 5 * np.exp(-4))
    odds = np.exp(0.3 * steps - 2)
    np.testing.assert_allclose(naive_fit(steps, odds / (1 + odds), np.array([20.0]), "accuracy"), 1 / (1 + np.exp(-4)))


def test_the_kind_of_a_metric():
    assert kind_of("valid_loss", [45.0]) == "loss" and kind_of("perplexity", [3.0]) == "loss"
    assert kind_of("exact_match/copy", [0.0, 1.0]) == "accuracy"
    with pytest.raises(ValueError, match="candidates: got 12.25, expected shares"):
        kind_of("candidates", [0.5, 12.25])
    with pytest.raises(ValueError, match="token_accuracy: got nan"):
        kind_of("token_accuracy", [0.5, np.nan])


@pytest.mark.parametrize("change,text", [
    (dict(steps=STEPS[:4], values=[0.1, 0.2, 0.3, 0.4]), "at least 5"),
    (dict(steps=STEPS[:2], values=[0.1, 0.2]), "got 2 steps and 2 values"),
    (dict(steps=STEPS[:7]), "at least 5 of each"),
    (dict(values=[0.1, np.nan] + [0.3] * 6), r"values\[1\]: got nan"),
    (dict(values=[0.1, 0.2, 1.5] + [0.3] * 5), r"values\[2\]: got 1.5, expected a share"),
    (dict(values=[0.1, 0.2, np.inf] + [0.3] * 5, kind="loss"), r"values\[2\]: got inf, expected a finite"),
    (dict(values=[0.1, 0.2, -1] + [0.3] * 5, kind="loss"), r"values\[2\]: got -1, expected"),
    (dict(values=[0] + [0.3] * 7, kind="loss"), "first loss above 0"),
    (dict(kind="count"), "kind: got 'count', expected loss or accuracy"),
    (dict(steps=STEPS[::-1]), "increasing"),
    (dict(n=0), "at least 1 example"),
    (dict(at=[400]), "after the last, 400"),
    (dict(at=[900, 800]), "increasing steps"),
    (dict(at=[]), "increasing steps"),
])
def test_what_cannot_be_forecast_is_refused_in_one_line(change, text):
    arguments = dict(epochs=STEPS, values=np.linspace(0.1, 0.5, 8), n=100, at=[800])
    change = {"epochs" if name == "steps" else name: value for name, value in change.items()}
    with pytest.raises(ValueError, match=text) as caught:
        forecast(**arguments | change)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- figures


def test_the_fan_shows_what_was_seen_what_was_forecast_and_what_came():
    values = np.linspace(0.1, 0.8, 8)
    f = forecast(STEPS[:6], values[:6], 100, [350, 400, 800])
    fig = plots_forecast.forecast_fan(STEPS, values, f, [Target("exact match", ">", 0.7, 800)], "exact match", "step")
    ax = fig.axes[0]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "forecast, 90 % interval", "50 % interval", "median", "last value seen", "seen", "came afterwards", "target"}
    assert [len(line.get_xdata()) for line in ax.get_lines()] == [3, 6, 2] and ax.get_ylabel() == "exact match"
    assert [t.get_text() for t in ax.texts] == ["> 0.7"]
    plt.close(fig)
    alt = plots_forecast.fan_alt(STEPS, values, f, "exact match", "step")
    assert "after step 300 the forecast for step 800" in alt and "uncalibrated" in alt and "now 0.8" in alt


def test_several_moments_stand_in_one_figure():
    steps, values = np.arange(1, 41), 2.5 * np.exp(-0.15 * np.arange(1, 41)) + 1e-3
    fans = [forecast(steps[:k], values[:k], None, [50], "loss", shipped()) for k in (5, 10, 20)]
    fig = plots_forecast.forecast_fan(steps, values, fans, name="loss")
    labels = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert [f"forecast from epoch {k}: median, 50 % and 90 % interval" in labels for k in (5, 10, 20)] == [True] * 3
    assert fig.axes[0].get_yscale() == "log" and "seen" in labels and "came afterwards" in labels
    plt.close(fig)
    with pytest.raises(ValueError, match="at least one Forecast"):
        plots_forecast.forecast_fan(steps, values, [])


def test_the_calibration_figure_has_a_line_for_each_row():
    score = {"value": 0.9, "n": 80, "low": 0.8, "high": 0.95}
    fig = plots_forecast.calibration_plot([{"label": f"loss, {k} points", "coverage50": score | {"value": 0.5},
                                            "coverage90": score} for k in (5, 10)])
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["loss, 5 points", "loss, 10 points"]
    plt.close(fig)
