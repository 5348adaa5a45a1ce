"""The benchmarks of adapters measure what they say, on the tiny model."""

import importlib.util

import pytest

pytest.importorskip("transformers")
pytest.importorskip("peft")

from hrm_lab.inspect_notebook import ROOT

SETTINGS = {"cache": "", "model": "tiny", "dtype": "fp32", "format": "cep", "data": "sample", "rows": 8, "batch": 4,
            "steps": 3, "micro": 2, "longest": 4096, "together": 8, "alone": 2, "new": 6, "lr": 1e-3}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("adapters_training", ROOT / "benchmarks/adapters_training.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_packs_and_rows_one_by_one_take_the_same_steps_for_fewer_tokens(script):
    found = [script.measure(SETTINGS | {"system": system}) for system in ("ours", "rows one by one")]
    assert found[0]["losses"] == pytest.approx(found[1]["losses"], abs=1e-4)
    for one in found:
        assert one["n"] == 2 and one["tokens_per_cpu_second"] > 0 and one["peak_rss_mb"] > 100


def test_batched_answers_are_those_of_one_by_one(script):
    found = script.measure(SETTINGS | {"system": "generation"})
    assert found["same_answers"] == 1 and found["times"] > 0
    assert found["batched"]["answers"] == 8 and found["batched"]["tokens"] == 48
