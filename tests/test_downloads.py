"""The numbers beside the pages are those of the runs; a broken run leaves the others in."""

import csv
import json

from hrm_lab import downloads, metrics
from hrm_lab.files import write_json


def test_every_number_of_every_sound_run_is_there(tmp_path):
    score = metrics.proportion(3, 4)
    for run in ("a", "b"):
        write_json(tmp_path / "runs" / run / "metrics.json", {"headline": [], "metrics": {"exact, match": score}})
    (tmp_path / "runs" / "c").mkdir()
    (tmp_path / "runs" / "c" / "metrics.json").write_text('{"metrics": {"x"')
    downloads.write(tmp_path / "runs", tmp_path)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found == [{"run": run, "metric": "exact, match"} | score for run in ("a", "b")]
    with open(tmp_path / "metrics.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["run"], line["metric"], float(line["low"])) for line in lines] == [
        (row["run"], row["metric"], row["low"]) for row in found]
