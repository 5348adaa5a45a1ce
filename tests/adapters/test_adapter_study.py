"""From rows to verdicts on a model of random weights: what is kept, what is refused, what the tables and checks say."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("llguidance")

from hrm_lab import notebooks, runs
from hrm_lab.adapters import experiments, finetune, judging, models, preflight, study, verdict
from hrm_lab.adapters.faults import EXPERIMENTS
from hrm_lab.adapters.formats import FORMATS, NO_TOOL, encode, prompt_text, training_row
from hrm_lab.adapters.scoring import judge
from hrm_lab.inspect_notebook import ROOT

SPLITS = ("train", "validation", "test")
SETTINGS = {"model": "tiny", "cache": "", "data": "sample", "longest": dict.fromkeys(SPLITS, 4096), "max_new": 96,
            "shots": 1, "rows": {"train": 8, "validation": 3, "test": 4}}
CONFIG = finetune.Config(steps=2, batch=4, eval_every=2, warmup=1, rank=2, lr=1e-2)


@pytest.fixture(scope="module")
def loaded():
    return models.load("tiny", dtype="fp32", device="cpu")


@pytest.fixture(scope="module")
def chosen(loaded):
    return study.parts(SETTINGS, loaded[1])


@pytest.fixture(scope="module")
def plan(loaded, chosen):
    return study.plan(loaded[1], FORMATS["structured"], chosen, SETTINGS)


# ---------------------------------------------------------------- rows


def test_rows_are_cut_by_length_and_functions_come_again_late(loaded, chosen, monkeypatch):
    assert {name: len(found) for name, found in chosen.items()} == SETTINGS["rows"]
    assert study.counts(chosen)["test"]["rows"] == 4
    twice = [replace(e, id=f"{e.id}-{i}") for i in range(3) for e in chosen["train"][:5]]
    monkeypatch.setattr(study, "read_splits", lambda _: chosen | {"train": twice})
    names = [e.calls[0].name for e in study.parts(SETTINGS, loaded[1])["train"]]
    assert len(names) == 8 and len(set(names[:5])) == 5 and set(names[5:]) < set(names[:5])
    more = study.parts(SETTINGS | {"own": {"cep": {"rows": 11, "training": {"steps": 7}}}}, loaded[1])
    assert len(more["train"]) == 11 and [e.calls[0].name for e in more["train"]][:8] == names
    sizes = {e.id: len(encode(loaded[1], FORMATS["hermes"].answer(e))) for e in chosen["test"]}
    cut = study.parts(SETTINGS | {"max_new": max(sizes.values())}, loaded[1])
    assert max(sizes, key=sizes.get) not in {e.id for e in cut["test"]}  # its answer and its end need one token more
    with pytest.raises(ValueError, match="train: none of 15 rows has at most longest = 3 tokens"):
        study.parts(SETTINGS | {"longest": dict.fromkeys(SPLITS, 3)}, loaded[1])
    with pytest.raises(ValueError, match="data: got 'mine'"):
        study.parts(SETTINGS | {"data": "mine"}, loaded[1])


def test_a_long_training_row_loses_functions_that_are_not_called(loaded, chosen, monkeypatch):
    first = chosen["train"][0]
    other = [{**first.tools[0], "name": f"other_{i}"} for i in range(4)]
    long = replace(first, id="long", tools=(*other[:2], *first.tools, *other[2:]))
    monkeypatch.setattr(study, "read_splits", lambda _: chosen | {"train": [long, first]})
    room = len(training_row(loaded[1], replace(long, tools=(other[0], *first.tools)), FORMATS["hermes"]).ids)
    settings = SETTINGS | {"longest": SETTINGS["longest"] | {"train": room}}
    found = study.parts(settings, loaded[1])["train"]
    assert [e.id for e in found] == [first.id, "long"]  # shortened rows come last
    assert [tool["name"] for tool in found[1].tools] == ["other_0", first.tools[0]["name"]]
    assert len(study.parts(settings | {"rows": SETTINGS["rows"] | {"train": 1}}, loaded[1])["train"]) == 1
    assert len(first.tools) == 1


def test_a_format_may_take_more_rows_and_steps(loaded, chosen):
    own = SETTINGS | {"training": {"steps": 2}, "own": {"cep": {"rows": 4, "training": {"steps": 7}}}}
    assert study.config(own, "cep", 3) == finetune.Config(steps=7, seed=3)
    assert study.config(own, "hermes").steps == 2
    assert [len(study.plan(loaded[1], FORMATS[name], chosen, own).rows) for name in ("cep", "hermes")] == [4, 8]


def test_two_processes_leave_what_is_found_later(loaded, chosen, plan, tmp_path, monkeypatch):
    settings = SETTINGS | {"dtype": "fp32", "training": {"steps": 2, "batch": 4, "eval_every": 2, "rank": 2}}
    study.ahead(tmp_path, settings, 0, loaded[0].device, 1)
    assert not any(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(study, "FORMATS", {"structured": FORMATS["structured"]})  # one is enough
        study.ahead(tmp_path, settings, 0, loaded[0].device, 2)
    monkeypatch.setattr(experiments, "answers", None)  # nothing is generated again
    monkeypatch.setattr(finetune.Trainer, "advance", None)
    systems = study.baselines(tmp_path / "structured", *loaded, settings, plan)
    assert len(systems) == 4 and {len(found) for found in systems.values()} == {4}
    config = study.config(settings, "structured")
    found = experiments.arm(tmp_path / "structured", "tuned", *loaded, "tiny", plan, config)
    assert found.record["steps"] == 2 and len(found.verdicts["constrained"]) == 4


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_of_a_killed_kernel_ends(tmp_path):
    script = tmp_path / "kernel.py"
    script.write_text("import os, time\nfrom concurrent.futures import ProcessPoolExecutor\n"
                      "from multiprocessing import get_context\nfrom hrm_lab.adapters.study import _end_with_parent\n"
                      "if __name__ == '__main__':\n"
                      "    pool = ProcessPoolExecutor(1, get_context('spawn'), _end_with_parent)\n"
                      "    print(pool.submit(os.getpid).result(), flush=True)\n"
                      "    pool.submit(time.sleep, 300).result()\n")
    kernel = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, cwd=ROOT,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})
    child = int(kernel.stdout.readline())
    time.sleep(0.5)  # it sleeps by now
    kernel.kill()
    kernel.wait()
    end, stat = time.monotonic() + 20, Path(f"/proc/{child}/stat")
    while (alive := stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z") and time.monotonic() < end:
        time.sleep(0.05)
    if alive:
        os.kill(child, signal.SIGKILL)
    assert not alive


def test_an_example_is_shown_as_the_model_sees_it(loaded, chosen):
    text = study.shown(loaded[1], chosen["test"][0], FORMATS["hermes"])
    assert "<|im_start|>system" in text and "<tool_call>" in text and "tokens, answer" in text


def test_every_preset_and_recipe_says_how_to_train():
    for name in ("smoke", "laptop", "full"):
        settings = notebooks.settings("05_llama_adapters", name)
        for own in (settings, *(settings | recipe for recipe in settings["recipes"].values())):
            config = finetune.Config(**own["training"])
            assert own["rows"]["train"] >= config.batch and config.steps >= config.eval_every, name
            if own["faults"]["names"]:
                finetune.Config(**own["faults"]["training"])
                assert set(own["faults"]["names"]) <= set(EXPERIMENTS) and own["faults"]["form"] in FORMATS
    assert len(notebooks.settings("05_llama_adapters", "full")["recipes"]) == 2


# ---------------------------------------------------------------- answers


def test_constrained_answers_parse_whatever_the_model(loaded, plan):
    model, tokenizer = loaded
    for form in FORMATS.values():
        found = judging.answers(model, tokenizer, plan.test[:2], form, longest=200)
        assert [v.id for v in found["free"]] == [e.id for e in plan.test[:2]]
        assert [v.prompt for v in found["free"]] == [v.prompt for v in found["constrained"]]
        for v in found["constrained"]:
            assert not v.stopped or (v.valid_json and v.strict and v.schema_valid), v.got
        assert not any(v.exact for v in found["free"])  # random weights
    with pytest.raises(ValueError, match="ways: got"):
        judging.answers(model, tokenizer, plan.test, form, ways=("beam",))


def test_answers_are_kept_under_their_key(tmp_path, plan):
    own = {"free": [judge(e, plan.form.answer(e), plan.form, True, "p") for e in plan.test]}
    calls = []

    def make():
        calls.append(1)
        return own

    path = tmp_path / "a.jsonl"
    assert experiments.kept(path, {"k": (1,)}, make) == own == experiments.kept(path, {"k": (1,)}, make)
    assert len(calls) == 1
    experiments.kept(path, {"k": (2,)}, make)
    assert len(calls) == 2
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:50]]))
    with pytest.raises(ValueError, match=r"a\.jsonl:3"):
        experiments.read_verdicts(path)


# ---------------------------------------------------------------- a format, whole


def test_an_arm_trains_judges_and_is_not_trained_twice(loaded, plan, tmp_path, monkeypatch):
    model, tokenizer = loaded
    first = experiments.arm(tmp_path, "tuned", model, tokenizer, "tiny", plan, CONFIG)
    assert (first.record["status"], first.record["notes"]["forced"]) == ("ok", False)
    assert set(first.verdicts) == {"free", "constrained"} and len(first.verdicts["free"]) == len(plan.test)
    assert not any(p.requires_grad for p in model.parameters())  # the base is as it was
    monkeypatch.setattr(finetune.Trainer, "advance", lambda self: 1 / 0)
    again = experiments.arm(tmp_path, "tuned", model, tokenizer, "tiny", plan, CONFIG)
    assert again.verdicts == first.verdicts and again.history == first.history
    with pytest.raises(ZeroDivisionError):
        experiments.arm(tmp_path, "tuned", model, tokenizer, "tiny", plan, replace(CONFIG, lr=2e-2))
    assert runs.read_json(tmp_path / "tuned/run.json")["status"] == "failed"


def test_an_exported_adapter_answers_the_same_by_peft_and_merged(loaded, plan, tmp_path):
    model, tokenizer = loaded
    experiments.arm(tmp_path, "tuned", model, tokenizer, "tiny", plan, CONFIG)
    found = study.exported(SETTINGS, tmp_path / "tuned/best", plan)
    assert found["equal answers"] == "3 of 3" and "PeftModel" in found["adapter"]


def test_errors_stop_a_training_and_force_is_written_down(loaded, plan, tmp_path):
    model, tokenizer = loaded
    with pytest.raises(preflight.PreflightError):
        experiments.arm(tmp_path, "cut", model, tokenizer, "tiny", experiments.inject(plan, ["no end token"]), CONFIG)
    assert not (tmp_path / "cut").exists()
    arms = experiments.faulty(tmp_path, model, tokenizer, "tiny", plan, CONFIG, ["made-up roles", "no end token"],
                              together=False)
    assert list(arms) == ["sound", "made-up roles", "no end token"]
    assert arms["no end token"].record["notes"]["forced"] and not arms["sound"].report.forced
    assert "<|user|>" in arms["made-up roles"].verdicts["free"][0].prompt
    rows = experiments.fault_table(arms)
    assert "end" in rows[2]["preflight"] and rows[0]["preflight"] == "no error"
    assert json.loads(json.dumps(rows))[2]["minus_sound"]["n"] == len(plan.test)
    assert len(verdict.fault_rows(rows)) == 3 and verdict.fault_forest(rows)[0]["baseline"]


def test_baselines_are_asked_what_the_adapter_is_asked(loaded, plan, tmp_path):
    model, tokenizer = loaded
    found = study.baselines(tmp_path, model, tokenizer, SETTINGS, plan)
    assert list(found) == ["base, free", "base, constrained", "base + 1 examples, free",
                           "base + 1 examples, constrained"]
    assert [v.prompt for v in found["base, free"]] == [prompt_text(tokenizer, e, plan.form) for e in plan.test]
    assert len(set(study.hashes(found).values())) == 1 and len(study.hashes(found)) == 2
    assert found["base + 1 examples, free"][0].prompt.endswith(found["base, free"][0].prompt.split("<|im_start|>")[-2]
                                                               + "<|im_start|>assistant\n")


# ---------------------------------------------------------------- what is said of it


def history(losses, exacts, n=40):
    return [{"step": 10 * i, "loss": x, "exact_match": e, "n": n} for i, (x, e) in
            enumerate(zip(losses, exacts, strict=True))]


def test_a_falling_loss_with_a_flat_task_is_flagged():
    assert verdict.flat(history([0.86, 0.6], [0.0, 0.0]))[0]
    assert verdict.flat(history([2.0, 1.0], [0.0, 0.05]))[0]  # within chance
    assert not verdict.flat(history([2.0, 1.0], [0.0, 0.5]))[0]
    assert not verdict.flat([row | {"n": 16} for row in history([2.0, 1.0], [0.0, 0.375])])[0]  # 6 of 16 are a rise
    assert not verdict.flat(history([2.0, 1.9], [0.0, 0.0]))[0]  # nothing fell
    assert "exact match did not rise" not in verdict.flat(history([2.0, 1.0], [0.0, 0.5]))[1]


def answers(plan, right):
    form = plan.form
    return [judge(e, form.answer(e) if good else NO_TOOL, form, True, f"prompt {e.id}")
            for e, good in zip(plan.test, right, strict=True)]


def test_the_checklist_is_filled_by_what_was_found(plan):
    report = preflight.check(plan)
    tuned, base = answers(plan, [True] * 4), answers(plan, [False] * 4)

    def lines(**changes):
        given = {"report": report, "hashes": {"base": "a", "tuned": "a"}, "tuned": tuned, "base": base, "shown": 2,
                 "limits": {"base": 9, "tuned": 9}} | changes
        return {row["check"]: row["holds"] for row in verdict.checklist(**given)}

    good = lines()
    assert set(good.values()) == {"yes"}

    def falls(**changes):
        return {check for check, holds in lines(**changes).items() if holds != good[check]}

    assert falls(hashes={"base": "a", "tuned": "b"}) == {"prompt parity: all systems saw the same bytes"}
    assert falls(limits={"base": 9, "tuned": 8}) == {"context parity: the same limits for all"}
    assert falls(shown=0) == {"outputs were looked at"}
    assert falls(base=tuned) == {"held-out score above the untuned base"}
    assert "held-out score above zero" in falls(tuned=base)
    bad = preflight.check(experiments.inject(plan, ["no end token", "made-up roles"]))
    assert {"tokens come from the chat template", "answers end, and generation stops there"} <= falls(report=bad)
    assert "nothing was forced" in falls(report=preflight.require(bad, force=True))


def test_differences_are_called_what_they_are(plan):
    good, bad = answers(plan, [True] * 4), answers(plan, [False] * 4)
    assert "better" in verdict.said("cep", good * 10, bad * 10, "free")
    assert "worse" in verdict.said("cep", bad * 10, good * 10, "free")
    assert "not told apart" in verdict.said("cep", good, good, "free")


def test_tables_hold_every_system_and_failures_every_class(plan):
    own = {"base, free": answers(plan, [False] * 4), "tuned, free": answers(plan, [True, True, False, True])}
    systems = {"cep": own}
    assert [row["exact"][:3] for row in verdict.table(systems)] == ["0.0", "75."]
    assert verdict.overview(systems)["tuned, free"]["cep"].startswith("75.0")
    assert [row.get("baseline") for row in verdict.forest(systems)] == [True, False]
    assert verdict.classes({"cep": own["tuned, free"]}) == {"cep": {"exact": 3, "no call": 1}}
    shown = verdict.examples(own["tuned, free"], plan.test)
    assert shown[0]["asked"] == plan.test[0].turns[-1]["content"]
    assert [row["class"] for row in shown] == ["exact", "no call"] and shown[1]["got"] == NO_TOOL


def test_a_study_s_answers_are_summed_up_and_shown_where_they_ship(plan, tmp_path):
    own = tmp_path / "adapters" / "cep"
    good, bad = answers(plan, [True, True, False, True]), answers(plan, [False] * 4)
    experiments.write_verdicts(own / "base.jsonl", {}, {"free": bad, "constrained": bad})
    assert study.summary(tmp_path / "adapters") == {}
    experiments.write_verdicts(own / "tuned-answers.jsonl", {}, {"free": good, "constrained": bad})
    runs.write_json(own / "tuned/run.json", {"n_train": 8, "train": {"steps": 4}})
    runs.append_metrics(own / "tuned", {"step": 2, "cpu_seconds": 1.5})
    found = study.summary(tmp_path / "adapters")
    assert found["cep"]["training"] == {"rows": 8, "steps": 2, "planned": 4, "cpu_seconds": 1.5}
    assert found["cep"]["scores"]["tuned, free"]["exact"]["value"] == 0.75
    assert found["cep"]["gains"]["free"]["value"] == 0.75 and found["cep"]["gains"]["constrained"]["p"] == 1
    assert study.measured(tmp_path) == ([], "Preset `full` has not been measured.")
    runs.write_json(tmp_path / study.FULL.name, {"what": "Tiny.", "date": "2026-01-31", "command": "python x",
                                                 "formats": found})
    rows, words = study.measured(tmp_path)
    assert [row["system"] for row in rows] == [f"{who}, {way}" for who in ("base", "tuned") for way in
                                               ("free", "constrained")]
    assert "2026-01-31, not in this run:** Tiny. `python x`" in words and "cep, constrained: not told apart" in words
