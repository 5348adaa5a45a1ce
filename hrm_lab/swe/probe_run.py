"""Put in front of a program by probe.py and run with it in the jail; only the standard library is there."""

_probed = {}  # site -> for each failing test, for each candidate: the values so far, or "crash"
_calls = 0
_test = -1


class _Enough(BaseException):
    """The failing test ran long enough."""


def __probe_next__():
    global _test, _calls
    _test, _calls = _test + 1, 0


def _value(function, truth):
    value = function()
    return bool(value) if truth else (type(value).__name__, repr(value)[:300])


def __probe__(site, truth, original, candidates):
    global _calls
    _calls += 1
    if _calls > 5000:
        raise _Enough
    if _test < 0:
        return original()
    tests = _probed.setdefault(site, {})
    seen = tests.setdefault(_test, [0, [None] * len(candidates)])
    if seen[0] >= 20:
        return original()
    seen[0] += 1
    failed = None
    try:
        value = original()
        shown = bool(value) if truth else (type(value).__name__, repr(value)[:300])
    except Exception as error:
        failed, shown = error, "raised"
    for i, candidate in enumerate(candidates):
        known = seen[1][i]
        if known == "crash":
            continue
        try:
            got = _value(candidate, truth)
        except Exception:
            got = "raised"
        if known is None and got == shown:
            continue
        if known is None and got == "raised":
            seen[1][i] = "crash"
        else:
            seen[1][i] = hash((known, seen[0], got))
    if failed is not None:
        raise failed
    return value


def __probe_report__():
    import json
    table = {}
    for site, tests in _probed.items():
        size = max(len(one[1]) for one in tests.values())
        table[site] = [["same" if value is None else value for value in tests[i][1]] if i in tests else ["same"] * size
                       for i in range(_test + 1)]
    print("<probe>" + json.dumps(table) + "</probe>")


