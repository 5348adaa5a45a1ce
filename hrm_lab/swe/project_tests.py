"""Run the pytest tests of a user's project on many versions of one of its files, as pytest itself would.

Nothing is ever written to the project: copies of it are used (project.py). `ProjectServer` judges candidates in the
jail by forks of a pytest that is started once (project_worker.py); `confirm` runs a fresh pytest on a copy of the files
with the patch in place, and alone may call a patch final.

Unusual: the tests of a project are whatever pytest collects, each case of a `parametrize` its own. A test file that
cannot be collected because of the program counts as one test, named by the file. Skipped tests do not count.
"""

import json
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import jail
from .jail import Limits
from .project import Project, below
from .sandbox import PYTEST_CPU, Result, answer, ending, outcome_of, tier
from .sandbox_worker import send

WORKER = Path(__file__).with_name("project_worker.py")
FIRST = Limits(cpu_seconds=30, wall_seconds=90, memory_mb=1024, processes=64, open_files=256, fuel=5_000_000,
               idle_seconds=20)
FUEL, CPU, WALL, IDLE = 200_000, 3.0, 10.0, 2.0  # a candidate's least limits: fuel of each test; seconds of all
SLOWER = 10  # times the fuel of the program as it is, and three times its seconds, that a candidate may use


# ---------------------------------------------------------------- what a run of pytest said


@dataclass(frozen=True)
class Said:
    """What one run of pytest reported, in its order. `status`: pytest's, None if it did not end."""

    tests: dict[str, tuple[str, str]]  # id -> outcome, message
    collection: dict[str, str]  # what could not be collected -> pytest's text
    lines: dict[str, tuple[int, ...]]
    ticks: dict[str, int]
    imports: int
    status: int | None
    modules: tuple[str, ...]  # imported from outside the project, if traced
    forged: bool

    @classmethod
    def of(cls, text: str, nonce: str) -> "Said":
        tests, collection, lines, ticks, imports, status, modules, forged = {}, {}, {}, {}, 0, None, (), False
        for line in text.split("\n")[:-1]:
            if not line.startswith(f'["{nonce}", '):
                forged = True
                break
            _, what, *rest = json.loads(line)
            if what == "test":
                name, outcome, message, ticks[name], ran = rest
                tests[name] = (outcome, message)
                lines |= {name: tuple(ran)} if ran is not None else {}
            elif what == "imported":
                imports = rest[0]
                lines |= {"import": tuple(rest[1])} if rest[1] is not None else {}
            elif what == "collection":
                collection[rest[0]] = rest[1]
            else:
                status, modules, imports = rest  # a test or a fixture may be the first to import
        return cls(tests, collection, lines, ticks, imports, status, tuple(modules), forged)

    def names(self) -> tuple[str, ...]:
        """The tests that count: those that ran, and each file that could not be collected."""
        return (*self.collection, *(name for name, (outcome, _) in self.tests.items() if outcome != "skipped"))

    def outcome(self, name: str, missing: str) -> tuple[str, str]:
        """Outcome and message of a test, or of all tests of a file; `missing`: outcome of one that did not report."""
        if name in self.tests:
            return self.tests[name]
        if name in self.collection:
            return "error", complaint(self.collection[name])
        inside = [found for test, found in self.tests.items() if test.startswith(f"{name}::") or not name]
        if inside and not missing:
            return next((found for found in inside if found[0] not in ("passed", "skipped")), ("passed", ""))
        said = next((text for part, text in self.collection.items() if name.startswith(f"{part}::") or not part), "")
        return missing or "error", complaint(said)


def complaint(text: str) -> str:
    """The line of pytest's text that says what went wrong."""
    lines = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    return (lines or text.strip().splitlines()[-1:] or [""])[0][:300]


def result_of(said: Said, names: tuple[str, ...], end: str, seconds: float, output: str, kind: str) -> Result:
    """The result of one candidate. `end`: what ended its process, "" if it ended by itself."""
    end = "forged" if said.forged else end or ("" if said.status is not None else "exited")
    found = {name: ("forged", "") if said.forged else said.outcome(name, end) for name in names}
    tests = {name: outcome for name, (outcome, _) in found.items()}
    passed = bool(tests) and set(tests.values()) == {"passed"}
    odd = [outcome for outcome in tests.values() if outcome in ("fuel", "memory", "exited")]
    outcome = end or (odd or ["passed" if passed else "failed"])[0]
    reached = tier(tests.values()) if said.tests else "compiles"
    return Result(reached, outcome, tests, seconds, output, kind, sum(said.ticks.values()), said.status,
                  {name: message for name, (_, message) in found.items() if message},
                  {name: ran for name, ran in said.lines.items() if name in found or name == "import"})


# ---------------------------------------------------------------- many candidates


class ProjectServer:
    """Judges versions of the program by the project's tests. Use it in a `with`; `run` takes a text.

    `names` are the tests that count, `first` the result of the program as it is, with the lines that each test ran.
    Raises ValueError: tests that pytest cannot collect (its own words), or that do not import the program.
    """

    def __init__(self, project: Project, program: str, first: Limits = FIRST):
        self.project, self.program, self.limits = project, program, first
        self.names, self.mode, self.process, self.folder, self.jail = (), "collect", None, None, jail.strongest()
        self.note, self.modules, self.preloaded = "", (), False

    def __enter__(self):
        try:
            self.look()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def look(self):
        """Run the program as it is, once, and set the limits of candidates by it."""
        ready = self.begin()
        if "error" in ready or ready["imports"]:  # the configuration imports the program: fork before it
            self.end()
            self.mode = "whole"
            self.begin()
        began = time.monotonic()
        said, end, seconds, output = self.ask(self.program, trace=True)
        wall = time.monotonic() - began
        self.refuse(said, end, output)
        self.modules = said.modules
        self.names = said.names() if said.tests or said.collection else ("",)
        self.first = result_of(said, self.names, end, seconds, output, self.jail)
        used = [ticks for name, ticks in said.ticks.items() if said.tests[name][0] != "fuel"]
        hangs = end or "fuel" in self.first.tests.values()
        self.limits = replace(self.limits, fuel=min(10 * FIRST.fuel, max(FUEL, SLOWER * max(used, default=0))),
                              cpu_seconds=max(CPU, seconds if hangs else 3 * seconds),
                              wall_seconds=max(WALL, wall if hangs else 5 * wall),
                              idle_seconds=IDLE if end == "wall" else max(IDLE, 2 * (wall - seconds)))

    def refuse(self, said: Said, end: str, output: str):
        """Raise ValueError for tests that say nothing of the program."""
        name, tests = self.project.program.name, self.project.tests
        if not said.tests and not said.collection and said.status is not None:
            if self.mode == "whole" and name in output:
                return  # the program itself breaks a conftest.py
            raise ValueError(f"--tests: pytest finds no test in {tests}; it says:\n{self.plain(output).strip()}")
        foreign = [text for text in said.collection.values()
                   if name not in text or "cannot import name" in text or not said.imports]
        if foreign:
            raise ValueError(f"--tests: pytest cannot collect {tests}; it says:\n{self.plain(foreign[0]).strip()}")
        word = re.compile(rf"\b{re.escape(self.project.program.stem)}\b")  # of a test that runs it as a script
        if not said.imports and not end and not any(
                word.search(path.read_text(errors="replace")) for path in below(tests) if path.suffix == ".py"):
            raise ValueError(f"--tests: no test of {tests} imports {self.project.program}; expected tests of PROGRAM")

    def plain(self, text: str) -> str:
        """A text with the project's own paths."""
        return text.replace(self.folder, str(self.project.root)) if self.folder else text

    def begin(self) -> dict:
        """Copy the project and start pytest on it; its first word."""
        self.folder, self.preloaded = tempfile.mkdtemp(prefix="project-"), False
        self.note = self.project.copy(self.folder)
        self.process = jail.start([sys.executable, "-s", "-P", str(WORKER)], server=True, cwd=self.folder,
                                  readable=[WORKER.parent, self.project.root], writable=[self.folder],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        folders = [self.process.scratch] if self.process.scratch else [jail.SCRATCH, "/tmp", "/dev/shm"]
        orders = self.project.orders(self.folder, self.mode, self.program)
        with suppress(OSError):  # it ended at once, and gives no reply
            send(self.process.stdin, orders | {"limits": asdict(self.limits), "folders": folders})
        return self.reply() or {"error": "pytest ended"}

    def end(self):
        if self.process:
            jail.kill(self.process)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.process = self.folder = None

    def reply(self) -> dict | None:
        return answer(self.process, self.limits)

    def ask(self, program: str, trace: bool, limits: Limits | None = None, only=()) -> tuple[Said, str, float, str]:
        """What pytest said, what ended it, CPU seconds, output. only: the tests to be run, if not all."""
        if not self.process:
            self.begin()
        preload, self.preloaded = (() if self.preloaded else self.modules), bool(self.modules)
        limits = limits or self.limits
        try:
            send(self.process.stdin, {"program": program, "trace": trace, "limits": asdict(limits),
                                      "preload": preload, "only": only})
            reply = self.reply()
        except OSError:
            reply = None
        if reply is None or "error" in reply:
            self.end()
            return Said.of("", ""), "killed", 0.0, (reply or {}).get("error", "the server was killed")
        if "unparsed" in reply:
            raise ValueError(f"PROGRAM: {reply['unparsed']}; expected valid Python")
        said = Said.of(reply["results"], reply["nonce"])
        end = reply["cut"] or ending(reply["status"], reply["cpu_full"], said.status is not None)
        if not reply["whole"]:
            self.end()
        return said, end, reply["seconds"], reply["output"]

    def run(self, program: str, trace: bool = False, limits: Limits | None = None) -> Result:
        said, end, seconds, output = self.ask(program, trace, limits)
        return result_of(said, self.names, end, seconds, output, self.jail)

    def probe(self, program: str, only: tuple[str, ...]) -> str:
        """The output of a text made by `probe.instrument`, run on some tests."""
        return self.ask(program, False, replace(self.limits, output_bytes=4_000_000, fuel=5 * FIRST.fuel,
                                                cpu_seconds=max(3.0, self.limits.cpu_seconds)), only)[3]


# ---------------------------------------------------------------- one run of a fresh pytest


def confirm(project: Project, program: str, names: tuple[str, ...], limits: Limits = FIRST) -> Result:
    """Run a fresh pytest on a copy of the project with `program` in place. "passed": every name, and pytest says so."""
    nonce, folder = secrets.token_hex(16), tempfile.mkdtemp(prefix="project-")
    told, result = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (closed below)
    try:
        project.copy(folder)
        Path(project.path_in(folder, project.program)).write_bytes(program.encode())
        orders = project.orders(folder, "fresh", program)
        told.write(json.dumps(orders | {"limits": asdict(limits), "nonce": nonce, "result": result.fileno()}).encode())
        told.seek(0)
        wider = replace(limits, cpu_seconds=limits.cpu_seconds + PYTEST_CPU)
        command = [sys.executable, "-s", "-P", "-B", str(WORKER), str(told.fileno())]
        code, end, out, err, seconds = outcome_of(command, {}, wider, cwd=folder, writable=[folder],
                                                  readable=[WORKER.parent, project.root],
                                                  pass_fds=(told.fileno(), result.fileno()))
        result.seek(0)
        said = Said.of(result.read().decode("utf-8", "replace"), nonce)
    finally:
        told.close()
        result.close()
        shutil.rmtree(folder, ignore_errors=True)
    found = result_of(said, names, end, seconds, (out + err).replace(folder, str(project.root)), jail.strongest())
    if found.outcome == "passed" and (code or said.status):
        found = replace(found, outcome="failed", tier="some")
    return found
