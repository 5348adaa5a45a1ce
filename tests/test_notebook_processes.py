"""`processes: 2` in a task's preset: notebook 02, through the real runner, trains by two processes of Accelerate."""

import json
import os
import subprocess
import sys

import yaml

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.puzzles import dataset, holdout
from hrm_lab.puzzles.generators import build

TASK = "copy-increment"


def test_notebook_02_trains_by_two_processes(tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    (home / "notebooks").mkdir(parents=True)
    (home / "hrm_lab").symlink_to(ROOT / "hrm_lab")
    smoke = yaml.safe_load((ROOT / "notebooks/presets.yaml").read_text())["smoke"]
    task = smoke["02_puzzle_training"]["tasks"][TASK] | {"processes": 2, "threads": 2}
    presets = {"smoke": smoke | {"02_puzzle_training": {"tasks": {TASK: task}}}}
    (home / "notebooks/presets.yaml").write_text(yaml.safe_dump(presets))
    train, test = build(TASK, work / task["data_dir"] / TASK, seed=0, n_train=400, n_test=60)
    for name, split in zip(("train", "valid"), holdout.holdout(train, 40, 0), strict=True):
        dataset.save(work / task["data_dir"] / TASK, name, split)
    run = work / "runs/two"
    done = subprocess.run(
        [sys.executable, "-m", "hrm_lab.notebooks", "run", str(ROOT / "notebooks/02_puzzle_training.ipynb"),
         "--run-dir", str(run), "--workdir", str(work), "--threads", "2", "-p", "preset", "smoke", "-p", "task", TASK],
        cwd=work, env={**os.environ, "PYTHONPATH": str(home)}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-3000:]
    record = json.loads((run / "train/run.json").read_text())
    assert (record["processes"], record["status"], record["steps"]) == (2, "ok", task["train"]["steps"])
    found = json.loads((run / "metrics.json").read_text())["metrics"]
    assert found["exact_match"]["n"] == 60
    assert (run / "train/job/log.txt").stat().st_size > 0  # what the processes said
