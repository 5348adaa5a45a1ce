"""Faults of fine-tuning runs, each put into a sound plan: what pre-flight must find, and what experiments measure.

Most come from runs that failed in public: gold printed by Python and graded as JSON, answers lost to truncation, roles
marked with made-up tokens, loss over the whole sequence, no end token, baselines that were asked something else. A
fault takes a `Plan` and gives one with the fault in it. Those of `EXPERIMENTS` change only the rows (and the
evaluation's prompts where the rows' roles change), so that they can be trained, alone and together, at equal budget.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .examples import Call, Example
from .formats import FORMATS, IGNORE, Row, encode, prompt_text, training_row
from .preflight_plan import Plan


@dataclass(frozen=True)
class Fault:
    """`finds`: the check of pre-flight that must report it."""

    name: str
    what: str
    finds: str
    put: Callable[[Plan], Plan]


def inject(plan: Plan, names: Sequence[str]) -> Plan:
    """The plan with these faults, in the order of the table whatever the order of `names`. Raises ValueError."""
    unknown = sorted(set(names) - set(FAULTS))
    if unknown:
        raise ValueError(f"faults: got {', '.join(unknown)}; expected some of {', '.join(FAULTS)}")
    for name, fault in FAULTS.items():
        if name in names:
            plan = fault.put(plan)
    return plan


# ---------------------------------------------------------------- of rows


def _start(row: Row) -> int:
    """Where the answer begins in a row whose prompt is masked."""
    return next((i for i, label in enumerate(row.labels) if label >= 0), len(row.labels))


def _each(plan: Plan, change: Callable[[Row], Row]) -> Plan:
    return replace(plan, rows=tuple(change(row) for row in plan.rows))


def _answers(plan: Plan, write: Callable[[Example], str | None]) -> Plan:
    """The plan with other answers in its rows; None keeps a row's own."""
    rows = []
    for example, row in zip(plan.train, plan.rows, strict=True):
        text = write(example)
        if text is not None:
            at, end = _start(row), row.ids[-1]
            ids = [*encode(plan.tokenizer, text), end]
            row = Row(row.id, (*row.ids[:at], *ids), (*[IGNORE] * at, *ids))
        rows.append(row)
    return replace(plan, rows=tuple(rows))


def _labels(change: Callable[[Row, int], Sequence[int]]) -> Callable[[Plan], Plan]:
    """A fault of labels alone; `change` is given a row and where its answer begins."""
    return lambda plan: _each(plan, lambda row: Row(row.id, row.ids, tuple(change(row, _start(row)))))


def made_up_roles(messages: Sequence[dict]) -> str:
    """A prompt with the role markers of the run that failed: plain text that looks like control tokens."""
    return "".join(f"<|{m['role']}|>\n{m['content']}\n\n" for m in messages) + "<|assistant|>\n"


def _fake_roles(plan: Plan) -> Plan:
    rows = []
    for example, row in zip(plan.train, plan.rows, strict=True):
        ids, answer = encode(plan.tokenizer, made_up_roles(plan.form.messages(example))), row.ids[_start(row):]
        rows.append(Row(row.id, (*ids, *answer), (*[IGNORE] * len(ids), *answer)))
    asked = {e.id: made_up_roles(plan.form.messages(e)) for e in plan.test}
    return replace(plan, rows=tuple(rows), prompts=dict.fromkeys(plan.prompts, asked))


def _hand_written(plan: Plan) -> Plan:
    """The template written by hand, without its last line break."""
    rows = []
    for example, row in zip(plan.train, plan.rows, strict=True):
        ids = encode(plan.tokenizer, prompt_text(plan.tokenizer, example, plan.form).rstrip("\n"))
        answer = row.ids[_start(row):]
        rows.append(Row(row.id, (*ids, *answer), (*[IGNORE] * len(ids), *answer)))
    return replace(plan, rows=tuple(rows))


def _calls(example: Example, change: Callable[[dict], dict]) -> list[dict]:
    return [change({"name": call.name, "arguments": call.gold}) for call in example.calls]


def _as_strings(call: dict) -> dict:
    """Numbers and booleans as strings, as a table or a form gives them."""
    return call | {"arguments": {name: json.dumps(value) if isinstance(value, int | float) else value
                                 for name, value in call["arguments"].items()}}


def _mistyped(plan: Plan) -> Plan:
    return _answers(plan, lambda e: plan.form.write(_calls(e, _as_strings)))


def _other_function(plan: Plan) -> Plan:
    return _answers(plan, lambda e: plan.form.write(_calls(e, lambda c: c | {"name": c["name"] + "_v2"})))


def _python(plan: Plan) -> Plan:
    before, after = plan.form.wrap
    return _answers(plan, lambda e: "\n".join(f"{before}{c}{after}" for c in _calls(e, dict)) or None)


def _other_format(plan: Plan) -> Plan:
    other = FORMATS["structured" if plan.form.name == "hermes" else "hermes"]
    return replace(plan, rows=tuple(training_row(plan.tokenizer, e, other) for e in plan.train))


def _cut(plan: Plan) -> Plan:
    """A limit that about a third of the rows exceed, cut from the right as trainers do."""
    lengths = sorted(len(row.ids) for row in plan.rows)
    limit = lengths[int(0.64 * (len(lengths) - 1))]
    cut = _each(plan, lambda row: Row(row.id, row.ids[:limit], row.labels[:limit]))
    return replace(cut, max_length=limit)


def _no_end(plan: Plan) -> Plan:
    return _each(plan, lambda row: Row(row.id, row.ids[:-1], row.labels[:-1]))


def _doubled(plan: Plan) -> Plan:
    first = plan.tokenizer.bos_token_id
    return _each(plan, lambda row: Row(row.id, (first, *row.ids), (IGNORE, *row.labels)))


def _from_the_left(plan: Plan) -> Plan:
    limit = min(len(row.ids) for row in plan.rows) - 1
    cut = _each(plan, lambda row: Row(row.id, row.ids[-limit:], row.labels[-limit:]))
    return replace(cut, max_length=limit)


def _padding(plan: Plan) -> Plan:
    pad = plan.tokenizer.pad_token_id
    return _each(plan, lambda row: Row(row.id, (*row.ids, pad, pad), (*row.labels, pad, pad)))


def _foreign(plan: Plan) -> Plan:
    size = len(plan.tokenizer)
    return _each(plan, lambda row: Row(row.id, tuple(i + size for i in row.ids),
                                       tuple(x if x < 0 else x + size for x in row.labels)))


# ---------------------------------------------------------------- of examples, prompts, grader


def _again(plan: Plan, **changes) -> Plan:
    """The plan with rows and prompts made anew by the chat template, after examples or the format were changed."""
    plan = replace(plan, **changes)
    asked = {e.id: prompt_text(plan.tokenizer, e, plan.form) for e in plan.test}
    return replace(plan, prompts=dict.fromkeys(plan.prompts, asked),
                   rows=tuple(training_row(plan.tokenizer, e, plan.form) for e in plan.train))


def _printed(plan: Plan) -> Plan:
    before, after = plan.form.wrap
    return _again(plan, form=replace(plan.form, write=lambda calls: "\n".join(f"{before}{c}{after}" for c in calls)))


def _wrong_gold(plan: Plan) -> Plan:
    def change(call: Call) -> Call:
        return replace(call, gold=_as_strings({"arguments": call.gold})["arguments"])

    return _again(plan, train=tuple(replace(e, calls=tuple(map(change, e.calls))) for e in plan.train))


def _no_schemas(plan: Plan) -> Plan:
    """A context of function names alone, as in a run whose prompts said `Chosen tool: X`."""
    names = replace(plan.form, context=lambda e: "Call one of: " + ", ".join(tool["name"] for tool in e.tools))
    return _again(plan, form=names)


def _answer_in_prompt(plan: Plan) -> Plan:
    form = plan.form
    return _again(plan, form=replace(form, context=lambda e: f"{form.context(e)}\nAs in: {form.answer(e)}"))


def _control(plan: Plan) -> Plan:
    token = plan.tokenizer.eos_token
    turn = ({"role": "user", "content": f"Ignore this. {token} "},)
    first = replace(plan.train[0], turns=(*turn, *plan.train[0].turns))
    return _again(plan, train=(first, *plan.train[1:]))


def _add(plan: Plan, part: str, examples: Sequence[Example]) -> Plan:
    return _again(plan, **{part: (*getattr(plan, part), *examples)})


def _same_question(plan: Plan) -> Plan:
    return _add(plan, "train", [replace(e, id=f"copy-{e.id}", group="") for e in plan.test[:3]])


def _same_function(plan: Plan) -> Plan:
    asked = [replace(e, id=f"other-{e.id}", group="", turns=({"role": "user", "content": f"Do {e.id} at once."},))
             for e in plan.test if e.calls][:3]
    return _add(plan, "train", asked)


def _two_golds(plan: Plan) -> Plan:
    first = next(e for e in plan.train if e.calls)
    return _add(plan, "train", [replace(first, id=f"again-{first.id}", calls=())])


def _baseline(change: Callable[[dict], dict]) -> Callable[[Plan], Plan]:
    """A fault of what the last system, a baseline, is asked."""
    def put(plan: Plan) -> Plan:
        last = [*plan.prompts][-1]
        return replace(plan, prompts={**plan.prompts, last: change(dict(plan.prompts[last]))})
    return put


def _grader(change: Callable) -> Callable[[Plan], Plan]:
    def put(plan: Plan) -> Plan:
        return replace(plan, grade=lambda e, text, form: replace(plan.grade(e, text, form), **change(e, text)))
    return put


def _twice(plan: Plan) -> Plan:
    return replace(plan, validation=(*plan.validation, plan.validation[0]))


FAULTS = {fault.name: fault for fault in (
    Fault("made-up roles", "roles by <|system|>, <|user|>, <|assistant|>", "markers", _fake_roles),
    Fault("hand-written template", "a template by hand, one line break less", "prefix", _hand_written),
    Fault("other format", "rows of one format, evaluation of another", "format", _other_format),
    Fault("mistyped gold", "numbers and booleans as strings in the rows", "taught", _mistyped),
    Fault("Python literals", "rows that Python printed, not JSON", "parse", _python),
    Fault("other function", "rows that call a function which is not there", "taught", _other_function),
    Fault("no end token", "rows end with the answer", "end", _no_end),
    Fault("masked end token", "the end token without loss, as where pad is the same token", "end",
          _labels(lambda row, at: [*row.labels[:-1], IGNORE])),
    Fault("whole sequence", "loss on every token", "masking", _labels(lambda row, at: row.ids)),
    Fault("no loss", "every token masked", "masking", _labels(lambda row, at: [IGNORE] * len(row.ids))),
    Fault("loss on the question", "the last ten tokens of the prompt carry loss", "masking",
          _labels(lambda row, at: [*row.labels[:at - 10], *row.ids[at - 10:]])),
    Fault("half an answer", "the first three tokens of the answer without loss", "masking",
          _labels(lambda row, at: [*[IGNORE] * (at + 3), *row.labels[at + 3:]])),
    Fault("shifted labels", "labels shifted by the data and again by the model", "shift",
          _labels(lambda row, at: [*row.labels[1:], IGNORE])),
    Fault("loss on padding", "padding carries loss", "padding", _padding),
    Fault("truncated answers", "a third of the rows lose their answer's end", "truncation", _cut),
    Fault("truncated prompts", "rows cut from the left", "truncation", _from_the_left),
    Fault("short limit", "max_length below the longest row", "truncation",
          lambda p: replace(p, max_length=max(len(row.ids) for row in p.rows) - 1)),
    Fault("short generation", "max_new below the longest gold", "max_new", lambda p: replace(p, max_new=8)),
    Fault("doubled beginning", "two beginning-of-sequence tokens", "bos", _doubled),
    Fault("foreign ids", "ids of another tokenizer", "vocabulary", _foreign),
    Fault("dropped rows", "rows that are left out without a word", "dropped", lambda p: replace(p, rows=p.rows[2:])),
    Fault("other end", "generation stops at another token than the template's", "stop",
          lambda p: replace(p, stop_ids=(0,))),
    Fault("printed gold", "all golds printed by Python and graded as JSON", "gold", _printed),
    Fault("wrong gold", "golds that their own possible answers refuse", "gold", _wrong_gold),
    Fault("no schemas", "prompts without the arguments' names", "visible", _no_schemas),
    Fault("answer in the prompt", "the gold answer in the context", "answered", _answer_in_prompt),
    Fault("control tokens", "a user's text that closes the turn", "control", _control),
    Fault("same question", "three test questions in training", "leak", _same_question),
    Fault("same function", "three test functions in training", "leak", _same_function),
    Fault("validation is test", "one held-out split for both", "leak", lambda p: replace(p, validation=p.test)),
    Fault("two golds", "one question with two answers", "conflict", _two_golds),
    Fault("same id", "one id twice", "conflict", _twice),
    Fault("no validation", "an empty split", "sizes", lambda p: replace(p, validation=())),
    Fault("other prompts", "the baseline without its context", "parity",
          _baseline(lambda asked: {i: text[len(text) // 2:] for i, text in asked.items()})),
    Fault("other questions", "the baseline on a question less", "parity",
          _baseline(lambda asked: dict([*asked.items()][1:]))),
    Fault("kind grader", "a grader that passes anything", "gold", _grader(lambda e, text: {"exact": True})),
    Fault("literal grader", "a grader that wants what Python prints", "gold",
          _grader(lambda e, text: {"exact": text == str([c.gold for c in e.calls])})),
    Fault("plain loss", "the loss as a number", "loss", lambda p: replace(p, step=lambda row: 1)),
)}
EXPERIMENTS = ("made-up roles", "mistyped gold", "no end token", "whole sequence", "truncated answers")
