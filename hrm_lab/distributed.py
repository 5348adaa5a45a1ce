"""Training one model by several processes, through Hugging Face Accelerate: the launcher, and what each process runs.

`launch` takes the arguments of `train` and a number of processes, and returns what `train` returns:

    launch(model_config, config, data, valid, "runs/sudoku", processes=4)

`config.batch` stays the global batch: the loss curve is that of one process up to rounding. The work is written
to `<run>/job/` (job.json, the two splits, log.txt) and names no other folder, so a job can be started by hand, too.
One machine with several GPUs (or CPU processes), after `write_job(...)`:

    accelerate launch --multi_gpu --num_processes 4 -m hrm_lab.distributed runs/sudoku/job/job.json

Several machines that share a file system, under Slurm (here 2 x 8 GPUs, one launcher a machine):

    #SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=8
    export HEAD=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)
    srun bash -c 'accelerate launch --multi_gpu --num_machines 2 --num_processes 16 --machine_rank $SLURM_NODEID \\
        --main_process_ip $HEAD --main_process_port 29500 -m hrm_lab.distributed runs/sudoku/job/job.json'

With resume="same" or True in the job, submitting it again goes on from the last checkpoint, also with another
number of processes. Unusual: `--multi_gpu` also starts CPU processes (Accelerate's own way for those needs MPI);
they talk by gloo, GPUs by nccl. Validation runs on the first process while the others wait.
"""

import os
import subprocess
import sys
import threading
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch

from hrm_lab import runs
from hrm_lab.checks import check_fit, fingerprint, open_run
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles import dataset
from hrm_lab.puzzles.dataset import Split
from hrm_lab.ranks import Ranks, share
from hrm_lab.train import TrainConfig, config_from, resolved, train

SPLITS = ("train", "valid")
TAIL = 25  # lines of the log that an error shows


def launch(model_config: HRMConfig, config: TrainConfig, data: Split, valid: Split, run: Path, processes: int = 1,
           resume: bool | str = False, device: str = "auto", progress: bool = True, stop_after: int = 0) -> dict:
    """`train` by `processes` processes on this machine (1: in this very process); the same run directory and result.

    Their output is streamed to ours and kept in `<run>/job/log.txt`. Each takes its share of HRM_LAB_THREADS.
    Raises what `train` raises on bad arguments before a process is started, and RuntimeError with the end of the
    log when one of them fails; the last checkpoint is then in `<run>/resume/`.
    """
    run = Path(run)
    if processes == 1:
        return train(model_config, config, data, valid, run, resume, device, progress, stop_after)
    kind = runs.pick_device(device).type
    here = torch.cuda.device_count() if kind == "cuda" else processes
    if processes < 1 or processes > here or kind not in ("cpu", "cuda"):
        raise ValueError(f"processes: got {processes} on {kind}, expected 1 on other devices than cpu and cuda, "
                         f"and at most one for each of the {torch.cuda.device_count()} GPUs")
    share(config.batch, processes)
    config = resolved(config, torch.device(kind))
    job = write_job(model_config, config, data, valid, run, resume, kind, progress, stop_after)
    code, log = start(processes, ["-m", "hrm_lab.distributed", str(job)], job.with_name("log.txt"))
    record = runs.read_json(run / "run.json") if (run / "run.json").exists() else {}
    if code:
        reason = f"one of {processes} processes failed (exit status {code})"
        if record.get("status") == "running":
            runs.write_json(run / "run.json", {**record, "status": "failed", "reason": reason})
        raise RuntimeError(f"{run}: {reason}; the end of job/log.txt:\n{last_words(log)}")
    row = runs.read_metrics(run)[-1]
    return {**row, "reason": "", **{k: record[k] for k in ("reason", "seconds", "cpu_seconds", "best_step")
                                    if k in record}}


def write_job(model_config: HRMConfig, config: TrainConfig, data: Split, valid: Split, run: Path,
              resume: bool | str = False, device: str = "auto", progress: bool = True, stop_after: int = 0) -> Path:
    """Write `<run>/job/` for `train`'s arguments (a directory that may not be used is refused); returns job.json."""
    check_fit(model_config, data, valid)
    run, prints = Path(run), {"train": fingerprint(data), "valid": fingerprint(valid)}
    open_run(run, {"model": asdict(model_config), "train": asdict(config), "data": prints}, resume)
    folder = run / "job"
    for name, split in zip(SPLITS, (data, valid), strict=True):
        dataset.save(folder, name, split)
    runs.write_json(folder / "job.json", {
        "model": asdict(model_config), "train": asdict(config), "data": prints, "device": device,
        "resume": resume == "same" or resume, "progress": progress, "stop_after": stop_after})
    return folder / "job.json"


def start(processes: int, arguments: list[str], log: Path) -> tuple[int, str]:
    """Run `arguments` (a script, or -m module, and its own) in `processes` processes; returns exit status and output.

    The output is copied to ours and to `log` as it comes.
    """
    threads = str(max(1, (int(os.environ.get("HRM_LAB_THREADS", "0")) or torch.get_num_threads()) // processes))
    package = str(Path(__file__).parent.parent)
    environment = os.environ | {
        "HRM_LAB_STARTED": "1",
        "HRM_LAB_THREADS": threads, "OMP_NUM_THREADS": threads,
        "PET_STANDALONE": "1",  # torchrun binds a free port itself, so that runs side by side never meet
        "PET_LOCAL_ADDR": "127.0.0.1",  # not the machine's name, which a container may not resolve: they would wait
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1",
               "--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no", *arguments]
    said = b""
    with (open(log, "ab") as file,
          subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT) as child):
        try:
            while chunk := os.read(child.stdout.fileno(), 65536):  # not by lines: a progress bar has none
                said += chunk
                file.write(chunk)
                file.flush()
                sys.stdout.write(chunk.decode(errors="replace"))
                sys.stdout.flush()
        except BaseException:
            child.terminate()  # it ends the processes that it started
            raise
    return child.returncode, said.decode(errors="replace")


def last_words(log: str) -> str:
    """The last lines that the processes themselves wrote, and the line in which torchrun says which of them failed."""
    lines = log.splitlines()
    report = [i for i, line in enumerate(lines) if "torch/distributed/elastic" in line] or [len(lines)]
    failed = [lines[i] for i in report if i < len(lines) and "failed (exitcode" in lines[i]]
    return "\n".join([*lines[max(0, report[0] - TAIL):report[0]], *failed])


def end_with_the_starter():
    """Wait for the end of stdin, which is a pipe from `start`, then die: no process trains on, unseen, after a kill."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main(job_file: Path):
    """One process of a job; under `accelerate launch` there are several, alone it trains by itself."""
    from accelerate import Accelerator, InitProcessGroupKwargs  # here: one process need not wait for it

    job, folder = runs.read_json(job_file), Path(job_file).parent
    if os.environ.get("HRM_LAB_STARTED"):
        threading.Thread(target=end_with_the_starter, daemon=True).start()
    runs.set_threads()
    splits = {name: dataset.load(folder, name) for name in SPLITS}
    for name, split in splits.items():
        if fingerprint(split) != job["data"][name]:
            raise ValueError(f"{folder / name}: SHA-256 of the data is {fingerprint(split)}, "
                             f"expected {job['data'][name]} as {job_file} says")
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in job["train"].items()}
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=2))  # the others wait while the first one evaluates
    accelerator = Accelerator(cpu=job["device"] == "cpu", kwargs_handlers=[patient])
    train(config_from(job["model"]), TrainConfig(**settings), *splits.values(), folder.parent, job["resume"],
          str(accelerator.device), job["progress"], job["stop_after"], ranks=Ranks(accelerator))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
