"""Who goes on in a race follows from the curves alone, and a leader is not lost."""

import numpy as np
import pytest

from hrm_lab.sweep_race import CUTS, LEADING, METRIC, Stage, at_the_end, checked, stages, survivors


def cells(*tokens, epochs=10, exact=0.0):
    return [{LEADING: np.linspace(0, value, epochs), METRIC: np.full(epochs, exact)} for value in tokens]


def test_tokens_rank_cells_whose_exact_match_is_still_zero():
    assert survivors(cells(0.2, 0.9, 0.5, 0.7), 0.5, 4) == [1, 3]
    assert survivors(cells(0.2, 0.9), 0.1, 12) == [1]  # never none
    assert survivors(cells(0.2, 0.9), 0.5, 12) == [1, 0]  # of those that began, not of those that are left
    assert survivors(cells(0.5, 0.5, 0.5), 2 / 3, 3) == [0, 1]  # equal: the one that was drawn first


def test_one_lucky_evaluation_does_not_decide():
    lucky, steady = cells(0.0, 0.5)
    lucky[LEADING][-1] = 0.6
    assert survivors([lucky, steady], 0.5, 2) == [1]


def test_at_the_end_exact_match_decides_and_tokens_between_equals():
    assert survivors(cells(0.9, 0.8, 0.95), 0.5, 4, ended=[0.4, 0.6, 0.4]) == [1, 2]


def test_stages_are_the_cuts_and_then_all_seeds():
    assert stages(CUTS, 3) == [Stage(1, 5), Stage(1, 15), Stage(1, 50), Stage(3, 50)]
    assert stages(CUTS, 1) == [Stage(1, 5), Stage(1, 15), Stage(1, 50)]
    assert stages((), 3) == [Stage(3, 50)]
    checked(CUTS)
    checked(())


@pytest.mark.parametrize("cuts", [((3, 0.5),), ((51, 0.5),), ((5, 0.0),), ((5, 1.0),), ((10, 0.5), (5, 0.2)),
                                  ((5, 0.2), (10, 0.5)), ((5.5, 0.5),), ((5, 0.5), (5, 0.2))])
def test_bad_cuts_are_refused(cuts):
    with pytest.raises(ValueError, match="sweep.cuts: got .*, expected"):
        checked(cuts)


def test_a_reported_grid_takes_a_third_of_its_epochs_at_most():
    epochs, live, before = 0, 12, 0
    for epoch, share in CUTS:
        epochs, live, before = epochs + live * (epoch - before), round(share * 12), epoch
    assert live == 2 and (epochs + live * 2 * 50) / (12 * 3 * 50) == pytest.approx(0.267, abs=0.001)


def test_a_stopped_cell_has_a_forecast_if_it_can():
    assert at_the_end(np.linspace(0, 0.5, 10), 100).quantiles.shape == (1, 5)
    assert at_the_end(np.linspace(0, 0.5, 50), 100) is None and at_the_end(np.full(10, np.nan), 100) is None
