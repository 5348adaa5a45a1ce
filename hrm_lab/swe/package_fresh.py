"""Chosen tests of a package in an ordinary pytest run of its files on disk; no fork, no swap. Runs inside the jail."""

import json
import os
import sys

import package_swap  # beside this script
import pytest

del sys.path[0]  # this folder


class Fresh:
    """A pytest plugin that keeps the chosen tests: a name and an outcome each."""

    def __init__(self, tests):
        self.tests, self.outcomes, self.why = set(tests), {}, ""

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if item.nodeid in self.tests]

    def pytest_runtest_logreport(self, report):
        if report.failed or (report.when == "call" and report.nodeid not in self.outcomes):
            self.outcomes[report.nodeid] = report.outcome
            self.why = self.why or (report.longreprtext if report.failed else "")


def main():
    task = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    sys.path[:0] = task["path"]
    sys.meta_path.insert(0, package_swap.OnlyPytest())
    plugin = Fresh(task["fresh"])
    status = pytest.main(["-q", *task["options"], *task["tests"]], plugins=[plugin])
    print(json.dumps({"tests": plugin.outcomes, "output": plugin.why, "status": int(status)}), file=answers, flush=True)


if __name__ == "__main__":
    main()
