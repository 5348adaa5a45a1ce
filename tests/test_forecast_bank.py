"""The bank: files that are checked, a spread that past curves would have needed, and a stack with the last value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab import forecast_bank, forecast_curves
from hrm_lab.forecast import forecast
from hrm_lab.forecast_bank import NUMBERS, SHIPPED, Bank, effective, scored, shipped
from hrm_lab.forecast_curves import Curve
from hrm_lab.inspect_notebook import ROOT


def made_up(lines, miss, kind="accuracy", tasks=3, at=50):
    """A bank whose forecasts from 10 points said .4-.6 around .5 and missed by `miss(i)`; the last values were .3."""
    keys = [(f"task-{i % tasks}", str(i), "m", kind) for i in range(lines)]
    numbers = [(10, at, 0.3, 0.01, 0.4, 0.5, 0.6, 0.5 + miss(i)) for i in range(lines)]
    return Bank(np.array(keys), np.array(numbers))


def spread(bank, distance=5.0, count=10):
    samples = 0.5 + 0.0608 * np.random.default_rng(0).standard_normal((4000, 1))  # 90 % within .1
    found = bank.adjust(samples, np.full(count, 0.3), np.array([distance]), "accuracy")
    return np.quantile(found, (0.05, 0.25, 0.5, 0.75, 0.95))


def test_the_spread_becomes_what_past_forecasts_needed():
    rng = np.random.default_rng(1)
    missed = 0.2 * rng.standard_normal(400)
    q = spread(made_up(400, lambda i: missed[i]))
    assert q[2] == pytest.approx(0.5, abs=0.02)
    assert (q[4] - q[0]) / 2 == pytest.approx(np.quantile(np.abs(missed), 0.9), rel=0.1)
    assert (q[3] - q[1]) / 2 == pytest.approx(np.quantile(np.abs(missed), 0.5), rel=0.1)


def test_the_median_is_drawn_to_the_last_value_where_that_was_better():
    wide = made_up(100, lambda i: -0.2 + 0.001 * (i % 2))  # what came was the last value
    assert spread(wide)[2] == pytest.approx(0.3, abs=0.02)
    assert spread(made_up(100, lambda i: 0.001 * (i % 2)))[2] == pytest.approx(0.5, abs=0.02)


def test_only_past_forecasts_that_looked_as_far_count():
    near, far = made_up(100, lambda i: 0.01 * (-1) ** i, at=15), made_up(100, lambda i: 0.3 * (-1) ** i, at=80)
    both = Bank(np.concatenate((near.keys, far.keys)), np.concatenate((near.numbers, far.numbers)))
    narrow, wide = spread(both, 1.5), spread(both, 8.0)
    assert narrow[4] - narrow[0] < 0.1 < 0.5 < wide[4] - wide[0]


def test_the_next_evaluation_is_surer_than_one_half_as_far_again():
    near, far = made_up(100, lambda i: -0.2 + 0.005 * (-1) ** i, at=11), made_up(100, lambda i: 0.3 * (-1) ** i, at=15)
    both = Bank(np.concatenate((near.keys, far.keys)), np.concatenate((near.numbers, far.numbers)))
    q = spread(both, 1.01)  # nearer than any: as the nearest
    assert q[2] == pytest.approx(0.3, abs=0.03) and q[3] - q[1] < 0.1 < spread(both, 1.5)[3] - spread(both, 1.5)[1]


def test_one_odd_neighbour_does_not_make_an_interval_narrow():
    """300 curves at .3 that ended up to .2 away from it, in 10 tasks; one at .9 that stayed there."""
    missed = 0.2 * np.random.default_rng(1).uniform(-1, 1, 301)
    usual = made_up(300, lambda i: missed[i] - 0.2, tasks=10)
    odd = np.array([(10, 50, 0.9, 0.0, 0.89, 0.9, 0.91, 0.9)])
    bank = Bank(np.concatenate((usual.keys, [("odd", "0", "m", "accuracy")])), np.concatenate((usual.numbers, odd)))
    samples = np.random.default_rng(0).normal(0.9, 0.005, (1000, 1))
    q = np.quantile(bank.adjust(samples, np.full(10, 0.9), np.array([5.0]), "accuracy"), (0.05, 0.95))
    assert q[1] - q[0] > 0.2
    table = bank.tables["accuracy"]
    mine, weights = table.near(10, 14)
    alike = table.alike(mine, weights, np.array((0.9, 0.0, 0.0)))
    assert effective(alike, table.task[mine]) >= 3
    assert effective(weights, table.task[mine]) == pytest.approx(10, abs=0.1)


def test_a_bank_of_few_tasks_is_not_widened_beyond_half_of_them():
    table = made_up(40, lambda i: 0.01 * i, tasks=2).tables["accuracy"]
    mine, weights = table.near(10, 14)
    here = np.array((0.3, 0.2, 0.01))
    np.testing.assert_allclose(table.alike(mine, weights, here), weights * (1 + 1e-4))


def test_a_small_bank_calibrates_nothing_and_says_so():
    bank = made_up(19, lambda i: 0.3)
    samples = np.full((10, 2), 0.4)
    assert bank.adjust(samples, np.full(10, 0.3), np.array([2.0, 5.0]), "accuracy") is samples
    assert bank.says("accuracy") == bank.says("loss") == "uncalibrated"
    assert made_up(20, lambda i: 0.3).says("accuracy") == "calibrated on 20 curves of 3 tasks"
    assert forecast(range(1, 8), np.linspace(0.1, 0.5, 7), 50, [20], bank=bank).calibration == "uncalibrated"
    assert made_up(30, lambda i: 0.3).without("task-0").curves("accuracy") == 20
    assert made_up(30, lambda i: 0.3).without("task-0", "0").curves("accuracy") == 29


def test_the_joint_order_of_the_samples_is_kept():
    samples = np.random.default_rng(2).random((500, 3))
    found = shipped().adjust(samples, np.linspace(0.2, 0.5, 10), np.array([1.5, 3.0, 5.0]), "accuracy")
    for s in range(3):
        assert (np.diff(found[np.argsort(samples[:, s]), s]) >= 0).all()


def test_metrics_of_one_run_agree():
    keys = [("t", str(i), metric, kind) for i in range(40) for metric, kind in (("loss", "loss"), ("a", "accuracy"))]
    lucky = np.random.default_rng(3).standard_normal(40)
    numbers = [(10, 50, 0.3, 0.01, 0.4, 0.5, 0.6, 0.5 + s * lucky[i]) for i in range(40) for s in (-0.1, 0.1)]
    bank = Bank(np.array(keys), np.array(numbers))
    assert bank.agreement > 0.95  # a lower loss goes with a higher accuracy
    assert made_up(40, lambda i: 0.1).agreement == 0  # one metric a run tells nothing


def test_own_curves_are_added():
    rng = np.random.default_rng(0)
    curves = [Curve("mine", str(i), "exact_match", "accuracy", 100, tuple(rng.random(24).round(3))) for i in range(2)]
    curves += [Curve("mine", "0", "loss", "loss", 0, tuple(rng.random(12).round(3))),
               Curve("mine", "short", "loss", "loss", 0, (1.0, 0.5, 0.4, 0.3, 0.2))]
    bank = scored(curves)
    assert {tuple(k[1:3]) for k in bank.keys} == {("0", "exact_match"), ("1", "exact_match"), ("0", "loss")}
    first = bank.numbers[0]
    assert tuple(first[:3]) == (5, 6, curves[0].values[4]) and first[-1] == curves[0].values[5]
    assert (np.diff(bank.numbers[:, 4:7], axis=1) >= 0).all()
    loss = bank.numbers[bank.keys[:, 2] == "loss"][0]
    assert loss[-1] == pytest.approx(np.log(curves[2].values[5] / max(curves[2].values[:5])))
    assert shipped().plus(curves).curves("accuracy") == shipped().curves("accuracy") + 2


def test_the_bank_of_hrms_is_a_part_of_all():
    hrm = shipped("hrm")
    assert all(50 <= hrm.curves(kind) < shipped().curves(kind) for kind in ("loss", "accuracy"))
    assert {"seq-copy", "maze-4x4"} <= set(hrm.keys[:, 0]) and "teacher" not in hrm.keys[:, 0]
    with pytest.raises(ValueError, match="model: got 'mlp', expected all or hrm"):
        shipped("mlp")


# ---------------------------------------------------------------- files

curves_strategy = st.lists(st.builds(
    Curve, task=st.text("abc,\"- é", min_size=1, max_size=6), run=st.text("ab1", max_size=3),
    metric=st.just("loss"), kind=st.sampled_from(("loss", "accuracy")), n=st.integers(0, 9),
    values=st.lists(st.integers(0, 1000).map(lambda v: v / 1000), min_size=1, max_size=6).map(tuple)), max_size=5)


@settings(max_examples=30, deadline=None)
@given(curves=curves_strategy)
def test_curves_are_read_as_they_were_written(tmp_path_factory, curves):
    path = tmp_path_factory.mktemp("curves") / "curves.csv"
    forecast_curves.write(path, curves)
    assert forecast_curves.read(path) == curves


HEAD = "task,run,metric,kind,n,values\n"


@pytest.mark.parametrize("text,expected", [
    ("", "line 1: got ''"), ("task,run\n", "line 1: got 'task,run'"), (HEAD + "a,b\n", "line 2: got 2 fields"),
    (HEAD + "t,0,m,count,0,1 2\n", "kind: got 'count', expected loss or accuracy"),
    (HEAD + "t,0,m,loss,0,1 x\n", "could not convert"), (HEAD + "t,0,m,loss,0,\n", "got none, expected numbers"),
    (HEAD + "t,0,m,loss,0,1 nan\n", r"got nan, expected numbers in \[0, inf\]"),
    (HEAD + "t,0,m,accuracy,0,.5 1.5\n", r"got 1.5, expected numbers in \[0, 1\]"),
])
def test_a_bad_file_of_curves_is_refused(tmp_path, text, expected):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ValueError, match=expected) as caught:
        forecast_curves.read(tmp_path / "c.csv")
    assert str(caught.value).startswith(str(tmp_path / "c.csv"))


def test_a_bank_is_read_as_it_was_written(tmp_path):
    bank = made_up(5, lambda i: 0.125 * i)
    forecast_bank.write(tmp_path / "b.csv", bank)
    again = forecast_bank.read(tmp_path / "b.csv")
    assert (again.keys == bank.keys).all()
    np.testing.assert_allclose(again.numbers, bank.numbers)
    text = (tmp_path / "b.csv").read_text()
    for bad, expected in ((text.replace("accuracy", "count", 1), "line 2"), (text.replace("0.6", "x", 1), "numbers"),
                          ("a,b\n", "line 1")):
        (tmp_path / "b.csv").write_text(bad)
        with pytest.raises(ValueError, match=expected):
            forecast_bank.read(tmp_path / "b.csv")


def test_curves_come_from_a_run_s_history():
    rows = [{"epoch": i, "loss": 2.0 / i, "exact_match": 0.1 * i} for i in range(1, 4)] + [{"epoch": 4, "loss": 0.5}]
    found = forecast_curves.from_history(rows, "task", "run", {"loss": "loss", "exact_match": "accuracy"})
    assert found == [Curve("task", "run", "loss", "loss", 0, (2.0, 1.0, 2.0 / 3, 0.5))]


def test_what_ships_is_small_and_has_both_kinds():
    assert all(shipped().curves(kind) >= 100 for kind in ("loss", "accuracy"))
    assert SHIPPED.stat().st_size + SHIPPED.with_name("design.csv").stat().st_size < 2_500_000
    assert shipped().numbers.shape[1] == len(NUMBERS) and np.isfinite(shipped().numbers).all()
    design = {c.task for c in forecast_curves.read(ROOT / "data/forecast/design.csv")}
    assert set(shipped().keys[:, 0]) == design
    for name in ("held_out.csv", "held_out_2.csv", "held_out_3.csv", "held_out_4.csv"):
        held_out = {c.task for c in forecast_curves.read(ROOT / "data/forecast" / name)}
        assert not design & held_out and len(held_out) >= 3


@pytest.mark.parametrize("model", ["all", "hrm"])
def test_a_curve_wilder_than_the_banks_is_not_carried_out_of_its_range(model):
    """It ends low or high by chance: its last jump, carried on, would end at 0 or 1."""
    for ragged in ([0.1, 0.5, 0.2, 0.6, 0.1, 0.7, 0.3, 0.8, 0.2], [0.9, 0.5, 0.8, 0.4, 0.9, 0.3, 0.7, 0.2, 0.8]):
        f = forecast(range(1, 10), ragged, None, [10, 20, 50], "accuracy", shipped(model))
        assert (f.quantiles[:, 2] > 0.1).all() and (f.quantiles[:, 2] < 0.95).all()
