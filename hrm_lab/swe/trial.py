"""What notebook 03 asks of a trained repairer, apart from its benchmarks: ranks, reviews, a monitor, a small trial.

`ranks` on injected bugs needs no test to run, so that it has an n that searches do not reach in minutes; `trial` is a
demonstration that runs anywhere in seconds, and no benchmark: its bugs come from the space that the search looks in.
"""

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from hrm_lab.metrics import format_cell
from hrm_lab.swe import diffs, reviews
from hrm_lab.swe.drawing import enumerable
from hrm_lab.swe.edits import candidates
from hrm_lab.swe.feedback import CLASSES, Feedback, Seen, State, insight
from hrm_lab.swe.held_out import Judged
from hrm_lab.swe.inject import inject
from hrm_lab.swe.instances import Instance
from hrm_lab.swe.linear import LinearPrior, rank
from hrm_lab.swe.policy import Policy, collate
from hrm_lab.swe.policy_data import Example
from hrm_lab.swe.repair import Report, repair
from hrm_lab.swe.search import Outcome


@torch.no_grad()
def ranks(prior: LinearPrior | Policy, examples: Iterable[Example]) -> np.ndarray:
    """(N,) place of the repair among the rivals of its example, from 1; ties count half."""
    if isinstance(prior, LinearPrior):
        return np.array([rank(prior.weights[one.wide].sum(1)) for one in examples])
    device, found = next(prior.parameters()).device, []
    for one in examples:
        *_, (scores, *_) = prior(collate([one], device, rounded=True))
        found.append(rank(scores[0].cpu().numpy()))
    return np.array(found)


def table(scores: dict[str, dict], columns: dict[str, str]) -> list[dict]:
    """Rows for a notebook: what -> its scores; columns: heading -> name of a score. n stands beside the name."""
    return [{"": f"{name} (n\u00a0=\u00a0{own[next(iter(columns.values()))]['n']})",
             **{heading: format_cell(own[key]) for heading, key in columns.items()}} for name, own in scores.items()]


def to_review(db: sqlite3.Connection, judged: Iterable[Judged], instances: Iterable[Instance], model: str) -> list[int]:
    """Store the patches that passed the visible tests as proposals; their ids."""
    known, made = {one.instance_id: one for one in instances}, []
    for one in judged:
        if one.executions:
            instance, outcome = known[one.instance_id], one.outcome
            report = SimpleNamespace(
                patch=diffs.make(enumerable(instance.program), outcome.program, instance.file), program=outcome.program,
                evidence=outcome.evidence, outcome=outcome, executions=one.executions, tests_after=outcome.tests_after)
            made.append(reviews.propose(db, report, file=instance.file, instance_id=one.instance_id, model=model))
    return made


def monitor(program: str, outcome: Outcome, prior, feedback: Feedback, language: str = "python") -> list[dict]:
    """`feedback.insight` after each execution on the given program, with "executions"; the first row is before any.

    As in a search without the probe, whose facts a trace does not keep.
    """
    edits = candidates(program, language)
    at = {edit: n for n, edit in enumerate(edits)}
    said = outcome.evidence.messages
    before = Seen.from_lists(outcome.tests_before.values(), (said.get(name, "") for name in outcome.tests_before))
    scores, state = prior.scores(program, edits, outcome.evidence, language), State(program, edits, before=before)
    rows = [{"executions": 0, **insight(scores, state, feedback)}]
    for n, step in enumerate(outcome.trace, 1):
        if step.parent == -1:
            state.observe(at[step.edit], CLASSES.index(step.outcome), Seen.from_lists(step.tests, step.messages))
            rows.append({"executions": n, **insight(scores, state, feedback)})
    return rows


def trial(program: Path, tests: Path, n: int, budget: int, seed: int = 0) -> list[tuple[str, Report]]:
    """(kind of repair that undoes the bug, report) of n bugs of `program` that `tests` tell apart."""
    rng, text, found = random.Random(seed), program.read_text(encoding="utf-8"), []
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(tests, folder)
        for _ in range(10 * n):
            bug = inject(text, rng)
            if len(found) == n:
                break
            if bug is None:
                continue
            (Path(folder) / program.name).write_text(bug.code, encoding="utf-8")
            report = repair(Path(folder) / program.name, Path(folder) / tests.name, budget=budget)
            if set(report.tests_before.values()) != {"passed"}:
                found.append((bug.repair.kind, report))
    return found
