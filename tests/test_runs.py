"""Run directories: atomic, self-checking, and clear when something is wrong."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hrm_lab import runs

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.int64), "c": torch.zeros(())}


def test_round_trip_keeps_bits_and_metadata(tmp_path):
    runs.save_checkpoint(tmp_path / "x.safetensors", TENSORS, {"step": 3, "name": "é"})
    tensors, meta = runs.load_checkpoint(tmp_path / "x.safetensors")
    assert meta == {"step": 3, "name": "é"}
    assert all(torch.equal(tensors[k], TENSORS[k]) and tensors[k].dtype == TENSORS[k].dtype for k in TENSORS)


def test_every_flipped_byte_and_every_cut_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    runs.save_checkpoint(path, TENSORS, {"step": 3})
    good = path.read_bytes()
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 0x01]) + good[i + 1:])
        with pytest.raises(runs.CheckpointError, match="x.safetensors"):
            runs.load_checkpoint(path)
    for n in range(0, len(good), 7):
        path.write_bytes(good[:n])
        with pytest.raises(runs.CheckpointError, match="cut short or altered"):
            runs.load_checkpoint(path)
    with pytest.raises(runs.CheckpointError, match="no such checkpoint"):
        runs.load_checkpoint(tmp_path / "none.safetensors")


def test_the_previous_checkpoint_stays_when_asked(tmp_path):
    path = tmp_path / "x.safetensors"
    for step in (1, 2, 3):
        runs.save_checkpoint(path, TENSORS, {"step": step}, keep_previous=True)
    assert runs.load_checkpoint(path)[1]["step"] == 3
    assert runs.load_checkpoint(runs.previous(path))[1]["step"] == 2


def test_a_full_disk_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "x.safetensors"
    runs.save_checkpoint(path, TENSORS, {"step": 1})
    code = (f"import resource, torch; from pathlib import Path; from hrm_lab import runs\n"
            f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
            f"runs.save_checkpoint(Path({str(path)!r}), {{'a': torch.zeros(100_000)}}, {{'step': 2}})")
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode != 0 and "OSError" in child.stderr
    assert runs.load_checkpoint(path)[1]["step"] == 1
    assert sorted(os.listdir(tmp_path)) == ["x.safetensors"]


def test_killed_while_writing_leaves_the_old_or_the_new_file(tmp_path):
    path = tmp_path / "x.safetensors"
    code = (f"import torch; from pathlib import Path; from hrm_lab import runs\n"
            f"for i in range(10**9):\n"
            f"    tensors = {{'a': torch.full((300_000,), i % 100)}}\n"
            f"    runs.save_checkpoint(Path({str(path)!r}), tensors, {{'step': i}}, keep_previous=True)")
    for _ in range(3):
        path.unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, "-c", code])
        while not path.exists():
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
        tensors, meta = runs.load_checkpoint(path)
        assert (tensors["a"] == meta["step"] % 100).all()


def test_metrics_survive_a_cut_last_line_and_name_any_other_bad_line(tmp_path):
    for step in (1, 2, 3):
        runs.append_metrics(tmp_path, {"step": step, "loss": 0.5})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "lo')
    assert [r["step"] for r in runs.read_metrics(tmp_path)] == [1, 2, 3]
    runs.rewind_metrics(tmp_path, 2)
    assert [r["step"] for r in runs.read_metrics(tmp_path)] == [1, 2]
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match="metrics.jsonl: line 2: got 'nonsense', expected one JSON object"):
        runs.read_metrics(tmp_path)


def test_nothing_unpickles():
    """No call that could run code from a file, anywhere in the package."""
    sources = list(Path(runs.__file__).parent.rglob("*.py"))
    assert len(sources) > 10
    for source in sources:
        code = source.read_text().replace('torch.load("step_N")', "")  # a docstring, about their code
        for word in ("import pickle", "torch.load(", "allow_pickle=True", "joblib", "marshal"):
            assert word not in code, f"{source.name}: {word}"


def test_threads_follow_the_job(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("HRM_LAB_THREADS", "2")
    assert runs.set_threads() == 2
    runs.set_threads(before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
