"""A run beside the reference: chance is no regression, a fall beyond it is, and a lost metric is not overlooked."""

import pytest

from hrm_lab import metrics, reference
from hrm_lab.files import write_json

OLD = {"run": {"exact_match": metrics.proportion(950, 1000), "error_rate": metrics.proportion(50, 1000),
               "seconds": metrics.plain(10, 1, "s")}}


def verdicts(now):
    return {row["metric"]: row["verdict"] for row in reference.compare({"run": now}, OLD)}


def test_chance_is_the_same():
    assert verdicts(OLD["run"] | {"exact_match": metrics.proportion(935, 1000)})["exact_match"] == "same"


@pytest.mark.parametrize("name, right, verdict", [("exact_match", 850, "worse"), ("exact_match", 999, "better"),
                                                  ("error_rate", 150, "worse"), ("error_rate", 5, "better")])
def test_a_change_beyond_chance_is_told(name, right, verdict):
    assert verdicts(OLD["run"] | {name: metrics.proportion(right, 1000)})[name] == verdict


def test_a_lost_metric_comes_first():
    rows = reference.compare({"run": {"error_rate": OLD["run"]["error_rate"]}}, OLD)
    assert (rows[0]["metric"], rows[0]["verdict"]) == ("exact_match", "gone")


def test_numbers_of_the_machine_are_not_judged():
    assert "seconds" not in verdicts(OLD["run"])


def test_what_is_saved_is_loaded(tmp_path):
    write_json(tmp_path / "runs" / "run" / "metrics.json", {"headline": [], "metrics": OLD["run"]})
    reference.save(tmp_path / "runs", tmp_path / "r.json", "laptop")
    assert reference.load(tmp_path / "r.json") == OLD
    with pytest.raises(ValueError, match="no metrics.json"):
        reference.save(tmp_path / "nothing", tmp_path / "r.json", "laptop")
