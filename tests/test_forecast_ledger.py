"""The ledger: nothing is lost or doubled, and "high" has to be earned."""

import json

import numpy as np
import pytest

from hrm_lab import forecast_ledger as ledgers
from hrm_lab.forecast_bank import shipped
from hrm_lab.forecast_ledger import confidence, crps, record, report, settle
from hrm_lab.forecast_targets import Target, outlook


def rows(epochs):
    return [{"epoch": e, "loss": 3 * 0.9**e, "exact_match": 1 - 0.95**e} for e in range(1, epochs + 1)]


TARGETS = [Target("loss", "<", 1, 20), Target("exact_match", ">", 0.5, 20), Target("exact_match", ">", 0.99, 30)]


def test_a_forecast_is_kept_once_and_scored_when_its_epoch_comes(tmp_path):
    ledger = tmp_path / "a" / "ledger.jsonl"
    found = outlook(rows(8), TARGETS, bank=shipped())
    assert record(ledger, "run", found) == 3 and record(ledger, "run", found) == 0
    assert settle(ledger, "run", rows(19)) == 0 and report(ledger)["waiting"] == 3
    assert settle(ledger, "other", rows(40)) == 0
    assert settle(ledger, "run", rows(25)) == 2 and settle(ledger, "run", rows(25)) == 0
    told = report(ledger)
    assert (told["n"], told["waiting"], told["brier"]["n"]) == (2, 1, 2)
    assert told["confidence"] == "unproven (2 of 20 forecasts scored)"
    came = [e for e in ledgers.read(ledger) if e["event"] == "came"]
    assert [e["value"] for e in came] == [3 * 0.9**20, 1 - 0.95**20] and came[0]["unit"] == 3 * 0.9


def made(i, value, low=0.4, high=0.6):
    quantiles = [low, 0.45, 0.5, 0.55, high]
    key = {"run": str(i), "metric": "m", "seen": 5, "at": 10, "x": "epoch"}
    return [{"event": "made", **key, "kind": "accuracy", "count": 5, "quantiles": quantiles, "last": 0.5, "naive": 0.5,
             "targets": [{"op": ">", "value": 0.5, "p": 0.75}], "calibration": "uncalibrated"},
            {"event": "came", **key, "value": value, "unit": 1.0}]


def test_high_confidence_is_earned_by_coverage(tmp_path):
    for name, inside, word in (("good", 36, "high"), ("poor", 20, "low"), ("vague", 40, "low")):
        ledger = tmp_path / name
        ledgers.append(ledger, [e for i in range(40) for e in made(i, 0.52 if i < inside else 0.9)])
        told = report(ledger)
        assert told["confidence"].startswith(word) and told["coverage90"]["value"] == inside / 40, name
        assert told["coverage50"]["value"] == inside / 40 and told["brier"]["value"] == pytest.approx(0.0625)
    assert confidence(19, 0.9).startswith("unproven")


def test_scores_by_hand(tmp_path):
    assert crps([0, 0, 0, 0, 0], 1) == pytest.approx(2 * np.mean([0.05, 0.25, 0.5, 0.75, 0.95]))
    assert crps([1, 1, 1, 1, 1], 1) == 0
    normal = np.array([-1.645, -0.674, 0, 0.674, 1.645])
    assert crps(normal, 0.0) < crps(normal, 1.0) < crps(normal, 3.0)
    ledgers.append(tmp_path / "l", made(0, 0.7))
    told = report(tmp_path / "l")
    assert told["crps_last"]["value"] == pytest.approx(0.2) and told["coverage90"]["value"] == 0


def test_a_line_that_a_crash_cut_is_left_out_and_replaced(tmp_path):
    ledger = tmp_path / "l"
    ledgers.append(ledger, made(0, 0.5))
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + b'{"event": "ma')
    assert len(ledgers.read(ledger)) == 2
    ledgers.append(ledger, made(1, 0.5))
    assert ledger.read_bytes().startswith(whole) and len(ledgers.read(ledger)) == 4
    assert all(json.loads(line) for line in ledger.read_text().splitlines())


@pytest.mark.parametrize("line", ["[]", "{}", '{"event": "guess"}', "{"])
def test_another_bad_line_is_an_error_with_its_number(tmp_path, line):
    ledgers.append(tmp_path / "l", made(0, 0.5))
    with open(tmp_path / "l", "a") as f:
        f.write(line + "\n")
    with pytest.raises(ValueError, match="line 3: got"):
        ledgers.read(tmp_path / "l")


def test_no_ledger_is_an_empty_one(tmp_path):
    assert ledgers.read(tmp_path / "none") == [] and report(tmp_path / "none")["n"] == 0
