"""Figures and the scrubber: nothing without a description, nothing told by colour alone, the same output every time."""

import base64
import io
import re
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from hrm_lab import inspect_notebook, metrics, plots, scrub

HISTORY = [{"step": s, "loss": 2 / (1 + s), "train_loss": 1 / (1 + s), "token_accuracy": s / 10, "exact_match": s / 20,
            "exact_match/copy": s / 10, "exact_match/increment": 0.0} for s in range(10)]
SCORE = {"name": "HRM", "value": 0.9, "low": 0.8, "high": 0.95, "n": 1000, "unit": "share"}
SUDOKU = SimpleNamespace(grid=(4, 4, 2, 2), tokens=tuple(" .1234"), vocab_size=6, pad_id=0, augment="sudoku")
TOKENS = (" ", *"0123456789")
SEQUENCE = SimpleNamespace(grid=None, tokens=TOKENS, vocab_size=11, pad_id=0, augment="none")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


def strikes(fig):
    return sum(line.get_color() == plots.RED for ax in fig.axes for line in ax.get_lines())


def test_a_figure_carries_its_description(tmp_path):
    fig = plots.training_curves(HISTORY)
    plots.save(fig, tmp_path / "new" / "curves.png", "Loss falls, 99 % – solved.")
    image = Image.open(tmp_path / "new" / "curves.png")
    assert image.info["Description"] == "Loss falls, 99 % – solved."
    assert image.width <= 9 * 110 and [p.name for p in (tmp_path / "new").iterdir()] == ["curves.png"]
    with pytest.raises(ValueError, match="alt: got an empty text"):
        plots.save(fig, tmp_path / "x.png", " ")
    assert not (tmp_path / "x.png").exists()


def test_show_displays_a_png_with_alt_and_closes(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda data, **kw: shown.append((data, kw)))
    plots.show(plots.training_curves(HISTORY), "Loss falls.")
    (data, options), = shown
    assert options["metadata"]["image/png"]["alt"] == "Loss falls." and data["text/plain"] == "Loss falls."
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).format == "PNG"
    assert not plt.get_fignums()


def test_training_curves_show_every_task_apart():
    left, middle, right = plots.training_curves(HISTORY).axes
    assert [line.get_label() for line in left.get_lines()] == ["training", "held out"]
    assert [line.get_label() for line in right.get_lines()] == ["copy", "increment", "all tasks"]
    assert len({str(line.get_linestyle()) for line in right.get_lines()[:2]}) == 2
    only = [{"step": 5, "loss": 0.0, "token_accuracy": 0.5, "exact_match": 0.0, "exact_match_full": 0.1}]
    right = plots.training_curves(only).axes[2]
    assert [line.get_label() for line in right.get_lines()] == ["early halting", "full depth"]
    assert right.get_lines()[0].get_marker() == "o"  # one point is a dot, not an invisible line
    with pytest.raises(ValueError, match="history: got no rows"):
        plots.training_curves([])


def test_halting_histogram():
    ax, = plots.halting_histogram(np.array([1, 1, 2, 4]), 4).axes
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.25, 0, 0.25] and "mean 2.00" in ax.get_title("left")
    for steps, message in (([0, 1], r"got 0\.\.1"), ([5], r"got 5\.\.5"), ([], "got none")):
        with pytest.raises(ValueError, match=message):
            plots.halting_histogram(np.array(steps, int), 4)


def test_metric_forest_marks_baselines_and_gives_n():
    baseline = SCORE | {"name": "majority", "value": 0.1, "low": None, "high": None, "baseline": True}
    ax, = plots.metric_forest([SCORE, baseline], "Exact match").axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["HRM", "majority  (baseline)"]
    assert [t.get_text() for t in ax.texts] == ["90.0 %   n = 1,000", "10.0 %   n = 1,000"]
    assert [line.get_marker() for line in ax.get_lines()] == ["None", "o", "D"]
    with pytest.raises(ValueError, match="rows: got none"):
        plots.metric_forest([])


def test_differences_are_in_points_around_a_line_at_zero():
    worse = SCORE | {"name": "plain", "value": -0.712, "low": -0.8, "high": -0.6, "unit": metrics.DIFFERENCE}
    ax, = plots.metric_forest([worse, worse | {"value": 0.012, "low": -0.1, "high": 0.1}]).axes
    assert [t.get_text() for t in ax.texts] == ["-71.2 points   n = 1,000", "+1.2 points   n = 1,000"]
    assert ax.get_xlim()[0] < -0.8 and "points" in ax.get_xlabel()
    assert [0, 0] in [list(line.get_xdata()) for line in ax.get_lines()]
    ax.figure.canvas.draw()
    assert not any("%" in t.get_text() for t in ax.get_xticklabels())


def test_difficulty_curve_bins_by_count():
    difficulty = np.arange(100) / 100
    ax, = plots.difficulty_curve(difficulty, difficulty < 0.5, bins=4).axes
    assert [t.get_text() for t in ax.texts] == ["n=25"] * 4
    assert list(ax.get_lines()[0].get_ydata()) == [1, 1, 0, 0]
    assert len(plots.difficulty_curve(np.zeros(9), np.ones(9, bool)).axes[0].texts) == 1  # unknown difficulty: one bin
    with pytest.raises(ValueError, match="expected two equal"):
        plots.difficulty_curve(difficulty, difficulty[1:] < 1)


def test_predictions_of_sequences_strike_out_what_is_wrong():
    labels = np.array([[-100, 2, 3], [-100, 4, 5]])
    inputs, predictions = np.array([[1, 2, 3], [1, 4, 5]]), np.array([[9, 2, 4], [9, 4, 5]])
    fig = plots.prediction_grid(inputs, labels, predictions, SEQUENCE)
    assert strikes(fig) == 1  # the token that is not scored counts neither way
    assert "1 wrong" in texts(fig) and "exact" in texts(fig) and "8" not in texts(fig)
    alone = texts(plots.prediction_grid(inputs, labels, None, SEQUENCE))
    assert "truth" in alone and not {"predicted", "exact"} & set(alone)


def test_predictions_of_grids_show_the_truth_beside_what_is_wrong():
    truth = np.array([[2, 3, 4, 5, 4, 5, 2, 3, 3, 2, 5, 4, 5, 4, 3, 2]])
    inputs, guess = np.where(np.arange(16) % 2, truth, 1), truth.copy()
    guess[0, [0, 2]] = 5
    fig = plots.prediction_grid(inputs, truth, guess, SUDOKU)
    assert strikes(fig) == 2 and fig.axes[0].get_title("left") == "2 wrong"
    assert len(texts(fig)) == 18  # 16 cells, and the truth twice
    alone = plots.prediction_grid(inputs, truth, None, SUDOKU)
    assert len(texts(alone)) == 16 and alone.axes[0].get_title("left") == ""
    maze = SimpleNamespace(grid=(10, 10, 1, 1), tokens=tuple(" #.o"), vocab_size=4, pad_id=0, augment="dihedral")
    cells = np.full((2, 100), 2)
    guess = cells.copy()
    guess[1, :7] = 3
    fig = plots.prediction_grid(cells, cells, guess, maze, k=2)
    assert [len(ax.get_lines()[0].get_xdata()) for ax in fig.axes[:2]] == [0, 7]
    with pytest.raises(ValueError, match="expected three equal"):
        plots.prediction_grid(cells, cells[:1], guess, maze)


# ---------------------------------------------------------------- the scrubber


def test_grid_svg_describes_itself():
    cells = np.array([["1", "2"], ["<", "2"]])
    given, wrong, changed = [[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]]
    svg = scrub.grid_svg(cells, given, wrong, changed, label="Step 2")
    tag = BeautifulSoup(svg, "html.parser").svg
    assert tag["aria-label"] == "Step 2: 2 by 2 grid, 1 given, 2 wrong, 1 changed" and tag["role"] == "img"
    assert [t.get_text() for t in tag.find_all("text")] == ["1", "2", "<", "2"]
    strike = [p for p in tag.find_all("path") if p.get("stroke") == "#d55e00"]
    assert len(strike) == 1 and strike[0]["d"].count("M") == 2
    flat = scrub.grid_svg(cells.ravel(), grid=(2, 2, 1, 1), colours={"2": "red"})
    assert len(re.findall("<text", flat)) == 2 and flat.count('fill="red"') == 2  # coloured cells bear no letters


def test_scrub_is_the_same_each_time_and_unique_on_a_page(monkeypatch):
    monkeypatch.setattr(scrub, "_shown", scrub.Counter())
    first, again = (scrub.scrub(["<b>one</b>", "two"], ["1", "2"], "Steps <i>").data for _ in range(2))
    monkeypatch.setattr(scrub, "_shown", scrub.Counter())
    assert scrub.scrub(["<b>one</b>", "two"], ["1", "2"], "Steps <i>").data == first != again
    soup = BeautifulSoup(first + again, "html.parser")
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)) == 2 and not soup.find("script")
    radios = soup.find_all("input", type="radio")
    assert {r["name"] for r in radios} == set(ids) and [r.has_attr("checked") for r in radios] == [False, True] * 2
    assert soup.legend.get_text() == "Steps <i>" and "wrong" in soup.find(class_="key").get_text()
    long = BeautifulSoup(scrub.scrub(["a", "b"], ["Segment 1: 3 wrong", "Segment 2"], "t").data, "html.parser")
    assert [p.get_text() for p in long.select(".frame p")] == ["Segment 1: 3 wrong", "Segment 2"]
    assert [s.get_text() for s in long.select("label span")] == ["1", "2"]
    with pytest.raises(ValueError, match="frames and labels: got 1 and 2"):
        scrub.scrub(["a"], ["1", "2"], "t")


def test_plots_and_reports_do_without_torch():
    code = ("import sys, hrm_lab.notebooks; assert not {'torch', 'papermill', 'numpy', 'IPython'} & set(sys.modules); "
            "import hrm_lab.report; assert 'matplotlib' not in sys.modules; "
            "import hrm_lab.plots; assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=inspect_notebook.ROOT)
