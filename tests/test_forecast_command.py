"""`hrm-lab forecast`: what it prints, and one line on stderr for a wrong question."""

import json

import pytest

from hrm_lab import cli

TARGETS = '{"loss": "<0.3", "exact_match": {"target": ">0.5", "epoch": 20, "required": false}}'


@pytest.fixture
def run(tmp_path):
    lines = [json.dumps({"epoch": e, "step": 10 * e, "loss": 3 * 0.9**e, "exact_match": 1 - 0.95**e, "n": 100})
             for e in range(1, 13)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "targets.json").write_text(TARGETS)
    return tmp_path


def test_targets_get_probabilities(run, capsys):
    assert cli.main(["forecast", str(run / "metrics.jsonl"), "--targets", str(run / "targets.json")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("loss < 0.3 at 50: P = ") and "exact_match > 0.5 at 20 (optional): P = " in out
    assert "all required targets: P = " in out and "calibrated on" in out and "exponential fit" in out and err == ""


def test_json_ledger_and_own_curves(run, capsys):
    (run / "own.csv").write_text("task,run,metric,kind,n,values\nmine,0,loss,loss,0,3 2 1.5 1.2 1.1 1 .9 .8 .7\n")
    command = ["forecast", str(run), "--targets", str(run / "targets.json"), "--json",
               "--ledger", str(run / "ledger.jsonl"), "--curves", str(run / "own.csv")]
    for _ in range(2):
        assert cli.main(command) == 0
        found = json.loads(capsys.readouterr().out)
    assert found["ledger"]["waiting"] == 2 and found["ledger"]["confidence"].startswith("unproven")
    assert [t["target"] for t in found["targets"]] == ["<0.3", ">0.5"]
    assert 0 <= found["p_all"] <= found["targets"][0]["p"]
    assert set(found["forecasts"]) == {"loss", "exact_match"} and found["forecasts"]["loss"]["at"] == [50]


def test_without_targets_the_usual_metrics_are_forecast(run, capsys):
    assert cli.main(["forecast", str(run), "--x", "step", "--epoch", "400"]) == 0
    out = capsys.readouterr().out
    assert "loss at 400: " in out and "exact_match at 400: " in out and "last value" in out


def test_a_log_of_another_trainer_is_forecast_by_its_own_names(tmp_path, capsys):
    rows = [{"epoch": e, "loss": 3 * 0.85**e, "val_loss": 3 * 0.9**e, "val_acc": 1 - 0.9**e} for e in range(1, 13)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert cli.main(["forecast", str(tmp_path / "log.jsonl")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == ["val_loss", "val_acc"]
    assert all("with the run's other curves" in line for line in out)


@pytest.mark.parametrize("options,change,text", [
    ([], "{not json}\n", "line 13: got '{not json}', expected one JSON object"),
    (["--x", "lap"], "", "no row has the field 'lap'"),
    (["--epoch", "7"], "", "expected increasing steps after the last, 12"),
    (["--targets", "TARGETS"], "", "loss: got 'soon', expected a comparison"),
    (["--ledger", "LEDGER"], "", "--ledger: got no --targets"),
])
def test_a_wrong_question_is_answered_with_one_line(run, capsys, options, change, text):
    (run / "bad.json").write_text('{"loss": "soon"}')
    with open(run / "metrics.jsonl", "a") as f:
        f.write(change)
    names = {"TARGETS": str(run / "bad.json"), "LEDGER": str(run / "ledger.jsonl")}
    assert cli.main(["forecast", str(run), *[names.get(o, o) for o in options]]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("hrm-lab forecast: ") and text in err and err.count("\n") == 1


def test_a_missing_or_empty_history_is_refused(tmp_path, capsys):
    assert cli.main(["forecast", str(tmp_path / "none.jsonl")]) == 2
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "lo')
    assert cli.main(["forecast", str(tmp_path)]) == 2
    assert "got no rows" in capsys.readouterr().err
