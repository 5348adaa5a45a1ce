"""One collected test as a plain call, and what its failure says. For package_worker.py, inside the jail.

Unusual: a test without fixtures does not need pytest to run; a call costs a fraction of pytest's protocol.
"""

import traceback
import unittest

import pytest
from _pytest.unittest import TestCaseFunction

PLAIN_SETUP = ("_unittest_set", "_xunit_set")
MESSAGE = 300  # characters


class Outcome(unittest.TestResult):
    """The first error of a unittest case, with its traceback."""

    error = None
    unfinished = False

    def addError(self, test, err):
        self.error = self.error or err[1]

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addError(test, err)

    def addSkip(self, test, reason):
        self.unfinished = True

    def addExpectedFailure(self, test, err):
        self.unfinished = True

    addUnexpectedSuccess = addError


def direct_call(item):
    """A function that runs a test without fixtures and returns its exception or None; None if it needs pytest."""
    names = set(item.fixturenames)
    if isinstance(item, TestCaseFunction):
        case, base = item.cls, unittest.TestCase
        plain = (case.setUpClass.__func__ is base.setUpClass.__func__ and not hasattr(case, "setup_method")
                 and case.tearDownClass.__func__ is base.tearDownClass.__func__
                 and not any(hasattr(item.module, name) for name in ("setUpModule", "setup_module"))
                 and all(name.startswith(PLAIN_SETUP) for name in names))

        def call():
            result = Outcome()
            case(item.name)(result)
            return AssertionError("skipped") if result.unfinished else result.error

        return call if plain else None
    if type(item) is not pytest.Function:
        return None
    values = getattr(getattr(item, "callspec", None), "params", {})
    if not names <= set(values):
        return None
    values = {name: values[name] for name in item._fixtureinfo.argnames}

    def call():
        test = item.obj if item.cls is None else getattr(item.cls(), item.originalname)
        try:
            test(**values)
        except BaseException as error:
            return error

    return call


def said(error):
    """The first line of an exception as Python prints it, "" for none: "AssertionError: assert 5 == 4"."""
    if error is None:
        return ""
    lines = traceback.format_exception_only(error)  # notes come last; a SyntaxError's place comes first
    return lines[-1 if isinstance(error, SyntaxError) else 0].partition("\n")[0][:MESSAGE]
