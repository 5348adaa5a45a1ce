"""Examples that real tests tell apart: the repair first, symptoms of a real run among the tokens."""

import random
from pathlib import Path

import numpy as np

from hrm_lab.swe import feedback_data
from hrm_lab.swe import policy_verified as v
from hrm_lab.swe.edits import apply
from hrm_lab.swe.inject import inject
from hrm_lab.swe.languages import normalise
from hrm_lab.swe.policy_data import load
from hrm_lab.swe.reading import PREFIX
from hrm_lab.swe.sandbox import Result

CODE = "def f(xs, n):\n    total = 0\n    for x in xs:\n        if x > n:\n            total += x\n    return total\n"


def test_some_tests_hold_a_failing_one():
    tests = {"a": "passed", "b": "failed", "c": "passed"}
    result = Result("runs", "failed", tests, lines={"import": (1,), "a": (2,), "b": (2, 3), "c": (2,)})
    for seed in range(20):
        few = v.some(result, random.Random(seed))
        assert few.tests["b"] == "failed" and set(few.lines) == {"import", *few.tests}


def test_the_repair_of_an_instance_is_found_again():
    rng = random.Random(0)
    for _ in range(20):
        bug = inject(CODE, rng)
        found = v.repair_of(bug.code, CODE, bug.repair.kind)
        assert normalise(apply(bug.code, found), "python") == normalise(CODE, "python")
    assert v.repair_of(CODE.replace("x > n", "n"), CODE, "constant") is None


def test_examples_of_functions_that_stand_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(feedback_data, "functions", lambda split, cache: [("m.f", CODE, "f", 2)])
    known = ["assert f([1, 5], 2) == 5", "assert f([], 1) == 0", "assert f([3, 3], 3) == 0",
             "assert f([1, 2, 9], 0) == 12"]
    monkeypatch.setattr(feedback_data, "behaviour", lambda *_: known)
    v.main(["--out", str(tmp_path), "--n", "6", "--rivals", "30", "--cache", str(tmp_path)])
    found = load(Path(tmp_path) / "train-verified-0.npz")
    assert len(found) == 6
    for one in found:
        assert (one.tokens[2:PREFIX, 0] > 0).any() and len(one.kind) <= 31 and one.weight[0] == 0
        assert np.isfinite(one.weight).all()
