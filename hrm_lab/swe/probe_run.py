"""Put in front of a program by probe.py and run with it in the jail; only the standard library is there."""

from itertools import islice as _islice
from itertools import repeat as _repeat
from operator import attrgetter as _attrgetter
from sys import _getframe as _frame
from types import CellType as _CellType

_probed = {}  # site -> for each test: visits that were looked at, of each candidate the values so far, all visits
_given = {}  # test -> (site of the return that came last, what the original and each candidate gave there)
_depths = {}  # (site, test) -> frames below a return; None if they differ: a call among its own calls
_RAISED = ("raised", "")
_inside = _attrgetter("cell_contents")
_VEILED = ("veiled", "")  # a value that does not show whether it is the same
_calls = 0
_test = -1
_spent = _late = 0  # evaluations of candidates; those of visits after the first VISITS of a site in a test
_BITS = 10_000  # of a power that is reckoned
_VISITS, _MOST, _LATE = 20, 2000, 200_000  # later visits evaluate what has changed nothing so far
_OFTEN = 100  # visits of a site in a test that was ended early: it is in the loop that does not end
_cut = set()  # tests that were ended early
_open = set()  # (site, test) that were visited more often: of what has changed nothing there nobody knows
_whole = []  # for each test, whether all candidates that it reached were evaluated; one that reached none tells nothing


class _Enough(BaseException):
    """The test ran long enough."""


class _Unknown(Exception):
    """What a candidate does cannot be told."""


def __probe_next__():
    global _test, _calls
    _test, _calls = _test + 1, 0
    _whole.append(True)


def __probe_set__(name, old, new):
    """What an assignment would change: "" if nothing."""
    try:
        old = old()
    except NameError:
        return name, new
    return "" if type(old) is type(new) and repr(old) == repr(new) else (name, new)


def __probe_other__(name, value, new_name, new):
    """What another assignment would change in place of one: "" if nothing."""
    value = value()
    same = name == new_name and type(value) is type(new) and repr(value) == repr(new)
    if same and type(value) in (list, dict, set) and value is not new:  # one of them is a copy
        raise _Unknown
    return "" if same else (new_name, new)


def __probe_do__(value, method, given, named):
    """What a method would change in a list, dict or set; told from a copy."""
    if type(value) not in (list, dict, set):
        raise _Unknown
    copy = value.copy()
    getattr(copy, method)(*given, **named)
    return "" if repr(copy) == repr(value) else copy


def __probe_power__(base, exponent):
    """A power that is soon reckoned."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > _BITS:
        raise _Unknown
    return base ** exponent


def __probe_shift__(value, places):
    if places > _BITS:
        raise _Unknown
    return value << places


def _draws(function):
    """Whether it reads an iterator of the program: to evaluate it would use that up. No loop, which would take fuel."""
    cells = function.__closure__ or ()
    try:
        values = [*map(_inside, cells)]
    except ValueError:  # a name that is not bound yet
        values = [cell.cell_contents for cell in cells if cell != _CellType()]
    values.extend(map(function.__globals__.get, function.__code__.co_names))
    return any(map(hasattr, map(type, values), _repeat("__next__")))


def _shown(function, use):
    value = function()
    if use == "truth":
        return value, (bool(value), "")
    try:
        if not hasattr(type(value), "__next__"):
            return value, _VEILED if callable(value) else (type(value).__name__, repr(value)[:300])
        again = function()
        return value, _VEILED if again is value else ("iterator", f"<{list(_islice(again, _VISITS))}>"[:300])
    except Exception:
        return value, _VEILED


def _depth():
    frame, n = _frame(2), 0
    while frame is not None:
        frame, n = frame.f_back, n + 1
    return n


def _shared(original, value, candidate, own, use, shown):
    """Whether two values that look equal may differ later: one of them is a copy, or is not evaluated yet."""
    if shown == _VEILED or shown[0] == "iterator":
        return True
    if use == "truth" or type(value) not in (list, dict, set) or value is own:
        return False
    return (original() is value) or (candidate() is own)


def _still(site, use, original, candidates, seen):
    """A later visit: who has changed nothing so far is evaluated, as long as there is time."""
    global _late
    left = [i for i, known in enumerate(seen[1]) if known is None] if (site, _test) not in _open else []
    if not left:
        return original()
    seen[0], _late = seen[0] + 1, _late + len(left)
    if seen[0] > _MOST or _late > _LATE:
        _open.add((site, _test))
        return original()
    value, shown, failed = _tried(original, use)
    for i in left:
        own, got, error = _tried(candidates[i], use, True)
        if isinstance(error, _Unknown) or got == shown != _RAISED and _shared(
                original, value, candidates[i], own, use, shown):
            seen[1][i] = "unknown"
        elif got != shown:
            seen[1][i] = "crash" if got == _RAISED else hash((None, seen[0], got))
    if failed is not None:
        raise failed
    return value


def _tried(function, use, candidate=False):
    """(value, what is shown of it, what it raised)."""
    try:
        if candidate and _draws(function):
            raise _Unknown
        return *_shown(function, use), None
    except Exception as error:
        return None, _RAISED, error


def __probe__(site, use, original, candidates):
    global _calls, _spent
    _calls += 1
    if _calls > 5000:
        _cut.add(_test)
        raise _Enough
    if _test < 0:
        return original()
    tests = _probed.setdefault(site, {})
    seen = tests.setdefault(_test, [0, [None] * len(candidates), 0])
    seen[2] += 1
    given = []
    if use == "return":
        _given[_test] = site, given
        depth = _depth()
        if _depths.setdefault((site, _test), depth) != depth:
            _depths[site, _test] = None
    if _draws(original):
        seen[1][:] = ["unknown"] * len(candidates)
        return original()
    if seen[0] >= _VISITS:
        return _still(site, use, original, candidates, seen)
    if _spent > 400_000:
        _whole[_test] = False
        return original()
    _spent += len(candidates)
    seen[0] += 1
    value, shown, failed = _tried(original, use)
    given.append(shown[1])
    for i, candidate in enumerate(candidates):
        known = seen[1][i]
        if known in ("crash", "unknown"):
            given.append("")
            continue
        own, got, error = _tried(candidate, use, True)
        given.append("" if isinstance(error, _Unknown) else got[1])
        if isinstance(error, _Unknown) or got == shown != _RAISED and _shared(
                original, value, candidate, own, use, shown):
            got = "unknown"
        if known is None and got == shown:
            continue
        if got == "unknown" or known is None and got == _RAISED:
            seen[1][i] = "unknown" if got == "unknown" else "crash"
        else:
            seen[1][i] = hash((known, seen[0], got))
    if failed is not None:
        raise failed
    return value


def __probe_report__():
    import json
    table = {}
    for site, tests in _probed.items():
        size, codes = max(len(one[1]) for one in tests.values()), {"unknown": -1, None: 0, "crash": 1}
        table[site] = [[-1 if value is None and (i in _cut or (site, i) in _open) else codes.setdefault(
            value, len(codes) - 1) for value in tests[i][1]] if i in tests else [-1 if i in _cut else 0] * size
            for i in range(_test + 1)]
    last = [_given[i] if i in _given and _depths[_given[i][0], i] and _given[i][1] else None for i in range(_test + 1)]
    whole = [_whole[i] and any(i in tests for tests in _probed.values()) for i in range(_test + 1)]
    often = {i: [site for site, tests in _probed.items() if i in tests and tests[i][2] >= _OFTEN] for i in _cut}
    told = {"sites": table, "whole": whole, "given": last, "cut": list(_cut), "often": often}
    print("<probe>" + json.dumps(told, separators=(",", ":")) + "</probe>")
