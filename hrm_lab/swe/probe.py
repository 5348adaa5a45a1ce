"""Which edits of an expression can matter: all of them are evaluated beside the original in one run of the tests.

An expression that gives the original's value each time in a failing test leaves that test failing; one that raises
where it first differs breaks it; of those that give the same values one need be tried. Where an expression is what a
failing test got, once, the candidate must give what the test wanted. Such edits are put back or forward, not dropped.
Only expressions without effects take part. This is state infection from mutation analysis (Just, Ernst and Fraser
2014, doi 10.1145/2610384.2610388) turned to repair. Unusual: hundreds of candidates are judged by one run of the
tests, which counts as one execution; it costs the CPU time of some tens of them.
"""

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .edits import Edit
from .evidence import Evidence, line_starts
from .jail import Limits
from .sandbox import Server
from .split import Suite, suite
from .symptoms import COMPARED

DEAD = -6.0  # log-weight of an edit that leaves a failing test as it is or breaks it
TWIN = -1.5  # of all but the first of those that give the same values
HIT = 6.0  # of one that gives each failing test what it wanted
PURE = frozenset("abs all any bool chr dict divmod enumerate filter float frozenset int isinstance len list max min "
                 "ord pow range repr reversed round set sorted str sum tuple type zip".split())
METHODS = frozenset("capitalize center copy count difference endswith find format get index intersection isalnum "
                    "isalpha isdigit islower isnumeric isspace isupper items join keys ljust lower lstrip partition "
                    "replace rfind rjust rstrip split splitlines startswith strip swapcase title union upper values "
                    "zfill sqrt floor ceil log gcd".split())
ITERATORS = frozenset("iter map zip filter enumerate reversed".split())
NEVER = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await, ast.Starred)
LARGE = (ast.Pow, ast.LShift)  # of two large numbers they outlast everything else
PASSING = 20  # passing tests that take part
SMALL = 4  # the largest exponent that may be written
LIMITS = Limits(cpu_seconds=3.0, output_bytes=400_000)
PRELUDE = Path(__file__).with_name("probe_run.py")


def pure(node: ast.AST) -> bool:
    """Whether evaluating an expression twice has no effect, as far as names tell."""
    for one in ast.walk(node):
        if isinstance(one, NEVER) or isinstance(one, ast.BinOp) and isinstance(one.op, LARGE) and not (
                isinstance(one.right, ast.Constant) and isinstance(one.right.value, int) and one.right.value <= SMALL):
            return False
        if isinstance(one, ast.Call):
            name = one.func
            if not (isinstance(name, ast.Name) and name.id in PURE or isinstance(name, ast.Attribute)
                    and name.attr in METHODS):
                return False
    return True


class Sites:
    """The expressions of a program that stand alone: an edit inside one changes nothing in how the rest is read."""

    def __init__(self, code: str):
        self.code, self.starts, self.tree = code, line_starts(code), ast.parse(code)
        self.ascii = code.isascii()
        self.found = []  # (start, end, node, how its value is used: "truth", "return" or "value", depth)
        self._visit(self.tree, False, 0)
        self.iterators = any(isinstance(node, ast.Yield | ast.YieldFrom) or isinstance(node, ast.Assign) and (
            isinstance(node.value, ast.GeneratorExp) or isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name) and node.value.func.id in ITERATORS)
            for node in ast.walk(self.tree))

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def _visit(self, node: ast.AST, inside: bool, depth: int):
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                stands = isinstance(node, ast.stmt) and name in ("value", "test", "iter") or name in ("args", "slice") \
                    and isinstance(node, ast.Call | ast.Subscript)
                if inside and stands and isinstance(child, ast.expr) and not isinstance(child, ast.Slice | ast.Starred):
                    use = "truth" if name == "test" else "return" if isinstance(node, ast.Return) else "value"
                    self.found.append((self.offset(child.lineno, child.col_offset), self.offset(
                        child.end_lineno, child.end_col_offset), child, use, depth))
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
    """Replaces the sites, innermost first, by calls that evaluate their candidates, too."""

    def __init__(self, calls: dict[int, tuple[int, list[ast.expr], str]]):
        self.calls = calls

    def generic_visit(self, node):
        known = self.calls.get(id(node))
        if known is None:
            return super().generic_visit(node)
        site, made, use = known
        return ast.Call(ast.Name("__probe__", ast.Load()), [
            ast.Constant(site), ast.Constant(use), _function(node),
            ast.Tuple([_function(one) for one in made], ast.Load())], [])


def _function(body: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), body)


def instrument(code: str, edits: list[Edit]) -> tuple[str, dict[int, list[int]]]:
    """The program with its candidates beside it, and for each site which edits these are. ("", {}) if none can be."""
    sites = Sites(code)
    if sites.iterators or not sites.ascii:
        return "", {}
    of: dict[int, list[tuple[int, ast.expr]]] = {}
    for n, edit in enumerate(edits):
        if (known := sites.of(edit)) is not None:
            of.setdefault(known[0], []).append((n, known[1]))
    # a site inside another one would be evaluated by that one's candidates, too: its edits go without
    spans = sorted(of, key=lambda i: sites.found[i][4])
    kept: list[int] = []
    for i in spans:
        start, end = sites.found[i][:2]
        if not any(sites.found[j][0] <= start and end <= sites.found[j][1] for j in kept):
            kept.append(i)
    calls = {id(sites.found[i][2]): (i, [new for _, new in of[i]], sites.found[i][3]) for i in kept}
    tree = ast.fix_missing_locations(_Put(calls).visit(sites.tree))
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    tree.body = [node for node in tree.body if node not in future]
    text = "\n".join([*map(ast.unparse, future), PRELUDE.read_text(encoding="utf-8"), ast.unparse(tree)])
    return text, {i: [n for n, _ in of[i]] for i in kept}


@dataclass(frozen=True)
class Facts:
    """Of each edit (n_edits,): `dead`, it cannot mend a failing test; `hit`, it mends all of them; `twin`, group of the
    same values, or -1. `runs`: of the tests that this took."""

    dead: np.ndarray
    twin: np.ndarray
    hit: np.ndarray
    runs: int = 0

    def weights(self, scores: np.ndarray) -> np.ndarray:
        """Log-weights (n_edits,): DEAD; HIT; TWIN for all of a group but the first by `scores` (n_edits,); or 0."""
        weights = np.where(self.dead, DEAD, np.where(self.hit, HIT, 0.0) + np.where(self.twin >= 0, TWIN, 0.0))
        best: dict[int, int] = {}
        for n in np.flatnonzero((self.twin >= 0) & ~self.dead):
            other = best.setdefault(int(self.twin[n]), int(n))
            if scores[n] > scores[other]:
                best[int(self.twin[n])] = int(n)
        weights[list(best.values())] -= TWIN
        return weights


def probe(program: str, edits: list[Edit], tests: str | Suite | Callable[[str, tuple], str],
          evidence: Evidence) -> Facts:
    """What one run of the tests tells of the edits. tests: or what runs a text on some of them and gives its output.

    Nothing where the program cannot be probed: it makes iterators, is not ASCII, or ends before it can tell.
    """
    facts = Facts(np.zeros(len(edits), bool), np.full(len(edits), -1), np.zeros(len(edits), bool))
    text, of = instrument(program, edits) if evidence.failing else ("", {})
    if not of:
        return facts
    names = (*evidence.failing, *evidence.passing[:PASSING])
    if callable(tests):
        output = tests(text, names)
    else:
        whole = tests if isinstance(tests, Suite) else suite(tests)
        bodies = dict(whole.tests)
        taken = [(name, f"__probe_next__()\n{bodies[name]}") for name in names]
        with Server(replace(whole, tests=(*taken, ("report", "__probe_report__()"))), limits=LIMITS) as server:
            output = server.run(text).output
    if "<probe>" not in output or "</probe>" not in output:
        return facts
    told = json.loads(output.split("<probe>")[1].split("</probe>")[0])
    compared = [wanted(evidence.messages.get(name, "")) for name in evidence.failing]
    bad, groups = len(evidence.failing), {}
    for site, numbers in of.items():
        each = told.get(str(site), [])  # none: no test comes there
        for place, n in enumerate(numbers):
            values = [one["values"][place] for one in each[:bad]] or ["same"]
            given = [judge(one["given"], place, *pair) for one, pair in zip(each, compared, strict=False)]
            kept = [judge(one["given"], place) for one in each[bad:]]
            facts.dead[n] = (any(value in ("same", "crash") for value in values) or "wrong" in given + kept
                             or any(one["values"][place] == "crash" for one in each[bad:]))
            facts.hit[n] = bool(given) and set(given) == {"right"}
            facts.twin[n] = groups.setdefault((site, *values), len(groups))
    return replace(facts, runs=1)


def wanted(message: str) -> tuple[str, str]:
    """What a failing comparison got and wanted, as printed; ("", "") if the message does not say."""
    found = COMPARED.search(message)
    return (found[1], found[3].split("\n")[0]) if found and found[2] == "==" else ("", "")


def judge(given: list[str] | None, place: int, got: str | None = None, right: str | None = None) -> str:
    """Whether a candidate gives a test what it wanted: "right", "wrong", or "unknown".

    given: what the original and the candidates gave where the test got its value; None if that cannot be told. got,
    right: of a failing test, as it prints them; a passing one wants what it got.
    """
    if not given or right == "" or got is not None and not alike(given[0], got):
        return "unknown"
    return "right" if alike(given[1 + place], given[0] if right is None else right) else "wrong"


def alike(value: str, printed: str) -> bool:
    """Whether a value is printed so, or equals what is; `...` stands for any end."""
    if value == printed or printed.endswith("...") and value.startswith(printed[:-3]):
        return True
    try:
        return ast.literal_eval(value) == ast.literal_eval(printed)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
