"""The panel follows a run from outside: lines, a figure that stays, mirrors; and nothing of it can stop training."""

import io
import json
import sys
import time
import types

import pytest

from hrm_lab import alarms, forecast_ledger, live, notebooks, runs
from hrm_lab.forecast_targets import read_targets
from hrm_lab.inspect_notebook import read_notebook
from toy_notebooks import write


def row(step, **more):
    return {"step": step, "seconds": step / 50, "loss": 0.99 ** (step / 2), "train_loss": 0.98 ** (step / 2),
            "exact_match": 1 - 0.99 ** step, "token_accuracy": 1 - 0.98 ** step, "n": 250} | more


HISTORY = [row(step) for step in range(10, 310, 10)]


def test_a_state_says_where_the_run_is_and_goes():
    state = live.assess("x", HISTORY, 500, read_targets({"loss": "<0.3", "exact_match": ">0.9"}))
    assert state.pace == pytest.approx(50) and state.eta == pytest.approx(4)
    low, middle, high = live.ahead(state, "exact_match")
    assert 0 <= low <= middle <= high <= 1 and middle > 0.9
    told = live.line(state)
    for part in ("step 300/500", "exact match 95.1 % (n = 250)", "50 steps/s, 0:04 left", "P(targets)", "at the end"):
        assert part in told, told
    assert "\n" not in told


def test_one_row_and_the_last_row_have_a_state_too():
    first, last = live.assess("x", HISTORY[:1], 500), live.assess("x", [row(s) for s in range(10, 510, 10)], 500)
    assert first.pace is None and live.ahead(first, "exact_match") is None and "left" not in live.line(first)
    assert live.ahead(last, "exact_match") is None and last.eta == 0


def test_alarms_and_ceiling_are_shown():
    flat = [row(s, exact_match=0.5) for s in range(10, 310, 10)]
    state = live.assess("x", flat, 500, ceiling=0.5)
    assert "ceiling" in live.line(state) and "ceiling" in live.alt(state)
    data, metadata = live.bundle(state)
    assert metadata["image/png"]["alt"] == data["text/plain"] == live.alt(state)


def test_every_warning_can_come_up_in_a_watched_run():
    """Rows as training writes them, of one that falls back and overfits, and one that never learns."""
    def course(e):
        up = min(e, 20) / 25
        fallen = 0.5 if 25 < e < 32 else 0.0
        return row(10 * e, loss=2 * 0.9 ** min(e, 20) + 0.02 * max(0, e - 25) + 4 * fallen, train_loss=2 * 0.9 ** e,
                   token_accuracy=0.1 + up, exact_match=max(0.0, 0.3 * up - fallen),
                   **{"exact_match/copy": 0.6 * up, "exact_match/increment": 0.0})

    history = [course(e) for e in range(1, 51)]
    told = [live.assess("x", history[:k], 500, read_targets({"exact_match": ">0.9"}), ceiling=0.5)
            for k in range(5, 51, 3)]
    told.append(live.assess("x", [row(s, exact_match=0.0) for s in range(10, 310, 10)], 500))
    assert {alarm.rule for state in told for alarm in alarms.active(state.alarms)} == set(alarms.RULES)
    assert any("! " in live.line(state) and "band" in live.line(state) for state in told)
    assert not any("band" in live.line(live.assess("x", HISTORY[:k], 500)) for k in (5, 15, 30))


def test_clock():
    assert [live.clock(s) for s in (0, 59.6, 61, 3661)] == ["0:00", "1:00", "1:01", "1:01:01"]


def follow(folder, steps, **more):
    out = io.StringIO()
    with live.watch(folder, steps, out=out, **more):
        for r in HISTORY[:4]:
            runs.append_metrics(folder, r)
            time.sleep(0.05)
    return out.getvalue().splitlines()


def test_one_line_for_each_evaluation(tmp_path):
    lines = follow(tmp_path, 500)
    assert [text.split("  ")[0] for text in lines] == [f"step {s}/500" for s in (10, 20, 30, 40)]


def test_rows_of_an_earlier_run_are_not_repeated(tmp_path):
    runs.append_metrics(tmp_path, row(400))
    out = io.StringIO()
    with live.watch(tmp_path, 500, out=out):
        time.sleep(3 * live.POLL)
        assert out.getvalue() == ""
        (tmp_path / "metrics.jsonl").unlink()
        runs.append_metrics(tmp_path, row(10))
    assert "step 10/500" in out.getvalue() and "400" not in out.getvalue()


def test_an_error_of_the_picture_comes_after_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "line", lambda state: 1 / 0)
    trained = False
    with pytest.raises(ZeroDivisionError), live.watch(tmp_path, 500, out=io.StringIO()):
        runs.append_metrics(tmp_path, row(10))
        time.sleep(3 * live.POLL)
        trained = True
    assert trained


def test_an_error_of_the_training_comes_through(tmp_path):
    with pytest.raises(FloatingPointError), live.watch(tmp_path, 500, out=io.StringIO()):
        raise FloatingPointError("the loss is nan")


def test_sinks_get_every_row_once(tmp_path, monkeypatch):
    seen = []
    fake = types.ModuleType("trackio")
    fake.init = lambda **given: seen.append(given)
    fake.log = lambda row, step: seen.append((step, row["loss"]))
    fake.finish = lambda: seen.append("finished")
    monkeypatch.setitem(sys.modules, "trackio", fake)
    follow(tmp_path, 500, sinks=("trackio",))
    assert seen == [{"project": "hrm-lab", "name": tmp_path.name}, *((r["step"], r["loss"]) for r in HISTORY[:4]),
                    "finished"]


def test_forecasts_are_stored_when_made_and_scored_when_due(tmp_path):
    with live.watch(tmp_path, 300, read_targets({"loss": "<0.3"}), ledger=tmp_path / "ledger.jsonl", out=io.StringIO()):
        for r in HISTORY[:20]:
            runs.append_metrics(tmp_path, r)
        for _ in range(200):  # as long as the thread takes, at most a minute
            time.sleep(live.POLL)
            half = forecast_ledger.report(tmp_path / "ledger.jsonl")
            if half["n"]:
                break
        for r in HISTORY[20:]:
            runs.append_metrics(tmp_path, r)
    whole = forecast_ledger.report(tmp_path / "ledger.jsonl")
    assert half["n"] > 0 and half["waiting"] > 0 and whole["waiting"] == 0 and whole["n"] > half["n"]
    made = [r for r in forecast_ledger.read(tmp_path / "ledger.jsonl") if r["event"] == "made"]
    assert {r["run"] for r in made} == {tmp_path.name} and {r["metric"] for r in made} == {"loss", "exact_match"}
    assert sorted({r["seen"] for r in made}) == [pytest.approx(10), 15, 25, 35]  # too few rows by epoch 5
    assert all(r["targets"] == [] for r in made if r["metric"] == "exact_match")


def test_an_unknown_or_missing_sink_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    for sink, text in (("wandb", "got 'wandb', expected of tensorboard"), ("trackio", "expected it installed")):
        with pytest.raises(ValueError, match=text), live.watch(tmp_path, 500, sinks=(sink,)):
            pytest.fail("the block ran")


def test_the_terminal_follows_to_the_end(tmp_path, capsys):
    runs.write_json(tmp_path / "run.json", {"status": "ok", "train": {"steps": 40}})
    for r in HISTORY[:4]:
        runs.append_metrics(tmp_path, r)
    assert live.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [text.split("  ")[0] for text in lines] == [f"step {s}/40" for s in (10, 20, 30, 40)]
    assert live.main([str(tmp_path / "none")]) == 2


CODE = """
import os, time
os.chdir(workdir)
from pathlib import Path
from hrm_lab import alarms, forecast_ledger, live, notebooks, runs
os.makedirs("run", exist_ok=True)
with live.watch("run", 100):
    for step in range(10, 110, 10):
        runs.append_metrics("run", {"step": step, "seconds": step / 10, "loss": 0.9 ** step, "exact_match": step / 100})
        time.sleep(0.3)
"""


def test_the_panel_stays_in_the_notebook_with_its_alt_text(tmp_path):
    write(tmp_path / "a.ipynb", CODE, parameters='preset = "smoke"\nworkdir = "."\nout = "out"')
    facts = notebooks.run(tmp_path / "a.ipynb", tmp_path / "run_a", {}, workdir=tmp_path)
    assert facts["status"] == "ok", facts["error"]
    outputs = [o for c in read_notebook(tmp_path / "run_a" / "executed.ipynb")["cells"] for o in c.get("outputs", [])
               if "image/png" in o.get("data", {})]
    assert len(outputs) == 1  # replaced in place, not repeated
    told = "".join(outputs[0]["data"]["text/plain"])
    assert "step 100 of 100" in told and outputs[0]["metadata"]["image/png"]["alt"] == told
    assert json.dumps(outputs[0])
