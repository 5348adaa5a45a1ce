"""Pre-flight checks of examples, golds, splits and of what the compared systems are asked."""

import re
from collections import Counter
from collections.abc import Sequence

from .examples import Example
from .formats import FORMATS, prompt_text
from .preflight import Finding, Plan, Seen, places

RETYPE = "write golds with json.dumps of typed values, and keep the prompt's format and the grader's the same"


def normal(example: Example) -> str:
    """The user's words without case, blanks and punctuation: the same question twice is the same text."""
    said = " ".join(turn["content"] for turn in example.turns if turn["role"] == "user").lower()
    return " ".join(re.findall(r"\w+", said)) or said


def gold(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Gold answers of every split, graded against themselves, must score 100 %; and nothing must score 0."""
    found = []
    for part in ("train", "validation", "test"):
        examples = getattr(p, part)
        bad = [e.id for e in examples if not p.grade(e, p.form.answer(e), p.form).exact]
        if bad:
            found.append(Finding("gold", f"{100 * len(bad) / len(examples):.0f} % of gold answers fail the grader that "
                                 "will judge the model", places(bad, len(examples), f"{part} golds"),
                                 "No model can score there, a perfect one included.", RETYPE, "error"))
        wrong = [e.id for e in examples if not p.grade(e, p.form.answer(e), p.form).schema_valid]
        if wrong and not bad:
            found.append(Finding("gold", "gold arguments break the schema in the prompt", places(wrong, len(examples),
                                 f"{part} golds"), "Grammar-constrained decoding can never write them.",
                                 "correct the schema or the gold", "error"))
    asked = [e for e in (*p.validation, *p.test) if e.calls]
    free = [e.id for e in asked if p.grade(e, "", p.form).exact]
    if free:
        found.append(Finding("gold", "an empty answer passes the grader", places(free, len(asked), "golds"),
                             "A score says nothing where silence is right.", "correct the grader", "error"))
    return found


def taught(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The text that carries loss in each row, decoded, must parse and be right by the same grader."""
    told = [s for s in seen if s.taught is not None and s.labelled]
    whole = [s for s in told if s.row.labels[-1] >= 0 or s.row.ids[-1] == s.reference.ids[-1]]
    parses, wrong, other = [], [], []
    for s in whole:
        parsed = p.form.parse(s.taught)
        if p.grade(s.example, s.taught, p.form).exact:
            continue
        if not parsed.strict and any(f.parse(s.taught).strict and f.parse(s.taught).calls for f in FORMATS.values()):
            other.append(s.example.id)
        elif not parsed.calls and s.example.calls:
            parses.append(s.example.id)
        else:
            wrong.append(s.example.id)
    found = []
    if other:
        found.append(Finding("format", f"training answers are in another format than the evaluation's ({p.form.name})",
                             places(other, len(whole)), "The model learns an answer that counts as wrong.",
                             "make rows and evaluation with one Format", "error"))
    if parses:
        found.append(Finding("parse", "training answers cannot be parsed: " + repr(next(
            s.taught for s in whole if s.example.id == parses[0]))[:80], places(parses, len(whole)),
            "The model learns to write what the parser refuses.", RETYPE, "error"))
    if wrong:
        found.append(Finding("taught", "training answers are wrong by the grader: " + repr(next(
            s.taught for s in whole if s.example.id == wrong[0]))[:80], places(wrong, len(whole)),
            "The model learns mistakes (a number as a string, another function).", RETYPE, "error"))
    return found


def visible(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Every gold function and argument name stands in the prompt; the answer itself does not."""
    hidden, given = [], []
    examples = (*p.train, *p.validation, *p.test)
    for e in examples:
        text = prompt_text(p.tokenizer, e, p.form)
        names = {name for call in e.calls for name in (call.name, *call.gold)}
        if not all(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names):
            hidden.append(e.id)
        if e.calls and p.form.answer(e) in text:
            given.append(e.id)
    found = []
    if hidden:
        found.append(Finding("visible", "names of gold functions or arguments do not stand in the prompt",
                             places(hidden, len(examples), "prompts"), "They can only be guessed, or learnt by heart.",
                             "put the schemas of all tools into the prompt", "error"))
    if given:
        found.append(Finding("answered", "the gold answer stands in the prompt", places(given, len(examples),
                                                                                        "prompts"),
                             "The score measures copying.", "take the answer out of the context", "error"))
    return found


def parity(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Every compared system gets the same questions, and for each the same bytes."""
    ids = {e.id for e in p.test}
    found = []
    for system, prompts in p.prompts.items():
        if set(prompts) != ids:
            odd = sorted(set(prompts) ^ ids)
            found.append(Finding("parity", f"system {system!r} is asked other questions than the test split",
                                 places(odd, len(ids), "test questions"), "A difference of scores is a difference of "
                                 "questions.", "one list of test ids for all systems", "error"))
    first, *others = p.prompts
    for system in others:
        unlike = [i for i, text in p.prompts[system].items() if p.prompts[first].get(i, text) != text]
        if unlike:
            found.append(Finding("parity", f"systems {first!r} and {system!r} get different prompts",
                                 places(unlike, len(ids), "test questions"), "A difference of scores may be the "
                                 "prompt's.", "render each prompt once and give it to all", "error"))
    right = {e.id: prompt_text(p.tokenizer, e, p.form) for e in p.test}
    strange = [i for i, text in p.prompts[first].items() if i in right and text != right[i]]
    if strange:
        found.append(Finding("prompt", f"prompts of {first!r} are not what the chat template and the format give",
                             places(strange, len(ids), "test questions"), "The model is asked in a form that it was "
                                                                          "not "
                             "trained on.", "prompt_text for training and evaluation", "error"))
    return found


def leaks(p: Plan, seen: list[Seen]) -> list[Finding]:
    """No question, group or called function of a held-out split is in training; no id or question is there twice."""
    found = []
    names = ("train", "validation", "test")
    for i, first in enumerate(names):
        for second in names[i + 1:]:
            here, there = getattr(p, first), getattr(p, second)
            texts, groups = {normal(e) for e in here}, {e.group for e in here if e.group}
            known = {tool["name"] for e in here for tool in e.tools}
            ids = {e.id for e in here}
            same = [e.id for e in there if normal(e) in texts or e.id in ids]
            linked = [e.id for e in there if e.group in groups]
            functions = [e.id for e in there if any(c.name in known for c in e.calls)]
            for kind, listed, severity in (("questions", same, "error"), ("groups", linked, "error"),
                                           ("called functions", functions, "warning")):
                if listed:
                    found.append(Finding("leak", f"{kind} of {second} stand in {first}", places(listed, len(there),
                                         f"{second} rows"), "The score measures memory there.",
                                         "split by connected component (hrm_lab.adapters.bfcl.components)", severity))
    return found


def conflicts(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The same question with the same tools has one answer; ids are distinct; every example has a row."""
    found = []
    answers: dict[tuple, set] = {}
    first: dict[tuple, str] = {}
    for e in p.train:
        key = (normal(e), *sorted(tool["name"] for tool in e.tools))
        answers.setdefault(key, set()).add(p.form.answer(e))
        first.setdefault(key, e.id)
    torn = [first[key] for key, texts in answers.items() if len(texts) > 1]
    if torn:
        found.append(Finding("conflict", "the same question and tools have different golds", places(torn, len(p.train)),
                             "One of them is counted wrong whatever is learnt.", "keep one row of each", "warning"))
    for name in ("train", "validation", "test"):
        twice = [i for i, n in Counter(e.id for e in getattr(p, name)).items() if n > 1]
        if twice:
            found.append(Finding("conflict", f"ids of {name} are not distinct", places(twice, len(getattr(p, name)),
                                 f"{name} rows"), "Answers are matched to the wrong question.", "number the rows",
                                 "error"))
    absent = sorted({e.id for e in p.train} - {row.id for row in p.rows})
    if absent:
        found.append(Finding("dropped", "examples have no training row", places(absent, len(p.train)),
                             "Something dropped them without a word (some trainers drop rows whose answer is cut off).",
                             "raise max_length, or drop them by name before", "error"))
    return found


def sizes(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Enough held-out rows for an interval that can tell anything."""
    few: Sequence[str] = [f"{name} has {len(getattr(p, name))}" for name in ("train", "validation", "test")
                          if not getattr(p, name)]
    if few:
        return [Finding("sizes", "a split is empty", ", ".join(few), "Nothing can be trained or judged.",
                        "split by component into three", "error")]
    if len(p.test) < 30:
        return [Finding("sizes", f"the test split has {len(p.test)} rows", "test", "A 95 % interval is wider than 35 "
                        "points at that size.", "hold out at least 100 rows", "warning")]
    return []


CHECKS = {"gold": gold, "taught": taught, "visible": visible, "parity": parity, "leak": leaks, "conflict": conflicts,
          "sizes": sizes}
