"""The benchmarks run and end with the JSON that they promise. What they measure is not asserted."""

import json
import os
import subprocess
import sys

import pytest

from hrm_lab.inspect_notebook import ROOT


def run(script, *arguments):
    return subprocess.run([sys.executable, f"benchmarks/{script}", *arguments], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def last_line(script, *arguments):
    done = run(script, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def test_throughput_measures_each_setting():
    found, text = last_line("throughput.py", "--models", "hrm,trm", "--sizes", "16x4", "--tokens", "17", "--eager",
                            "--seconds", "0.2", "--threads", "1")
    assert {"machine", "torch", "threads", "results"} <= set(found) and found["threads"] == 1
    assert [r["model"] for r in found["results"]] == ["hrm", "trm"]
    for r in found["results"]:
        assert (r["hidden"], r["batch"], r["tokens"], r["compiled"], r["precision"]) == (16, 4, 17, False, "fp32")
        assert r["n"] >= 3 and r["compile_seconds"] == 0 and r["peak_rss_mb"] > 50
        assert r["samples_per_second"] == pytest.approx(4 * r["steps_per_second"])
        assert r["gflops"] == pytest.approx(r["gflop_per_step"] * r["steps_per_second"])
        assert 0 < r["share_of_peak"] == pytest.approx(r["gflops"] / r["peak_gflops"])
        assert r["step_ms_quartiles"][0] <= r["step_ms"] <= r["step_ms_quartiles"][1]
        assert f"{r['samples_per_second']:.1f}" in text


def test_cost_model_fits_and_predicts(tmp_path):
    found, text = last_line("cost_model.py", "--settings", "6", "--seconds", "0.05", "--plot", str(tmp_path / "a.png"))
    assert len(found["settings"]) == found["held_out"]["n"] == 6
    assert 0 <= found["held_out"]["median"] <= found["held_out"]["max"]
    assert min(found["model"].values()) >= 0
    for row in found["published"]:
        s = row["step_seconds"]
        assert 0 <= s["low"] <= s["high"] and s["n"] == 6 and row["name"] in text
        assert row["accelerator_hours"] == pytest.approx(row["exaflop"] * 1e18 / (0.4 * 989e12) / 3600)
    assert b"Description" in (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("script,arguments,text", [
    ("throughput.py", ["--sizes", "16"], "expected hidden x batch"),
    ("throughput.py", ["--models", "lstm"], "got lstm, expected hrm, trm"),
    ("cost_model.py", ["--settings", "3"], "expected at least 6"),
])
def test_bad_arguments_are_refused_in_one_line(script, arguments, text):
    done = run(script, *arguments)
    assert done.returncode == 2 and text in done.stderr.splitlines()[-1]


def test_time_to_accuracy_runs_each_seed_in_a_process_and_ends_with_json(tmp_path):
    found, text = last_line("time_to_accuracy.py", "--task", "copy-increment", "--seeds", "2", "--threads", "1",
                            "--steps", "20", "--n", "40", "--data", str(tmp_path), "--set", "model.hidden=16",
                            "--plot", str(tmp_path / "a.png"))
    assert {"task", "target", "exact_match", "per_task", "n", "median_seconds", "median_cpu_seconds",
            "reached"} <= set(found)
    assert found["reached"] == 0 and found["median_cpu_seconds"] is None  # 20 steps of a model of 16 are not enough
    assert (found["seeds"], found["n"], set(found["per_task"])) == (2, 40, {"copy", "increment"})
    for run in found["runs"]:
        assert [p["step"] for p in run["curve"]] == [10, 20]
        assert run["curve"][-1]["cpu_seconds"] > run["setup_cpu_seconds"] > 0
    assert text.count("NOT reached") == 2 and (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.parametrize("change", ["hidden=16", "model.hidden", "data.n=3"])
def test_time_to_accuracy_refuses_a_change_that_it_cannot_make(change):
    done = run("time_to_accuracy.py", "--task", "copy-increment", "--set", change)
    assert done.returncode != 0 and f"--set: got '{change}', expected model.NAME=VALUE" in done.stderr
