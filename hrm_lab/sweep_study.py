"""A sweep as an Optuna study: cells queued once, workers that come and go, and what was found.

What is unusual: `kill -9` loses no trial and doubles none. A trial lives as long as its cell is in the race, and is
trained stage by stage by whoever is free: a worker holds a lock on it, which dies with it, and whoever comes next goes
on where its last checkpoint stood. What a cut decides is written down before it is done. So all workers must see one
folder (on a cluster: the shared file system); the study itself may lie in any database that Optuna's storage URLs name,
and is SQLite in that folder by default.

    python -m hrm_lab.sweep_study --preset laptop --workers 2      # as often as you like: it goes on
    python -m hrm_lab.sweep_study --preset full --storage postgresql://host/sweeps     # on each of several machines

Sources: Akiba et al. 2019 (arXiv 1907.10902); Watanabe et al. 2023 (arXiv 2304.10255) for PED-ANOVA. Optuna's own
retry of stale trials works by heartbeats and takes minutes.
"""

import argparse
import fcntl
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from hrm_lab import notebooks, runs
from hrm_lab.ablation import identity, start_worker
from hrm_lab.alarms import EPOCHS
from hrm_lab.forecast_bank import shipped
from hrm_lab.puzzles import dataset
from hrm_lab.sweep import Sweep, read, train_stage
from hrm_lab.sweep_race import METRIC, Stage, at_the_end, survivors
from hrm_lab.sweep_results import estimate, outcomes
from hrm_lab.sweep_results import importances as main_effects
from hrm_lab.train import fingerprint

STEM = "02_sweep"
LIVE = ("WAITING", "RUNNING", "COMPLETE", "PRUNED")
BATCH = 12  # cells of a race of a free search (tpe); the sampler learns from each race
WAIT = 0.2  # seconds between two looks whether the others have ended their stage


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


def mend(study, sweep: Sweep):
    """Under the study's lock: fail trials that were killed before they had a cell, queue cells that no trial has."""
    import optuna

    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state.name == "RUNNING" and "cell" not in trial.user_attrs:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    if sweep.sampler == "grid":
        alive = [trial.user_attrs.get("cell") for trial in trials if trial.state.name in LIVE]
        for cell in sweep.cells():
            if cell not in alive:
                study.enqueue_trial(cell, user_attrs={"cell": cell})


def claim(study, sweep: Sweep, own: Path, stack: ExitStack) -> tuple[int, Stage] | bool:
    """The next trial and what to do with it, its lock held by `stack`; True: others are at work; False: nothing left.

    A race is over when no trial of it is left; a free search (tpe) then starts the next one.
    """
    with locked(own / "study.lock"):
        mend(study, sweep)
        while True:
            race = runs.read_json(own / "race.json") if (own / "race.json").exists() else {"cuts": 0, "dropped": {}}
            drop(study, own, race["dropped"])
            trials = study.get_trials(deepcopy=False)
            if any(trial.state.name == "WAITING" for trial in trials):
                ask(study, sweep)
                continue
            live = [trial.number for trial in trials if trial.state.name == "RUNNING"]
            if not live:
                left = 0 if sweep.sampler == "grid" else sweep.trials - sum(t.state.name in LIVE for t in trials)
                if left <= 0:
                    return False
                runs.write_json(own / "race.json", {"cuts": 0, "dropped": {}})
                for _ in range(min(left, BATCH)):
                    ask(study, sweep)
                continue
            ready = [number for number in live if over(load(own, number), sweep)]
            if ready:  # whoever finished one may be about to tell the study; if it was killed, this one does
                for number in ready:
                    with locked(own / f"trial-{number}.lock", wait=False) as free:
                        if not free:
                            return True
                        now = study.get_trials(deepcopy=False)[number]  # its worker may have told a moment ago
                        if now.state.name == "RUNNING":
                            tell(study, own, number)
                continue
            stage = sweep.stages[race["cuts"]]
            due = [number for number in live if not reached(load(own, number), stage)]
            for number in due:
                if stack.enter_context(locked(own / f"trial-{number}.lock", wait=False)):
                    return True if reached(load(own, number), stage) else (number, stage)  # ended a moment ago?
            if due:
                return True
            lost = losers(sweep, own, live, sweep.cuts[race["cuts"]])
            runs.write_json(own / "race.json", {"cuts": race["cuts"] + 1, "dropped": race["dropped"] | lost})


# ---------------------------------------------------------------- working on it


def suggest(trial, name: str, values):
    """One setting of a trial: of a list, or of a range {low, high, log}, whole numbers where both ends are."""
    if not isinstance(values, dict):
        return trial.suggest_categorical(name, list(values))
    whole = all(isinstance(values[end], int) for end in ("low", "high"))
    return (trial.suggest_int if whole else trial.suggest_float)(name, **values)


def ask(study, sweep: Sweep):
    """A trial from the queue, or a new one of the sampler's; the study knows its cell from here on."""
    trial = study.ask()
    trial.set_user_attr("cell", {name: suggest(trial, name, values) for name, values in sweep.space.items()})


def load(own: Path, number: int) -> dict | None:
    """What is known of a trial; None before its first stage has ended."""
    path = own / f"cell-{number}.json"
    return runs.read_json(path) if path.exists() else None


def reached(found: dict | None, stage: Stage) -> bool:
    """Whether a stage has ended."""
    if found is None:
        return False
    lengths = [len(curve) for curve in found["curves"][METRIC]]
    return len(lengths) >= stage.seeds and min(lengths[:stage.seeds]) >= stage.epoch


def over(found: dict | None, sweep: Sweep) -> bool:
    """Whether a cell has diverged or has all its seeds."""
    return found is not None and (found["stopped"] is not None or reached(found, sweep.stages[-1]))


def losers(sweep: Sweep, own: Path, live: list[int], cut: tuple[int, float]) -> dict[str, dict]:
    """The trials that a cut ends, with the reason: number -> `stopped` of its cell."""
    epoch, share = cut
    found = [load(own, number) for number in live]
    count = len(sweep.cells()) if sweep.sampler == "grid" else min(BATCH, sweep.trials)
    n = sweep.train.get("eval_n") or len(dataset.load(sweep.data, "valid"))
    seen = [{name: np.array(curves[0], float) for name, curves in one["curves"].items()} for one in found]
    ended = [outcomes(one, "valid")[0].mean() for one in found] if epoch == EPOCHS else None
    kept = survivors(seen, share, count, ended)
    ahead = [at_the_end(one[METRIC], n, shipped("hrm")) for one in seen]
    return {str(number): {"why": "behind", "epoch": epoch,
                          "quantiles": None if ahead[i] is None else ahead[i].quantiles[-1].tolist()}
            for i, number in enumerate(live) if i not in kept}


def drop(study, own: Path, dropped: dict[str, dict]):
    """Tell the study of trials that a cut has ended, once."""
    for trial in study.get_trials(deepcopy=False):
        if str(trial.number) in dropped and trial.state.name == "RUNNING":
            found = load(own, trial.number)
            runs.write_json(own / f"cell-{trial.number}.json", found | {"stopped": dropped[str(trial.number)]})
            tell(study, own, trial.number)


def tell(study, own: Path, number: int):
    """Close a trial whose cell is complete or stopped, and remove its checkpoints."""
    from optuna.trial import TrialState

    found = load(own, number)
    if found["stopped"]:
        study.tell(number, state=TrialState.PRUNED)
        said = f"stopped at epoch {found['stopped']['epoch']}, {found['stopped']['why']}"
    else:
        value = float(outcomes(found, "valid").mean())
        study.tell(number, value)
        said = f"exact match {100 * value:.1f} %"
    for path in own.glob(f"checkpoint-{number}-*.safetensors"):
        path.unlink()
    print(f"trial {number} {found['cell']}: {said}", flush=True)


def work(sweep: Sweep, folder: Path | str, storage: str | None = None) -> int:
    """Train cells of a study, stage by stage, until none is left; returns how many stages. Any number may do this."""
    study, own, done = open_study(sweep, folder, storage), place(sweep, folder), 0
    while True:
        with ExitStack() as stack:
            task = claim(study, sweep, own, stack)
            if task is False:
                return done
            if task is True:
                time.sleep(WAIT)
                continue
            advance(study, sweep, own, *task)
            done += 1


def advance(study, sweep: Sweep, own: Path, number: int, stage: Stage):
    """Train one stage of a trial and write cell-<trial>.json; the last one, or divergence, closes the trial."""
    trial = next(t for t in study.get_trials(deepcopy=False) if t.number == number)
    found = train_stage(sweep, trial.user_attrs["cell"], load(own, number), stage, own / f"checkpoint-{number}")
    stopped = {"why": "diverged", "epoch": found["diverged"], "quantiles": None} if found["diverged"] else None
    runs.write_json(own / f"cell-{number}.json", {"cell": trial.user_attrs["cell"], **found, "stopped": stopped})
    if stopped or stage == sweep.stages[-1]:
        tell(study, own, number)


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


def ended(study) -> list:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]


def cells(sweep: Sweep, folder: Path | str, storage: str | None = None) -> list[dict]:
    """What each ended trial found: number, state, value (None where pruned) and the contents of its file."""
    own = place(sweep, folder)
    return [{"number": t.number, "state": t.state.name, "value": t.value if t.state.name == "COMPLETE" else None,
             **load(own, t.number)} for t in ended(open_study(sweep, folder, storage))]


def importances(sweep: Sweep, folder: Path | str, storage: str | None = None) -> dict[str, float]:
    """Setting -> what it explains: of a grid its main effects, of a free search PED-ANOVA. A stopped cell's forecast
    stands for what it would have reached."""
    if sweep.sampler == "grid":
        return main_effects(cells(sweep, folder, storage))
    import optuna

    whole = optuna.create_study(direction="maximize")
    for trial, cell in zip(ended(open_study(sweep, folder, storage)), cells(sweep, folder, storage), strict=True):
        whole.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions,
                                            value=estimate(cell)))
    return optuna.importance.get_param_importances(whole, evaluator=optuna.importance.PedAnovaImportanceEvaluator())


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
