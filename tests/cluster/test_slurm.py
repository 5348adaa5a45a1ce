"""The same Snakefile on a real one-node Slurm: it finishes, a failed job is shown, a cancelled one is run again.

Asked for, because it installs Debian packages and starts daemons as root:

    HRM_LAB_CLUSTER=slurm pytest tests/cluster

It needs `pip install snakemake-executor-plugin-slurm`. The notebooks are toys with the real names
(tests/test_snakefile.py).
"""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from test_snakefile import REPORT, Project

pytestmark = [pytest.mark.skipif(os.environ.get("HRM_LAB_CLUSTER") != "slurm",
                                 reason="set HRM_LAB_CLUSTER=slurm to bring a one-node Slurm up"),
              pytest.mark.timeout(900)]
SCRIPT = Path(__file__).with_name("slurm.sh")
# No accounting database here: `squeue` knows the jobs, and there is no account to name.
EXECUTOR = ["--executor", "slurm", "--jobs", "2", "--slurm-status-command", "squeue", "--slurm-no-account",
            "--default-resources", "mem_mb=500", "runtime=10"]


@pytest.fixture(scope="module")
def slurm():
    pytest.importorskip("snakemake_executor_plugin_slurm")
    subprocess.run([SCRIPT, "up"], check=True)
    yield
    subprocess.run([SCRIPT, "down"], check=True)


@pytest.fixture
def project(slurm, tmp_path):
    project = Project(tmp_path)
    project.settings(good={"steps": 1}, bad={"steps": -1, "threads": 2})
    return project


def start(project, *runs):
    targets = [f"runs/notebooks/{run}/metrics.json" for run in runs]
    return subprocess.Popen(project.command(*EXECUTOR, "--", *targets), cwd=project.home, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def status(project, run):
    path = project.run(run) / "run.json"
    return json.loads(path.read_text())["status"] if path.exists() else None


def test_a_failed_job_is_shown_and_the_others_finish(project):
    run = start(project, "02_puzzle_training-good", "02_puzzle_training-bad")
    text, _ = run.communicate(timeout=600)
    assert run.returncode == 1, text[-3000:]
    assert status(project, "01_data_preparation") == status(project, "02_puzzle_training-good") == "ok", text[-3000:]
    assert status(project, "02_puzzle_training-bad") == "failed"
    index = (project.work / "reports/index.html").read_text()
    assert "2 ok" in index and "1 failed" in index


def test_a_cancelled_job_is_an_error_and_the_next_run_goes_on(project):
    project.write("03_swe_code_training", REPORT)  # waits while there is a file `slow`
    (project.work / "slow").touch()
    run, end = start(project, "00_tour", "03_swe_code_training"), time.monotonic() + 400
    found = []
    while not (project.work / "waiting").exists() or status(project, "00_tour") != "ok" or len(found) != 1:
        assert run.poll() is None and time.monotonic() < end, run.communicate()[0][-3000:]
        time.sleep(0.5)
        found = subprocess.run(["squeue", "--noheader", "--states=RUNNING", "--format=%i"], text=True, check=True,
                               capture_output=True).stdout.split()  # the tour's job ends a moment after its notebook
    subprocess.run(["scancel", found[0]], check=True)
    text, _ = run.communicate(timeout=300)
    assert run.returncode == 1 and "CANCELLED" in text, text[-3000:]
    assert not (project.run("03_swe_code_training") / "metrics.json").exists()
    done = (project.run("00_tour") / "run.json").read_text()
    (project.work / "slow").unlink()
    run = start(project, "00_tour", "03_swe_code_training")
    text, _ = run.communicate(timeout=300)
    assert run.returncode == 0 and status(project, "03_swe_code_training") == "ok", text[-3000:]
    assert (project.run("00_tour") / "run.json").read_text() == done  # not run again
