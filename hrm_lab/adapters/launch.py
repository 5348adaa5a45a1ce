"""Training one adapter by several processes, through Hugging Face Accelerate.

`launch` takes what `finetune.train` takes, with the model's name in place of the model, and a number of processes. The
packs of a step are dealt out to them and their gradients summed, so `batch` stays the global one and the loss curve is
that of one process up to rounding. The work is written to `<run>/job/`; by hand, for several GPUs after
`write_job(...)`:

    accelerate launch --multi_gpu --num_processes 4 -m hrm_lab.adapters.launch runs/hermes/job/job.json

Several machines: as in `hrm_lab.distributed`, whose launcher this uses.
"""

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from hrm_lab import runs
from hrm_lab.distributed import end_with_the_starter, last_words, start
from hrm_lab.files import write_json
from hrm_lab.ranks import Ranks

from . import models
from .finetune import Config, train
from .formats import Row

SPLITS = ("train", "valid")


def launch(model: dict, rows: Sequence[Row], valid: Sequence[Row], run: Path, config: Config, processes: int,
           resume: bool | str = False, notes: dict | None = None) -> dict:
    """Train by `processes` processes of this machine; returns what run.json says. The best adapter is in `<run>/best`.

    model: the arguments of `models.load`. Raises RuntimeError with the end of the log when one of them fails.
    """
    job = write_job(model, rows, valid, run, config, resume, notes)
    code, log = start(processes, ["-m", "hrm_lab.adapters.launch", str(job)], job.with_name("log.txt"))
    if code:
        raise RuntimeError(f"{run}: one of {processes} processes failed (exit status {code}); the end of job/log.txt:\n"
                           f"{last_words(log)}")
    return runs.read_json(Path(run) / "run.json")


def write_job(model: dict, rows: Sequence[Row], valid: Sequence[Row], run: Path, config: Config,
              resume: bool | str = False, notes: dict | None = None) -> Path:
    """Write `<run>/job/job.json` for `train`'s arguments; returns its path."""
    path = Path(run) / "job" / "job.json"
    write_json(path, {"model": model, "config": asdict(config), "resume": resume, "notes": notes or {},
                      **{name: [[r.id, r.ids, r.labels] for r in part]
                         for name, part in zip(SPLITS, (rows, valid), strict=True)}})
    return path


def main(job_file: Path):
    """One process of a job; under `accelerate launch` there are several, alone it trains by itself."""
    from accelerate import Accelerator, InitProcessGroupKwargs

    job = runs.read_json(job_file)
    if os.environ.get("HRM_LAB_STARTED"):
        threading.Thread(target=end_with_the_starter, daemon=True).start()
    runs.set_threads()
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=2))  # the others wait while the first one evaluates
    accelerator = Accelerator(cpu=job["model"].get("device") == "cpu", kwargs_handlers=[patient])
    model, _ = models.load(**job["model"] | {"device": str(accelerator.device)})
    splits = [[Row(i, tuple(ids), tuple(labels)) for i, ids, labels in job[name]] for name in SPLITS]
    config = Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in job["config"].items()})
    train(model, *splits, Path(job_file).parent.parent, config, job["model"].get("name", models.SMALL), job["resume"],
          ranks=Ranks(accelerator), notes=job["notes"])
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
