"""Repair a program by its tests: `hrm-lab repair`, and the same as a function for notebooks.

The tests run once on the program as it is, with its lines traced; a search then runs candidate edits, the most probable
first, until all tests pass; a fresh pytest on the files confirms the patch before anybody hears of it. A candidate that
the fork server passes and the fresh pytest does not counts as failed, and the search goes on. Nothing is written.
An execution is a run of the tests on one candidate; the first run, and confirmations, come on top.
"""

import io
import time
import tokenize
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hrm_lab.files import write_atomic

from . import diffs
from .evidence import Evidence, of
from .feedback import Feedback
from .orders import Counting, KindBalanced
from .probe import probe
from .project import Project
from .project_tests import FIRST, ProjectServer, confirm
from .sandbox import Result
from .search import Outcome, Step, search

WEIGHTS = Path(__file__).parents[2] / "weights" / "swe-python"
LONGER = 5  # candidates whose tests pass but for those that ran out of fuel that are run again with all of it


@dataclass(frozen=True)
class Source:
    """The text of a file with "\\n" alone, and what is needed to write it as it was."""

    text: str
    encoding: str
    newline: str

    @classmethod
    def read(cls, path: Path) -> "Source":
        """Raises ValueError: no Python text in an encoding that it declares."""
        data = path.read_bytes()
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            text = data.decode(encoding)
        except (SyntaxError, UnicodeDecodeError, LookupError) as error:
            raise ValueError(f"PROGRAM: {path}: {error}; expected Python text") from None
        newline = "\r\n" if "\r\n" in text else "\n"
        return cls(text.replace("\r\n", "\n"), encoding, newline)

    def bytes(self, text: str) -> bytes:
        return text.replace("\n", self.newline).encode(self.encoding)


@dataclass(frozen=True)
class Report:
    """What a repair came to. `patch` is a unified diff ("" if there is none), `program` the text after it.

    `tests_before`, `tests_after`: test -> "passed", "failed", "error", or what ended it. `ranking`: the most probable
    candidates, [{line, kind, old, new, score, passes}]. `seconds` of wall time, confirmations included.
    """

    resolved: bool
    executions: int
    seconds: float
    patch: str
    tests_before: dict[str, str]
    tests_after: dict[str, str]
    ranking: list[dict]
    program: str
    stopped: str
    jail: str
    note: str
    evidence: Evidence
    outcome: Outcome | None = None

    def json(self) -> dict:
        """What `--json` prints."""
        names = ("resolved", "executions", "seconds", "patch", "tests_before", "tests_after", "ranking")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """The patch with its evidence, for people."""
        failed = [name for name, outcome in self.tests_before.items() if outcome != "passed"]
        total = len(self.tests_before)
        lines = [f"note: {self.note}"] if self.note else []
        if not failed:
            return "\n".join([*lines, f"nothing to repair: {total} of {total} tests pass"])
        lines += [f"before: {total - len(failed)} of {total} tests pass; failing:"]
        said = self.tests_before | self.evidence.messages
        lines += [f"  {name}  {said[name]}" for name in failed[:10]]
        lines += [f"  and {len(failed) - 10} more"] * (len(failed) > 10)
        spent = f"{self.executions} executions of the tests, {self.seconds:.1f} s, jail: {self.jail}"
        if not self.resolved:
            return "\n".join([*lines, f"no patch found ({self.stopped}): {spent}"])
        return "\n".join([*lines, "", self.patch.rstrip("\n"), "",
                          f"after: {total} of {total} tests pass, in a fresh pytest, too; {spent}"])


def shipped(folder: Path = WEIGHTS):
    """(prior, note) that come with the repo: the HRM, told of the bounds of `range`.

    Without weights, an order that knows no repairs.

    The card says why neither a tree nor feedback nor the coordinator is the default.
    """
    if not (folder / "hrm" / "model.safetensors").exists():
        return KindBalanced(), f"no weights in {folder}/hrm: candidates are ordered by kind and suspicion alone"
    from .policy import Policy  # torch

    return Counting(Policy.load(folder / "hrm")), ""


def judge(server: ProjectServer, before: Result, confirmed: dict[str, Result]) -> Callable[[str], Result]:
    """A judge of candidates for `search`: a candidate "passes" if a fresh pytest says so, too."""
    longer = LONGER

    def run(program: str) -> Result:
        nonlocal longer
        result = server.run(program)
        hangs = {name for name, outcome in result.tests.items() if outcome in ("fuel", "cpu")}
        rest = {outcome for name, outcome in result.tests.items() if name not in hangs}
        if longer and hangs and rest <= {"passed"} and server.limits.fuel < FIRST.fuel and (
                rest or set(before.tests.values()) != set(result.tests.values())):
            longer -= 1
            result = server.run(program, limits=replace(server.limits, fuel=FIRST.fuel, cpu_seconds=FIRST.cpu_seconds))
        if result.outcome == "passed":
            final = confirmed[program] = confirm(server.project, program, server.names)
            if final.outcome != "passed":
                result = final
        return result

    return run


def repair(program: Path | str, tests: Path | str, *, budget: int = 1000, seconds: float | None = None, seed: int = 0,
           prior=None, feedback: Feedback | None = None, tree: bool = False,
           watch: Callable[[Step], None] | None = None) -> Report:
    """Look for a patch of the file `program` after which all `tests` (a pytest file or folder) pass.

    budget: executions at most. seconds: of wall time at most. prior: scores candidates (see `search`); without one the
    prior that comes with the repo does. watch: sees each step of the search.
    The same arguments give the same executions, `seconds` apart.
    Raises ValueError, with what to do about it: no such file, no Python, tests that pytest cannot collect or that do
    not import the program; `jail.JailError`: no jail.
    """
    began, project = time.monotonic(), Project.of(program, tests)
    source = Source.read(project.program)
    try:
        compile(source.text, str(program), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"PROGRAM: {program}, line {getattr(error, 'lineno', 1)}: {getattr(error, 'msg', error)}; "
                         "expected valid Python") from None
    with ProjectServer(project, source.text) as server:
        before, notes = server.first, [server.note]
        evidence = of(source.text, before)
        if before.outcome == "passed":
            return Report(True, 0, time.monotonic() - began, "", before.tests, before.tests, [], source.text,
                          "nothing fails", server.jail, server.note, evidence)
        if prior is None:
            prior, note = shipped()
            notes.append(note)
        confirmed: dict[str, Result] = {}
        run, first = judge(server, before, confirmed), [before]

        def judged(text: str) -> Result:
            return first.pop() if first else run(text)  # the search asks for the program as it is once more

        left = None if seconds is None else max(0.0, seconds - (time.monotonic() - began))
        found = search(source.text, judged, prior, budget=budget, seconds=left, seed=seed, tree=tree,
                       feedback=feedback, evidence=evidence, watch=watch,
                       probe=lambda text, edits, known: probe(text, edits, server.probe, known))
    after = confirmed[found.program].tests if found.resolved else before.tests
    patch = diffs.make(source.text, found.program, project.program.name) if found.resolved else ""
    return Report(found.resolved, found.executions, time.monotonic() - began, patch, before.tests, after,
                  [shown(source.text, one) for one in found.ranking], found.program, found.stopped, server.jail,
                  "; ".join(filter(None, notes)), evidence, found)


def shown(program: str, one: dict) -> dict:
    """A candidate of a ranking with the text that it replaces."""
    return {"line": one["line"], "kind": one["kind"], "old": program[one["start"]:one["end"]], "new": one["text"],
            "score": one["score"], "passes": one["passes"]}


def write(path: Path | str, report: Report):
    """Write the repaired program over the file, in its own encoding and line ends, whole or not at all."""
    path = Path(path).resolve()
    mode = path.stat().st_mode
    write_atomic(path, Source.read(path).bytes(report.program))
    path.chmod(mode)
