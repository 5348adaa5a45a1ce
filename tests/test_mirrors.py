"""What the trackers kept is what the run wrote, read back with their own readers where the extra `track` is there."""

import io
import sys
import types

import pytest

from hrm_lab import live, runs
from hrm_lab.mirrors import numbers

ROWS = [{"step": step, "seconds": step / 10, "split": "valid", "loss": 1 / step, "exact_match": step / 100, "n": 50}
        for step in (10, 20, 30)]


def mirrored(folder, sink):
    folder.mkdir()
    with live.watch(folder, 30, sinks=(sink,), out=io.StringIO()):
        for row in ROWS:
            runs.append_metrics(folder, row)


def test_tensorboard_has_every_value_at_its_step(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    mirrored(tmp_path / "run", "tensorboard")
    kept = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert sorted(kept.Tags()["scalars"]) == sorted(numbers(ROWS[0]))  # no split, and no step: it is the axis
    for name in numbers(ROWS[0]):
        assert [(s.step, pytest.approx(s.value)) for s in kept.Scalars(name)] == [(r["step"], r[name]) for r in ROWS]


def test_trackio_has_every_value_at_its_step(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "kept"))  # read when trackio is imported
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    mirrored(tmp_path / "a run", "trackio")
    assert (tmp_path / "kept" / "hrm-lab.db").exists()
    assert SQLiteStorage.get_runs("hrm-lab") == ["a run"]
    kept = [{k: v for k, v in row.items() if k != "timestamp"} for row in SQLiteStorage.get_logs("hrm-lab", "a run")]
    assert kept == [numbers(row) | {"step": row["step"]} for row in ROWS]


@pytest.mark.parametrize("name", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_trackio_sends_nothing_away(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "trackio", types.ModuleType("trackio"))
    monkeypatch.setenv(name, "somebody/else")
    with pytest.raises(ValueError, match=f"got {name} in the env"), live.watch(tmp_path, 30, sinks=("trackio",)):
        pytest.fail("the block ran")
