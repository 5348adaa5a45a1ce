"""Run candidates against tests, thousands a minute, and say what happened to each. Jails are in jail.py.

`Server` forks a child per candidate in one jailed process (sandbox_worker.py); `confirm` runs a fresh pytest and alone
may call a patch final; `run_command` runs a program of any language. Verdicts depend on fuel (fuel.py) and CPU time,
never on the wall clock, which is only a backstop against sleeping.

Unusual: tests are taken apart (`split_tests`), so that each assertion of a HumanEval `check` and each test function
has an outcome of its own; a search can then reward a candidate that mends one of three failures.
"""

import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from . import jail
from .jail import Limits
from .sandbox_worker import receive, send
from .split import Suite, split_tests, suite

__all__ = ["Limits", "Result", "Server", "confirm", "run_command", "split_tests"]
WORKER = Path(__file__).with_name("sandbox_worker.py")
TIERS = ("unparsed", "parses", "compiles", "imports", "runs", "some", "all")
GRACE = 10.0  # seconds for a server to answer beyond a candidate's own wall limit
PYTEST_CPU = 10.0  # seconds that pytest may use to start, beyond a candidate's own limit


@dataclass(frozen=True)
class Result:
    """What happened to one candidate.

    `outcome` is "passed" (every test), "failed" (an ordinary failure), or what ended it: "fuel", "cpu", "memory",
    "output" (printed more than a file may hold), "wall" (slept), "exited", "killed" (by a signal), "forged" (reported
    what the harness did not, or rebound what the tests use), "no toolchain". A test has "passed", "failed" (an
    assertion), "error" (another exception), or the outcome that ended it.
    """

    tier: str
    outcome: str
    tests: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # of CPU, all processes of the candidate
    output: str = ""
    jail: str = ""
    ticks: int = 0  # fuel used
    code: int | None = None  # return code of a command
    messages: dict[str, str] = field(default_factory=dict)  # test that did not pass -> what it said, on one line
    lines: dict[str, tuple[int, ...]] = field(default_factory=dict)  # test, or "import" -> lines that it ran, if traced


def tier(tests: Iterable[str]) -> str:
    """The tier of a candidate whose module could be imported, by the outcomes of its tests."""
    seen = set(tests)
    return "all" if seen == {"passed"} else "some" if "passed" in seen else "runs" if "failed" in seen else "imports"


def ending(status: int, cpu_full: bool, complete: bool) -> str:
    """What a wait status means: "" for a normal end."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        by_cpu = number in (signal.SIGPROF, signal.SIGXCPU) or number == signal.SIGKILL and cpu_full
        return "cpu" if by_cpu else "output" if number == signal.SIGXFSZ else "killed"
    if os.WEXITSTATUS(status) == 71:
        return "memory"
    return "" if complete else "exited"


def judge(reply: dict, names: list[str], kind: str) -> Result:
    """The result of one candidate from what the server saw: every line must bear the nonce, in order, decoy failed."""
    if "reached" in reply:
        return Result(reply["reached"], "failed", dict.fromkeys(names, "error"), output=reply["message"], jail=kind)
    nonce, decoy, forged, records = reply["nonce"], reply["decoy"], False, []
    lines = reply["results"].split("\n")
    torn = lines.pop()  # a line that the end cut off, or ""
    for line in lines:
        bearer, what, value, message = (*line.split(" ", 3), "", "", "")[:4]
        if bearer != nonce:
            forged = True
            break
        records.append((int(what) if what.isdigit() else what, value, message))
    forged |= bool(torn) and not torn.startswith(nonce[:len(torn)])
    said = {what: value for what, value, _ in records if isinstance(what, str)}
    texts = "\n".join([message for _, _, message in records if message][:3])
    output = reply["output"] + ("\n" if reply["output"] and texts else "") + texts
    shown = {str(i + (i >= decoy)): name for i, name in enumerate(names)}
    common = {"seconds": reply["seconds"], "output": output, "jail": kind, "ticks": int(said.get("end") or 0),
              "messages": {shown[str(what)]: message for what, _, message in records if message and str(what) in shown},
              "lines": {(shown | {"import": "import"})[what[5:]]: tuple(map(int, filter(None, value.split(","))))
                        for what, value in said.items() if what[:5] == "lines" and what[5:] in {*shown, "import"}}}
    outcomes = [(what, value) for what, value, _ in records if isinstance(what, int)]
    seen = dict(outcomes)
    forged |= [i for i, _ in outcomes] != list(range(len(outcomes))) or len(outcomes) > len(names) + 1
    forged |= "forged" in said or seen.pop(decoy, "failed") not in ("failed", "fuel")
    complete = "end" in said and (len(outcomes) == len(names) + 1 or said.get("setup") != "passed")
    end = "forged" if forged else reply["cut"] or ending(reply["status"], reply["cpu_full"], complete)
    first = next((v for v in (said.get("import"), said.get("setup")) if v not in (None, "passed")), None)
    tests = {name: seen.get(i + (i >= decoy), end or first or "error") for i, name in enumerate(names)}
    if end == "forged":
        tests = dict.fromkeys(names, "forged")
    abnormal = [v for v in [first, *tests.values()] if v in ("fuel", "memory", "exited")]
    outcome = end or (abnormal or ["passed" if tests and set(tests.values()) == {"passed"} else "failed"])[0]
    reached = tier(tests.values()) if said.get("import") == "passed" else "compiles"
    return Result(reached, outcome, tests, **common)


def answer(process: subprocess.Popen, limits: Limits) -> dict | None:
    """A server's next message; None if it ended, or gave none in the time of a candidate and some more."""
    try:
        ready = select.select([process.stdout], [], [], limits.wall_seconds + GRACE)[0]
        return receive(process.stdout) if ready else None
    except (OSError, ValueError):
        return None


class Server:
    """Validates candidates for one set of tests. Use it in a `with`; `run` one program, `run_many` in their order.

    `tests` is a pytest module (functions, classes, `parametrize`, no fixtures), a HumanEval `check`, or plain asserts;
    `prelude` runs once before all candidates (imports that they share). `module` is the name under which the tests
    import the program; by default, whatever they import and this Python does not have. A candidate that breaks the
    server gets its outcome, the next one a fresh server. Fuel alone may be changed later: replace `limits`.
    Raises ValueError: tests that do not parse or hold no test; `jail.JailError`: no jail.
    """

    def __init__(self, tests: str | Suite, *, limits: Limits = Limits(), prelude: str = "",  # noqa: B008 (frozen)
                 module: str | None = None):
        self.suite = tests if isinstance(tests, Suite) else suite(tests, module)
        self.limits, self.prelude = limits, prelude
        self.names = [name for name, _ in self.suite.tests]
        self.process, self.jail = None, jail.strongest()

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, *_):
        self.end()

    def begin(self):
        self.process = jail.start([sys.executable, "-S", "-s", "-P", "-B", str(WORKER)], server=True,
                                  readable=[WORKER.parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)  # -S: `site` makes every fork dearer; see "path"
        folders = [self.process.scratch] if self.process.scratch else [jail.SCRATCH, "/tmp", "/dev/shm"]
        with suppress(OSError):  # it ended at once, and gives no reply
            send(self.process.stdin, {"limits": asdict(self.limits), "folders": folders, "prelude": self.prelude,
                                      "path": [path for path in sys.path if path.endswith("-packages")],
                                      **self.suite.orders()})
        ready = self.reply()
        if ready is None or "error" in ready:
            self.end()
            raise ValueError(f"tests or prelude: {(ready or {'error': 'the server ended'})['error']}; expected them "
                             "to be compiled and their imports to be found")

    def end(self):
        if self.process:
            jail.kill(self.process)
            self.process = None

    def reply(self) -> dict | None:
        return answer(self.process, self.limits)

    def run(self, program: str, trace: bool = False) -> Result:
        """Judge one program; with `trace` the result says which lines each test ran, for several times the CPU."""
        if not self.process:
            self.begin()
        try:
            send(self.process.stdin, {"program": program, "fuel": self.limits.fuel, "trace": trace})
            reply = self.reply()
        except OSError:  # it ended between two candidates
            reply = None
        if reply is None or not reply["whole"]:
            self.end()
        if reply is None:
            return Result("compiles", "killed", dict.fromkeys(self.names, "killed"), jail=self.jail,
                          output="the server was killed")
        return judge(reply, self.names, self.jail)

    def run_many(self, programs: Iterable[str]) -> Iterator[Result]:
        for program in programs:
            yield self.run(program)


# ---------------------------------------------------------------- one run in a process of its own


def outcome_of(argv, files: dict[str, str], limits: Limits, stdin: str = "",
               **start) -> tuple[int, str, str, str, float]:
    """Run a jailed command to its end: return code, abnormal outcome or "", stdout, stderr, CPU seconds."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = jail.start(argv, files=files, limits=limits, stdin=given, stdout=out, stderr=err, **start)
        late = threading.Event()

        def expire():
            late.set()
            jail.release(process)

        timer = threading.Timer(limits.wall_seconds, expire)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        jail.kill(process)
        full = max(os.fstat(f.fileno()).st_size for f in (out, err)) >= limits.file_mb << 20
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(limits.output_bytes).decode("utf-8", "replace"))
        seconds = usage.ru_utime + usage.ru_stime
    end = "wall" if late.is_set() else "output" if full else ending(status, seconds >= limits.cpu_seconds, True)
    return process.returncode, end, *texts, seconds


def run_command(argv, files: dict[str, str], limits: Limits = Limits(), stdin: str = "",  # noqa: B008 (frozen)
                **start) -> Result:
    """Run a program of any language in a throw-away folder that holds `files`, without a network.

    The outcome is "passed" if it ends with 0, then `output` is its stdout alone; else "failed", or what ended it, and
    `output` is stdout and stderr. There are no tests: the tier is "all" or "runs". `start`: as for `jail.start`.
    """
    code, end, out, err, seconds = outcome_of(argv, files, limits, stdin, **start)
    outcome = end or ("passed" if code == 0 else "failed")
    return Result("all" if outcome == "passed" else "runs", outcome, {}, seconds,
                  out if outcome == "passed" else out + err, jail.strongest(), code=code)


# What confirm runs: the nonce comes through a pipe that is empty afterwards, the results go into another
RUNNER = """
import os, sys, pytest
nonce = os.read({read}, 32).decode()
os.close({read})
class Report:
    def pytest_runtest_logreport(self, report, write=os.write):
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("::")[2].partition("[")[0]
            crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
            kind = ("passed" if report.outcome == "passed" else
                    "failed" if crash.startswith(("assert", "AssertionError", "Failed")) else "error")
            write({write}, (nonce + " " + kind + " " + name + chr(10)).encode())
sys.exit(pytest.main(["-q", "--tb=short", "-p", "no:cacheprovider", "--rootdir=.", "--confcutdir=.", "-c", "/dev/null",
                      "test_decoy.py", "test_program.py"], plugins=[Report()]))
"""


def confirm(program: str, tests: str, limits: Limits = Limits(), module: str | None = None) -> Result:  # noqa: B008
    """Run the tests in a fresh pytest in the jail, with none of the server's code: alone enough to call a patch final.

    Tests are as for `Server`, and those of a pytest module may use fixtures, too. Every test that the text names must
    report, with a nonce, and a decoy must fail; else the outcome is "forged" or what ended the run. CPU: the
    candidate's limit and that of pytest's own start.
    """
    try:
        compile(program, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Result("unparsed", "failed", output=f"{type(error).__name__}: {error}", jail=jail.strongest())
    taken, (read_nonce, give_nonce), (read, write) = suite(tests, module, calls=False), os.pipe(), os.pipe()
    nonce = secrets.token_hex(16)
    os.write(give_nonce, nonce.encode())
    os.close(give_nonce)
    files = {f"{name}.py": program for name in taken.aliases or [taken.module]}
    files |= {"test_program.py": taken.as_pytest(tests), "test_decoy.py": "def test_decoy():\n    assert 0 == 1\n",
              "run.py": RUNNER.format(read=read_nonce, write=write)}
    wider = replace(limits, cpu_seconds=limits.cpu_seconds + PYTEST_CPU)
    try:
        _, end, out, err, seconds = outcome_of([sys.executable, "-s", "-B", "run.py"], files, wider,
                                               pass_fds=(read_nonce, write),
                                               env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
        os.set_blocking(read, False)
        lines = os.read(read, 1 << 20).decode("utf-8", "replace").splitlines()
    except BlockingIOError:
        lines = []
    finally:
        for fd in (read_nonce, read, write):
            os.close(fd)
    seen: dict[str, str] = {}
    for bearer, kind, name in (line.split(" ", 2) for line in lines if line.count(" ") >= 2):
        seen[name] = kind if seen.get(name, "passed") == "passed" else seen[name]
        end = end or ("forged" if bearer != nonce else "")
    if seen.pop("test_decoy", "failed") == "passed":
        end = "forged"
    pairs = taken.pytest_names()
    missing = end or ("exited" if seen else "error")
    results = {name: "forged" if end == "forged" else seen.get(other, missing) for name, other in pairs}
    passed = set(results.values()) == {"passed"}
    reached = tier(results.values()) if seen else "compiles"
    outcome = end or ("passed" if passed else "exited" if "exited" in results.values() else "failed")
    return Result(reached, outcome, results, seconds, (out + err)[:limits.output_bytes], jail.strongest())
