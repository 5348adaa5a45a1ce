"""Which edits can matter: what they would do is evaluated beside the original in one run of the tests.

An expression that gives the original's value each time in a failing test leaves that test failing; one that raises
where it first differs breaks it; of those that give the same values one need be tried. Where an expression is what a
test got, the test's own comparison judges the candidates. Such edits are put back or forward, not dropped. Only what
has no effect is evaluated; of statements, what they would change (effects.py). This is state infection from mutation
analysis (Just, Ernst and Fraser 2014, doi 10.1145/2610384.2610388) turned to repair. Unusual: hundreds of candidates
are judged by one run of the tests, which counts as one execution; it costs the CPU time of some tens of them.
"""

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .edits import Edit
from .effects import Points
from .evidence import Evidence, offsets
from .jail import Limits
from .sandbox import Server
from .split import Suite, suite
from .symptoms import EQUAL, comparison

WEIGHTS = {  # log-weight of what the probe tells of an edit; fitted to injected bugs, the two of "get" set by hand
    "known": -1.5, "a failing test is the same": -3.4, "a failing test raises": -1.5, "a passing test raises": -1.4,
    "a passing test gets something else": -3.4, "share of passing tests changed": -1.5,
    "no passing test is changed": 1.3, "a passing test is changed": -0.1,
    "all failing tests are changed": 3.3, "all failing tests get what they want": 4.0}
SURE = 0.6  # what a prior's log-probabilities then count for: of people's bugs it is surer than it is right
SPIN = 1.5  # of an edit in a loop that does not end, and against one elsewhere
TWIN = -3.0  # of all but the first of those that give the same values in all tests: they would do the same at first
# what an edit does in a test: as before; raises; the test gets what it did not want, or what it did; from CLASS on, a
# class of those that do the same
UNKNOWN, SAME, CRASH, WRONG, RIGHT, CLASS = -1, 0, 1, 2, 3, 4
PASSING = 12  # passing tests that are probed at most
PURE = frozenset("abs all any bool chr dict divmod enumerate filter float frozenset int isinstance len list max min "
                 "ord pow range repr reversed round set sorted str sum tuple type zip".split())
METHODS = frozenset("capitalize center copy count difference endswith find format get index intersection isalnum "
                    "isalpha isdigit islower isnumeric isspace isupper items join keys ljust lower lstrip partition "
                    "replace rfind rjust rstrip split splitlines startswith strip swapcase title union upper values "
                    "zfill sqrt floor ceil log gcd".split())
NEVER = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await, ast.Starred)
LARGE = {ast.Pow: "__probe_power__", ast.LShift: "__probe_shift__"}  # of two large numbers they outlast all else
UNTRUE = re.compile(r"\bassert (?:not )?(True|False)$")
LONG = 300  # characters of a value that the run shows
LIMITS = Limits(cpu_seconds=4.0, output_bytes=4_000_000, fuel=10_000_000)
PRELUDE = Path(__file__).with_name("probe_run.py")


def pure(node: ast.AST) -> bool:
    """Whether evaluating an expression twice has no effect, as far as names tell."""
    for one in ast.walk(node):
        if isinstance(one, NEVER) or isinstance(one, ast.Attribute | ast.Subscript) and isinstance(one.ctx, ast.Store):
            return False  # [... for self.x in ...] stores
        if isinstance(one, ast.Call):
            name = one.func
            if not (isinstance(name, ast.Name) and name.id in PURE or isinstance(name, ast.Attribute)
                    and name.attr in METHODS):
                return False
    return True


class Sites:
    """The expressions of a program that stand alone: an edit inside one changes nothing in how the rest is read."""

    def __init__(self, code: str):
        self.code, self.offset, self.tree = code, offsets(code), ast.parse(code)
        self.found = []  # (start, end, node, how its value is used: "truth", "return" or "value", depth)
        # what a generator returns is not what a test gets
        self.inner = {node for function in ast.walk(self.tree) if isinstance(function, ast.FunctionDef) and any(
            isinstance(one, ast.Yield | ast.YieldFrom) for one in ast.walk(function)) for node in ast.walk(function)}
        self._visit(self.tree, False, 0)

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def _visit(self, node: ast.AST, inside: bool, depth: int):
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                stands = isinstance(node, ast.stmt | ast.Yield | ast.YieldFrom) and name in ("value", "test", "iter") \
                    or name in ("args", "slice") and isinstance(node, ast.Call | ast.Subscript)
                if inside and stands and isinstance(child, ast.expr) and not isinstance(child, ast.Slice | ast.Starred):
                    use = "truth" if name == "test" else "return" if isinstance(
                        node, ast.Return) and node not in self.inner else "value"
                    self.found.append((*self.span(child), child, use, depth))
                if isinstance(node, ast.FunctionDef) and name != "body":
                    continue
                self._visit(child, isinstance(node, ast.FunctionDef) or inside and not isinstance(node, ast.ClassDef),
                            depth + 1)

    def of(self, edit: Edit):
        """(site's index, the expression after the edit) for the widest pure site of an edit, or None."""
        for i in sorted((i for i, (start, end, *_) in enumerate(self.found) if start <= edit.start
                         and edit.end <= end), key=lambda i: self.found[i][4]):
            start, end, node, _, _ = self.found[i]
            if not pure(node):
                continue
            text = self.code[start:edit.start] + edit.text + self.code[edit.end:end]
            try:
                new = ast.parse(f"({text}\n)", mode="eval").body
            except SyntaxError:
                continue
            if isinstance(new, ast.Tuple) == isinstance(node, ast.Tuple) and pure(new):
                return i, new
        return None


class _Put(ast.NodeTransformer):
    """Replaces sites, innermost first, by calls that evaluate their candidates, too; puts others beside statements."""

    def __init__(self, calls: dict, points: dict):
        self.calls, self.points = calls, points

    def generic_visit(self, node):
        known = self.calls.get(id(node))
        if known is not None:
            site, made, use = known
            return _call(site, made, use, node)
        new = super().generic_visit(node)
        if not isinstance(node, ast.stmt):
            return new
        early, late = ([ast.Expr(_call(*self.points[id(node), side], "value", ast.Constant("")))]
                       if (id(node), side) in self.points else [] for side in (False, True))
        return [*early, new, *late] if early or late else new


def _call(site: int, made: list[ast.expr], use: str, original: ast.expr) -> ast.Call:
    return ast.Call(ast.Name("__probe__", ast.Load()), [
        ast.Constant(site), ast.Constant(use), _function(original),
        ast.Tuple([_function(_Bounded().visit(one)) for one in made], ast.Load())], [])


class _Bounded(ast.NodeTransformer):
    """Operators whose results may outgrow everything become calls that give up in time."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        name = LARGE.get(type(node.op))
        return ast.Call(ast.Name(name, ast.Load()), [node.left, node.right], []) if name else node


def _function(body: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), body)


def instrument(code: str, edits: list[Edit]) -> tuple[str, dict[int, list[int]], dict[int, tuple[int, int]]]:
    """The program with its candidates beside it; of each site which edits these are, and the loop around it."""
    sites = Sites(code)
    of: dict[int, list[tuple[int, ast.expr]]] = {}
    beside: dict[tuple[int, bool], tuple[int, list[tuple[int, ast.expr]]]] = {}
    nodes: dict[tuple[int, bool], ast.stmt] = {}
    points = Points(code, sites.tree, sites.offset, pure)
    for n, edit in enumerate(edits):
        if (known := sites.of(edit)) is not None:
            of.setdefault(known[0], []).append((n, known[1]))
        elif (known := points.of(edit)) is not None:
            node, late, told = known
            nodes[id(node), late] = node
            place = beside.setdefault((id(node), late), (len(sites.found) + len(beside), []))
            place[1].append((n, told))
    # a site inside another one would be evaluated by that one's candidates, too: its edits go without
    spans = sorted(of, key=lambda i: sites.found[i][4])
    kept: list[int] = []
    for i in spans:
        start, end = sites.found[i][:2]
        if not any(sites.found[j][0] <= start and end <= sites.found[j][1] for j in kept):
            kept.append(i)
    calls = {id(sites.found[i][2]): (i, [new for _, new in of[i]], sites.found[i][3]) for i in kept}
    put = _Put(calls, {key: (i, [new for _, new in those]) for key, (i, those) in beside.items()})
    loops = sorted((sites.span(node) for node in ast.walk(sites.tree) if isinstance(node, ast.While | ast.For)),
                   key=lambda span: span[1] - span[0])
    own = {i: sites.found[i][:2] for i in kept}
    own |= {beside[key][0]: sites.span(nodes[key]) for key in beside}
    around = {i: next((loop for loop in loops if loop[0] <= start and end <= loop[1]), (start, end))
              for i, (start, end) in own.items()}
    tree = put.visit(sites.tree)
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    tree.body = [node for node in tree.body if node not in future]
    text = "\n".join([*map(ast.unparse, future), PRELUDE.read_text(encoding="utf-8"), ast.unparse(tree)])
    return text, {i: [n for n, _ in those] for i, those in [*((i, of[i]) for i in kept), *beside.values()]}, around


@dataclass(frozen=True)
class Facts:
    """What each edit changes in each test, of what runs before the edit takes effect.

    `values` (n_edits, n_tests) int: UNKNOWN, SAME, CRASH, WRONG, RIGHT, or else the class of those edits at one place
    that give the same values in that test. The columns: the `failing` tests in their order, then passing ones in
    theirs. `runs`: of the tests that this took. `spins` (n_edits,) int, None where every test ends: 1 in a loop that a
    failing test ran for too long or at its end, -1 elsewhere.
    """

    values: np.ndarray
    failing: int
    runs: int = 0
    spins: np.ndarray | None = None

    def among(self, rows: np.ndarray, n: int) -> "Facts":
        """The same of n edits, of which those at `rows` were asked about."""
        values = np.full((n, self.values.shape[1]), UNKNOWN)
        values[rows] = self.values
        spins = None if self.spins is None else np.zeros(n, int)
        if spins is not None:
            spins[rows] = self.spins
        return replace(self, values=values, spins=spins)

    @property
    def dead(self) -> np.ndarray:
        """(n_edits,) bool: it leaves a failing test failing, or makes a passing one fail."""
        bad, good = self.values[:, :self.failing], self.values[:, self.failing:]
        return ((bad == SAME) | (bad == CRASH) | (bad == WRONG)).any(1) | (good == WRONG).any(1)

    @property
    def twin(self) -> np.ndarray:
        """(n_edits,) number of the group that does the same in all tests, or -1."""
        known = (self.values >= 0).all(1) & (self.values.shape[1] > 0)
        groups = np.full(len(self.values), -1)
        groups[known] = np.unique(self.values[known], axis=0, return_inverse=True)[1].ravel()
        return groups

    def features(self) -> np.ndarray:
        """(n_edits, n_weights), in the order of WEIGHTS."""
        bad, good = self.values[:, :self.failing], self.values[:, self.failing:]
        told, changed, same = good > UNKNOWN, good >= CLASS, ((bad == SAME) | (bad == WRONG)).any(1)
        return np.stack([
            (self.values > UNKNOWN).any(1), same, (bad == CRASH).any(1) & ~same, (good == CRASH).any(1),
            (good == WRONG).any(1), changed.sum(1) / np.maximum(1, told.sum(1)),
            told.any(1) & ((good == SAME) | (good == RIGHT)).all(1), changed.any(1),
            told.all(1) & (bad > WRONG).all(1) & (bad.shape[1] > 0), (bad == RIGHT).all(1) & (bad.shape[1] > 0)],
            1).astype(float)

    def weights(self, scores: np.ndarray) -> np.ndarray:
        """Log-weights (n_edits,): WEIGHTS, and TWIN for all of a group but the first by `scores` (n_edits,)."""
        weights, twin = self.features() @ np.array(list(WEIGHTS.values())), self.twin
        if self.spins is not None:
            weights += SPIN * self.spins
        ahead = np.lexsort((-scores, twin))
        later = np.concatenate([[False], twin[ahead][1:] == twin[ahead][:-1]])[:len(twin)]
        weights[ahead[later & (twin[ahead] >= 0)]] += TWIN
        return weights


def probe(program: str, edits: list[Edit], tests: str | Suite | Callable[[str, tuple], str],
          evidence: Evidence) -> Facts:
    """What one run of each test tells of the edits. tests: or what runs a text on tests and gives its output.

    Nothing where the program ends before it can tell, or where no edit is of a kind that can be asked about.
    """
    text, of, around = instrument(program, edits) if evidence.failing else ("", {}, {})
    bad, good = evidence.failing, evidence.passing[:PASSING]
    values = np.full((len(edits), len(bad) + len(good)), UNKNOWN)
    asked = [*(wanted(evidence.messages.get(name, "")) for name in bad), *(None for _ in good)]
    often: dict[str, list[int]] = {}
    if of and callable(tests):  # their own order is kept, and who knows how the two are mixed
        often = _told(tests(text, bad), of, asked[:len(bad)], values[:, :len(bad)])
        if good:
            _told(tests(text, good), of, asked[len(bad):], values[:, len(bad):])
    elif of:
        often = _told(_output(text, tests if isinstance(tests, Suite) else suite(tests), bad + good), of, asked, values)
    spans = {around[site] for test, sites in often.items() if int(test) < len(bad) for site in sites}
    spins = np.array([1 if any(start <= edit.start <= end for start, end in spans) else -1 for edit in edits])
    return Facts(values, len(bad), int(bool(of)), spins if spans else None)


def _output(text: str, tests: Suite, names: tuple[str, ...]) -> str:
    """What the program with its probes prints when it is run on these tests, in this order."""
    bodies = dict(tests.tests)
    taken = [(name, f"__probe_next__()\n{bodies[name]}") for name in names if name in bodies]
    with Server(replace(tests, tests=(*taken, ("report", "__probe_report__()"))), limits=LIMITS) as server:
        return server.run(text).output


def _told(output: str, of: dict[int, list[int]], asked: list[tuple[str, str] | None], values: np.ndarray) -> dict:
    """Read what the run of some tests said into `values` (n_edits, n_tests); {test that did not end: its sites}."""
    if "<probe>" not in output or "</probe>" not in output:
        return {}
    told = json.loads(output.split("<probe>")[1].split("</probe>")[0])
    if len(told["whole"]) != values.shape[1]:
        return {}
    classes: dict[tuple, int] = {}
    for test in np.flatnonzero(told["whole"]).tolist():
        site, given = told["given"][test] or (None, [])
        for place, n in enumerate(of[site]) if given else ():
            values[n, test] = judge(given[0], given[1 + place], asked[test])
        for site, numbers in of.items():
            each = told["sites"].get(str(site))  # None: no test comes there
            for place, n in enumerate(numbers):
                value = each[test][place] if each else UNKNOWN if test in told["cut"] else SAME
                if value in (SAME, CRASH):
                    values[n, test] = value
                elif value > CRASH and values[n, test] == UNKNOWN:
                    values[n, test] = classes.setdefault((site, value), CLASS + len(classes))
    return told["often"]


def wanted(message: str) -> tuple[str, str]:
    """What a failing comparison got and wanted, as printed; ("", "") if the message does not say."""
    found = comparison(message)
    if found:
        return (found[0], found[2]) if found[1] in EQUAL else ("", "")
    plain = UNTRUE.search(message)
    return (plain[1], str(plain[1] == "False")) if plain else ("", "")


def judge(before: str, after: str, asked: tuple[str, str] | None) -> int:
    """RIGHT, WRONG or UNKNOWN: what a test makes of a value in place of the one that it got.

    asked: what a failing test got and wanted, as printed; None of a passing one, which wants what it got.
    """
    got, right = asked or (before, before)
    if not right or not alike(before, got) or asked and alike(before, right) is not False:
        return UNKNOWN
    same = alike(after, right)
    return UNKNOWN if same is None else RIGHT if same else WRONG


def alike(value: str, printed: str) -> bool | None:
    """Whether a value is printed so, or equals what is; `...` stands for anything. None: it cannot be told."""
    if value == printed:
        return True
    if "..." in printed:
        parts = [re.escape(part) for part in printed.split("...")]
        found = re.fullmatch(".*".join(parts), value, re.DOTALL) is not None
        return found or (False if printed[0] in "[('\"" and len(value) < LONG else None)
    about, _, within = printed.partition(" \u00b1 ")  # of pytest.approx
    try:
        a, b = ast.literal_eval(value), ast.literal_eval(about)
        if within:
            return abs(a - b) <= float(within)
        return None if a == b and isinstance(a, bool) != isinstance(b, bool) else a == b
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None if within or value[:1] != printed[:1] or not value[:1].isalpha() else False
