"""The forest: leaves found, company that can be read, blends in order and in bounds, and trees that learn."""

import importlib.util

import numpy as np
import pytest

from hrm_lab import forecast_forest as forest
from hrm_lab.forecast import forecast
from hrm_lab.forecast_bank import shipped
from hrm_lab.forecast_forest import Company, Forest, company
from hrm_lab.inspect_notebook import ROOT

EPOCHS = np.arange(1, 11)
RUN = {"loss": 3 * 0.8**EPOCHS, "train_loss": 3 * 0.7**EPOCHS, "token_accuracy": 1 - 0.9**EPOCHS,
       "exact_match": 0.0 * EPOCHS}
ROWS = [{"epoch": float(e), "n": 200, **{m: float(v[i]) for m, v in RUN.items()}} for i, e in enumerate(EPOCHS)]


def stump():
    """Feature 1 at most .5: rises .1 and .2; else .6. One root twice."""
    return Forest(np.array([1, -1, -1]), np.array([0.5, 2, 1]), np.array([2, 0, 2]), np.array([0, 0]),
                  np.array([0.1, 0.2, 0.6]))


def test_a_row_falls_into_the_leaves_whose_rises_are_its_forecast():
    both, other = stump().leaves(np.array([[9, 0.5], [0, 0.51]]))
    np.testing.assert_allclose(both, ([0.1, 0.2, 0.1, 0.2], [0.25] * 4))  # two trees
    np.testing.assert_allclose(other, ([0.6, 0.6], [0.5, 0.5]))


def test_a_pool_has_its_share_of_each_and_keeps_the_order():
    samples = np.random.default_rng(0).random((999, 2))
    found = stump().blend(samples, np.array([[0, 0.0], [0, 1.0]]), 0.2, "accuracy")
    for s, (low, high) in enumerate(((0.295, 0.405), (0.795, 0.805))):  # where the rises lead from 0.2
        between = ((low < found[:, s]) & (found[:, s] < high)).mean()
        assert between == pytest.approx(forest.SHARE + (1 - forest.SHARE) * (high - low), abs=0.02)
        assert np.quantile(found[:, s], 0.01) < 0.1 and np.quantile(found[:, s], 0.99) > 0.9  # the bank's ends
        assert (np.diff(found[np.argsort(samples[:, s]), s]) >= 0).all()
    assert found.min() >= 0 and found.max() <= 1


def test_company_is_what_the_forest_can_read():
    found = company(ROWS, "exact_match", EPOCHS, n=np.full(10, 200.0))
    assert set(found.curves) == set(forest.METRICS) and found.n == 200
    np.testing.assert_array_equal(found.curves["loss"], RUN["loss"])
    assert set(company([{**r, "token_accuracy": None} for r in ROWS], "loss", EPOCHS).curves) == {
        "loss", "train_loss", "exact_match"}
    assert company(ROWS, "perplexity", EPOCHS) is None  # not a metric that past runs had
    assert company(ROWS[1:], "loss", EPOCHS) is None  # an epoch without companions
    for bad in (None, float("nan"), -1.0, float("inf")):
        assert company([*ROWS[:-1], {**ROWS[-1], "train_loss": bad}], "loss", EPOCHS) is None


@pytest.mark.parametrize("names", [
    {"loss": "val_loss", "train_loss": "loss", "token_accuracy": "val_accuracy", "exact_match": "val_exact"},  # Keras
    {"loss": "val_loss", "train_loss": "train_loss", "token_accuracy": "val_acc", "exact_match": "val_exact_match"},
    {"loss": "eval_loss", "train_loss": "loss", "token_accuracy": "eval_accuracy", "exact_match": "eval_exact_match"}])
def test_other_trainers_names_are_read_as_ours(names):
    theirs = [{"epoch": r["epoch"], name: r[ours]} for r in ROWS for ours, name in names.items()]  # a row each
    for ours, name in names.items():
        a, b = company(ROWS, ours, EPOCHS), company(theirs, name, EPOCHS)
        assert b.metric == ours
        for metric in forest.METRICS:
            np.testing.assert_array_equal(a.curves[metric], b.curves[metric])
    assert forest.called([{"loss": 0.5, "acc": 0.9}]) == {"loss": "loss", "token_accuracy": "acc"}


@pytest.mark.parametrize("metric,kind", [("loss", "loss"), ("train_loss", "loss"), ("token_accuracy", "accuracy"),
                                         ("exact_match", "accuracy")])
@pytest.mark.parametrize("model", ["all", "hrm"])
def test_a_forecast_with_company_is_ordered_bounded_and_says_so(metric, kind, model):
    n = 200 if kind == "accuracy" else None
    alone, a, b = (forecast(EPOCHS, RUN[metric], n, [11, 20, 50, 400], kind, shipped(model), 300, company=one)
                   for one in (None, *[Company(metric, RUN, 200.0)] * 2))
    np.testing.assert_array_equal(a.samples, b.samples)
    assert (np.diff(a.quantiles, axis=1) >= 0).all() and np.isfinite(a.samples).all() and a.samples.min() >= 0
    assert kind == "loss" or a.samples.max() <= 1
    assert not np.array_equal(a.quantiles, alone.quantiles)
    assert a.calibration == alone.calibration + ", with the run's other curves"


def test_without_a_bank_company_is_not_looked_at():
    a, b = (forecast(EPOCHS, RUN["loss"], None, [50], "loss", company=one) for one in (None, Company("loss", RUN)))
    np.testing.assert_array_equal(a.samples, b.samples)


def test_a_scale_of_all_losses_changes_little_but_the_levels():
    """Losses a tenth as high: the forest knows their levels, the bank does not."""
    low = {m: v / 10 if "loss" in m else v for m, v in RUN.items()}
    a, b = (forecast(EPOCHS, run["loss"], None, [20], "loss", shipped(), company=Company("loss", run))
            for run in (RUN, low))
    assert 0.3 < 10 * b.quantiles[0, 2] / a.quantiles[0, 2] < 3


def test_trees_learn_what_the_rise_depends_on():
    spec = importlib.util.spec_from_file_location("grower", ROOT / "benchmarks" / "forecast_forest.py")
    grower = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(grower)
    rng = np.random.default_rng(0)
    x = rng.random((600, 3))
    rows = [{"task": str(i % 4), "kind": "accuracy", "near": i % 2 == 0, "last": 0.1,
             "truth": 0.1 + 0.5 * (x[i, 2] > 0.6), "x": x[i]}
            for i in range(600)]
    grown = Forest(**grower.forest_of(rows, 8, rng))
    assert len(grown.roots) == 8 and (np.diff(grown.roots) > 0).all()
    leaf = grown.feature == -1
    assert grown.threshold[leaf].min() >= grower.LEAF and grown.threshold[leaf].sum() == len(grown.rises)
    leaves = grown.leaves(np.array([[0.5, 0.5, 0.2], [0.5, 0.5, 0.9]]))
    low, high = (np.average(rises, weights=weights) for rises, weights in leaves)
    assert low < 0.05 and high > 0.45
