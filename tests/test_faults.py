"""Faults of the whole: kills, a full disk, read-only data, two pipelines at once, a clock that jumps, no network.

Each runs the real code in a process of its own. Mounts and the missing network come from `unshare` (util-linux), in
namespaces that nobody else sees; without the right to make them the tests that need them are skipped.
20 kills a component: `python benchmarks/kills.py`.
"""

import json
import os
import shlex
import subprocess
import sys
import time

import pytest

from hrm_lab import sources
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.puzzles import dataset
from test_snakefile import Project, wait_for
from toy_notebooks import write

HERE = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1"}


def run(*command, script=None, network=True, cwd=None, timeout=100):
    """A finished process; script: shell text around "$@", run as root of mount (and network) namespaces of its own."""
    if script is not None or not network:
        options = ["-rm", *([] if network else ["-n"])]
        command = ["unshare", *options, "sh", "-ec", script or 'exec "$@"', "sh", *command]
    return subprocess.run(command, cwd=cwd, env=HERE, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout)


def python(code, **more):
    return run(sys.executable, "-c", code, **more)


@pytest.fixture(scope="session")
def namespaces(tmp_path_factory):
    probe = tmp_path_factory.mktemp("probe")
    try:
        done = run(script=f"mount -t tmpfs -o size=64k tmpfs {shlex.quote(str(probe))}", network=False)
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if done.returncode:
        pytest.skip(f"no namespaces of one's own here: {done.stdout.strip()[:100]}")


# ---------------------------------------------------------------- kills


def test_a_few_kills_end_in_the_same_artefacts():
    done = run(sys.executable, "benchmarks/kills.py", "--component", "training", "kernel", "--n", "1", cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name in ("training", "kernel"):
        assert found[name]["same"]["value"] == 1 and found[name]["same"]["n"] == 1, done.stdout
        assert found[name]["artefacts"] >= 5


# ---------------------------------------------------------------- full disk, read-only data

FULL_DISK = """import subprocess
from pathlib import Path
from kills import fit, weights
from hrm_lab import runs
try:
    fit("run/train")
except OSError as error:
    print("STOPPED", error.strerror)
for path in Path("run").rglob("*.safetensors"):
    runs.load_checkpoint(path)  # whole: CheckpointError otherwise
print("TEMPORARY", [path.name for path in Path("run").rglob("*.tmp")])
print("RECORD", runs.read_json("run/train/run.json")["status"])
subprocess.run(["mount", "-o", "remount,size=20m", "run"], check=True)
print("REASON", fit("run/train")["reason"])
fit("whole")
print("SAME", weights(Path("run/train/final/model.safetensors")) == weights(Path("whole/final/model.safetensors")))"""


def test_a_full_disk_stops_training_and_with_room_it_goes_on_to_the_same_bits(namespaces, tmp_path):
    (tmp_path / "run").mkdir()
    done = python(FULL_DISK, script='mount -t tmpfs -o size=150k tmpfs run; exec "$@"', cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert {"STOPPED No space left on device", "TEMPORARY []", "REASON all 120 steps done", "SAME True"} <= set(
        done.stdout.splitlines()), done.stdout


# A disk of its own with little room under `run`; what is on it at the end is copied off before it goes away.
SMALL = 'mount -t tmpfs -o size={} tmpfs run; set +e; "$@"; code=$?; cp -a run/. saved; exit $code'


def test_a_full_disk_fails_a_notebook_in_one_line_and_leaves_no_half_file(namespaces, tmp_path):
    path = write(tmp_path / "x.ipynb", "print('x' * 200_000)")
    for name in ("run", "saved"):
        (tmp_path / name).mkdir()
    done = run(sys.executable, "-m", "hrm_lab.notebooks", "run", str(path), "--run-dir", "run/x", cwd=tmp_path,
               script=SMALL.format("64k"))
    left = {file.name: file.read_text() for file in (tmp_path / "saved/x").iterdir()}
    assert done.returncode == 1 and "No space left on device" in done.stdout.splitlines()[-1], done.stdout
    assert "metrics.json" not in left and json.loads(left["run.json"])["status"] == "failed"
    assert json.loads(left.get("executed.ipynb", "{}")) is not None and not [name for name in left if "tmp" in name]


READ_ONLY = """import sys
from pathlib import Path
from hrm_lab import sources
from hrm_lab.puzzles import dataset
split = dataset.load("data/sort", "train")
print("ROWS", len(split), sources.fetch("inflection", "data/cache").name)
for write in (lambda: dataset.save("data/sort", "train", split), lambda: dataset.save("data/new", "train", split)):
    try:
        write()
    except OSError as error:
        print("REFUSED", error.strerror)"""


def test_read_only_data_can_be_used_and_is_not_written(namespaces, tmp_path):
    from conftest import toy_split

    split = toy_split()
    dataset.save(tmp_path / "data/sort", "train", split)
    (tmp_path / "data/cache").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.npy")}
    done = python(READ_ONLY, script='mount --bind data data; mount -o remount,ro,bind data; exec "$@"',
                  cwd=tmp_path)
    assert "ROWS 64 inflection-0.5.1.tar.gz" in done.stdout and done.stdout.count("REFUSED Read-only file system") == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.npy")} == before


# ---------------------------------------------------------------- two pipelines, a clock that jumps

SLOW = """import pathlib, time
while pathlib.Path("slow").exists(): pathlib.Path("waiting").touch(); time.sleep(0.1)"""
TARGET = "runs/notebooks/01_data_preparation/metrics.json"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("faults"))
    project.settings(good={"steps": 1})
    project.write("01_data_preparation", SLOW)
    return project


def test_a_second_pipeline_in_the_same_folder_is_refused_and_the_first_finishes(project):
    (project.work / "slow").touch()
    first = subprocess.Popen(project.command("--", TARGET), cwd=project.home, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    wait_for((project.work / "waiting").exists, 60)
    code, text = project.snakemake("--", TARGET)
    (project.work / "slow").unlink()
    assert code == 1 and "Directory cannot be locked" in text and "no other Snakemake process" in text, text
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said
    assert json.loads((project.work / TARGET).read_text())["headline"] == ["exact_match"]


def test_a_clock_that_went_backwards_makes_nothing_stale(project):
    """Depends on the run before. Its results seem older than what they were made from, by a year."""
    long_ago = time.time() - 3e7
    for path in (project.work / "runs").rglob("*"):
        os.utime(path, (long_ago, long_ago))
    code, text = project.snakemake("--dry-run", "--", TARGET)
    assert code == 0 and "Nothing to be done" in text, text


BACKWARDS = """import time
now = [1e9]
def back(): now[0] -= 60; return now[0]
time.time = back
from kills import fit
from hrm_lab import runs
row = fit("run/train")
seconds = [r["seconds"] for r in runs.read_metrics("run/train")]
assert seconds == sorted(seconds) and 0 < row["seconds"] < 1000, seconds
print("FORWARDS")"""


def test_durations_do_not_hang_on_the_clock_of_the_wall(tmp_path):
    (tmp_path / "run").mkdir()
    assert "FORWARDS" in python(BACKWARDS, cwd=tmp_path).stdout


# ---------------------------------------------------------------- cache and network


def test_a_corrupted_wheel_or_sdist_in_the_cache_is_refused_by_its_hash(tmp_path):
    shipped = next(sources.SHIPPED.glob("inflection-*.tar.gz"))
    data = bytearray(shipped.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / shipped.name).write_bytes(data)
    with pytest.raises(sources.SourceError, match="sha256 is .*; expected .*delete the file to fetch it again"):
        sources.fetch("inflection", tmp_path)


OFFLINE = """from hrm_lab import sources
path = sources.fetch("inflection", "cache")
print("UNPACKED", sources.unpack(path, "cache").name)
try:
    sources.fetch("toolz", "cache")
except sources.SourceError as error:
    print("SAID", error)"""


def test_without_a_network_what_is_cached_works_and_the_rest_says_what_to_do(namespaces, tmp_path):
    (tmp_path / "cache").mkdir()
    done = python(OFFLINE, network=False, cwd=tmp_path)
    assert "UNPACKED inflection-0.5.1" in done.stdout, done.stdout
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    assert "toolz==1.2.0" in said and "Without a network, put the file with sha256 9667a038" in said


def test_a_notebook_runs_without_a_network(namespaces, tmp_path):
    path = write(tmp_path / "x.ipynb", "from hrm_lab.solve import read\nprint(read('1...' + '.' * 12).meta.name)")
    done = run(sys.executable, "-m", "hrm_lab.notebooks", "run", str(path), "--run-dir", "x", network=False,
               cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "sudoku-4x4" in (tmp_path / "x/executed.ipynb").read_text()
