"""The scripts that make curves and judge forecasts run, and end with the JSON that they promise."""

import importlib.util

import numpy as np
import pytest

from hrm_lab import forecast_curves
from hrm_lab.forecast_bank import shipped
from hrm_lab.forecast_curves import Curve
from hrm_lab.inspect_notebook import ROOT
from test_benchmarks import last_line


def test_curves_are_made_and_a_second_call_adds_nothing(tmp_path):
    options = ("--set", "design", "--only", "circles", "--runs", "2", "--out", str(tmp_path / "c.csv"))
    found, _ = last_line("forecast_curves.py", *options)
    assert (found["tasks"], found["runs"], found["curves"]) == (1, 2, 6)
    curves = forecast_curves.read(tmp_path / "c.csv")
    assert {c.metric for c in curves} == {"loss", "train_loss", "token_accuracy"}
    assert all(len(c.values) == 50 for c in curves)
    before = (tmp_path / "c.csv").read_bytes()
    last_line("forecast_curves.py", *options)
    assert (tmp_path / "c.csv").read_bytes() == before


def test_the_back_test_has_a_line_for_each_kind_and_count(tmp_path):
    t, rng = np.arange(1, 31), np.random.default_rng(0)
    curves = []
    for kind in ("loss", "accuracy"):
        for i in range(3):
            left = np.exp(-t * rng.uniform(0.05, 0.3))
            curves.append(Curve(f"task-{i % 2}", str(i), "m", kind, 100, tuple(left if kind == "loss" else 1 - left)))
    forecast_curves.write(tmp_path / "c.csv", curves)
    found, text = last_line("forecast.py", "--curves", str(tmp_path / "c.csv"), "--plot", str(tmp_path / "a.png"))
    assert [(line["kind"], line["count"]) for line in found["lines"]] == [
        (kind, k) for kind in ("loss", "accuracy") for k in (5, 10, 20)]
    for line in found["lines"]:
        assert line["n"] == 3 and 0 <= line["brier"]["value"] <= 1 and line["ms"] > 0
        assert set(line["met"]) == {"coverage90", "coverage50", "mae", "brier", "last", "ms"}
    assert set(found["per_task"]) == {f"{kind}/task-{i}" for kind in ("loss", "accuracy") for i in range(2)}
    beside = [Curve("hrm", "0", metric, c.kind, 100, c.values)
              for metric, c in zip(("loss", "exact_match"), curves[::3], strict=True)]
    forecast_curves.write(tmp_path / "h.csv", beside)
    near, _ = last_line("forecast.py", "--curves", str(tmp_path / "c.csv"), str(tmp_path / "h.csv"), "--model", "hrm",
                        "--ahead", "1.1")
    assert set(near["per_task"]) == {"loss/hrm", "accuracy/hrm"} and near["curves"] == 2
    ahead = {line["count"]: line["mae_last"]["value"] for line in near["lines"] if line["kind"] == "accuracy"}
    values = beside[1].values
    assert ahead == {k: pytest.approx(values[at - 1] - values[k - 1], abs=1e-4)
                     for k, at in ((5, 6), (10, 11), (20, 22))}
    assert "90 %:" in text and b"Description" in (tmp_path / "a.png").read_bytes()


def test_ties_are_broken_anew_for_each_curve():
    """Most of a forecast at exactly 1, and 1 comes: its rank is anywhere in that part, not in one place for all."""
    spec = importlib.util.spec_from_file_location("back_test", ROOT / "benchmarks" / "forecast.py")
    back_test = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(back_test)
    curves = [Curve("t", str(i), "m", "accuracy", 200, (0.5 + i / 100, *[1.0] * 19)) for i in range(12)]
    ranks = [back_test.judge(c, 10, shipped(), 400)["rank"] for c in curves]
    assert min(ranks) >= 0 and max(ranks) <= 1 and np.std(ranks) > 0.1
