"""The process inside the jail: pytest is started once, then a child forks for every candidate and goes on as pytest.

A script that imports the standard library, pytest and its neighbours; project_tests.py starts and feeds it. Unusual:
the fork happens inside pytest's own run, after its configuration and before it collects, so that each child collects
and runs the user's tests with pytest's own code: fixtures, parametrize, conftest, classes, files beside the tests.
Whatever imports the program's file, under any name, gets the candidate, which is also on disk for those who open it.
If the configuration itself imports the program (a conftest.py does), the fork comes before it ("whole").
"fresh" has no fork, no fuel and no replaced import: an ordinary pytest run of files on disk, which alone is final.
Modules from outside the project that the first child imported are imported once, in the parent, for all others.

Every line of a report bears a nonce: [nonce, "test", id, outcome, message, fuel used, lines of the program that ran].
"""

import ast
import builtins
import contextlib
import gc
import importlib.machinery
import json
import math
import os
import random
import resource
import signal
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fuel as fuel_points  # noqa: E402
import jail_init  # noqa: E402
import observe  # noqa: E402
import sandbox_worker  # noqa: E402

sys.path.pop(0)
for _name in ("fuel", "jail_init", "observe", "sandbox_worker"):  # the user's modules may bear these names
    del sys.modules[_name]
OPTIONS = ["-q", "--tb=short", "--no-header", "--continue-on-collection-errors", "-p", "no:cacheprovider",
           "-p", "no:faulthandler"]
MESSAGE = 300  # characters of a test's failure
TEXT = 3000  # characters of a failed collection
get_code = importlib.machinery.SourceFileLoader.get_code


def describe(error: BaseException) -> tuple[str, str]:
    """(outcome, what it said on one line) of what ended a test."""
    if type(error) is fuel_points.OutOfFuel:
        return "fuel", "out of fuel"
    first = (str(error).strip().splitlines() or [""])[0][:MESSAGE]
    failed = isinstance(error, (AssertionError, pytest.fail.Exception))
    kind = "memory" if isinstance(error, MemoryError) else "failed" if failed else "error"
    name = "AssertionError" if isinstance(error, AssertionError) else type(error).__name__
    return kind, first if first.startswith(name) else f"{name}: {first}"


class Worker:
    """A pytest plugin: serves candidates where `mode` says, and in a child reports what becomes of each test."""

    def __init__(self, orders, requests, replies):
        self.orders, self.requests, self.replies = orders, requests, replies
        self.programs = set(orders["programs"])
        self.code, self.imports, self.report = None, 0, None
        self.fuel = self.left = orders["limits"]["fuel"]
        self.tracing, self.lines, self.outcome, self.message = False, set(), None, ""
        self.only, self.probed = None, None
        self.outside = [folder + os.sep for folder in (orders["root"], os.path.dirname(orders["programs"][-1]))]
        self.others = 2 if os.getpid() == 1 or orders["mode"] == "fresh" else jail_init.own_tasks()

    # ------------------------------------------------------------ the program

    def replace_imports(self):
        """Let every import of the program's file give the candidate; if fresh, only where the copy is passed by."""
        fresh = self.orders["mode"] == "fresh"

        def given(loader, name):
            path = os.path.realpath(loader.path)
            if path not in self.programs:
                return get_code(loader, name)
            self.imports += 1
            if not fresh:
                return self.code
            return get_code(loader, name) if path == self.orders["programs"][0] else self.plain

        importlib.machinery.SourceFileLoader.get_code = given

    def compiled(self, text: str):
        path = self.orders["programs"][0]
        return compile(fuel_points.instrument(ast.parse(text)), path, "exec", dont_inherit=True)

    # ------------------------------------------------------------ the server

    def serve(self) -> bool:
        """Answer requests; returns in every child, and in the parent when there are no more."""
        folders = {folder: set(os.listdir(folder)) for folder in self.orders["folders"]}
        pristine = self.listing()
        sandbox_worker.send(self.replies, {"ready": True, "imports": self.imports})
        gc.collect()
        gc.freeze()
        while (job := sandbox_worker.receive(self.requests)) is not None:
            self.preload(job["preload"])
            try:
                self.code = self.compiled(job["program"])
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                sandbox_worker.send(self.replies, {"unparsed": f"{type(error).__name__}: {error}", "whole": True})
                continue
            with open(self.orders["programs"][0], "w", encoding="utf-8", newline="") as file:
                file.write(job["program"])
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            (result, to_result), (output, to_output) = os.pipe(), os.pipe()
            nonce = os.urandom(16).hex()
            child = os.fork()
            if not child:
                self.begin(job, nonce, to_result, to_output)
                return True
            os.close(to_result)
            os.close(to_output)
            os.set_blocking(result, False)
            os.set_blocking(output, False)
            found = sandbox_worker.wait(child, result, output, job["limits"], True)
            os.close(result)
            os.close(output)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            whole = self.restore(pristine) and sandbox_worker.clean(folders)
            cpu_full = seconds >= math.floor(job["limits"]["cpu_seconds"]) + 1
            sandbox_worker.send(self.replies, found | {"nonce": nonce, "seconds": seconds, "whole": whole,
                                                       "cpu_full": cpu_full})
        return False

    def preload(self, modules: list[str]):
        """Import what a child imported, once for all the others: nothing of the project, whose state is a child's."""
        for name in modules:
            with contextlib.suppress(BaseException):
                importlib.import_module(name)
        if modules:
            gc.collect()
            gc.freeze()

    def imported(self) -> list[str]:
        """Modules that this child imported from outside the project."""
        new = [(name, getattr(sys.modules[name], "__file__", None)) for name in sys.modules.keys() - self.known]
        return sorted(name for name, file in new if name != "__main__" and file and os.path.isabs(file)
                      and not file.startswith(tuple(self.outside)))

    def listing(self) -> dict:
        """(size, time of change) of each file of the project but the program and caches."""
        found = {}
        for parent, folders, names in os.walk(self.orders["root"]):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for path in (os.path.join(parent, name) for name in names):
                if path not in self.programs:
                    status = os.lstat(path)
                    found[path] = (status.st_size, status.st_mtime_ns)
        return found

    def restore(self, pristine: dict) -> bool:
        """Remove the files that a candidate left in the project; False if it changed or removed one."""
        now = self.listing()
        try:
            for path in now.keys() - pristine.keys():
                os.unlink(path)
        except OSError:
            return False
        return all(now.get(path) == status for path, status in pristine.items())

    # ------------------------------------------------------------ the child

    def begin(self, job, nonce, result, output):
        """What a child does first: descriptors, limits, seed."""
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(fd, target)
        self.requests = self.replies = None
        self.known = set(sys.modules)
        os.closerange(3, result)
        os.closerange(result + 1, 256)
        limits = job["limits"]
        self.fuel, self.left, self.tracing = limits["fuel"], 1.5 * limits["fuel"], job["trace"]
        self.only = job["only"] and tuple(job["only"])
        jail_init.set_limits(limits, self.others)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, limits["cpu_seconds"])
        random.seed(0)
        gc.disable()
        self.reports_to(nonce, result)
        self.refill()
        self.look()

    def reports_to(self, nonce, fd):
        def report(*row):
            data = (json.dumps([nonce, *row]) + "\n").encode()
            while data:
                data = data[os.write(fd, data):]

        self.report = report

    def refill(self):
        """A tank for the next test; those after one that emptied it share half as much."""
        self.tank = fuel_points.Tank(int(max(1, min(self.fuel, self.left))))
        builtins.__tick__ = self.tank.tick

    def look(self):
        """Note the lines of the program that run from here on."""
        self.lines, left, wanted = set(), observe.MOST_LINES, self.orders["programs"][0]
        if not self.tracing:
            return
        lines = self.lines

        def inside(frame, event, _):
            nonlocal left
            if event == "line":
                lines.add(frame.f_lineno)
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    return None
            return inside

        sys.settrace(lambda frame, event, _: inside if frame.f_code.co_filename == wanted else None)

    def seen(self) -> list[int] | None:
        sys.settrace(None)
        return sorted(self.lines) if self.tracing else None

    # ------------------------------------------------------------ pytest's hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session):
        if self.orders["mode"] == "collect" and not self.serve():
            os._exit(0)

    def pytest_collectreport(self, report):
        if report.failed:
            self.report("collection", report.nodeid, str(report.longreprtext)[-TEXT:])

    def pytest_itemcollected(self, item):
        if self.orders["mode"] != "fresh":  # a traceback as text is dear, and nobody reads it
            item.repr_failure = lambda excinfo, style=None: ""

    def pytest_assertrepr_compare(self, op, left, right):
        if self.orders["mode"] != "fresh":  # pytest's own words leave out what the probe needs, and take longer
            return [observe.show(left, op, right).removeprefix("assert ")]

    def pytest_collection_modifyitems(self, items):
        if self.only:
            known = {item.nodeid: item for item in items}
            items[:] = [known[name] for name in self.only if name in known]  # in this order
            self.probed = next((module for module in list(sys.modules.values())
                                if "__probe_next__" in getattr(module, "__dict__", ())), None)

    def pytest_collection_finish(self, session):
        self.report("imported", self.imports, self.seen())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        self.outcome, self.message = None, ""
        if self.probed:
            self.probed.__probe_next__()
        if self.orders["mode"] != "fresh":
            self.refill()
            self.look()
        try:
            return (yield)
        finally:
            lines, used = None, 0
            if self.orders["mode"] != "fresh":
                lines, used = self.seen(), self.tank.used()
                if self.tank.empty():
                    self.left -= used
                    self.outcome, self.message = "fuel", "out of fuel"
            self.report("test", item.nodeid, self.outcome or "error", self.message, used, lines)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session):
        result = yield
        if self.probed:
            self.refill()
            self.probed.__probe_report__()
            sys.stdout.flush()
        if self.orders["mode"] != "fresh":  # summaries are for people
            self.report("end", int(bool(session.testsfailed)), self.imported() if self.tracing else [], self.imports)
            os._exit(0)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if report.failed and self.outcome not in ("failed", "error", "fuel", "memory"):
            self.outcome, self.message = ("failed", "the test passed, but was expected to fail") \
                if call.excinfo is None else describe(call.excinfo.value)
        return report

    def pytest_runtest_logreport(self, report):
        if report.failed:  # of a subtest, too, whose test may pass all the same
            self.outcome = self.outcome if self.outcome not in (None, "passed", "skipped") else "failed"
        elif self.outcome is None and (report.when == "call" or report.skipped):
            self.outcome = "passed" if report.passed else "skipped"


def main():
    if len(sys.argv) > 1:
        with os.fdopen(int(sys.argv[1]), "rb") as file:
            orders = json.load(file)
        requests = replies = None
    else:
        requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        orders = sandbox_worker.receive(requests)
    worker, fresh = Worker(orders, requests, replies), orders["mode"] == "fresh"
    sys.argv = ["pytest"]
    sys.path += [path for path in orders["path"] if path not in sys.path]
    worker.replace_imports()
    if fresh:
        worker.plain = compile(orders["program"], orders["programs"][0], "exec", dont_inherit=True)
        worker.reports_to(orders["nonce"], orders["result"])
    else:
        told, null = tempfile.TemporaryFile(), os.open(os.devnull, os.O_RDWR)  # noqa: SIM115 (lives as long)
        for fd, target in ((null, 0), (told.fileno(), 1), (told.fileno(), 2)):
            os.dup2(fd, target)
        worker.code = worker.compiled(orders["program"])
        worker.refill()
        if orders["mode"] == "whole" and not worker.serve():
            return
    capture = [] if fresh else ["-s"]
    status = int(pytest.main([*OPTIONS, *capture, *orders["options"], *orders["tests"]], plugins=[worker]))
    sys.stdout.flush()
    sys.stderr.flush()
    if worker.report:
        worker.report("end", status, [], worker.imports)
        os._exit(0)
    told.seek(0)
    sandbox_worker.send(replies, {"error": told.read().decode("utf-8", "replace")[-TEXT:]})


if __name__ == "__main__":
    main()
