"""Two gloo processes train what one trains; they resume to the bit; when one dies the run can go on.

Starting processes takes most of the time, so that one pair, running this file as its script, trains everything
that the first tests look at.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import tiny, toy_split
from hrm_lab import runs
from hrm_lab.distributed import last_words, launch, main, start, write_job
from hrm_lab.ranks import Ranks, share
from hrm_lab.train import TrainConfig, load_model, train

CONFIG = TrainConfig(steps=60, batch=16, eval_every=5, eval_n=32, warmup=4, ema=0.9, optimizer="muon", lr=0.01)
PUZZLES = replace(CONFIG, optimizer="adam-atan2", lr=1e-3, label_noise=0.1)
MODEL = tiny(halt_exploration=0.5, q_bias=0.0, q_continue=True)  # lanes halt at different times from the first step
PUZZLE_MODEL = tiny(variant="trm", num_puzzles=4, prefix=1, puzzle_dim=16, q_bias=0.0)


def split(seed: int = 0, ids: int = 1):
    s = toy_split(seed=seed)
    return replace(s, puzzle_ids=(np.arange(len(s)) % ids).astype(np.int32),
                   meta=replace(s.meta, num_puzzle_identifiers=ids))


def fit(run, config=CONFIG, model=MODEL, ids=1, **more):
    return train(model, config, split(ids=ids), split(1, ids), run, progress=False, device="cpu", **more)


def pair(folder):
    """What each of the two processes runs."""
    from accelerate import Accelerator

    ranks = Ranks(Accelerator(cpu=True))
    check_exchanges(ranks)
    for variant, more in (("muon", {}), ("puzzles", dict(config=PUZZLES, model=PUZZLE_MODEL, ids=4))):
        fit(folder / variant, ranks=ranks, **more)
    for stop in (20, 40, 0):
        row = fit(folder / "parts", resume=True, stop_after=stop, ranks=ranks)
        assert bool(row) == ranks.chief
    fit(folder / "other", stop_after=20, ranks=ranks)
    torch.distributed.destroy_process_group()  # or a thread of gloo may end the interpreter with SIGABRT


def check_exchanges(ranks):
    r = ranks.rank
    for dtype in (torch.bool, torch.bfloat16, torch.float32, torch.int64):
        whole = torch.arange(24).view(4, 3, 2).remainder(5).to(dtype)
        assert torch.equal(ranks.gather(ranks.mine(whole)), whole)
    a, b = torch.full((2, 3), float(r)), torch.full((1,), 10.0 * r)
    ranks.average([a, b])
    assert (a == 0.5).all() and b == 5.0
    take = ranks.take(lambda n: (np.arange(n), 10 * np.arange(n)), torch.tensor([True, r == 0, False]))
    assert [c.tolist() for c in take(2 - r)] == ([[0, 1], [0, 10]] if r == 0 else [[2], [20]])
    assert ranks.table([r, 2.5]).tolist() == [[0, 2.5], [1, 2.5]]
    assert not ranks.chief_says(r == 1)
    ranks.same([torch.ones(3)], 7)
    with pytest.raises(RuntimeError, match="step 7: the weights of process 1 sum to 4.0, expected 3.0"):
        ranks.same([torch.ones(3 + r)], 7)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    code, said = start(2, [str(Path(__file__)), str(folder)], folder / "log.txt")
    assert code == 0, last_words(said)
    return folder


def bits(run, part="final/model.safetensors"):
    return runs.load_checkpoint(run / part)[0]


def close(a, b):
    """Rows of two runs: everything that depends on data, weights and decisions."""
    assert [r["step"] for r in a] == [r["step"] for r in b]
    for one, other in zip(a, b, strict=True):
        assert one["epoch"] == other["epoch"] and one["lr"] == other["lr"], one["step"]  # the same puzzles drawn
        for name in ("train_loss", "loss"):
            assert abs(one[name] - other[name]) < 1e-5, (one["step"], name)
        for name in ("train_token_accuracy", "token_accuracy", "exact_match", "halting_steps"):
            assert one[name] == pytest.approx(other[name]), (one["step"], name)


@pytest.mark.parametrize("name, more", [("muon", {}), ("puzzles", dict(config=PUZZLES, model=PUZZLE_MODEL, ids=4))])
def test_two_processes_follow_the_curve_of_one(two, tmp_path, name, more):
    fit(tmp_path, **more)
    one, both = runs.read_metrics(tmp_path), runs.read_metrics(two / name)
    close(one, both)
    assert one[0]["train_loss"] - one[-1]["train_loss"] > 0.1  # it is a curve, not a line
    record = json.loads((two / name / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("ok", 2)
    assert sorted(p.name for p in (two / name).iterdir()) == sorted(p.name for p in tmp_path.iterdir())


def test_two_processes_stopped_and_resumed_end_with_the_same_bits(two):
    for part in ("final/model.safetensors", "resume/state.safetensors"):
        whole, parts = bits(two / "muon", part), bits(two / "parts", part)
        assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_one_process_goes_on_where_two_stopped(two):
    assert bits(two / "other", "resume/state.safetensors")["carry/halted"].shape == (16,)
    fit(two / "other", resume=True)
    close(runs.read_metrics(two / "muon"), runs.read_metrics(two / "other"))


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="batch: got 16 lanes for 3 processes, expected a multiple of 3"):
        launch(MODEL, CONFIG, split(), split(1), tmp_path / "run", processes=3, device="cpu")
    with pytest.raises(ValueError, match="processes: got 0 on cpu"):
        launch(MODEL, CONFIG, split(), split(1), tmp_path / "run", processes=0, device="cpu")
    assert not (tmp_path / "run").exists()
    assert share(16, 4) == 4


DIES = """
import os, pathlib, signal, threading, time
def watch():
    while not pathlib.Path({checkpoint!r}).exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ.get("RANK") == "1":
    threading.Thread(target=watch, daemon=True).start()
"""


def test_a_process_that_dies_fails_the_launch_and_the_run_goes_on_to_the_same_bits(two, tmp_path, monkeypatch):
    run = tmp_path / "run"
    (tmp_path / "sitecustomize.py").write_text(DIES.format(checkpoint=str(run / "resume" / "state.safetensors")))
    arguments = (MODEL, CONFIG, split(), split(1), run, 2, "same", "cpu", False)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(RuntimeError, match="one of 2 processes failed"):
            launch(*arguments)
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    assert 5 <= runs.load_checkpoint(run / "resume" / "state.safetensors")[1]["step"] < 60
    row = launch(*arguments)
    assert row["reason"] == "all 60 steps done" and row["step"] == 60 and row["cpu_seconds"] > 0
    whole, mended = bits(two / "muon"), bits(run)
    assert all(torch.equal(whole[k], mended[k]) for k in whole)
    assert load_model(run / "best").config == MODEL


def test_no_process_trains_on_after_its_starter_was_killed():
    code = "import threading, time, hrm_lab.distributed as d\n" \
           "threading.Thread(target=d.end_with_the_starter, daemon=True).start(); time.sleep(100)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)})
    child.stdin.close()  # as the kernel does for a process that is gone
    assert child.wait(60) == 1


def test_processes_of_one_machine_meet_without_its_name(tmp_path):
    """A container may not resolve its own name: whoever meets there waits for ever."""
    script = tmp_path / "where.py"
    script.write_text("import os, sys; open(sys.argv[1] + os.environ['RANK'], 'w').write(os.environ['MASTER_ADDR'])")
    code, said = start(2, [str(script), str(tmp_path / "rank")], tmp_path / "log.txt")
    assert code == 0, said
    assert [(tmp_path / f"rank{i}").read_text() for i in range(2)] == ["127.0.0.1"] * 2


def test_one_process_is_trained_in_this_one(tmp_path):
    row = launch(MODEL, replace(CONFIG, steps=5), split(), split(1), tmp_path, device="cpu", progress=False)
    assert row["step"] == 5 and not (tmp_path / "job").exists()


def test_a_job_says_all_and_its_data_must_be_its_own(tmp_path):
    job = write_job(MODEL, replace(CONFIG, steps=5), split(ids=2), split(1), tmp_path / "run", "same", "cpu", False)
    assert str(tmp_path) not in job.read_text()
    main(job)  # without accelerate launch: one process
    fit(tmp_path / "direct", replace(CONFIG, steps=5), ids=2)
    assert torch.equal(bits(tmp_path / "run")["embed"], bits(tmp_path / "direct")["embed"])
    inputs = job.parent / "train" / "all__inputs.npy"
    np.save(inputs, np.load(inputs)[::-1])
    with pytest.raises(ValueError, match="job/train: SHA-256 of the data is .*, expected .* as .*job.json says"):
        main(job)


if __name__ == "__main__":
    pair(Path(sys.argv[1]))
