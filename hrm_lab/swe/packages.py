"""A server that judges candidates by a package's own tests. Which packages there are is in package_table.py.

Their code runs only inside the jail. Unusual: pytest starts and collects once a package, then every candidate costs a
fork, a swap of one function and the tests that reach it (package_worker.py); `fresh` is the ordinary run of pytest on
changed files that has the last word.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from hrm_lab.files import write_atomic
from hrm_lab.swe import jail
from hrm_lab.swe.jail import Limits
from hrm_lab.swe.package_table import Function, Package, functions
from hrm_lab.swe.sandbox import Result, tier

HERE = Path(__file__).parent
SLOW = 0.1  # CPU seconds: a test that takes longer judges no candidate
MAX_CALLS, FEW = 100_000, 5  # that the tests of one candidate may make by a clean run; tests that may make more
PROBE_SECONDS = 3.0  # of CPU
PRELUDE = HERE / "probe_run.py"
PYTEST = ("-c", os.devnull, "-p", "no:cacheprovider", "-W", "ignore", "--continue-on-collection-errors")
ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONNOUSERSITE": "1"}


class PackageError(RuntimeError):
    """A package whose tests cannot be run; one line."""


@dataclass(frozen=True)
class Profile:
    """What clean runs showed: tests that always pass, what each costs, and the functions that each reaches."""

    seconds: dict[str, float]
    calls: dict[str, int]  # of functions, all of them: the cost that is the same in every run
    reached: dict[str, tuple[tuple[str, str, int], ...]]  # test -> (file, name, line)
    imported: tuple[tuple[str, str, int], ...]  # functions that run while the package is imported
    live: tuple[tuple[str, str, int], ...]  # functions that can be swapped
    excluded: dict[str, int]  # reason -> tests

    @cached_property
    def reaching(self) -> dict[tuple[str, str, int], list[str]]:
        """Function -> tests, the cheapest of each test function first, so that few tests are many-sided."""
        by_function = {}
        for test, reached in self.reached.items():
            for function in reached:
                by_function.setdefault(function, {}).setdefault(test.split("[")[0], []).append(test)
        return {function: _turns(groups, self.calls) for function, groups in by_function.items()}

    def save(self, path: Path):
        write_atomic(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Profile":
        values = json.loads(path.read_text())
        keys = {name: tuple(map(tuple, values[name])) for name in ("imported", "live")}
        return cls(**values | keys | {"reached": {t: tuple(map(tuple, f)) for t, f in values["reached"].items()}})


def _turns(groups: dict[str, list[str]], cost: dict[str, int]) -> list[str]:
    places = {test: (place, cost[test], test) for tests in groups.values()
              for place, test in enumerate(sorted(tests, key=lambda t: (cost[t], t)))}
    return sorted(places, key=places.get)


class PackageServer:
    """A package's test suite, collected once inside a jail; each candidate runs in a fork. A context manager.

    Raises `PackageError` when the suite cannot be collected, or the server ends or does not answer.
    """

    def __init__(self, package: Package, root: str | os.PathLike, *, limits: Limits | None = None,
                 profile: Profile | None = None, hash_seed: int = 0, max_tests: int = 40):
        self.package, self.root = package, Path(root).resolve()
        self.limits = limits or Limits(cpu_seconds=0.25)
        self.max_tests, self.hash_seed, self._profile = max_tests, hash_seed, profile
        self.process = _start(package, self.root, "package_worker.py", hash_seed, None)
        self._buffer = b""
        try:
            self._send(_task(package, self.root) | {"code": [package.code], "limits": asdict(self.limits)})
            self.suite = self._receive(120)
        except PackageError:
            self.close()
            raise
        self.jail = self.process.jail

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        jail.kill(self.process)

    def _send(self, value):
        try:
            self.process.stdin.write(json.dumps(value).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise PackageError(f"{self.package.name}: the test server ended ({error})") from error

    def _receive(self, seconds: float):
        """The next answer; `seconds` is a backstop of wall time, the worker's own limits come long before."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise PackageError(f"{self.package.name}: no answer of the test server in {seconds:.0f} s")
            if not (chunk := os.read(self.process.stdout.fileno(), 1 << 20)):
                raise PackageError(f"{self.package.name}: the test server ended; expected an answer")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _ask(self, **request):
        self._send(request)
        return self._receive(600)

    @property
    def profile(self) -> Profile:
        """Measured on first use: `settle` for one that also repeats clean runs to find tests that waver."""
        if self._profile is None:
            self._profile = self.measure()
        return self._profile

    def measure(self) -> Profile:
        """Run every test once under Python's profiler and once directly."""
        answer = self._ask(do="profile", seconds=120)
        passed = [row for row in answer["rows"] if row[1]]
        quick = [row for row in passed if row[2] <= SLOW]
        excluded = {"not passing": len(self.suite["tests"]) - len(passed), "slow": len(passed) - len(quick)}
        return Profile({row[0]: round(row[2], 5) for row in quick}, {row[0]: row[4] for row in quick},
                       {row[0]: tuple(map(tuple, row[3])) for row in quick},
                       tuple(map(tuple, self.suite["imported"])), tuple(map(tuple, self.suite["live"])), excluded)

    def check(self, seed: int, tests: list[str] | None = None) -> set[str]:
        """Tests that pass in an order drawn by `seed`, nothing changed."""
        return set(self._ask(do="check", seed=seed, seconds=120, tests=tests)["passed"])

    @cached_property
    def functions(self) -> dict[tuple[str, str], Function]:
        return {(function.file, function.name): function for function in functions(self.package, self.root)}

    def tests_of(self, function: Function) -> list[str]:
        """Tests that reach a function in the order in which they run: at most `max_tests`, and not too much work."""
        chosen, calls = [], 0
        for test in self.profile.reaching.get((function.file, function.name, function.line), [])[:self.max_tests]:
            calls += self.profile.calls[test]
            if len(chosen) >= FEW and calls > MAX_CALLS:
                break
            chosen.append(test)
        return chosen

    @cached_property
    def _fixed(self) -> tuple[set, set]:
        """Functions that run while the package is imported, and those that can be swapped."""
        return tuple({tuple(key) for key in self.suite[what]} for what in ("imported", "live"))

    def swappable(self, function: Function) -> bool:
        """Whether tests reach a function and its code can be swapped after the import."""
        imported, live = self._fixed
        key = (function.file, function.name, function.line)
        return key in live and key not in imported and key in self.profile.reaching

    def run(self, file: str, function: str, source: str, tests: list[str] | None = None, *,
            seconds: float | None = None, trace: bool = False, stop: bool = False) -> Result:
        """Judge `source` as the text of `function` in `file`; tests: pytest node ids, default those that reach it.

        seconds: of CPU at most, by default ten times what the tests take. trace: tell which lines of `source` (1 is its
        `def`) each test runs, for ten times the CPU time. stop: at the first test that does not pass; the rest are
        "not run". Raises `PackageError`: no such function or test.
        """
        target = self._function(file, function)
        if (target.file, target.name, target.line) in self._fixed[0]:
            return Result("parses", "unswappable", {}, 0.0, "it runs while the package is imported", self.jail)
        tests = self.tests_of(target) if tests is None else tests
        known = self._profile.seconds if self._profile else {}
        if seconds is None:
            seconds = self.limits.cpu_seconds + 10 * sum(known.get(test, SLOW) for test in tests)
        answer = self._ask(do="run", file=file, name=function, line=target.line, source=source, tests=tests,
                           seconds=seconds * (10 if trace else 1), trace=trace, stop=stop)
        if answer["outcome"] == "no test":
            raise PackageError(f"{self.package.name}: no test {answer['output']!r} in the suite")
        return _judged(answer, tests, self.limits, self.jail, "not run" if stop else "error")

    def probe(self, file: str, function: str, source: str, tests: Iterable[str]) -> str:
        """What `source`, a function that probe.py instrumented, prints after the tests; "" if it cannot be run."""
        target = self._function(file, function)
        return self._ask(do="probe", file=file, name=function, line=target.line, source=source, tests=list(tests),
                         prelude=PRELUDE.read_text(encoding="utf-8"), seconds=PROBE_SECONDS)["output"]

    def _function(self, file: str, name: str) -> Function:
        if (found := self.functions.get((file, name))) is None:
            raise PackageError(f"{self.package.name}: no single function {name!r} in {file}; expected one")
        return found


def _judged(answer: dict, tests: list[str], limits: Limits, kind: str, left: str = "error") -> Result:
    """An answer of the worker in the words of the sandbox. left: what a test has that a run to its end did not run."""
    outcome, named, output = answer["outcome"], answer["tests"], answer["output"][:limits.output_bytes]
    if outcome in ("unparsed", "parses", "unswappable"):
        return Result("unparsed" if outcome == "unparsed" else "parses",
                      "unswappable" if outcome == "unswappable" else "failed",
                      dict.fromkeys(tests, "error"), answer["seconds"], output, kind)
    named = {test: named.get(test, left if outcome == "done" else outcome) for test in tests}
    if outcome == "done":
        outcome = "passed" if set(named.values()) == {"passed"} else "failed"
    return Result(tier(named.values()), outcome, named, answer["seconds"], output, kind,
                  messages=answer.get("messages", {}),
                  lines={test: tuple(lines) for test, lines in answer.get("lines", {}).items() if lines})


def _task(package: Package, root: Path) -> dict:
    tests = [str(path) for pattern in package.tests for path in sorted(root.glob(pattern))]
    if not tests:
        raise PackageError(f"{package.name}: no tests at {', '.join(package.tests)} in {root}")
    return {"root": str(root), "path": [str(root / package.path)], "tests": tests,
            "options": [*PYTEST, "--rootdir", str(root), "--confcutdir", str(root)]}


def _start(package: Package, root: Path, script: str, hash_seed: int, limits: Limits | None):
    return jail.start([sys.executable, "-s", "-B", str(HERE / script)], cwd=root, limits=limits, server=limits is None,
                      readable=[root, HERE], env=ENVIRONMENT | {"PYTHONHASHSEED": str(hash_seed)},
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def settle(package: Package, root: Path, repeats: int = 2) -> Profile:
    """A profile whose tests pass in every clean run: `repeats` random orders, half under another hash seed."""
    with PackageServer(package, root) as server:
        profile = server.measure()
        steady = server.check(0)
    with PackageServer(package, root, hash_seed=1) as server:
        for seed in range(1, repeats):
            steady &= server.check(seed)
    seconds, calls, reached = ({test: value for test, value in part.items() if test in steady}
                               for part in (profile.seconds, profile.calls, profile.reached))
    return replace(profile, seconds=seconds, calls=calls, reached=reached,
                   excluded=profile.excluded | {"wavering": len(profile.seconds) - len(seconds)})


def fresh(package: Package, root: str | os.PathLike, changes: dict[str, str], tests: list[str],
          limits: Limits | None = None) -> Result:
    """Tests in a new pytest on a copy of the package with `changes` (file -> text); this alone calls a patch final."""
    limits = limits or Limits(cpu_seconds=30, wall_seconds=120)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "package"
        shutil.copytree(root, copy)
        for file, text in changes.items():
            (copy / file).write_text(text, encoding="utf-8", newline="")
        process = _start(package, copy, "package_fresh.py", 0, limits)
        files = sorted({str(copy / test.split("::")[0]) for test in tests})
        order = json.dumps(_task(package, copy) | {"fresh": list(tests), "tests": files}).encode() + b"\n"
        try:
            out, _ = process.communicate(order, timeout=limits.wall_seconds)
            answer = json.loads(out)
        except (subprocess.TimeoutExpired, ValueError):
            answer = {"tests": {}, "output": "pytest did not finish"}
        finally:
            jail.kill(process)
    outcome = "done" if all(test in answer["tests"] for test in tests) else "killed"
    return _judged(answer | {"outcome": outcome, "seconds": 0.0}, tests, limits, process.jail)
