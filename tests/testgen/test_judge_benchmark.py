"""The judge's benchmark runs, and what it calls bad is bad."""

import json
import os
import subprocess
import sys

from hrm_lab.inspect_notebook import ROOT


def test_the_benchmark_ends_with_json_and_the_judge_tells_bad_tests_apart():
    done = subprocess.run([sys.executable, "benchmarks/testgen_judge.py", "--n", "60"], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for one in found["domains"].values():
        variants = one["variants"]
        assert variants["expected"]["correct"]["value"] == variants["expected"]["mutation"]["value"] == 1
        assert 0 < variants["one row an outcome"]["mutation"]["value"] < 0.95
        for name in ("an outcome flipped", "a step reworded", "no Then", "one outcome", "another name"):
            assert variants[name]["correct"]["value"] < 0.1, name
