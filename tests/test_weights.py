"""The shipped weights load, are small, and solve what their card says they solve."""

import numpy as np
import pytest

from hrm_lab import act, inference, runs
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.puzzles import dataset
from hrm_lab.train import load_model

FOLDERS = sorted(path.parent for path in (ROOT / "weights").glob("*/model.safetensors"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_shipped_weights_are_small_and_have_a_card_and_a_curve(folder):
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 20e6
    card = (folder / "README.md").read_text()
    assert all(word in card for word in ("n = ", "95 %", "seed", "CPU"))
    curve = runs.read_metrics(folder)
    assert len(curve) >= 5 and max(row["exact_match"] for row in curve) > curve[0]["exact_match"]


def test_the_9x9_model_solves_held_out_puzzles_and_more_of_them_with_more_attempts():
    model, held = load_model(ROOT / "weights" / "sudoku-9x9"), dataset.load(ROOT / "weights" / "sudoku-9x9", "test")
    one = act.evaluate(model, held, full=False, limit=40)
    assert one.exact[held.tasks[:40] == 0].mean() > 0.6  # of the mixed grade
    more = inference.search(model, held, inference.Search(attempts=4, symmetric=True, until_sure=True), 40)
    assert inference.judge(more, held.labels)["exact"].sum() >= one.exact.sum()
    rows = one.predictions[one.exact].reshape(-1, 9, 9)
    assert all((np.sort(lines, -1) == np.arange(2, 11)).all() for lines in (rows, rows.transpose(0, 2, 1)))
