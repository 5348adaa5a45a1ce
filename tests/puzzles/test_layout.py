"""The official layout: round trip, official folders without our extras, and one line for each kind of bad input."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from hrm_lab.puzzles.dataset import IGNORE, DatasetError, load, save
from hrm_lab.puzzles.generators import build

OFFICIAL_FIELDS = {"pad_id", "ignore_label_id", "blank_identifier_id", "vocab_size", "seq_len",
                   "num_puzzle_identifiers", "total_groups", "mean_puzzle_examples", "total_puzzles", "sets"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return folder, *build("copy-increment", folder, 40, 20, seed=3)


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built[0], tmp_path / "data")


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) and getattr(a, name).dtype == getattr(b, name).dtype
               for name in ("inputs", "labels", "puzzle_ids", "tasks", "difficulty", "groups"))


def test_round_trip_keeps_every_array_and_the_card_fields(built):
    folder, train, _ = built
    again = load(folder, "train")
    assert same(again, train)
    assert again.meta.tokens == train.meta.tokens and again.meta.tasks == ("copy", "increment")
    assert again.meta.total_puzzles == 40 and again.meta.sets == ("all",)


def test_written_files_are_what_the_official_reader_expects(built):
    folder = built[0] / "train"
    raw = json.loads((folder / "dataset.json").read_text())
    assert set(raw) >= OFFICIAL_FIELDS
    arrays = {name: np.load(folder / f"all__{name}.npy", allow_pickle=False) for name in
              ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")}
    assert arrays["puzzle_indices"][-1] == len(arrays["inputs"]) == 40
    assert len(arrays["group_indices"]) - 1 == raw["total_groups"]
    assert arrays["labels"].min() == raw["ignore_label_id"] == 0  # IGNORE is never written
    assert json.loads((built[0] / "identifiers.json").read_text()) == ["<blank>"]
    assert not list(folder.glob(".*"))  # no temporary file is left


def official(folder, fields, arrays):
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "dataset.json").write_text(json.dumps(fields))
    for name, array in arrays.items():
        np.save(folder / "train" / f"all__{name}.npy", np.array(array))


def test_official_dataset_with_variants_in_groups_loads_and_survives_a_round_trip(tmp_path):
    """Two groups; the first has two puzzles (variants) of two examples each, all under identifier 0."""
    fields = {"pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0, "vocab_size": 4, "seq_len": 2,
              "num_puzzle_identifiers": 1, "total_groups": 2, "mean_puzzle_examples": 1.67, "sets": ["all"]}
    cells = np.array([[1, 2], [2, 1], [3, 2], [2, 3], [1, 1]], np.int64)
    official(tmp_path / "hrm", fields, {
        "inputs": cells, "labels": np.where(cells == 1, 0, cells), "puzzle_identifiers": [0, 0, 0],
        "puzzle_indices": [0, 2, 4, 5], "group_indices": [0, 2, 3]})
    split = load(tmp_path / "hrm", "train")
    assert split.groups.tolist() == [0, 0, 0, 0, 1] and split.puzzles.tolist() == [0, 0, 1, 1, 2]
    assert split.labels[0].tolist() == [IGNORE, 2] and split.tasks.tolist() == [0] * 5
    save(tmp_path / "ours", "train", split)
    for name in ("puzzle_indices", "group_indices", "inputs", "labels"):
        a, b = (np.load(tmp_path / who / "train" / f"all__{name}.npy") for who in ("hrm", "ours"))
        assert np.array_equal(a, b), name


def change(folder, name, edit):
    path = folder / "train" / f"all__{name}.npy"
    np.save(path, edit(np.load(path)))


def put(row, column, value):
    def edit(array):
        array = array.astype(np.int32)
        array[(row, column) if column is not None else row] = value
        return array
    return edit


def meta(**changes):
    def damage(folder):
        path = folder / "train" / "dataset.json"
        raw = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in {**raw, **changes}.items() if v != "gone"}))
    return damage


def arrays(name, edit):
    return lambda folder: change(folder, name, edit)


def truncate(name):
    def damage(folder):
        path = folder / "train" / f"all__{name}.npy"
        path.write_bytes(path.read_bytes()[:-7])
    return damage


def pickled(folder):
    np.save(folder / "train" / "all__inputs.npy", np.array([[1, 2], [3]], dtype=object), allow_pickle=True)


BAD = {
    "label": (arrays("labels", put(4, 5, 99)), ["all__labels.npy", "99", "row 4", "column 5", "0..13"]),
    "token": (arrays("inputs", put(2, 1, -3)), ["all__inputs.npy", "-3", "row 2", "column 1"]),
    "identifier": (arrays("puzzle_identifiers", put(7, None, 1)), ["all__puzzle_identifiers.npy", "row 7", "0..0"]),
    "task": (arrays("tasks", put(7, None, 2)), ["all__tasks.npy", "2", "row 7", "0..1"]),
    "difficulty": (arrays("difficulty", lambda a: a + 2), ["all__difficulty.npy", "row 0", "0..1"]),
    "tasks short": (arrays("tasks", lambda a: a[:-1]), ["all__tasks.npy", "39", "40"]),
    "empty": (lambda f: [change(f, n, lambda a: a[:0]) for n in ("inputs", "labels")],
              ["all__inputs.npy", "(0, 17)", "at least one"]),
    "shapes differ": (arrays("labels", lambda a: a[:-1]), ["all__labels.npy", "(39, 17)", "(40, 17)"]),
    "one-dimensional": (arrays("inputs", np.ravel), ["all__inputs.npy", "(680,)", "2 dimension"]),
    "dtype": (arrays("inputs", lambda a: a.astype(float)), ["all__inputs.npy", "float64", "whole numbers"]),
    "ragged": (pickled, ["all__inputs.npy", "ragged"]),
    "cut short": (truncate("inputs"), ["all__inputs.npy", "cut short"]),
    "width": (meta(seq_len=16), ["all__inputs.npy", "17", "16"]),
    "indices end": (arrays("puzzle_indices", put(40, None, 41)), ["all__puzzle_indices.npy", "41", "expected 40"]),
    "indices order": (arrays("group_indices", put(3, None, 2)), ["all__group_indices.npy", "2 at row 3 after 2"]),
    "identifier count": (arrays("puzzle_identifiers", lambda a: a[1:]), ["all__puzzle_identifiers.npy", "39", "40"]),
    "missing file": (lambda f: (f / "train" / "all__labels.npy").unlink(), ["all__labels.npy", "no such file"]),
    "missing field": (meta(vocab_size="gone"), ["dataset.json", "vocab_size"]),
    "field type": (meta(vocab_size="14"), ["dataset.json", "vocab_size", "'14'"]),
    "sets": (meta(sets=["hard"]), ["dataset.json", "sets", "hard"]),
    "grid": (meta(grid=[4, 4, 2, 2]), ["dataset.json", "grid", "17"]),
    "augment": (meta(augment="mirror"), ["dataset.json", "augment", "'mirror'", "dihedral"]),
    "augment without grid": (meta(augment="sudoku"), ["dataset.json", "augment", "sudoku", "grid None"]),
    "not json": (lambda f: (f / "train" / "dataset.json").write_text("{"), ["dataset.json", "not JSON"]),
    "no dataset": (lambda f: shutil.rmtree(f / "train"), ["dataset.json", "no such file"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_with_file_value_and_expectation(folder, case):
    damage, parts = BAD[case]
    damage(folder)
    with pytest.raises(DatasetError) as error:
        load(folder, "train")
    text = str(error.value)
    assert "\n" not in text and "expected" in text
    for part in parts:
        assert part in text, text


def test_save_refuses_scattered_groups_and_cells_outside_the_vocabulary(built, tmp_path):
    train = built[1]
    scattered = train.groups.copy()
    scattered[0] = scattered[-1]
    with pytest.raises(DatasetError, match="groups are scattered"):
        save(tmp_path, "train", replace(train, groups=scattered))
    with pytest.raises(DatasetError, match="token 14 at row 0, column 0; expected 0..13"):
        save(tmp_path, "train", replace(train, inputs=np.full_like(train.inputs, 14)))
    assert not (tmp_path / "train").exists()


def test_an_interrupted_save_keeps_the_old_file(built, tmp_path, monkeypatch):
    save(tmp_path, "train", built[1])

    def broken(file, *_, **__):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, "train", built[2])
    monkeypatch.undo()
    assert same(load(tmp_path, "train"), built[1])
