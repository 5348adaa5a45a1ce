"""Pre-flight checks of examples, golds, splits and of what the compared systems are asked."""

import re
from collections import Counter

from .examples import Example
from .formats import FORMATS, prompt_text
from .preflight_plan import Finding, Plan, Seen, some

RETYPE = "write golds with json.dumps of typed values, and keep the prompt's format and the grader's the same"


def normal(example: Example) -> str:
    """The user's words without case, blanks and punctuation: the same question twice is the same text."""
    said = " ".join(turn["content"] for turn in example.turns if turn["role"] == "user").lower()
    return " ".join(re.findall(r"\w+", said)) or said


def gold(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Gold answers of every split, graded against themselves, must score 100 %; and an empty answer must score 0."""
    found = []
    for part in ("train", "validation", "test"):
        examples = getattr(p, part)
        verdicts = [p.grade(e, p.form.answer(e), p.form) for e in examples]
        bad = [e.id for e, v in zip(examples, verdicts, strict=True) if not v.exact]
        odd = [e.id for e, v in zip(examples, verdicts, strict=True) if v.exact and not v.schema_valid]
        found += some("gold", f"{100 * len(bad) / max(1, len(examples)):.0f} % of gold answers fail the "
                      "grader that will judge the model", bad, examples,
                      "No model can score there, a perfect one included.", RETYPE, f"{part} golds")
        found += some("gold", "gold arguments break the schema in the prompt", odd, examples,
                      "Grammar-constrained decoding can never write them.", "correct the schema or the gold",
                      f"{part} golds")
    asked = [e for e in (*p.validation, *p.test) if e.calls]
    free = [e.id for e in asked if p.grade(e, "", p.form).exact]
    return found + some("gold", "an empty answer passes the grader", free, asked,
                        "A score says nothing where silence is right.", "correct the grader", "golds")


def taught(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The answer that carries loss in each row, decoded, must parse and be right by the same grader."""
    told = [s for s in seen if s.taught is not None and s.labelled]
    kinds: dict[str, list[Seen]] = {"format": [], "parse": [], "wrong": []}
    for s in told:
        if not p.grade(s.example, s.taught, p.form).exact:
            own, others = p.form.parse(s.taught), [f.parse(s.taught) for f in FORMATS.values()]
            if not (own.strict and own.calls) and any(other.strict and other.calls for other in others):
                kinds["format"].append(s)
            else:
                kinds["wrong" if own.calls or not s.example.calls else "parse"].append(s)
    ids = {kind: [s.example.id for s in rows] for kind, rows in kinds.items()}
    first = {kind: repr(rows[0].taught)[:80] if rows else "" for kind, rows in kinds.items()}
    return [
        *some("format", f"training answers are in another format than the evaluation's ({p.form.name})", ids["format"],
              told, "The model learns an answer that counts as wrong.", "make rows and evaluation with one Format"),
        *some("parse", f"training answers cannot be parsed: {first['parse']}", ids["parse"], told,
              "The model learns to write what the parser refuses.", RETYPE),
        *some("taught", f"training answers are wrong by the grader: {first['wrong']}", ids["wrong"], told,
              "The model learns mistakes (a number as a string, another function).", RETYPE)]


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
    return [
        *some("visible", "names of gold functions or arguments do not stand in the prompt", hidden, examples,
              "They can only be guessed, or learnt by heart.", "put the schemas of all tools into the prompt",
              "prompts"),
        *some("answered", "the gold answer stands in the prompt", given, examples, "The score measures copying.",
              "take the answer out of the context", "prompts")]


def parity(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Every compared system gets the same questions, and for each the same bytes."""
    right = {e.id: prompt_text(p.tokenizer, e, p.form) for e in p.test}
    found = []
    for system, prompts in p.prompts.items():
        found += some("parity", f"system {system!r} is asked other questions than the test split",
                      sorted(set(prompts) ^ set(right)), right, "A difference of scores is a difference of questions.",
                      "one list of test ids for all systems", "test questions")
    first, *others = p.prompts
    for system in others:
        unlike = [i for i, text in p.prompts[system].items() if p.prompts[first].get(i, text) != text]
        found += some("parity", f"systems {first!r} and {system!r} get different prompts", unlike, right,
                      "A difference of scores may be the prompt's.", "render each prompt once and give it to all",
                      "test questions")
    strange = [i for i, text in p.prompts[first].items() if right.get(i, text) != text]
    return found + some("prompt", f"prompts of {first!r} are not what the chat template and the format give", strange,
                        right, "The model is asked in a form that it was not trained on.",
                        "prompt_text for training and evaluation", "test questions")


def leaks(p: Plan, seen: list[Seen]) -> list[Finding]:
    """No question, group or called function of a held-out split is in another one."""
    found = []
    names = ("train", "validation", "test")
    for first, second in (names[:2], names[::2], names[1:]):
        here, there = getattr(p, first), getattr(p, second)
        texts, ids = {normal(e) for e in here}, {e.id for e in here}
        groups, known = {e.group for e in here if e.group}, {tool["name"] for e in here for tool in e.tools}
        shared = (("questions", [e.id for e in there if normal(e) in texts or e.id in ids], "error"),
                  ("groups", [e.id for e in there if e.group in groups], "error"),
                  ("called functions", [e.id for e in there if any(c.name in known for c in e.calls)], "warning"))
        for kind, listed, severity in shared:
            found += some("leak", f"{kind} of {second} stand in {first}", listed, there, "The score measures memory.",
                          "split by connected component (hrm_lab.adapters.bfcl.components)", f"{second} rows", severity)
    return found


def conflicts(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The same question with the same tools has one answer; ids are distinct; every example has a row."""
    answers: dict[tuple, set] = {}
    first: dict[tuple, str] = {}
    for e in p.train:
        key = (normal(e), *sorted(tool["name"] for tool in e.tools))
        answers.setdefault(key, set()).add(p.form.answer(e))
        first.setdefault(key, e.id)
    torn = [first[key] for key, texts in answers.items() if len(texts) > 1]
    found = some("conflict", "the same question and tools have different golds", torn, p.train,
                 "One of them is counted wrong whatever is learnt.", "keep one row of each", severity="warning")
    for name in ("train", "validation", "test"):
        examples = getattr(p, name)
        twice = [i for i, n in Counter(e.id for e in examples).items() if n > 1]
        found += some("conflict", f"ids of {name} are not distinct", twice, examples,
                      "Answers are matched to the wrong question.", "number the rows", f"{name} rows")
    absent = sorted({e.id for e in p.train} - {row.id for row in p.rows})
    return found + some("dropped", "examples have no training row", absent, p.train,
                        "Something dropped them without a word (some trainers drop rows whose answer is cut off).",
                        "raise max_length, or drop them by name before")


def sizes(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Enough held-out rows for an interval that can tell anything."""
    empty = [name for name in ("train", "validation", "test") if not getattr(p, name)]
    if empty:
        return [Finding("sizes", "a split is empty", ", ".join(empty), "Nothing can be trained, chosen or judged.",
                        "split by component into three", "error")]
    if len(p.test) < 30:
        return [Finding("sizes", f"the test split has {len(p.test)} rows", "test", "A 95 % interval is wider than 35 "
                        "points at that size.", "hold out at least 100 rows", "warning")]
    return []


CHECKS = {"gold": gold, "taught": taught, "visible": visible, "parity": parity, "leak": leaks, "conflict": conflicts,
          "sizes": sizes}
