"""Formats: what is asked and answered, byte for byte; grammars; ids that begin with the prompt."""

import json
import re

import pytest
from chat_tokenizers import tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_adapter_examples import SAMPLE, example

from hrm_lab.adapters.examples import read
from hrm_lab.adapters.formats import (
    CEP,
    FORMATS,
    HERMES,
    IGNORE,
    STRUCTURED,
    call_schema,
    encode,
    ending,
    messages_hash,
    prompt_hash,
    prompt_text,
    template,
    training_ids,
    training_row,
)

ALL = [e for name in ("train", "validation", "test", "others") for e in read(SAMPLE / f"{name}.jsonl")]
each = pytest.mark.parametrize("form", FORMATS.values(), ids=lambda f: f.name)


def test_the_three_formats_to_the_byte():
    one = example()
    call = '{"name": "f", "arguments": {"x": 1}}'
    tool = ('{"name": "f", "description": "Does f.", "parameters": {"type": "object", "properties": {"x": {"type": '
            '"integer"}, "y": {"type": "string"}}, "required": ["x"]}}')
    assert STRUCTURED.answer(one) == CEP.answer(one) == call
    assert HERMES.answer(one) == f"<tool_call>\n{call}\n</tool_call>"
    assert STRUCTURED.messages(one)[0]["content"].endswith(f"Functions:\n{tool}")
    assert f'<tools>\n{{"type": "function", "function": {tool}}}\n</tools>' in HERMES.messages(one)[0]["content"]
    assert CEP.messages(one)[0]["content"].endswith("Functions:\nf: Does f.\n  x*: integer\n  y: string")
    for form in FORMATS.values():
        assert [m["role"] for m in form.messages(one)] == ["system", "user"]
        assert form.messages(one)[1]["content"] == "Do f with 1."
    assert len(CEP.context(one)) < len(HERMES.context(one))


@each
def test_prompts_are_the_same_bytes_for_all_systems_and_do_not_change(form):
    """Frozen: a change here makes earlier results incomparable, so it must be meant."""
    assert messages_hash(ALL, form) == {"structured": "31a75b46617e3ff7", "hermes": "de982d5a90426e69",
                                        "cep": "01f8b0d89294347e"}[form.name]
    text = tiny_tokenizer()
    assert prompt_hash(text, ALL, form) == prompt_hash(text, ALL, form) != prompt_hash(text, ALL[::-1], form)
    assert prompt_text(text, ALL[0], form).encode() == template(text, form.messages(ALL[0]), ask=True).encode()


@each
def test_training_ids_begin_with_the_prompt_and_end_with_the_end_of_turn(form):
    text = tiny_tokenizer()
    after, end = ending(text)
    assert after == "<|im_end|>\n" and text.decode([end]) == "<|im_end|>"
    for one in ALL:
        ids, labels = training_ids(text, one, form)
        prompt = encode(text, prompt_text(text, one, form))
        assert ids[:len(prompt)] == prompt and labels[:len(prompt)] == [IGNORE] * len(prompt)
        assert ids[len(prompt):] == labels[len(prompt):] == [*encode(text, form.answer(one)), end]
        assert text.decode(ids[len(prompt):-1]) == form.answer(one)


def test_a_template_that_changes_what_went_before_is_refused():
    text = tiny_tokenizer()
    odd = type(text)(tokenizer_object=text._tokenizer, eos_token="<|im_end|>", chat_template=(
        "{{ messages | length }}" + text.chat_template.replace("{{ bos_token }}", "")))
    with pytest.raises(ValueError, match="example a: the chat template renders the training text otherwise"):
        training_row(odd, example(), STRUCTURED)
    odd.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        prompt_text(odd, example(), STRUCTURED)


@each
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_answers_read_back(form, data):
    value = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda v: st.lists(v,
                                                                                                             max_size=3)
                         | st.dictionaries(st.text(max_size=4), v, max_size=3), max_leaves=5)
    calls = data.draw(st.lists(st.fixed_dictionaries({"name": st.text(min_size=1, max_size=5),
                                                      "arguments": st.dictionaries(st.text(max_size=4), value,
                                                                                   max_size=3)}),
                               max_size=3))
    if "<tool_call>" not in json.dumps(calls):
        parsed = form.parse(form.write(calls))
        assert parsed.strict and list(parsed.calls) == calls and parsed.error == ""


@each
def test_examples_before_the_question_bring_their_own_context(form):
    from hrm_lab.adapters.baseline import few_shot

    shots = few_shot(form, ALL, k=2)
    said = shots.messages(ALL[-1])
    assert [m["role"] for m in said] == ["system", "user", "assistant"] * 2 + ["system", "user"]
    assert said[-2:] == form.messages(ALL[-1]) and said[2]["content"] == form.answer(shots.shots[0])
    assert few_shot(form, ALL, k=2) == shots
    with pytest.raises(ValueError, match="0 training rows with a call; expected at least k = 2"):
        few_shot(form, [], k=2)


# ---------------------------------------------------------------- grammars


def test_a_grammar_holds_one_schema_a_tool():
    one = next(e for e in ALL if len(e.tools) > 1)
    text = HERMES.grammar(one)
    assert len(re.findall(r"^call_\d+: %json ", text, re.MULTILINE)) == len(one.tools)
    assert '"<tool_call>\\n" call_0 "\\n</tool_call>"' in text and text.startswith("start: call\n")
    schema = call_schema(one.tools[0])
    assert schema["properties"]["name"] == {"const": one.tools[0]["name"]} and "description" not in json.dumps(
        schema["properties"]["arguments"])


@each
@pytest.mark.parametrize("single", [True, False])
def test_the_grammar_takes_gold_and_refuses_what_is_no_call(form, single):
    llguidance = pytest.importorskip("llguidance")
    text = llguidance.LLTokenizer(tiny_tokenizer()._tokenizer.to_str())

    def takes(grammar: str, answer: str) -> bool:
        matcher = llguidance.LLMatcher(text, grammar)
        assert not matcher.get_error(), matcher.get_error()
        tokens = text.tokenize_str(answer)
        whole = matcher.validate_tokens(tokens) == len(tokens)
        return whole and matcher.consume_tokens(tokens) and matcher.is_accepting()

    for one in ALL[::3]:
        grammar, fits = form.grammar(one, single), len(one.calls) == 1 or not single
        assert takes(grammar, form.answer(one)) == fits, (one.id, form.answer(one))
        assert not takes(grammar, "I would call it.") and not takes(grammar, form.write(
            [{"name": "no_such_function", "arguments": {}}]))
