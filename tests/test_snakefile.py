"""The real Snakefile over toy notebooks: what fails is shown, only what is stale runs, and a killed run goes on."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from toy_notebooks import write

ROOT = Path(__file__).parent.parent
SMOKE = {"00_tour": {"n": 1}, "01_data_preparation": {"n": 1},
         "02_puzzle_training": {"tasks": {"good": {"steps": 1}, "bad": {"steps": 1, "threads": 2}}},
         "02_sweep": {"sweep": {}}, "03_swe_code_training": {"n": 1},
         "04_test_generation": {"n": 1}, "05_llama_adapters": {"n": 1}, "06_evaluation": {"n": 1},
         "07_report": {"n": 1}}
RUNS = len(SMOKE) + 1  # one a notebook, two of 02; of the first run all but "bad", 06 and 07 succeed
TRAIN = """from hrm_lab.notebooks import settings
import os
found = settings("02_puzzle_training", preset, task, steps=steps)
print("THREADS", os.environ["HRM_LAB_THREADS"])
if found["steps"] < 0: raise ValueError("steps: got -1, expected at least 1")"""
REPORT = """import pathlib, time
while pathlib.Path("slow").exists(): pathlib.Path("waiting").touch(); time.sleep(0.1)"""


class Project:
    """A copy of the Snakefile with toy notebooks of the real names, and a working directory apart from it."""

    def __init__(self, folder):
        self.home, self.work = folder / "home", folder / "work"
        shutil.copytree(ROOT / "profiles", self.home / "profiles")
        shutil.copy(ROOT / "Snakefile", self.home)
        (self.home / "hrm_lab").symlink_to(ROOT / "hrm_lab")
        self.work.mkdir()
        for stem, code in (("00_tour", "1"), ("01_data_preparation", "1"), ("02_puzzle_training", TRAIN),
                           ("02_sweep", "1"), ("03_swe_code_training", "1"), ("04_test_generation", "1"),
                           ("05_llama_adapters", "1"), ("06_evaluation", "1"), ("07_report", REPORT)):
            self.write(stem, code)

    def write(self, stem, code):
        task = 'task = "good"\nsteps: int | None = None' if stem.startswith("02") else ""
        write(self.home / "notebooks" / f"{stem}.ipynb", code, heading=stem,
              parameters=f'preset = "laptop"\nworkdir = ".."\nout = "runs/{stem}"\n{task}')

    def settings(self, **tasks):
        smoke = SMOKE | {"02_puzzle_training": {"tasks": tasks}}
        (self.home / "notebooks/presets.yaml").write_text(yaml.safe_dump({"smoke": smoke}, sort_keys=False))

    def command(self, *options):
        return [sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", str(self.home / "Snakefile"),
                "--directory", str(self.work), "--config", "preset=smoke", *options]

    def snakemake(self, *options):
        found = subprocess.run(self.command(*options), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               timeout=120, cwd=self.home)
        return found.returncode, found.stdout

    def planned(self):
        """The jobs that a dry run would start."""
        code, text = self.snakemake("--dry-run")
        assert code == 0, text
        return {line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("Job ") and ": " in line}

    def run(self, name):
        return self.work / "runs/notebooks" / name


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project after its first run, in which the task "bad" failed."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.settings(good={"steps": 1}, bad={"steps": -1, "threads": 2})
    project.first = project.snakemake()
    return project


def test_a_failure_is_shown_beside_what_succeeded(project):
    code, text = project.first
    assert code == 1 and "ValueError: steps: got -1, expected at least 1" in text
    assert (project.run("02_puzzle_training-good") / "metrics.json").exists()
    bad = project.run("02_puzzle_training-bad")
    assert sorted(p.name for p in bad.iterdir()) == ["executed.ipynb", "run.json"]
    page = (project.work / "reports/02_puzzle_training-bad.html").read_text()
    assert "This run failed." in page and 'class="traceback"' in page and str(project.work) not in page
    index = (project.work / "reports/index.html").read_text()
    assert "1 failed" in index and f"{RUNS - 3} ok" in index and "cell 3: ValueError: steps: got -1" in index
    assert not project.run("06_evaluation").exists()  # it has nothing to judge


def test_threads_follow_the_job(project):
    for task, threads in (("good", 1), ("bad", 2)):
        run = project.run(f"02_puzzle_training-{task}")
        assert json.loads((run / "run.json").read_text())["threads"] == threads
        assert f"THREADS {threads}" in (run / "executed.ipynb").read_text()


def test_after_a_kill_one_command_goes_on(project):
    """Depends on the failed first run: mends it, is killed in the last notebook, and goes on without repeating."""
    project.settings(good={"steps": 1}, bad={"steps": 2, "threads": 2})
    (project.work / "slow").touch()
    started = {name: stamp(project, name) for name in ("01_data_preparation", "02_puzzle_training-good")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(project.command(), cwd=project.home, **quiet)
    wait_for((project.work / "waiting").exists, 60)
    process.kill()
    process.wait()
    wait_for(lambda: json.loads((project.run("07_report") / "run.json").read_text())["status"] == "failed", 15)
    started |= {name: stamp(project, name) for name in ("02_puzzle_training-bad", "06_evaluation")}
    (project.work / "slow").unlink()
    assert project.snakemake("--unlock")[0] == 0
    code, text = project.snakemake()
    assert code == 0, text
    assert {name: stamp(project, name) for name in started} == started
    index = (project.work / "reports/index.html").read_text()
    assert f"{RUNS} ok" in index and "failed</span>" not in index


def stamp(project, name):
    return json.loads((project.run(name) / "run.json").read_text())["started"]


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_what_is_saved_unchanged_runs_nothing(project):
    for path in (project.home / "notebooks").iterdir():
        os.utime(path)  # saved, but not changed
    code, text = project.snakemake()
    assert code == 0 and "Nothing to be done" in text


def test_only_what_is_stale_runs(project):
    project.write("06_evaluation", "2")
    assert project.planned() == {"06: evaluate", "07: report", "render the HTML reports"}
    project.write("06_evaluation", "1")
    project.settings(good={"steps": 3}, bad={"steps": 2, "threads": 2})
    assert project.planned() == {"02: train on good", "06: evaluate", "07: report", "render the HTML reports"}
    project.settings(good={"steps": 1}, bad={"steps": 2, "threads": 2})
    assert project.planned() == set()


def test_a_track_that_fails_keeps_no_other_from_being_judged(project):
    before = {name: stamp(project, name) for name in ("05_llama_adapters", "06_evaluation", "07_report")}
    project.write("03_swe_code_training", "raise OSError('no network')")
    time.sleep(1)  # stamps are whole seconds
    code, text = project.snakemake()
    after = {name: stamp(project, name) for name in before}
    assert code == 1, text
    assert [name for name in before if after[name] != before[name]] == ["06_evaluation", "07_report"]
    index = (project.work / "reports/index.html").read_text()
    assert "1 failed" in index and f"{RUNS - 1} ok" in index and "OSError: no network" in index
    project.write("03_swe_code_training", "1")
    assert project.planned() == {"03: real code to repair", "06: evaluate", "07: report", "render the HTML reports"}
    assert project.snakemake()[0] == 0


def test_a_clone_that_has_pages_and_no_runs_runs_everything(project):
    """The pages of the reference run are part of the repo. Last but one: it takes the runs away."""
    assert project.planned() == set()
    shutil.rmtree(project.work / "runs")
    assert (project.work / "reports/index.html").exists() and len(project.planned()) == RUNS + 1  # and the rendering


def test_an_unknown_preset_is_named(project):
    code, text = project.snakemake("preset=smokey", "--dry-run")
    assert code == 1
    assert "notebooks/presets.yaml: unknown preset 'smokey', expected one of smoke" in text
