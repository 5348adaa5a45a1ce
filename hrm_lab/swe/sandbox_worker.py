"""The fork server inside the jail: a child per candidate. Standard library only; `sandbox.Server` starts and feeds it.

It never runs a candidate itself, so that nothing that one does (rebound builtins, patched modules, threads, signal
handlers, limits, seeds) is there for the next; files, processes and changes of the server's own limits are undone or
end the server, and the caller starts a fresh one. As first process of its pid namespace it cannot be killed by what
it runs, and it is not dumpable: a candidate of the same uid cannot trace it.

What a candidate can forge: the child's harness runs in the candidate's interpreter, so its word is taken only with a
nonce that is drawn for each candidate, the complete list of tests in order, the same builtins and test modules as
before, and one decoy test that must fail. That stops exits, writes to every open pipe, patched runners and rebound
names. It does not stop a candidate that walks the frames of its caller to find the harness, or whose values claim to
be equal to everything; no check inside one interpreter does. Edits of a program in its own names do not do that, and
`sandbox.confirm` runs the rest in a fresh pytest with none of this code.
Messages: four bytes of length, big-endian, then JSON. Results of a child: lines of nonce, test, outcome, message; if
the job asks for a trace also nonce, "lines" + test, line numbers.
"""

import ast
import contextlib
import gc
import importlib
import json
import math
import os
import re
import resource
import select
import shutil
import signal
import struct
import sys
import time
import types

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fuel as fuel_points  # noqa: E402
import jail_init  # noqa: E402
import observe  # noqa: E402

sys.path.pop(0)
# modules that do nothing when they are imported, and that small programs use: imported once, here
QUIET = frozenset("abc array bisect cmath collections contextlib copy dataclasses datetime decimal enum fractions "
                  "functools hashlib heapq itertools json math numbers operator queue random re statistics string "
                  "struct textwrap time types typing unicodedata".split())
IMPORTS = re.compile(r"^.*import.*$", re.MULTILINE)
DECOY = compile("assert 0 == 1", "<decoy>", "exec")
FORGE_BYTES = 1 << 20  # more than any honest list of results
SAID, SAY = 100, 200  # messages of a candidate, and characters of each, that are reported


def receive(stream) -> dict | None:
    head = stream.read(4)
    return json.loads(stream.read(struct.unpack(">I", head)[0])) if len(head) == 4 else None


def send(stream, message: dict):
    data = json.dumps(message).encode()
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


# ---------------------------------------------------------------- the child


def run_one(run, tank, outcomes=("passed", "failed", "error", "memory", "exited", "fuel")) -> tuple[str, str]:
    """Outcome and message of one call; nothing that it raises gets out."""
    passed, failed, broken, memory, exited, fuel = outcomes
    try:
        run()
        found = (passed, "")
    except AssertionError as error:
        found = (failed, f"AssertionError: {error}")
    except MemoryError as error:
        found = (memory, repr(error))
    except SystemExit as error:
        found = (exited, repr(error))
    except BaseException as error:
        kind = type(error).__name__  # `Failed` is pytest's own: `raises` saw nothing raised
        found = (failed if kind == "Failed" else broken, f"{kind}: {error}")
    return (fuel, "out of fuel") if tank.empty() else found


def child(code: types.CodeType, suite: dict, limits: dict, nonce: str, decoy: int, result: int):
    """Run the program and its tests in this process, reporting each; the caller ends it."""
    write, said, traced = os.write, 0, suite["trace"]

    def report(what, value, message=""):
        nonlocal said
        if message:
            said += 1
            message = message[:SAY].replace("\n", " ") if said <= SAID else ""
        write(result, f"{nonce} {what} {value} {message}\n".encode("utf-8", "replace"))

    def look(what, run):
        """Outcome and message of one call, its lines reported if they are asked for."""
        found = []
        if traced:
            lines = observe.lines_of(lambda: found.extend(run_one(run, tank)), code.co_filename)
            report(f"lines{what}", ",".join(map(str, sorted(lines))))
        return found or run_one(run, tank)

    tank = fuel_points.Tank(suite["fuel"])
    module = types.ModuleType(suite["module"])
    module.__dict__["__tick__"] = tank.tick
    for name in suite["aliases"]:
        sys.modules[name] = module
    outcome, message = look("import", lambda: exec(code, module.__dict__))
    report("import", outcome, message)
    if outcome == "passed":
        names = dict(module.__dict__, __name__="tests", __builtins__=suite["builtins"], __show__=observe.show)
        outcome, message = run_one(lambda: exec(suite["setup"], names), tank)
        report("setup", outcome, message)
    if outcome == "passed":
        tests = [*suite["tests"][:decoy], DECOY, *suite["tests"][decoy:]]
        for i, test in enumerate(tests):
            if tank.empty():
                report(i, "fuel")
            else:
                outcome, message = look(i, lambda code=test: exec(code, names))
                report(i, outcome, message if test is not DECOY else "")
    for names, name, value in suite["watched"]:
        if names.get(name) is not value:
            report("forged", "forged", f"rebinds {name}")
    report("end", tank.used())


def in_child(code: types.CodeType, suite: dict, limits: dict, nonce: str, decoy: int, result: int, output: int):
    """Everything after the fork: limits, descriptors, the run, the end. Never returns."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(fd, target)
        os.closerange(3, result)
        os.closerange(result + 1, 256)
        resource.setrlimit(resource.RLIMIT_CPU, suite["cpu"])
        signal.setitimer(signal.ITIMER_PROF, limits["cpu_seconds"])
        if "random" in sys.modules:
            sys.modules["random"].seed(0)
        child(code, suite, limits, nonce, decoy, result)
        sys.stdout.flush()
        sys.stderr.flush()
    except MemoryError:
        os._exit(71)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(70)
    os._exit(0)


# ---------------------------------------------------------------- the server


def drain(fd: int, kept: bytearray, keep: int) -> int:
    """Read what is there without waiting; the number of bytes, of which at most `keep` in all are kept."""
    seen = 0
    while True:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return seen
        if not data:
            return seen
        seen += len(data)
        kept += data[:max(0, keep - len(kept))]


def worked(pid: int) -> float:
    """A number that changes while a process, not yet waited for, works or has children; nan: nobody knows."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        if not file.read():
            return time.clock_gettime((~pid << 3) | 2)  # its CPU time, as clock_getcpuclockid(3) names the clock
    return math.nan


def wait(pid: int, result: int, output: int, limits: dict, traced: bool) -> dict:
    """Follow one child to its end, or end it: {"status", "cut", "results", "output"}; a trace may fill its pipe."""
    results, printed, seen, cut, status = bytearray(), bytearray(), 0, "", None
    poll, deadline = select.poll(), time.monotonic() + limits["wall_seconds"]
    idle, last, since = limits.get("idle_seconds") or math.inf, math.nan, time.monotonic()
    watch = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    for fd in filter(None, (watch, output, traced and result)):
        poll.register(fd, select.POLLIN)
    while status is None:
        left = deadline - time.monotonic()
        ready = poll.poll(1000 * max(0, min(left, 1 if watch else 0.005)))
        ended, found = os.waitpid(pid, os.WNOHANG)
        status = found if ended else None
        if any(fd == output for fd, _ in ready):
            seen += drain(output, printed, limits["output_bytes"])
            if any(event & select.POLLHUP for fd, event in ready if fd == output):
                poll.unregister(output)
        drain(result, results, FORGE_BYTES + 1)
        if status is None and idle < math.inf and (now := worked(pid)) != last:  # nan differs from itself
            last, since = now, time.monotonic()
        late = left <= 0 or time.monotonic() - since > idle
        cut = "output" if seen > limits["file_mb"] << 20 else "wall" if late else ""
        if cut and status is None:
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
    if watch:
        os.close(watch)
    jail_init.kill_the_rest()
    drain(output, printed, limits["output_bytes"])
    drain(result, results, FORGE_BYTES + 1)
    return {"status": status, "cut": cut, "results": results.decode("utf-8", "replace"),
            "output": printed.decode("utf-8", "replace")}


def own_state() -> tuple:
    """What another process of the same uid could change in this one."""
    limits = [resource.getrlimit(number) for number in range(16)] if sys.platform == "linux" else []
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return limits, affinity, os.getpriority(os.PRIO_PROCESS, 0)


def clean(folders: dict[str, set[str]]) -> bool:
    """Remove from the folders that candidates can write all but the names given; False if that does not succeed."""
    try:
        for folder, kept in folders.items():
            for entry in os.scandir(folder):
                if entry.name in kept:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    for parent, _, _ in os.walk(entry.path):
                        os.chmod(parent, 0o700)
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
    except OSError:
        return False
    return True


def prepare(source: str, name: str) -> types.CodeType | tuple[str, str]:
    """Code of the program with fuel points, or the tier that it reached and why no further.

    Here and not in the child: memory that a child touches first costs it a page fault, ten times the work itself.
    """
    reached = "unparsed"
    try:
        tree = ast.parse(source)
        reached = "parses"
        return compile(fuel_points.instrument(tree), f"{name}.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return reached, f"{type(error).__name__}: {error}"


def preload(source: str):
    """Import what the program imports, if that has no effect; then share all that lives with the children."""
    words = {word for line in IMPORTS.findall(source) for word in re.findall(r"\w+", line)}
    new = (words & QUIET) - sys.modules.keys()
    for name in sorted(new):
        importlib.import_module(name)
    if new:
        gc.collect()
        gc.freeze()


def names_of(code: types.CodeType) -> set[str]:
    """Names that the code looks up, and those of the functions in it."""
    return set(code.co_names).union(*(names_of(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def load(orders: dict) -> dict:
    """Compile the tests and import what they import: the state from which every child starts."""
    sys.path += orders["path"]
    names = {"__name__": "prelude"}
    exec(compile(orders["prelude"], "prelude.py", "exec", dont_inherit=True), names)
    suite = {key: orders[key] for key in ("module", "aliases")}
    modules = [name for name in orders["imports"] if name not in orders["aliases"]]
    suite["builtins"] = sys.modules["builtins"]
    modules = [suite["builtins"], *(importlib.import_module(name) for name in modules)]
    suite["setup"], *suite["tests"] = (compile(observe.explain(ast.parse(text)), "test_program.py", "exec",
                                               dont_inherit=True) for text in (orders["setup"], *orders["tests"]))
    used = set().union(*map(names_of, [suite["setup"], *suite["tests"]]))
    suite["watched"] = [(module.__dict__, name, value) for module in modules
                        for name, value in module.__dict__.items() if name in used and callable(value)]
    return suite


def serve(requests, replies):
    orders = receive(requests)
    limits, folders = orders["limits"], {folder: set(os.listdir(folder)) for folder in orders["folders"]}
    if sys.platform == "linux":
        jail_init.call("prctl", 4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
        jail_init.call("prctl", jail_init.PR_SET_SUBREAPER, 1, 0, 0, 0)
    orders["others"] = 2 if os.getpid() == 1 else jail_init.own_tasks()
    try:
        suite = load(orders)
        jail_init.set_limits(limits, orders["others"], without="RLIMIT_CPU")  # that one is for each child alone
        suite["cpu"] = jail_init.cpu_limit(limits)
    except Exception as error:
        send(replies, {"error": f"{type(error).__name__}: {error}"})
        return
    send(replies, {"ready": True})
    state = own_state()
    gc.collect()
    gc.freeze()
    while (job := receive(requests)) is not None:
        preload(job["program"])
        suite["fuel"], suite["trace"] = job["fuel"], job["trace"]
        code = prepare(job["program"], suite["module"])
        if isinstance(code, tuple):
            send(replies, {"reached": code[0], "message": code[1], "whole": True})
            continue
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        (result, to_result), (output, to_output) = os.pipe(), os.pipe()
        nonce, decoy = os.urandom(16).hex(), int.from_bytes(os.urandom(4), "big") % (len(suite["tests"]) + 1)
        pid = os.fork()
        if not pid:
            in_child(code, suite, limits, nonce, decoy, to_result, to_output)
        os.close(to_result)
        os.close(to_output)
        os.set_blocking(result, False)
        os.set_blocking(output, False)
        found = wait(pid, result, output, limits, job["trace"])
        os.close(result)
        os.close(output)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found["seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        whole = clean(folders) and own_state() == state
        send(replies, found | {"nonce": nonce, "decoy": decoy, "whole": whole,
                               "cpu_full": found["seconds"] >= math.floor(limits["cpu_seconds"]) + 1})
        if not whole:
            return


if __name__ == "__main__":
    in_fd, out_fd = os.dup(0), os.dup(1)
    devnull = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(devnull, number)
    serve(os.fdopen(in_fd, "rb"), os.fdopen(out_fd, "wb"))
