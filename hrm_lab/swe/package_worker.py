"""The process inside the jail: collects a package's pytest suite once, then forks a child for every candidate.

A script that imports only the standard library, pytest and its neighbours; packages.py starts it and talks to it in
JSON lines over stdin and stdout. Unusual: a candidate is never written to disk. The child swaps `__code__` of the live
function that it changes, as a debugger would, and runs the tests that reach it; a test without fixtures is a plain
call. What cannot be swapped faithfully is "unswappable" and never judged.
"""

import contextlib
import gc
import io
import json
import os
import random
import select
import signal
import sys
import threading
import time
import types

import jail_init  # beside this script
import observe
import package_calls
import package_swap
import pytest
from _pytest.runner import runtestprotocol

del sys.path[0]  # this folder: the package's own modules must not be shadowed
PATIENCE = 5.0  # seconds that a test may take in all when it is profiled; the CPU limit comes much earlier
TRACED = " (traced)"  # after the file's name in a traced candidate's code: no other function bears it


class Worker:
    """A pytest plugin whose test loop answers requests."""

    def __init__(self, task, requests, answers):
        self.root, self.limits, self.requests, self.answers = task["root"], task["limits"], requests, answers
        self.code = tuple(os.path.join(self.root, folder) for folder in task["code"])
        self.imported, self.by_protocol, self.originals, self.error = set(), set(), {}, None
        self.others = 1 if os.getpid() == 1 else jail_init.own_tasks()

    # ------------------------------------------------------------ pytest's hooks

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield  # in it pytest learns what a unittest case raised
        if call.excinfo is not None and self.error is None:
            self.error = call.excinfo.value
        return report

    def pytest_runtest_logreport(self, report):  # of a subtest, whose test may pass all the same
        if report.failed and self.error is None:
            self.error = AssertionError("a subtest failed")

    def pytest_runtestloop(self, session):
        sys.setprofile(None)
        counts = {}
        for item in session.items:
            counts[item.nodeid] = counts.get(item.nodeid, 0) + 1
        self.items = {item.nodeid: item for item in session.items
                      if counts[item.nodeid] == 1 and not hasattr(item.obj, "is_hypothesis_test")}
        self.calls = {name: package_calls.direct_call(item) for name, item in self.items.items()}
        self.live = {}
        for thing in gc.get_objects():
            if type(thing) is types.FunctionType and thing.__code__.co_filename.startswith(self.code):
                self.live.setdefault(self.key(thing.__code__), []).append(thing)
        gc.collect()
        gc.freeze()  # children share these pages for as long as nobody counts references in them
        self.answer({"tests": list(self.items), "imported": sorted(self.imported),
                     "live": sorted(self.live)})
        for line in self.requests:
            request = json.loads(line)
            self.answer(getattr(self, "do_" + request.pop("do"))(**request))
        return True

    def answer(self, value):
        print(json.dumps(value), file=self.answers, flush=True)

    def key(self, code):
        return code.co_filename[len(self.root) + 1:], code.co_qualname, code.co_firstlineno

    def watch(self, seen, calls):
        """A profiler that notes the package's functions, and counts all calls: work that no clock disturbs."""
        def profiler(frame, event, _):
            calls[0] += 1
            if event == "call" and frame.f_code.co_filename.startswith(self.code):
                seen.add(self.key(frame.f_code))
        return profiler

    def run_test(self, name, protocol=False):
        """None if the test passed, else its exception."""
        call = self.calls[name]
        if call is not None and not protocol and name not in self.by_protocol:
            try:
                return call()
            except BaseException as error:  # of unittest itself: KeyboardInterrupt, SystemExit
                return error
        self.error = None
        reports = runtestprotocol(self.items[name], log=False, nextitem=None)
        if self.error is None and not all(report.passed and not hasattr(report, "wasxfail") for report in reports):
            self.error = AssertionError("skipped, or an expected failure")
        return self.error

    def traced(self, name, filename):
        """(None or the exception of a test, the lines that it runs of the code of that file name)."""
        errors = []
        seen = observe.lines_of(lambda: errors.append(self.run_test(name)), filename)
        return errors[0], seen

    # ------------------------------------------------------------ requests

    def do_profile(self, seconds):
        """Each test once, as pytest runs it: [name, passed, CPU seconds, functions, calls]; then the direct calls."""

        def waited_too_long(*_):
            raise TimeoutError("a test that waits")

        def refuse(_):
            raise RuntimeError("tests with threads waver, and do not fit under a limit of processes")

        def watched(report):
            signal.signal(signal.SIGALRM, waited_too_long)
            threading.Thread.start = refuse
            for name in self.items:
                seen, calls, start = set(), [0], time.process_time()
                signal.setitimer(signal.ITIMER_REAL, PATIENCE)
                sys.setprofile(self.watch(seen, calls))
                try:
                    error = self.run_test(name, protocol=True)
                finally:
                    sys.setprofile(None)
                report([name, error is None, time.process_time() - start, sorted(seen), calls[0]])

        rows, outcome, _ = self.fork(watched, seconds)
        passing = [row[0] for row in rows if row[1]]
        directly, _, _ = self.fork(lambda report: [report([n, self.run_test(n) is None]) for n in passing], seconds)
        self.by_protocol = {name for name, passed in directly if not passed}
        return {"rows": rows, "outcome": outcome, "by_protocol": sorted(self.by_protocol)}

    def do_check(self, seed, seconds, tests=None):
        """The names of the tests that pass in a random order, nothing changed."""
        names = list(self.items) if tests is None else [name for name in tests if name in self.items]
        random.Random(seed).shuffle(names)
        rows, outcome, _ = self.fork(lambda report: [report([n, self.run_test(n) is None]) for n in names], seconds)
        return {"passed": [name for name, passed in rows if passed], "outcome": outcome}

    def do_run(self, file, name, line, source, tests, seconds, trace=False, stop=False):
        """Tests of `source` in place of function `name` of `file`, which starts at `line`.

        trace: tell its lines, too; stop: at the first test that does not pass.
        """
        path = os.path.join(self.root, file)
        if refused := self.refused(path, (file, name, line), tests):
            return refused

        def candidate(report):
            code = self.swap(report, path, (file, name, line), source, TRACED * trace)
            told = False
            for test in tests if code else ():
                error, seen = self.traced(test, path + TRACED) if trace else (self.run_test(test), ())
                original = self.originals[path][line]
                report([test, "passed" if error is None else
                        "failed" if isinstance(error, (AssertionError, pytest.fail.Exception)) else "error",
                        package_calls.said(error), sorted(number - original.lineno + 1 for number in seen)])
                if error is not None and not told:
                    told = True
                    report(["why", package_swap.describe(
                        error, test, self.root, path, original, source, code)])
                if error is not None and stop:
                    break

        rows, outcome, spent = self.fork(candidate, seconds)
        answer = {"outcome": outcome, "tests": {}, "messages": {}, "lines": {}, "seconds": spent, "output": ""}
        for row in rows:
            if row[0] in ("unparsed", "parses", "unswappable"):
                answer |= {"outcome": row[0], "output": row[1]}
            elif row[0] == "why":
                answer["output"] = row[1]
            elif row[0] != "swapped":
                answer["tests"][row[0]], message, answer["lines"][row[0]] = row[1:]
                answer["messages"] |= {row[0]: message} if message else {}
        return answer

    def do_probe(self, file, name, line, source, prelude, tests, seconds):
        """What `source`, instrumented by probe.py, prints after the tests; prelude: the text of probe_run.py."""
        path, printed = os.path.join(self.root, file), io.StringIO()

        def instrumented(report):
            inside = {}  # names of its own: the package may have such names, too
            exec(compile(prelude, "probe_run.py", "exec"), inside)
            if self.swap(report, path, (file, name, line), source):
                self.live[file, name, line][0].__globals__.update(
                    {key: value for key, value in inside.items() if key.startswith("__probe_")})
                for test in tests:
                    inside["__probe_next__"]()
                    self.run_test(test)
                with contextlib.redirect_stdout(printed):
                    inside["__probe_report__"]()
                report(["printed", printed.getvalue()])

        refused = self.refused(path, (file, name, line), tests)
        rows = [] if refused else self.fork(instrumented, seconds)[0]
        return {"output": next((row[1] for row in rows if row[0] == "printed"), "")}

    def refused(self, path, key, tests):
        """The answer where a function or a test is not there, or None; notes the function's syntax tree."""
        if missing := [test for test in tests if test not in self.items]:
            return {"outcome": "no test", "tests": {}, "seconds": 0.0, "output": missing[0]}
        if path not in self.originals:
            self.originals[path] = package_swap.functions(path)
        if key[2] not in self.originals[path] or not self.live.get(key):
            return {"outcome": "unswappable", "tests": {}, "seconds": 0.0, "output": "no live function at that line"}
        return None

    def swap(self, report, path, key, source, mark=""):
        """Put `source` in the place of a function, in the child: its code, or None where that cannot be.

        mark: what the code's file name ends with.
        """
        original, live, failed = self.originals[path][key[2]], self.live[key], "unparsed"
        try:
            tree = package_swap.parse(source)
            failed = "parses"
            arguments = tree.body[0].args if tree.body and hasattr(tree.body[0], "args") else None
            code = package_swap.compiled(tree, original, path + mark, key[1], live[0])
            changed = [package_swap.changed_defaults(arguments, original.args, function) for function in live]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            report([failed, str(error)])
            return None
        except LookupError as error:
            report(["unswappable", str(error)])
            return None
        for function, defaults in zip(live, changed, strict=True):
            function.__code__ = code
            for attribute, value in defaults.items():
                setattr(function, attribute, value)
        report(["swapped"])
        return code

    # ------------------------------------------------------------ the fork

    def fork(self, job, seconds):
        """(what the child reported, how it ended, its CPU seconds). `job(report)` runs in the child."""
        reader, writer = os.pipe()
        nonce = os.urandom(8).hex()
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                os.close(reader)
                for stream in (self.requests, self.answers):
                    os.close(stream.fileno())
                signal.signal(signal.SIGPROF, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_PROF, seconds)
                jail_init.set_limits(self.limits | {"cpu_seconds": seconds}, self.others)
                gc.disable()
                job(lambda row: os.write(writer, (json.dumps(row) + "\n").encode()))
                os.write(writer, (json.dumps([nonce]) + "\n").encode())
            finally:
                os._exit(0)
        os.close(writer)
        data, ended, is_open = bytearray(), None, True
        deadline = time.monotonic() + self.limits["wall_seconds"] + 3 * seconds
        while timely := time.monotonic() < deadline and len(data) < 1 << 26:
            if is_open and select.select([reader], [], [], 0.2)[0]:
                chunk = os.read(reader, 1 << 16)
                is_open = bool(chunk)
                data += chunk
            elif ended:  # its own children may hold the pipe for ever
                break
            else:
                ended = next((found for found in [os.wait4(child, os.WNOHANG)] if found[0]), None)
                time.sleep(0 if ended else 0.0005)
        os.close(reader)
        if not ended:
            os.kill(child, signal.SIGKILL)
            ended = os.wait4(child, 0)
        jail_init.kill_the_rest()
        _, status, usage = ended
        rows = []
        for line in bytes(data).split(b"\n")[:-1]:
            try:
                rows.append(json.loads(line))
            except ValueError:
                return [], "forged", usage.ru_utime + usage.ru_stime
        outcome = ("done" if rows and rows[-1] == [nonce] else "wall" if not timely else
                   "cpu" if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGXCPU)
                   else "killed" if os.WIFSIGNALED(status) else "exited")
        return [row for row in rows if row != [nonce]], outcome, usage.ru_utime + usage.ru_stime


def main():
    task = json.loads(sys.stdin.readline())
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    sys.path[:0] = task["path"]
    sys.meta_path.insert(0, package_swap.OnlyPytest())
    worker = Worker(task, requests, answers)
    sys.setprofile(worker.watch(worker.imported, [0]))
    pytest.main(["-q", "--tb=no", *task["options"], *task["tests"]], plugins=[worker])


if __name__ == "__main__":
    main()
