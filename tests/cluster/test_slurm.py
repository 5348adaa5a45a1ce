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

from test_snakefile import Project

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


@pytest.fixture(scope="module")
def project(slurm, tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("slurm"))
    project.settings(good={"steps": 1}, bad={"steps": -1, "threads": 2})
    return project


def start(project):
    return subprocess.Popen(project.command(*EXECUTOR), cwd=project.home, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def status(project, run):
    path = project.run(run) / "run.json"
    return json.loads(path.read_text())["status"] if path.exists() else None


def jobs():
    """Slurm's jobs that run: (id, comment), the comment names rule and wildcards."""
    rows = subprocess.run(["squeue", "--noheader", "--states=RUNNING", "--format=%i %k"], text=True, check=True,
                          capture_output=True).stdout.splitlines()
    return [row.split(maxsplit=1) for row in rows]


def test_a_failed_job_is_shown_and_the_others_finish(project):
    run = start(project)
    text, _ = run.communicate(timeout=600)
    assert run.returncode == 1, text[-3000:]
    assert status(project, "02_puzzle_training-good") == status(project, "03_swe_code_training") == "ok", text[-3000:]
    assert status(project, "02_puzzle_training-bad") == "failed" and not project.run("06_evaluation").exists()
    assert "1 failed" in (project.work / "reports/index.html").read_text()


def test_a_cancelled_job_is_an_error_and_the_next_run_goes_on(project):
    """Depends on the run before: mends its failure, has the last notebook cancelled, and goes on without repeating."""
    project.settings(good={"steps": 1}, bad={"steps": 2, "threads": 2})
    good = (project.run("02_puzzle_training-good") / "run.json").read_text()
    (project.work / "slow").touch()
    run, end = start(project), time.monotonic() + 400
    while not (project.work / "waiting").exists():
        assert run.poll() is None and time.monotonic() < end, run.communicate()[0][-3000:]
        time.sleep(0.5)
    (number, _), = jobs()
    subprocess.run(["scancel", number], check=True)
    text, _ = run.communicate(timeout=300)
    assert run.returncode == 1 and "CANCELLED" in text, text[-3000:]
    assert not (project.run("07_report") / "metrics.json").exists()
    (project.work / "slow").unlink()
    run = start(project)
    text, _ = run.communicate(timeout=600)
    assert run.returncode == 0, text[-3000:]
    index = (project.work / "reports/index.html").read_text()
    assert "7 ok" in index and "failed</span>" not in index
    assert (project.run("02_puzzle_training-good") / "run.json").read_text() == good
