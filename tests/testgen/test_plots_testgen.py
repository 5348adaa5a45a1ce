"""Figures of generated tests: labelled, and nothing is drawn from no data."""

import pytest

from hrm_lab import metrics, plots, plots_testgen

HISTORY = [{"epoch": n, "perplexity": 9.0 / n, "train_loss": 2.0 / n, "correct": n / 4} for n in (1, 2, 3)]
TABLE = {key: metrics.proportion(n, 20) for n, key in enumerate(("executable", "correct", "mutation"), 10)}


def labelled(fig):
    assert plots.png(fig, "a figure").startswith(b"\x89PNG")
    assert all(ax.get_xlabel() and ax.get_title(loc="left") for ax in fig.axes)
    return fig


def test_training_is_drawn_with_the_task_score_beside_perplexity():
    left, right = labelled(plots_testgen.writing_curves({"a": HISTORY, "b": HISTORY})).axes
    assert len(left.lines) == 4 and len(right.lines) == 2 and left.get_yscale() == "log"
    with pytest.raises(ValueError, match="got no rows"):
        plots_testgen.writing_curves({"a": []})


def test_writers_are_compared_with_intervals():
    shown = {"executable": "executable", "correct": "correct"}
    fig = labelled(plots_testgen.compared({"fine-tuned": TABLE, "base": TABLE}, shown, "values"))
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["fine-tuned", "base"]


def test_rounds_are_drawn_arm_by_arm():
    rows = [metrics.proportion(n, 20) for n in (3, 9, 15)]
    fig = plots_testgen.feedback_rounds({"feedback": rows, "control": rows[:1] * 3}, "verdicts")
    labelled(fig)
    assert "n = 20" in fig.axes[0].get_legend().get_texts()[0].get_text()
