"""Judge a search on synthetic instances: it sees half of a package's tests, all of them have the last word.

A search sees the function alone, dedented, and the visible tests: a half of the instance's tests drawn by a seed, one
that fails among them. Evidence is one traced run of these; no line is given. An execution runs the visible tests on one
candidate; a patch is *plausible* if it passes these, and *solved* if it passes all of FAIL_TO_PASS and PASS_TO_PASS.

**Tiers** of a proposal, the highest that holds:

    0  none of these                             3  its tokens are those of the known repair
    1  it changes a line that the repair         4  it passes the visible tests
       changes                                   5  it passes all tests
    2  and it is of the repair's kind

The tokens of the known repair pass all tests, so tier 3 is what a judge of texts alone could say, and is counted apart
(`exact`). The no-op proposal, the program as it is, has tier 0 of every instance by construction, as a visible test
fails; its token accuracy, which is high as bugs are small, is given beside that of the proposals.
Unusual: two proposals are judged, the first (the candidate that the search runs first) and the final one (the patch
that passes, else the candidate that mended most of what it ran, the earlier of equals).
"""

import ast
import difflib
import random
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np

from hrm_lab.metrics import bootstrap, proportion
from hrm_lab.swe.drawing import enumerable, indentation, placed
from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.evidence import Evidence, of
from hrm_lab.swe.feedback import Feedback
from hrm_lab.swe.instances import Instance
from hrm_lab.swe.languages import lex, normalise, problems
from hrm_lab.swe.nodes import Node, most_likely
from hrm_lab.swe.package_table import PACKAGES, checkout
from hrm_lab.swe.packages import PackageServer
from hrm_lab.swe.probe import PRELUDE
from hrm_lab.swe.probe import probe as probe_edits
from hrm_lab.swe.sandbox import Result
from hrm_lab.swe.search import Outcome, Step, search, summary

BUDGETS = (1, 10, 30, 100, 300, 1000)
CPU_SECONDS = 0.25  # of a candidate, beyond ten times what the tests take on the repaired function
TIERS = ("nothing", "line", "line and kind", "exact", "visible tests", "all tests")


@dataclass(frozen=True)
class Proposal:
    """A patch held against the known repair and the tests; the fields are yes or no but for the last."""

    line: bool  # each of its edits changes a line that the known repair changes
    kind: bool  # each of its edits has a kind of the known repair
    exact: bool
    visible: bool
    resolved: bool  # passes all tests
    parses: bool
    compiles: bool
    token_accuracy: float  # tokens in common, in order, with the known repair / tokens of the longer text

    @property
    def tier(self) -> int:
        return (5 if self.resolved else 4 if self.visible else 3 if self.exact else 2 if self.line and self.kind
                else int(self.line))


@dataclass(frozen=True)
class Judged:
    """What a search came to on one instance. `executions`: to the first candidate that is plausible, 0 if none is."""

    instance_id: str
    language: str
    domain: str
    complexity: float
    kinds: tuple[str, ...]
    budget: int
    executions: int
    first: Proposal
    final: Proposal
    unchanged: float  # token accuracy of the program as it is
    outcome: Outcome

    @property
    def resolved(self) -> bool:
        """Whether the final proposal passes all tests."""
        return self.final.resolved

    @property
    def tier(self) -> int:
        return self.final.tier


def judge(instances: Iterable[Instance], prior, cache: str | Path, *, budget: int = 300, seed: int = 0,
          tree: bool = False, feedback: Feedback | None = None, probe: bool = False, depth: int = 1,
          watch: Callable[[Step], None] | None = None) -> list[Judged]:
    """Search for a repair of each instance and judge it; in the order of the packages, then as given.

    prior, tree, feedback, probe, depth, watch: as `search` has them; depth 2 for instances of two edits. seed: of the
    visible half and the search. cache: where sdists are unpacked. Raises `PackageError`: a suite that cannot be run;
    ValueError: an instance whose repair does not pass here.
    """
    how = {"prior": prior, "tree": tree, "feedback": feedback, "probe": probe, "depth": depth, "watch": watch}
    return compare(instances, {"": how}, cache, budget=budget, seed=seed)[""]


def compare(instances: Iterable[Instance], searches: dict[str, dict], cache: str | Path, *, budget: int = 300,
            seed: int = 0) -> dict[str, list[Judged]]:
    """`judge` by several searches, each given by what `judge` takes; no candidate is run twice."""
    found = {name: [] for name in searches}
    for repo, group in groupby(sorted(instances, key=lambda one: one.repo), key=lambda one: one.repo):
        with PackageServer(PACKAGES[repo], checkout(repo, cache)) as server:
            for instance in group:
                known = {}
                for name, how in searches.items():
                    found[name].append(judge_one(instance, server, budget=budget, seed=seed, known=known, **how))
    return found


def judge_one(instance: Instance, server: PackageServer, prior, *, budget: int = 300, seed: int = 0,
              tree: bool = False, feedback: Feedback | None = None, probe: bool = False, depth: int = 1,
              watch: Callable[[Step], None] | None = None, known: dict | None = None,
              turn: Callable[[list[Node]], Node | None] = most_likely) -> Judged:
    """`judge` of one instance, on its package's server.

    known: outcomes of candidates, shared by several searches. turn: as `search` has it.
    """
    program, fixed, margin = enumerable(instance.program), enumerable(instance.fixed), indentation(instance.program)
    every, visible = [*instance.FAIL_TO_PASS, *instance.PASS_TO_PASS], shown(instance, seed)
    known = {} if known is None else known
    gold = server.run(instance.file, instance.function, instance.fixed, every)
    if gold.outcome != "passed":
        raise ValueError(f"{instance.instance_id}: its repair gives {gold.outcome!r} here; expected all tests to pass")
    seconds = CPU_SECONDS + 10 * gold.seconds

    def run(text: str, tests: list[str], **how) -> Result:
        return server.run(instance.file, instance.function, placed(text, margin), tests, seconds=seconds, **how)

    def values(text: str, failing: tuple[str, ...]) -> str:
        return server.probe(instance.file, instance.function, text.removeprefix(PRELUDE.read_text("utf-8")).strip(),
                            failing)

    before = run(program, visible, trace=True)
    whole = tree or feedback is not None or depth > 1

    def seen(text: str) -> Result:
        key = instance.instance_id, seed, whole, text
        if key not in known:
            known[key] = run(text, visible) if whole else brief(run, text, before)
        return known[key]

    outcome = search(program, seen, prior, budget=budget, seed=seed, tree=tree, feedback=feedback, depth=depth,
                     language=instance.language, evidence=evidence(program, before), watch=watch, turn=turn,
                     probe=probe and (lambda text, edits, told: probe_edits(text, edits, values, told)),
                     edits=_candidates(program, instance.language))

    def proposal(steps: list[int]) -> Proposal:
        return propose(instance, [outcome.trace[step].edit for step in steps], run, visible, every)

    trace = outcome.trace
    passing = next((n for n, step in enumerate(trace) if step.resolved), None)
    best = passing if passing is not None else max(range(len(trace)), key=lambda n: trace[n].reward, default=-1)
    return Judged(instance.instance_id, instance.language, instance.domain, instance.complexity, instance.kinds, budget,
                  0 if passing is None else outcome.executions, proposal([0][:len(trace)]), proposal(path(trace, best)),
                  agreement(program, fixed, instance.language), outcome)


def brief(run: Callable[..., Result], text: str, before: Result) -> Result:
    """Run until a test fails, those that failed `before` first; what is not run counts as it was before.

    For searches that ask only whether all pass: two or three times as fast.
    """
    seen = run(text, list(before.tests), stop=True)
    left = {test for test, outcome in seen.tests.items() if outcome == "not run"}
    return replace(seen, tests={test: before.tests[test] if test in left else outcome
                                for test, outcome in seen.tests.items()},
                   messages=seen.messages | {test: said for test, said in before.messages.items() if test in left})


def shown(instance: Instance, seed: int) -> list[str]:
    """The visible tests: half of them, at least one that fails; those that fail come first."""
    rng = random.Random(f"{seed}/{instance.instance_id}")
    every = [*instance.FAIL_TO_PASS, *instance.PASS_TO_PASS]
    first = rng.choice(instance.FAIL_TO_PASS)
    rest = [test for test in every if test != first]
    chosen = {first, *rng.sample(rest, -(-len(every) // 2) - 1)}
    return [test for test in every if test in chosen]


def evidence(program: str, result: Result) -> Evidence:
    """Of a traced result. The lines up to the body count as run by every test, as they are in a program of its own."""
    header = ast.parse(program).body[0].body[0].lineno
    return of(program, replace(result, lines=result.lines | {"import": tuple(range(1, max(2, header)))}))


@lru_cache(maxsize=256)
def _candidates(program: str, language: str) -> list[Edit]:
    """Kept, as several searches are judged on the same instances."""
    return candidates(program, language)


def path(trace: list[Step], last: int) -> list[int]:
    """The steps that led to a step, itself the last; none for -1."""
    found = []
    while last >= 0:
        found.insert(0, last)
        last = trace[last].parent
    return found


# ---------------------------------------------------------------- proposals


def propose(instance: Instance, edits: list[Edit], run: Callable[[str, list[str]], Result], visible: list[str],
            every: list[str]) -> Proposal:
    """What a patch of some edits is worth; without edits the program as it is. run: the outcome of a text on tests."""
    code, fixed, language = enumerable(instance.program), enumerable(instance.fixed), instance.language
    lines = bool(edits)
    for edit in edits:
        lines &= bool(changed(code, apply(code, edit)) & changed(code, fixed))
        code = apply(code, edit)
    seen = run(code, every)
    return Proposal(lines, bool(edits) and {edit.kind for edit in edits} <= set(instance.kinds),
                    agreement(code, fixed, language) == 1 and normalise(code, language) == normalise(fixed, language),
                    all(seen.tests[test] == "passed" for test in visible), seen.outcome == "passed",
                    *validity(code, language), agreement(code, fixed, language))


def validity(code: str, language: str) -> tuple[bool, bool]:
    """(parses, compiles); of languages other than Python the first is all that is known without a toolchain."""
    if language != "python":
        return (not problems(code, language),) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "is" with a literal
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError):
            return False, False
        try:
            compile(tree, "candidate", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return True, False
        return True, True


def changed(old: str, new: str) -> set[int]:
    """The lines (1-based) of `old` that `new` changes; of what it adds, those on both sides."""
    matcher = difflib.SequenceMatcher(None, old.split("\n"), new.split("\n"), autojunk=False)
    return {line for tag, low, high, _, _ in matcher.get_opcodes() if tag != "equal"
            for line in (range(low + 1, high + 1) if high > low else (low, low + 1))}


def agreement(code: str, fixed: str, language: str) -> float:
    """Token accuracy: tokens in common, in order / tokens of the longer text."""
    a, b = lex(code, language), lex(fixed, language)
    blocks = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(1, len(a), len(b))


# ---------------------------------------------------------------- scores


def headline(judged: list[Judged]) -> dict[str, dict]:
    """`solved@` and `plausible@` so many executions, `resolved` (in all), `executions`, `final/tier`.

    `executions` is the median to the first plausible patch, budget + 1 where there is none.
    """
    if not judged:
        raise ValueError("judged: no instance; expected at least one")
    n, budget = len(judged), min(one.budget for one in judged)
    to_fix = np.array([one.executions or np.inf for one in judged])
    solved = np.array([one.resolved for one in judged])
    found = {}
    for limit in [limit for limit in BUDGETS if limit <= budget]:
        found[f"solved@{limit}"] = proportion(int(((to_fix <= limit) & solved).sum()), n)
        found[f"plausible@{limit}"] = proportion(int((to_fix <= limit).sum()), n)
    return found | {"resolved": proportion(int(solved.sum()), n),
                    "executions": bootstrap(np.minimum(to_fix, budget + 1), "executions", np.median),
                    "final/tier": bootstrap([one.tier for one in judged], "of 5")}


def scores(judged: list[Judged]) -> dict[str, dict]:
    """`headline`, tiers and code metrics of the proposals, search metrics: name -> score over instances.

    `first/...` and `final/...` are of the proposals, `no-op/...` of the program as it is, `search/...` of
    `search.summary`.
    """
    found, n = headline(judged), len(judged)
    for which in ("first", "final"):
        made = [getattr(one, which) for one in judged]
        found[f"{which}/tier"] = bootstrap([one.tier for one in made], "of 5")
        found[f"{which}/token_accuracy"] = bootstrap([one.token_accuracy for one in made], "share")
        for name in ("line", "exact", "parses", "compiles", "visible", "resolved"):
            found[f"{which}/{name}"] = proportion(sum(getattr(one, name) for one in made), n)
        found[f"{which}/line_and_kind"] = proportion(sum(one.line and one.kind for one in made), n)
    found["no-op/tier"] = bootstrap(np.zeros(n), "of 5")
    found["no-op/token_accuracy"] = bootstrap([one.unchanged for one in judged], "share")
    return found | {f"search/{name}": value for name, value in summary([one.outcome for one in judged]).items()}


def by(judged: list[Judged], what: str) -> dict[str, dict[str, dict]]:
    """Group -> `headline`; what: domain, language, kind (one of two kinds counts in both) or complexity (thirds)."""
    if what == "complexity":
        cuts = np.quantile([one.complexity for one in judged], [1 / 3, 2 / 3])
        names = (f"below {cuts[0]:.2f}", f"{cuts[0]:.2f} to {cuts[1]:.2f}", f"{cuts[1]:.2f} and more")
        groups = [(names[int(np.searchsorted(cuts, one.complexity, side="right"))], one) for one in judged]
        order = list(names)
    elif what in ("domain", "language", "kind"):
        groups = [(name, one) for one in judged
                  for name in (dict.fromkeys(one.kinds) if what == "kind" else [getattr(one, what)])]
        order = sorted({name for name, _ in groups})
    else:
        raise ValueError(f"by: {what!r}; expected domain, language, kind or complexity")
    return {name: headline(own) for name in order if (own := [one for group, one in groups if group == name])}
