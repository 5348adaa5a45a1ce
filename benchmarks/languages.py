"""Repair in JavaScript, Go, Java, C++ and Rust: bugs solved within so many executions, of HumanEvalPack's rows.

    python benchmarks/languages.py --rows humanevalpack/java.jsonl --out runs/java.jsonl [--limit 25] [--seconds 220]
    python benchmarks/languages.py --rows humanevalpack/java.jsonl --corpus data/built/corpus.jsonl  # a leak check

Candidates are the edits inside functions, in the order of the prior, with no line given and no evidence; they are run
in batches (hrm_lab.swe.batches) until one passes the visible tests, and that one is judged by `test` in a process of
its own. Visible is `example_test`; Rust's rows have none, there it is the first half of the assertions of `test`. An
execution is one candidate of the order, whether it compiles or not; `compiled` counts those alone whose tests could
run. A row without visible tests, or whose visible tests do not show the bug, is not solved. `--out` has a line a row,
and a killed run goes on after its last whole line. The last line printed is one JSON object, each number with n and a
95 % interval.
"""

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np

from hrm_lab.metrics import bootstrap, format_score, proportion
from hrm_lab.swe import corpus
from hrm_lab.swe.batches import run_batch
from hrm_lab.swe.dedup import SHARED, grams
from hrm_lab.swe.edits import Edit, apply, candidates
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.humanevalpack import NAMES, assemble
from hrm_lab.swe.jail import Limits
from hrm_lab.swe.languages import functions, root
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.orders import KindBalanced, Uniform
from hrm_lab.swe.toolchains import available, run_tests

BUDGETS = (1, 10, 30, 100, 300)
BATCHES = (30, 100, 170)  # a small one first: many bugs are solved early
CPU = {"java": 0.1}  # seconds of a candidate on the visible tests, which take milliseconds; Java loads classes, too
OTHERS = 0.06
HIDDEN = Limits(cpu_seconds=10)
LETTERS = {"passed": "P", "failed": "F", "error": "E"}  # E: not compiled; X: anything else


def visible(row: dict, language: str) -> str:
    """The tests that a search may see, "" if there are none."""
    if row["example_test"] not in ("", "None"):
        return assemble(row, "buggy_solution", "example_test")[1]
    return first_half(row["test"]) if language == "rust" else ""


def first_half(tests: str) -> str:
    """Rust tests without the second half of their assertions (of three, two stay)."""
    found = [node for node in root(tests, "rust").walk()
             if node.type == "expression_statement" and tests[node.start:node.end].startswith("assert")]
    for node in reversed(found[(len(found) + 1) // 2:]):
        tests = tests[:node.start] + tests[node.end:]
    return tests


def space(code: str, language: str) -> list[Edit]:
    """The candidate edits inside functions: no import, no header."""
    spans = [(function.start, function.end) for function in functions(code, language)]
    return [edit for edit in candidates(code, language)
            if any(start <= edit.start and edit.end <= end for start, end in spans)]


def repair(row: dict, language: str, prior, budget: int) -> dict:
    """What became of one row: letters of the executed candidates, and whether the first that passes is right."""
    started, tests = time.process_time(), visible(row, language)
    code, hidden = assemble(row, "buggy_solution")
    found = {"task": row["task_id"], "shown": False, "candidates": 0, "outcomes": "", "kind": None, "solved": False}
    if not tests:
        return found
    edits = space(code, language)
    order = np.argsort(-prior.scores(code, edits, Evidence.none(), language), kind="stable")[:budget]
    found |= {"shown": True, "candidates": len(edits), "seconds": round(time.process_time() - started, 2)}
    limits = Limits(cpu_seconds=CPU.get(language, OTHERS), wall_seconds=10)
    for size in BATCHES:
        done = len(found["outcomes"])
        batch = [edits[n] for n in order[done:done + size]]
        itself = [] if done else [code]  # in the first batch, to save one
        results = run_batch(language, itself + [apply(code, edit) for edit in batch], tests, limits)
        if itself and results.pop(0).outcome == "passed":
            return found | {"shown": False}
        letters = [LETTERS.get(one.tests["main"], "X") for one in results]
        if "P" in letters:
            first = letters.index("P")
            found["outcomes"] += "".join(letters[:first + 1])
            found["kind"] = batch[first].kind
            found["patch"] = [batch[first].start, batch[first].end, batch[first].text]
            found["solved"] = run_tests(language, apply(code, batch[first]), hidden, HIDDEN).outcome == "passed"
            return found
        found["outcomes"] += "".join(letters)
    return found


def done_before(path: Path) -> dict[str, dict]:
    """The whole lines of a file, by task; a last line that was torn off is cut away."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    rows = [json.loads(line) for line in data[:whole].splitlines()]
    if whole < len(data):
        os.truncate(path, whole)
    return {row["task"]: row for row in rows}


def scores(found: list[dict]) -> dict:
    """Shares of all rows within each budget: plausible, solved, and solved where what does not compile is free."""
    tried = np.array([len(one["outcomes"]) if one["kind"] else np.inf for one in found])
    ran = np.array([len(one["outcomes"]) - one["outcomes"].count("E") if one["kind"] else np.inf for one in found])
    right, all_scores = np.array([one["solved"] for one in found], bool), {}
    for limit in BUDGETS:
        for name, values in (("plausible", tried <= limit), ("solved", (tried <= limit) & right),
                             ("compiled_solved", (ran <= limit) & right)):
            all_scores[f"{name}@{limit}"] = proportion(int(values.sum()), len(values))
    all_scores["median_executions"] = bootstrap(np.minimum(np.where(right, tried, np.inf), BUDGETS[-1] + 1),
                                                "executions", np.median)
    letters = "".join(one["outcomes"] for one in found)
    all_scores["share_compiled"] = 1 - letters.count("E") / max(1, len(letters))
    return all_scores


def leaks(path: Path, rows: list[dict], language: str) -> list[str]:
    """Training functions that share more than half of the smaller one's 8-grams of tokens with a program or its fix."""
    programs = [grams(row["declaration"] + row[name], language) for row in rows
                for name in ("buggy_solution", "canonical_solution")]
    holders, found = {}, []
    for n, program in enumerate(programs):
        for gram in program:
            holders.setdefault(gram, []).append(n)
    for one in corpus.read(path):
        mine = grams(one.text, language) if one.language == language else ()
        shared = Counter(n for gram in mine for n in holders.get(gram, ()))
        if any(count > SHARED * min(len(mine), len(programs[n])) for n, count in shared.items()):
            found.append(f"{one.package} {one.path} {one.function}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--prior", default="weights/swe-languages/linear.safetensors",
                        help="weights of a linear prior, or uniform, or kinds")
    parser.add_argument("--out", type=Path, default=Path("runs/languages.jsonl"),
                        help="JSON lines of outcomes: one file a language and prior")
    parser.add_argument("--limit", type=int, default=10**6, help="the first rows only")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no row after so many")
    parser.add_argument("--budget", type=int, default=BUDGETS[-1], choices=BUDGETS)
    parser.add_argument("--corpus", type=Path, help="file of training functions: look for the rows among them, and end")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines() if line.strip()]
    language = NAMES[rows[0]["task_id"].split("/")[0]]
    if options.corpus:
        found = leaks(options.corpus, rows, language)
        print(json.dumps({"language": language, "n": len(found), "leaks": found}))
        return
    if not available()[language]:
        print(json.dumps({"language": language, "toolchain": None, "n": 0}))
        return
    simple = {"uniform": Uniform(0), "kinds": KindBalanced(0)}
    prior = simple[options.prior] if options.prior in simple else LinearPrior.load(options.prior)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    before, started = done_before(options.out), time.monotonic()
    for row in rows[:options.limit]:
        if row["task_id"] in before or time.monotonic() - started > options.seconds:
            continue
        one = repair(row, language, prior, options.budget)
        before[row["task_id"]] = one
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(one) + "\n")
        print(f"{one['task']:16} {one['candidates']:6} candidates, {len(one['outcomes']):4} executed, "
              f"{'solved' if one['solved'] else 'plausible' if one['kind'] else '-'} {one['kind'] or ''}", flush=True)
    found = [before[row["task_id"]] for row in rows[:options.limit] if row["task_id"] in before]
    result = scores(found)
    for name, score in result.items():
        if isinstance(score, dict):
            print(f"{name:20} {format_score(score)}")
    print(json.dumps({"language": language, "toolchain": available()[language], "prior": options.prior, "n": len(found),
                      "shown": sum(one["shown"] for one in found), **result}))


if __name__ == "__main__":
    main()
