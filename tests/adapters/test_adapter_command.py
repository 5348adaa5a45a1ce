"""`hrm-lab preflight`: our examples and anybody's chat rows, exit codes, one line for a wrong question."""

import json

import pytest
from chat_tokenizers import tiny_tokenizer
from test_adapter_examples import SAMPLE

from hrm_lab import cli
from hrm_lab.adapters import chats
from hrm_lab.adapters.examples import ExampleError, read_splits, write
from hrm_lab.adapters.faults import made_up_roles
from hrm_lab.adapters.formats import HERMES, ending, template

PARTS = read_splits(SAMPLE)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def command(capsys, *words):
    code = cli.main(["preflight", *map(str, words)])
    return code, *capsys.readouterr()


def test_the_sample_passes(capsys, model):
    code, out, err = command(capsys, SAMPLE, "--model", model, "--max-new", 300)
    assert code == 0 and err == ""
    assert [line for line in out.splitlines() if not line.startswith("  ")] == [
        line for line in out.splitlines() if " 0 errors, 1 warnings" in line]  # of the size of the test split


def test_errors_are_listed_and_force_is_recorded(capsys, model):
    words = (SAMPLE, "--model", model, "--format", "hermes", "--max-length", 600)
    code, out, _ = command(capsys, *words)
    assert code == 1 and "error truncation: rows are longer than max_length = 600" in out
    code, out, _ = command(capsys, *words, "--force", "--json")
    report = json.loads(out)["hermes"]
    assert code == 0 and report["forced"] and report["errors"] and report["findings"][0]["cure"]


def test_a_wrong_question_is_one_line(capsys, model, tmp_path):
    for words in ((tmp_path, "--model", model), (SAMPLE, "--model", model, "--format", "xml"),
                  (SAMPLE, "--model", tmp_path / "none")):
        code, out, err = command(capsys, *words)
        assert code == 2 and out == "" and err.startswith("hrm-lab preflight: ") and err.count("\n") == 1
    (tmp_path / "train.jsonl").write_text('{"id": 1}\n')
    write(tmp_path / "validation.jsonl", PARTS["validation"])
    code, _, err = command(capsys, tmp_path, "--model", model)
    assert code == 2 and "train.jsonl:1: field id is 1; expected a JSON str" in err


# ---------------------------------------------------------------- chat rows


def turns(e, answer=None):
    return [*HERMES.messages(e), {"role": "assistant", "content": answer or HERMES.answer(e)}]


def printed(e):
    """A gold as Python prints it, as in the run that scored 0 %."""
    return f"<tool_call>\n{ {'arguments': e.calls[0].gold, 'name': e.calls[0].name} }\n</tool_call>"


def sharegpt(e, answer=None):
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in turns(e, answer)]}


def save(folder, row, parts=PARTS):
    for name, examples in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row(e)) + "\n" for e in examples))
    return folder


def findings(folder, row, max_length=8192, parts=PARTS):
    report = chats.check(save(folder, row, parts), tiny_tokenizer(), max_length)
    assert set(f.check for f in report.findings) <= set(report.checks)
    return {f.check: f for f in report.findings}


@pytest.mark.parametrize("row", [
    lambda e: {"messages": turns(e)}, sharegpt, lambda e: {"prompt": HERMES.messages(e),
                                                           "completion": HERMES.answer(e)},
    lambda e: {"messages": [*HERMES.messages(e), {"role": "assistant", "content": "None of them fits."}]}])
def test_sound_chat_rows_have_no_finding(tmp_path, row):
    assert findings(tmp_path, row) == {}


def test_the_run_that_scored_nothing_would_have_been_stopped(tmp_path):
    """All of a published run's faults in its own form: golds printed by Python, roles that are no tokens, no end, rows
    longer than the limit, functions that are named and not described, test questions in training."""
    def row(e):
        return {"text": made_up_roles(HERMES.messages(e)) + printed(e) + "\n"}

    found = findings(tmp_path, row, 900, PARTS | {"test": [*PARTS["test"], PARTS["train"][0]]})
    assert {"gold", "markers", "template", "end", "truncation", "leak", "masking"} <= set(found)
    assert found["gold"].what.startswith("100 % of gold calls cannot be read as JSON")
    hidden = findings(tmp_path, lambda e: {"messages": [
        {"role": "user", "content": f"{e.turns[-1]['content']} Chosen tool: {e.calls[0].name}"},
        {"role": "assistant", "content": HERMES.answer(e)}]})
    assert "visible" in hidden


def test_rules_that_contradict_the_answers_are_found(tmp_path):
    rules = ('<|formatting_rules|>Format: <tool_call name="FUNC_NAME">{"arg": "value"}</tool_call>'
             "<|end_formatting_rules|>")
    found = findings(tmp_path, lambda e: {"messages": [{"role": "system", "content": rules}, *turns(e)]})
    assert set(found) == {"format", "markers"} and found["markers"].severity == "warning"


def test_golds_of_python_are_found_in_conversations(tmp_path):
    assert set(findings(tmp_path, lambda e: sharegpt(e, printed(e)))) == {"gold"}


def test_a_rendered_text_is_held_against_the_template(tmp_path):
    text = tiny_tokenizer()
    good = findings(tmp_path, lambda e: {"text": template(text, turns(e), ask=False)})
    assert set(good) == {"masking"} and good["masking"].severity == "warning"
    cut = findings(tmp_path, lambda e: {"text": template(text, turns(e), ask=False).removesuffix(ending(text)[0])})
    assert set(cut) == {"masking", "end"}


def test_what_is_no_chat_row_is_named(tmp_path, capsys, model):
    save(tmp_path, lambda e: {"messages": turns(e)})
    with open(tmp_path / "train.jsonl", "a") as file:
        file.write('{"messages": [{"role": "user", "content": "q"}]}\n')
    with pytest.raises(ExampleError, match=r"train.jsonl:41: .*not the assistant's"):
        chats.check(tmp_path, tiny_tokenizer(), 4096)
    code, _, err = command(capsys, tmp_path, "--model", model)
    assert code == 2 and "train.jsonl:41" in err
    assert command(capsys, save(tmp_path, lambda e: sharegpt(e, printed(e))), "--model", model)[0] == 1
