"""A training plan and what became of it: phases with targets, intervention points, forks that measure their effect.

A plan divides a run into phases with targets of their own (`"loss": "<0.3"`, as in the field reports' targets.json)
and names points, by default epochs 15, 25 and 35 of 50, at which somebody should look. What is unusual: at such a point
the alarms that are on are looked up in a table (`TABLE`), and a proposal is only that, until the mode is `auto`: then
the run is forked there. The parent goes on as it was, the fork goes on changed, both to the end, and the paired
difference on validation is the measured effect. Advice that is followed blindly has no measured effect; this has.

An epoch here is a fiftieth of the run (`hrm_lab.alarms.EPOCHS`), whatever the number of steps.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from hrm_lab import act, alarms, foresight, metrics, runs
from hrm_lab.forecast_targets import Target, read_targets
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles.dataset import Split
from hrm_lab.train import TrainConfig, load_model, train

MODES = ("propose", "auto")
POINTS = (15, 25, 35)


@dataclass(frozen=True)
class Phase:
    """Epochs `first` to `last` of 50, and what the run should have reached at their end."""

    name: str
    first: float
    last: float
    targets: tuple[Target, ...] = ()

    def __post_init__(self):
        if not 0 <= self.first < self.last <= alarms.EPOCHS:
            raise ValueError(f"phase {self.name!r}: got epochs {self.first:g} to {self.last:g}, expected two in order "
                             f"in 0..{alarms.EPOCHS}")


@dataclass(frozen=True)
class Plan:
    """Phases of a run, the epochs at which to look, and whether to act on what is seen there."""

    phases: tuple[Phase, ...] = ()
    points: tuple[float, ...] = POINTS
    mode: str = "propose"

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"plan.mode: got {self.mode!r}, expected one of {', '.join(MODES)}")
        if list(self.points) != sorted(set(self.points)) or any(not 0 < p < alarms.EPOCHS for p in self.points):
            raise ValueError(f"plan.points: got {self.points}, expected increasing epochs between 0 and "
                             f"{alarms.EPOCHS}")


@dataclass(frozen=True)
class Proposal:
    """What to change, in the training recipe or the model, and why; no change: stop and look."""

    rule: str
    action: str
    train: dict = field(default_factory=dict)
    model: dict = field(default_factory=dict)


def read(settings: dict) -> Plan:
    """A plan from its form in presets.yaml: {phases: [{name, epochs: [0, 15], targets: {...}}], points, mode}."""
    if unknown := set(settings) - {"phases", "points", "mode"}:
        raise ValueError(f"plan: got {', '.join(sorted(unknown))}, expected phases, points and mode only")
    phases = [Phase(p["name"], *p["epochs"], tuple(read_targets(p["targets"], p["epochs"][1])))
              for p in settings.get("phases", ())]
    return Plan(tuple(phases), tuple(settings.get("points", POINTS)), settings.get("mode", "propose"))


# ---------------------------------------------------------------- what is proposed


def lower_rate(c: TrainConfig, m: HRMConfig, drawn: int) -> tuple[dict, dict]:
    return {"lr": c.lr * 0.3}, {}


def stronger_decay(c: TrainConfig, m: HRMConfig, drawn: int) -> tuple[dict, dict]:
    return {"weight_decay": 2 * c.weight_decay}, {}


def one_more_cycle(c: TrainConfig, m: HRMConfig, drawn: int) -> tuple[dict, dict]:
    return {}, {"L_cycles": m.L_cycles + 1}


def equal_tasks(c: TrainConfig, m: HRMConfig, drawn: int) -> tuple[dict, dict]:
    return {"balance": "task"}, {}


def from_easy(c: TrainConfig, m: HRMConfig, drawn: int) -> tuple[dict, dict]:
    """The easier three quarters now, all of them when as many examples have been drawn again as so far."""
    return {"curriculum": 0.5, "curriculum_examples": 2 * drawn}, {}


def longer(c: TrainConfig, m: HRMConfig, drawn: int) -> tuple[dict, dict]:
    return {"steps": round(1.5 * c.steps)}, {}


def nothing(c: TrainConfig, m: HRMConfig, drawn: int) -> tuple[dict, dict]:
    return {}, {}


# The first rule that is on decides. Where the advice comes from: the field reports (curriculum and rate at a plateau,
# more L cycles where whole answers stagnate, noise and data against overfitting) and what an alarm means.
TABLE = {
    "ceiling": ("stop and mend the data: say in the input which task is meant", nothing),
    "task": ("show each task equally often", equal_tasks),
    "overfit": ("double the weight decay", stronger_decay),
    "gap": ("one more L cycle", one_more_cycle),
    "loss": ("go back to the easier puzzles, then widen", from_easy),
    "slow": ("lower the learning rate to 0.3 of it", lower_rate),
    "chance": ("half as many steps again", longer),
    "band": ("stop and look: this run does not do what its past promised", nothing),
}


def propose(found: list[alarms.Alarm], config: TrainConfig, model: HRMConfig, drawn: int) -> list[Proposal]:
    """A proposal for each rule that is on, in the order of TABLE; drawn: training examples seen so far."""
    on = {alarm.rule for alarm in alarms.active(found)}
    return [Proposal(rule, action, *change(config, model, drawn)) for rule, (action, change) in TABLE.items()
            if rule in on]


# ---------------------------------------------------------------- what was reached


def reached(plan: Plan, history: list[dict], steps: int) -> list[dict]:
    """One row a target: phase, epoch by which, metric, target, value there (None: not reached yet), met."""
    rows = []
    for phase in plan.phases:
        for target in phase.targets:
            there = next((row for row in history if row["step"] >= point_step(target.epoch, steps)), {})
            value = there.get(target.metric)
            rows.append({"phase": phase.name, "epoch": target.epoch, "metric": target.metric,
                         "target": f"{target.op} {target.value:g}", "value": value,
                         "met": None if value is None else bool(target.met(value))})
    return rows


def looked_at(plan: Plan, history: list[dict], config: TrainConfig, model: HRMConfig, n_train: int,
              ceiling: float = 1.0) -> list[dict]:
    """What the alarms said and what the table would propose at each point, from the rows up to the first one there.

    The chances are those of the targets that lie ahead. Returns rows with epoch, step, alarms, proposals.
    """
    targets = [target for phase in plan.phases for target in phase.targets]
    rows = []
    for point in plan.points:
        there = next((i for i, row in enumerate(history) if row["step"] >= point_step(point, config.steps)), None)
        if there is not None:
            known = history[:there + 1]
            ahead = [target for target in targets if point_step(target.epoch, config.steps) > known[-1]["step"]]
            found = alarms.check(known, config.steps, ceiling, **foresight.of(known, config.steps, tuple(ahead)))
            drawn = round(known[-1]["epoch"] * n_train)
            rows.append({"epoch": point, "step": known[-1]["step"], "alarms": alarms.active(found),
                         "proposals": propose(found, config, model, drawn)})
    return rows


# ---------------------------------------------------------------- acting on it


def fork(run: Path, to: Path, train_changes: dict, model_changes: dict):
    """Copy the last checkpoint of `run` to the new directory `to`, with changes; `train(resume=True)` goes on there.

    A changed stream of examples starts a new epoch, from the same counters. Raises CheckpointError as reading does.
    """
    run, to = Path(run), Path(to)
    shutil.rmtree(to, ignore_errors=True)
    tensors, meta = runs.load_checkpoint(run / "resume" / "state.safetensors")
    meta["configs"]["train"] |= train_changes
    meta["configs"]["model"] |= model_changes
    if {"balance", "curriculum"} & set(train_changes):
        stream = meta["sampler"]
        meta["sampler"] = stream | {"chunk": stream["chunk"] + 1, "chunk_start": stream["drawn"], "cursor": 0}
    to.mkdir(parents=True)
    known = [row for row in runs.read_metrics(run) if row["step"] <= meta["step"]]
    runs.write_atomic(to / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in known))
    shutil.copytree(run / "best", to / "best")
    runs.write_json(to / "run.json", {**meta["configs"], "status": "forked", "forked_from": run.name,
                                      "forked_at": meta["step"]})
    runs.save_checkpoint(to / "resume" / "state.safetensors", tensors, meta | {"reason": ""})


def follow(plan: Plan, model: HRMConfig, config: TrainConfig, data: Split, valid: Split, folder: Path,
           ceiling: float = 1.0, device: str = "cpu") -> list[dict]:
    """Train under a plan in `folder`/main; in mode auto, fork at each point where the table proposes a change.

    Each fork's parent is the branch before it; a branch trains to the end of its own steps. Returns a row a branch:
    name, run, parent, forked_at, proposal, and the last validation row. The decisions are kept in plan.json. What an
    earlier call left in `folder` is cleared: a fork must be taken at its point, not where a killed run stood.
    """
    folder, branches = Path(folder), []
    shutil.rmtree(folder, ignore_errors=True)
    run, name, parent, cause = folder / "main", "main", None, None
    looked = []
    for point in plan.points:
        history, due = runs.read_metrics(run), point_step(point, config.steps)
        if not history or history[-1]["step"] < due:  # evaluations may be further apart than points
            train(model, config, data, valid, run, resume=True, device=device, progress=False, stop_after=due)
            history = runs.read_metrics(run)
        seen = looked_at(replace(plan, points=(point,)), history, config, model, len(data), ceiling)
        proposals = seen[0]["proposals"] if seen else []
        looked.append({"epoch": point, "step": history[-1]["step"], "branch": name,
                       "alarms": [str(a) for row in seen for a in row["alarms"]],
                       "proposals": [asdict(p) for p in proposals]})
        runs.write_json(folder / "plan.json", {"plan": asdict(plan), "looked": looked})
        chosen = next((p for p in proposals if p.train or p.model), None)
        if plan.mode == "auto" and chosen and history[-1]["step"] < config.steps:
            branches.append((name, run, parent, cause, model, config))
            to = folder / f"fork-{point:g}"
            fork(run, to, chosen.train, chosen.model)
            parent, cause = name, {"forked_at": history[-1]["step"], "proposal": chosen}
            run, name = to, to.name
            model, config = replace(model, **chosen.model), replace(config, **chosen.train)
    branches.append((name, run, parent, cause, model, config))
    return [{"name": name, "run": run, "parent": parent, **(cause or {"forked_at": None, "proposal": None}),
             "row": train(m, c, data, valid, run, resume=True, device=device, progress=False)}
            for name, run, parent, cause, m, c in branches]


def point_step(epoch: float, steps: int) -> int:
    return max(1, round(epoch * steps / alarms.EPOCHS))


@torch.no_grad()
def effects(branches: list[dict], valid: Split) -> list[dict]:
    """The measured effect of each fork: exact match of its final weights minus its parent's, paired, on validation."""
    found = {b["name"]: act.evaluate(load_model(Path(b["run"]) / "final"), valid) for b in branches}
    return [{"branch": b["name"], "parent": b["parent"], "step": b["forked_at"], "action": b["proposal"].action,
             "rule": b["proposal"].rule,
             "effect": metrics.paired_difference(found[b["name"]].exact, found[b["parent"]].exact)}
            for b in branches if b["parent"]]
