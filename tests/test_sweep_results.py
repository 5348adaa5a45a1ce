"""The words, tables and figures of a sweep follow from its cells, and nothing is hidden."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hrm_lab import plots, plots_sweep, sweep_results
from hrm_lab.alarms import EPOCHS

LR, HIDDEN = (1e-4, 5e-4, 1e-3), (128, 256)


def packed(share, n=200, seeds=3):
    rng = np.random.default_rng(round(1000 * share))
    return {"n": n, "exact": [np.packbits(rng.random(n) < share).tobytes().hex() for _ in range(seeds)]}


def cell(lr, hidden, value, pruned=0):
    end = pruned or EPOCHS
    curves = np.tile(value * np.arange(1, end + 1) / EPOCHS, (3, 1))
    found = {"cell": {"lr": lr, "hidden": hidden}, "cpu_seconds": 1.0, "curves": {"exact_match": curves.tolist()}}
    if pruned:
        return found | {"state": "PRUNED", "value": None, "stopped": {
            "why": "unlikely to be the best", "epoch": pruned, "chance": 0.01,
            "quantiles": [value - 0.2, value - 0.1, value, value + 0.1, value + 0.2]}}
    return found | {"state": "COMPLETE", "value": value, "stopped": None, "valid": packed(value), "test": packed(value)}


def grid(effect=lambda lr, hidden: 0.2 + 0.2 * LR.index(lr)):
    return [cell(lr, hidden, effect(lr, hidden), pruned=10 if lr == 1e-4 else 0) for lr in LR for hidden in HIDDEN]


def test_the_best_is_chosen_on_validation_and_given_on_test():
    cells = [cell(1e-3, 128, 0.9), cell(5e-4, 128, 0.5), cell(1e-4, 128, 0.95, pruned=10)]
    first = sweep_results.best(cells)
    assert first is cells[0]  # a forecast wins nothing
    found = sweep_results.scores(cells)
    assert found["best/exact_match"]["n"] == 600 and 0.8 < found["best/exact_match"]["value"] < 1
    assert found["cells_pruned"]["value"] == 1
    assert found["epochs_trained"]["value"] == pytest.approx((50 + 50 + 10) / 150)
    with pytest.raises(ValueError, match="none of them finished"):
        sweep_results.best(cells[2:])


def test_cells_that_could_be_as_good_are_named():
    cells = [cell(1e-3, 128, 0.90), cell(1e-3, 256, 0.89), cell(5e-4, 128, 0.5)]
    assert sweep_results.ties(cells) == [cells[1]]
    told = " ".join(sweep_results.findings(cells))
    assert "lr 0.001, hidden 256" in told and "hidden 128, chosen on validation" in told
    assert "too few" not in told


def test_importances_are_the_main_effects():
    only_lr = sweep_results.importances(grid())
    assert only_lr == {"lr": pytest.approx(1), "hidden": pytest.approx(0), "interaction": pytest.approx(0)}
    both = sweep_results.importances(grid(lambda lr, h: 0.1 * LR.index(lr) + 0.1 * HIDDEN.index(h)))
    assert sum(both.values()) == pytest.approx(1) and both["lr"] > both["hidden"] > 0
    cross = sweep_results.importances(grid(lambda lr, h: 0.5 + 0.1 * (LR.index(lr) - 1) * (1 if h == 128 else -1)))
    assert cross == {"lr": pytest.approx(0), "hidden": pytest.approx(0), "interaction": pytest.approx(1)}
    assert sweep_results.importances(grid(lambda *_: 0.5)) == {"lr": 0, "hidden": 0, "interaction": 0}
    with pytest.raises(ValueError, match="got 5 cells, expected each combination"):
        sweep_results.importances(grid()[1:])


def test_the_table_marks_what_is_only_a_forecast():
    rows = sweep_results.table(grid())
    assert [row["lr"] for row in rows] == [1e-3, 1e-3, 5e-4, 5e-4, 1e-4, 1e-4]
    assert rows[-1]["exact match, validation"].startswith("forecast 20 %") and "epoch 10" in rows[-1]["ended"]
    assert "forecast" not in rows[0]["exact match, validation"]


def test_a_diverged_cell_has_no_forecast():
    bad = cell(1e-3, 128, 0.3, pruned=10)
    bad["stopped"] |= {"why": "diverged", "quantiles": None}
    assert sweep_results.table([bad, cell(1e-3, 256, 0.9)])[1]["exact match, validation"] == "–"
    assert sweep_results.estimate(bad) == pytest.approx(0.06)


def test_figures_show_every_cell():
    cells = grid()
    fig = plots_sweep.heat_map(cells)
    said = [t.get_text() for ax in fig.axes for t in ax.texts]
    assert len(said) == 6 and sum("forecast at 10" in t for t in said) == 2
    courses = plots_sweep.courses(cells)
    assert {t.get_text() for t in courses.axes[0].get_legend().get_texts()} == {"best", "finished", "stopped early"}
    bars = plots_sweep.importance_bars({"lr": 0.6, "hidden": 0.1, "interaction": 0.3})
    told = plots_sweep.heat_map_alt(cells)
    assert "6 cells" in told and "2 were stopped early" in told
    for figure in (fig, courses, bars):
        assert plots.png(figure, told)
        plt.close(figure)


def test_three_settings_make_panels():
    cells = [c | {"cell": c["cell"] | {"batch": batch}} for batch in (4, 8) for c in grid()]
    fig = plots_sweep.heat_map(cells)
    assert [ax.get_title() or ax.get_title("left") for ax in fig.axes] == ["batch 4", "batch 8"]
    plt.close(fig)
