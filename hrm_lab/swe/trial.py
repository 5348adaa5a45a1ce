"""A trial of the repairer for notebook 03: bugs injected into one small program that it was not trained on.

A demonstration that runs anywhere in seconds, and no benchmark: the bugs come from the space that the search looks in.
"""

import random
import shutil
import tempfile
from pathlib import Path

from hrm_lab.swe.inject import inject
from hrm_lab.swe.repair import Report, repair


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
