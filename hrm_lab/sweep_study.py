"""A sweep as an Optuna study: cells queued once, workers that come and go, and what was found.

What is unusual: `kill -9` loses no trial and doubles none. A worker holds a lock on its trial, which dies with it;
whoever comes next fails the trials whose lock is free, queues their cells again, and queues every cell that no living
trial has. So all workers must see one folder (on a cluster: the shared file system); the study itself may lie in any
database that Optuna's storage URLs name, and is SQLite in that folder by default.

    python -m hrm_lab.sweep_study --preset laptop --workers 2      # as often as you like: it goes on
    python -m hrm_lab.sweep_study --preset full --storage postgresql://host/sweeps     # on each of several machines

Sources: Akiba et al. 2019 (arXiv 1907.10902); Watanabe et al. 2023 (arXiv 2304.10255) for PED-ANOVA. Optuna's own
retry of stale trials works by heartbeats and takes minutes.
"""

import argparse
import fcntl
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from hrm_lab import notebooks, runs
from hrm_lab.ablation import identity, start_worker
from hrm_lab.ablation_results import share
from hrm_lab.forecast_bank import shipped
from hrm_lab.puzzles import dataset
from hrm_lab.sweep import METRIC, Rival, Sweep, judge, read, train_cell
from hrm_lab.sweep_results import importances as main_effects
from hrm_lab.sweep_results import outcomes
from hrm_lab.train import fingerprint

STEM = "02_sweep"
LIVE = ("WAITING", "RUNNING", "COMPLETE", "PRUNED")


def key(sweep: Sweep) -> str:
    """Of the settings, the data and the code: another study for anything else."""
    prints = [fingerprint(dataset.load(sweep.data, name)) for name in ("train", "valid", "test")]
    return identity("sweep", asdict(sweep), prints)


def open_study(sweep: Sweep, folder: Path, storage: str | None = None):
    """The Optuna study of this very sweep, made if it is not there.

    It lies in the database that `storage` names, or HRM_LAB_STORAGE (so that no password reaches a notebook or a
    report), else in `folder`/study.db.
    """
    import optuna  # a second of imports, for those who sweep only

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    Path(folder).mkdir(parents=True, exist_ok=True)
    sampler = (optuna.samplers.RandomSampler(seed=0) if sweep.sampler == "grid" else  # a grid's cells are all queued
               optuna.samplers.TPESampler(seed=0, constant_liar=True))
    storage = storage or os.environ.get("HRM_LAB_STORAGE") or f"sqlite:///{folder}/study.db"
    with locked(Path(folder) / "study.lock"):
        return optuna.create_study(study_name=f"sweep-{key(sweep)}", storage=storage, direction="maximize",
                                   load_if_exists=True, sampler=sampler)


@contextmanager
def locked(path: Path, wait: bool = True):
    """Hold a file's lock; it is gone when the process is. Not waiting: gives False where another one holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def place(sweep: Sweep, folder: Path) -> Path:
    """Where the locks, checkpoints and cells of this very sweep lie."""
    return Path(folder) / key(sweep)


def wanted(trial) -> dict:
    """The cell that a trial stands for, also one that waits or was killed before it asked for its settings."""
    return trial.user_attrs.get("cell") or trial.params


def mend(study, sweep: Sweep, own: Path):
    """Under the study's lock: fail the trials whose worker is gone, then queue every cell that no living trial has."""
    import optuna

    again = [] if sweep.sampler == "tpe" else sweep.cells()
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        with locked(own / f"trial-{trial.number}.lock", wait=False) as free:
            if free:
                again += [wanted(trial)] * bool(wanted(trial))
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    alive = [wanted(trial) for trial in study.get_trials(deepcopy=False) if trial.state.name in LIVE]
    for cell in again:
        if cell not in alive:
            study.enqueue_trial(cell, user_attrs={"cell": cell})
            alive.append(cell)


def claim(study, sweep: Sweep, own: Path, hold):
    """The next trial, or None; `hold` (an ExitStack's enter_context) keeps its lock."""
    with locked(own / "study.lock"):
        mend(study, sweep, own)
        states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
        queued, tried = "WAITING" in states, sum(state in LIVE for state in states)
        if not queued and (sweep.sampler == "grid" or tried >= sweep.trials):
            return None
        trial = study.ask()
        hold(locked(own / f"trial-{trial.number}.lock"))
        return trial


# ---------------------------------------------------------------- working on it


def suggest(trial, name: str, values):
    """One setting of a trial: of a list, or of a range {low, high, log}, whole numbers where both ends are."""
    if not isinstance(values, dict):
        return trial.suggest_categorical(name, list(values))
    whole = all(isinstance(values[end], int) for end in ("low", "high"))
    return (trial.suggest_int if whole else trial.suggest_float)(name, **values)


def work(sweep: Sweep, folder: Path | str, storage: str | None = None) -> int:
    """Train cells of a study until none is left to claim; returns how many. Any number of processes may do this."""
    study, own, done = open_study(sweep, folder, storage), place(sweep, folder), 0
    while True:
        with ExitStack() as stack:
            trial = claim(study, sweep, own, stack.enter_context)
            if trial is None:
                return done
            try:
                run_trial(study, trial, sweep, own)
            except BaseException:
                study.tell(trial, state=failed())
                raise
            done += 1


def failed():
    from optuna.trial import TrialState

    return TrialState.FAIL


def run_trial(study, trial, sweep: Sweep, own: Path):
    """Train one cell, write cells/<trial>.json, and tell the study: complete, or pruned and why."""
    from optuna.trial import TrialState

    cell = {name: suggest(trial, name, values) for name, values in sweep.space.items()}
    n = sweep.train.get("eval_n") or len(dataset.load(sweep.data, "valid"))
    bank = shipped()

    def stop(epoch: int, curves: np.ndarray) -> dict | None:
        if epoch not in sweep.rungs:
            return None
        trial.report(float(curves[:, -1].mean()), epoch)
        best = to_beat(study, own)
        return judge(curves, n, best, sweep.prune_below, bank) if best is not None and sweep.prune_below else None

    found = train_cell(sweep, cell, stop, own / f"checkpoint-{identity(cell)}.safetensors")
    runs.write_json(own / f"cell-{trial.number}.json", {"cell": cell, **found})
    if found["stopped"]:
        trial.set_user_attr("stopped", found["stopped"]["why"])
        study.tell(trial, state=TrialState.PRUNED)
        said = f"stopped at epoch {found['stopped']['epoch']}, {found['stopped']['why']}"
    else:
        value = float(outcomes(found, "valid").mean())
        study.tell(trial, value)
        said = f"exact match {100 * value:.1f} %"
    print(f"trial {trial.number} {cell}: {said}", flush=True)


def to_beat(study, own: Path) -> Rival | None:
    """The best finished cell, its interval over seeds and puzzles; None before there is one."""
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not finished:
        return None
    best = max(finished, key=lambda trial: trial.value)
    cell = runs.read_json(own / f"cell-{best.number}.json")
    return Rival(share(outcomes(cell, "valid"))["high"], np.mean(cell["curves"][METRIC], axis=0))


def run(sweep: Sweep, folder: Path | str, workers: int = 1, storage: str | None = None) -> list[dict]:
    """Do what is left of a sweep with `workers` processes of one thread; returns `cells` of it."""
    if workers == 1:
        work(sweep, folder, storage)
    else:
        open_study(sweep, folder, storage)
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=start_worker) as pool:
            for future in [pool.submit(work, sweep, folder, storage) for _ in range(workers)]:
                future.result()
    return cells(sweep, folder, storage)


def cells(sweep: Sweep, folder: Path | str, storage: str | None = None) -> list[dict]:
    """What each finished trial found: number, state, value (None where pruned) and the contents of its file."""
    study = open_study(sweep, folder, storage)
    return [{"number": t.number, "state": t.state.name, "value": t.value if t.state.name == "COMPLETE" else None,
             **runs.read_json(place(sweep, folder) / f"cell-{t.number}.json")}
            for t in study.get_trials(deepcopy=False) if t.state.name in ("COMPLETE", "PRUNED")]


def importances(sweep: Sweep, folder: Path | str, storage: str | None = None) -> dict[str, float]:
    """Setting -> what it explains: of a grid its main effects, of a free search PED-ANOVA over the finished trials."""
    if sweep.sampler == "grid":
        return main_effects(cells(sweep, folder, storage))
    import optuna

    return optuna.importance.get_param_importances(open_study(sweep, folder, storage),
                                                   evaluator=optuna.importance.PedAnovaImportanceEvaluator())


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.sweep_study", description="Work on a preset's sweep.")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--out", default=f"runs/notebooks/{STEM}/sweep", help="folder that all workers see")
    parser.add_argument("--storage", help="database URL (default: HRM_LAB_STORAGE, else SQLite in that folder)")
    parser.add_argument("--workers", type=int, default=1, help="processes here, one thread each")
    parser.add_argument("--done", help="write a JSON file with the number of trained cells when nothing is left")
    parser.add_argument("--with-parent", action="store_true", help="stop when the starting process is gone")
    given = parser.parse_args(argv)
    if given.with_parent:
        notebooks.stop_with_parent()
    try:
        sweep = read(notebooks.settings(STEM, given.preset, sweep=None)["sweep"])
        found = run(sweep, given.out, given.workers, given.storage)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.done:
        runs.write_json(given.done, {"finished": len(found)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
