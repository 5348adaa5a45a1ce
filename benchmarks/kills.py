"""kill -9 at random moments: training, a notebook's kernel, and the whole pipeline, each started again to its end.

    python benchmarks/kills.py [--component training kernel pipeline] [--n 20] [--seed 0] [--state kills.json]

A component first runs undisturbed, which gives its length and its artefacts. Then, n times, it is started in a fresh
folder, killed at a moment drawn evenly from that length, started again as a user would, and its artefacts are compared
with the undisturbed ones: the same bits of weights, the same data sets, the same history with no step lost or doubled,
the same scores. Only clocks may differ. What is killed:

- training: the process that trains (tiny model, checkpoints every few steps), in the middle of whatever it does.
- kernel: the kernel of a small notebook that builds a data set. The runner must notice, say so in run.json and leave no
  metrics.json.
- pipeline: Snakemake with the repo's Snakefile over the real notebook 01 of preset smoke. Then `snakemake --unlock` and
  the same command again.

A kill that falls behind the end is drawn anew. Training is forked from this process, so that PyTorch is imported once.
With --state the results so far are kept there, and the same command goes on after having been stopped itself. The last
line is one JSON object.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from hrm_lab.files import write_json
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.metrics import format_score, proportion

CLOCKS = {"cost", "seconds", "cpu_seconds", "train_seconds", "train_cpu_seconds", "setup_seconds"}
NOTEBOOK = """import os
os.chdir(workdir)
from hrm_lab.metrics import plain
from hrm_lab.notebooks import finish
from hrm_lab.puzzles import dataset
from hrm_lab.puzzles.generators import build
for side in (4, 6):
    task = f"sudoku-{side}x{side}"
    train, _ = build(task, f"data/{task}", seed=0, n_train=40, n_test=10)
    dataset.save(f"data/{task}", "again", train)
finish(out, {"puzzles": plain(len(train), len(train))}, ["puzzles"])"""


def fit(run: Path | str) -> dict:
    """A training run of about a second with 30 checkpoints; goes on with what is in `run`."""
    import numpy as np

    from hrm_lab.model import HRMConfig
    from hrm_lab.puzzles.dataset import Meta, Split
    from hrm_lab.train import TrainConfig, train

    rng, n = np.random.default_rng(0), 64
    inputs = rng.integers(1, 6, (n, 6)).astype(np.int32)
    zero = np.zeros(n, np.int32)
    data = Split(inputs, np.sort(inputs, 1), zero, zero, zero.astype(np.float32), np.arange(n, dtype=np.int32),
                 Meta(seq_len=6, vocab_size=6, name="sort"))
    model = HRMConfig(vocab_size=6, seq_len=6, hidden=16, heads=2, H_layers=1, L_layers=1, inner_multiple=16,
                      expansion=2, halt_max_steps=3)
    config = TrainConfig(steps=120, batch=16, optimizer="muon", lr=0.02, warmup=4, ema=0.9, eval_every=4, eval_n=32)
    return train(model, config, data, data, Path(run), resume="same", device="cpu", progress=False)


# ---------------------------------------------------------------- what must be the same


def without_clocks(value):
    if isinstance(value, dict):
        return {k: without_clocks(v) for k, v in value.items() if k not in CLOCKS}
    return [without_clocks(v) for v in value] if isinstance(value, list) else value


def weights(path: Path) -> str:
    """SHA-256 over names, types, shapes, bytes and metadata of a checkpoint, which must be whole."""
    from hrm_lab import runs

    tensors, meta = runs.load_checkpoint(path)
    return runs.digest(tensors, {"meta": json.dumps(meta, sort_keys=True)})


def artefacts(folder: Path) -> dict[str, str]:
    """Relative name -> SHA-256 of every result below a folder, clocks left out."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if {".snakemake", "resume", "job", "reports", "ablation"} & set(name.parts):
            continue
        if path.name in ("run.json", "executed.ipynb") or path.suffix == ".png":  # the attempt's record, and drawings
            continue
        if path.name.startswith(".") and path.suffix == ".tmp":  # cut off while it was written: never read
            continue
        if path.suffix == ".safetensors":  # its header names its metadata in an order that differs from run to run
            found[str(name)] = weights(path)
            continue
        data = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            rows = [json.loads(line) for line in data.decode().splitlines()] if path.suffix == ".jsonl" else [
                json.loads(data)]
            data = json.dumps(without_clocks(rows), sort_keys=True).encode()
        found[str(name)] = hashlib.sha256(data).hexdigest()
    return found


# ---------------------------------------------------------------- the three components


def spawn(command: list[str], folder: Path) -> int:
    """Process id of a command that runs in `folder` and says nothing."""
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        os.execv(command[0], command)
    return pid


def training(folder: Path) -> int:
    """Process id of a fork that trains in `folder`."""
    import torch

    import hrm_lab.train  # noqa: F401 (once, in the parent, for all forks)

    torch.set_num_threads(1)
    pid = os.fork()
    if pid == 0:
        try:
            fit(folder / "train")
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return pid


def kernel(folder: Path) -> int:
    """Process id of the runner of a notebook that builds data sets; the kernel is its child."""
    parameters = nbformat.v4.new_code_cell('preset = "smoke"\nworkdir = "."\nout = "run"',
                                           metadata={"tags": ["parameters"]})
    cells = [nbformat.v4.new_markdown_cell("# Killed"), parameters, nbformat.v4.new_code_cell(NOTEBOOK)]
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), folder / "x.ipynb")
    return spawn([sys.executable, "-m", "hrm_lab.notebooks", "run", "x.ipynb", "--run-dir", "run"], folder)


def pipeline(folder: Path, *options: str) -> int:
    """Process id of Snakemake in `folder`, over the real notebook 01 at preset smoke."""
    target = "runs/notebooks/01_data_preparation/metrics.json"
    return spawn([sys.executable, "-m", "snakemake", "--cores", "1", "--snakefile", str(ROOT / "Snakefile"),
                  "--directory", str(folder), "--config", "preset=smoke", *(options or ["--", target])], folder)


COMPONENTS = {"training": training, "kernel": kernel, "pipeline": pipeline}


def victim(name: str, pid: int) -> int:
    """Whom to kill: the kernel is the only child of its runner (0: it is not there), the others are who they are."""
    if name != "kernel":
        return pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0


def complete(name: str, folder: Path) -> str:
    """Start a component, or start it again, and wait for its end; what went wrong, or nothing."""
    folder.mkdir(exist_ok=True)
    if (folder / ".snakemake").exists():
        os.waitpid(pipeline(folder, "--unlock"), 0)
    status = os.waitpid(COMPONENTS[name](folder), 0)[1]
    return f"exit status {os.waitstatus_to_exitcode(status)}, expected 0" if status else ""


# ---------------------------------------------------------------- killing


def trial(name: str, folder: Path, moment: float) -> tuple[bool, str]:
    """(whether the kill fell into the run, what went wrong after it) of one run killed after `moment` seconds."""
    folder.mkdir()
    began, pid = time.monotonic(), COMPONENTS[name](folder)
    while True:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False, ""
        if time.monotonic() - began >= moment and (whom := victim(name, pid)):
            break
        time.sleep(0.002)
    os.kill(whom, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if name == "kernel":
        record = json.loads((folder / "run/run.json").read_text())
        if code == 0:  # it was killed on its way out, with everything written
            return False, ""
        if (code, record["status"]) != (1, "failed") or (folder / "run/metrics.json").exists():
            return True, f"after the kill: exit code {code}, status {record['status']}; expected 1 and failed"
    return True, complete(name, folder)


def measure(name: str, n: int, seed: int, folder: Path, found: dict, keep) -> dict:
    """n kills of one component, in folders below `folder`, going on from `found`; `keep()` after each of them."""
    folder.mkdir()
    if "whole" not in found:
        for run in ("first", "whole") if name == "training" else ("whole",):  # the first pays for PyTorch's import
            began = time.monotonic()
            if wrong := complete(name, folder / run):
                raise RuntimeError(f"{name}: the undisturbed run failed: {wrong}")
        found |= {"seconds": time.monotonic() - began, "whole": artefacts(folder / "whole"), "late": 0, "kills": []}
    elif name == "training":
        complete(name, folder / "first")
    while len(found["kills"]) < n:
        number = f"{len(found['kills'])}-{found['late']}"
        moment = random.Random(f"{seed} {name} {number}").uniform(0, found["seconds"])
        hit, wrong = trial(name, folder / number, moment)
        if not hit:
            found["late"] += 1
            continue
        if not wrong:
            seen, whole = artefacts(folder / number), found["whole"]
            wrong = ", ".join(sorted(k for k in {*whole, *seen} if whole.get(k) != seen.get(k)))
        found["kills"].append({"second": round(moment, 3), "wrong": wrong})
        keep()
        print(f"{name}: kill {len(found['kills'])} after {moment:.2f} of {found['seconds']:.2f} s: "
              f"{wrong or 'the same artefacts'}", flush=True)
    return {"same": proportion(sum(not kill["wrong"] for kill in found["kills"][:n]), n),
            "artefacts": len(found["whole"]), "seconds_undisturbed": round(found["seconds"], 2),
            "late": found["late"], "kills": found["kills"][:n]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--component", nargs="+", choices=COMPONENTS, default=list(COMPONENTS))
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="keep what was found here, and go on from it")
    given = parser.parse_args()
    state = json.loads(given.state.read_text()) if given.state and given.state.exists() else {}

    def keep():
        if given.state:
            write_json(given.state, state)

    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        found = {name: measure(name, given.n, given.seed, Path(folder) / name, state.setdefault(name, {}), keep)
                 for name in given.component}
    for name, one in found.items():
        print(f"{name}: {format_score(one['same'])} end in the same {one['artefacts']} artefacts")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
