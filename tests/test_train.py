"""The training loop: it learns, it stops for a stated reason, and it survives being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import tiny, toy_split
from hrm_lab import act, runs
from hrm_lab.train import TrainConfig, Trainer, learning_rate, load_model, train

CONFIG = TrainConfig(steps=24, batch=16, eval_every=4, eval_n=32, warmup=4, ema=0.9, optimizer="muon", lr=0.02)
TESTS = Path(__file__).parent


def fit(run, toy, config=CONFIG, model=None, **more):
    return train(model or tiny(), config, toy, toy_split(seed=1), run, progress=False, device="cpu", **more)


def test_learns_both_tasks_and_stops_at_the_target(tmp_path, toy):
    data = toy_split(2000)
    config = replace(CONFIG, steps=1500, batch=32, eval_every=50, target=1.0, target_evals=2, lr_min_ratio=1.0)
    row = train(tiny(hidden=32, heads=4), config, data, toy_split(200, seed=1), tmp_path, progress=False, device="cpu")
    assert row["exact_match/copy"] == row["exact_match/increment"] == 1.0
    assert "target reached" in row["reason"] and row["step"] < 1500
    found = act.evaluate(load_model(tmp_path / "best"), toy_split(500, seed=2))
    assert found.exact.mean() > 0.97
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "ok"


def test_artefacts_have_the_names_that_users_know(tmp_path, toy):
    fit(tmp_path, toy)
    for name in ("best/model.safetensors", "best/config.json", "final/model.safetensors", "final/config.json",
                 "training_history.json", "metrics.jsonl", "run.json", "resume/state.safetensors"):
        assert (tmp_path / name).is_file(), name
    assert [r["step"] for r in runs.read_metrics(tmp_path)] == [4, 8, 12, 16, 20, 24]


def test_a_run_begins_with_the_weights_of_another(tmp_path, toy):
    fit(tmp_path / "first", toy)
    begun = replace(CONFIG, start=str(tmp_path / "first" / "final"))
    trainer = Trainer(tiny(), begun, toy, torch.device("cpu"))
    bits = final_bits(tmp_path / "first")
    assert all(torch.equal(value, bits[name]) for name, value in trainer.model.state_dict().items())
    with pytest.raises(runs.CheckpointError, match="final/model.safetensors: .*: got .*, expected .*"):
        fit(tmp_path / "second", toy, begun, tiny(hidden=48))


def final_bits(run):
    return runs.load_checkpoint(run / "final" / "model.safetensors")[0]


def without_clock(rows):
    return [{k: v for k, v in r.items() if "seconds" not in k} for r in rows]


@pytest.mark.parametrize("optimizer", ["adamw", "adam-atan2", "muon"])
@pytest.mark.parametrize("variant", ["hrm", "trm"])
def test_stopped_and_resumed_ends_with_the_same_bits(tmp_path, toy, optimizer, variant):
    config = replace(CONFIG, optimizer=optimizer, lr=3e-3, label_noise=0.1, balance="task")
    model = tiny(variant=variant, q_continue=variant == "hrm", halt_exploration=0.5)
    fit(tmp_path / "whole", toy, config, model)
    fit(tmp_path / "parts", toy, config, model, stop_after=8)
    fit(tmp_path / "parts", toy, config, model, stop_after=16, resume=True)
    fit(tmp_path / "parts", toy, config, model, resume=True)
    whole, parts = final_bits(tmp_path / "whole"), final_bits(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    rows = [without_clock(runs.read_metrics(tmp_path / d)) for d in ("whole", "parts")]
    assert rows[0] == rows[1]


def test_a_run_that_ended_is_not_trained_on_when_resumed(tmp_path, toy):
    """As when it is killed between its last checkpoint and its last file."""
    config = replace(CONFIG, steps=400, lr=0.0, patience=2, ema=0.0)
    row = fit(tmp_path, toy, config)
    whole = final_bits(tmp_path)
    again = fit(tmp_path, toy, config, resume=True)
    assert (again["step"], again["reason"]) == (row["step"], row["reason"]) and row["step"] == 12
    assert all(torch.equal(whole[k], v) for k, v in final_bits(tmp_path).items())


KILLED = """
import sys; sys.path.insert(0, {tests!r})
from test_train import *
fit(Path({run!r}), toy_split(), replace(CONFIG, steps=400), resume=True)
"""


def test_killed_at_random_moments_and_resumed_ends_with_the_same_bits(tmp_path, toy):
    config = replace(CONFIG, steps=400)
    fit(tmp_path / "whole", toy, config)
    rng, run, kills = np.random.default_rng(int(time.time())), tmp_path / "killed", 0
    code = KILLED.format(tests=str(TESTS), run=str(run))
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", code], env=environment)
        while child.poll() is None and not (run / "metrics.jsonl").exists():
            time.sleep(0.01)  # imports take seconds: the kill is to fall into the training
        time.sleep(rng.uniform(0, 0.6))
        kills += child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert kills, "the run finished before it could be killed"
    fit(run, toy, config, resume=True)
    whole, killed = final_bits(tmp_path / "whole"), final_bits(run)
    assert all(torch.equal(whole[k], killed[k]) for k in whole)
    assert without_clock(runs.read_metrics(tmp_path / "whole")) == without_clock(runs.read_metrics(run))


def test_a_damaged_checkpoint_is_refused_and_the_previous_one_used_only_when_asked(tmp_path, toy):
    fit(tmp_path / "whole", toy)
    fit(tmp_path / "run", toy, stop_after=16)
    path = tmp_path / "run" / "resume" / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(runs.CheckpointError, match="state.safetensors: cut short or altered"):
        fit(tmp_path / "run", toy, resume=True)
    row = fit(tmp_path / "run", toy, resume="previous")
    assert row["step"] == 24
    whole, mended = final_bits(tmp_path / "whole"), final_bits(tmp_path / "run")
    assert all(torch.equal(whole[k], mended[k]) for k in whole)


def test_refusals_name_the_value_and_what_was_expected(tmp_path, toy):
    fit(tmp_path / "run", toy, stop_after=4)
    with pytest.raises(ValueError, match="holds a run already"):
        fit(tmp_path / "run", toy)
    with pytest.raises(runs.CheckpointError, match="train.lr: 0.02 then, 0.1 now"):
        fit(tmp_path / "run", toy, replace(CONFIG, lr=0.1), resume=True)
    with pytest.raises(ValueError, match="sequences of 6 tokens, expected seq_len = 9"):
        fit(tmp_path / "b", toy, model=tiny(seq_len=9))
    with pytest.raises(ValueError, match="vocabulary of 8, expected at most 5"):
        fit(tmp_path / "b", toy, model=tiny(vocab_size=5))
    with pytest.raises(ValueError, match="device: got 'abacus'"):
        train(tiny(), CONFIG, toy, toy, tmp_path / "b", device="abacus")
    with pytest.raises(ValueError, match="precision: got 'int4', expected one of fp32, bf16, auto"):
        TrainConfig(precision="int4")
    assert not (tmp_path / "b").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_says_so(tmp_path, toy):
    with pytest.raises(FloatingPointError, match="the loss is"):
        fit(tmp_path, toy, replace(CONFIG, optimizer="adamw", lr=1e30, clip=0.0, ema=0.0))
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


def test_patience_and_time_limit_are_logged_as_reasons(tmp_path, toy):
    still = replace(CONFIG, lr=0.0, steps=100, patience=3, ema=0.0)
    reason = fit(tmp_path / "a", toy, still)["reason"]
    assert reason == "no better validation score in 3 evaluations; the best was at step 4"
    assert "time limit" in fit(tmp_path / "b", toy, replace(CONFIG, max_seconds=1e-6))["reason"]


def test_learning_rate_warms_up_and_decays_to_its_floor():
    c = TrainConfig(steps=100, warmup=10, lr_min_ratio=0.1)
    rates = [learning_rate(c, s) for s in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.1) and all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_bf16_trains_on_the_cpu_too(tmp_path, toy):
    row = fit(tmp_path, toy, replace(CONFIG, precision="bf16", steps=8))
    assert np.isfinite(row["loss"])
    assert all(t.dtype == torch.float32 for t in final_bits(tmp_path).values())


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_precision_auto_is_what_the_device_is_fast_in_and_the_record_says_so(tmp_path, toy, monkeypatch, fast, chosen):
    monkeypatch.setattr(runs, "fast_in_bf16", lambda device: fast)
    fit(tmp_path, toy, replace(CONFIG, precision="auto", steps=4))
    assert runs.read_json(tmp_path / "run.json")["train"]["precision"] == chosen


@pytest.mark.parametrize("optimizer", ["adam-atan2", "muon"])
def test_one_process_without_compiling_imports_neither_the_compiler_nor_accelerate(tmp_path, optimizer):
    code = (f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
            f"from test_train import *\n"
            f"for stop in (4, 0):\n"
            f"    fit(Path({str(tmp_path)!r}), toy_split(), replace(CONFIG, optimizer={optimizer!r}, steps=8),\n"
            f"        resume=True, stop_after=stop)\n"
            f"print(sorted({{'torch._dynamo', 'torch._inductor', 'accelerate'}} & set(sys.modules)))")
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert said.stdout == "[]\n", said.stdout + said.stderr
