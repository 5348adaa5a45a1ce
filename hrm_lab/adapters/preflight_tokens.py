"""Pre-flight checks of ids and labels: what the trainer sees against what the chat template and the evaluation give."""

import re

from .formats import encode, ending
from .preflight import Finding, Plan, Seen, places

MARKER = re.compile(r"<\|[\w ]{1,40}\|>|<\|?/?(?:system|user|assistant|start_of_turn|end_of_turn|s)\|?>"
                    r"|\[/?INST\]|<</?SYS>>|^#{2,3} ?(?:Instruction|Response|Input|System|User|Assistant|Human)\b:?",
                    re.MULTILINE)
TEMPLATE = "make rows with training_row, which asks the chat template"


def _cut(s: Seen, p: Plan) -> str:
    """"", "right" (the answer lost its end) or "left" (the prompt lost its head)."""
    ids, whole = s.row.ids, s.reference.ids
    if len(ids) < len(whole) and ids == whole[:len(ids)] and (len(ids) < len(whole) - 1 or len(ids) >= p.max_length):
        return "right"
    if len(ids) < len(whole) and ids == whole[len(whole) - len(ids):]:
        return "left"
    return ""


def truncation(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The whole row, the answer and its end above all, fits in `max_length`; the gold answers in `max_new`."""
    found = []
    for side, what in (("right", "answers are cut off"), ("left", "prompts have lost their beginning")):
        cut = [s.example.id for s in seen if _cut(s, p) == side]
        if cut:
            found.append(Finding("truncation", what, places(cut, len(seen)), "These rows teach to go on with the "
                                                                             "prompt, or "
                                 "never to stop." if side == "right" else "The model answers without the tools.",
                                 f"raise max_length above {max(len(s.reference.ids) for s in seen)}, or drop the rows",
                                 "error"))
    long = [s.example.id for s in seen if len(s.row.ids) > p.max_length]
    if long:
        found.append(Finding("truncation", f"rows are longer than max_length = {p.max_length}", places(long, len(seen)),
                             "The trainer will cut them; the answer stands at the end.",
                             f"raise max_length to {max(len(s.row.ids) for s in seen)}, or drop the rows", "error"))
    held = (*p.validation, *p.test)
    lengths = {e.id: len(encode(p.tokenizer, p.form.answer(e))) + 1 for e in held}
    short = [i for i, length in lengths.items() if length > p.max_new]
    if short:
        found.append(Finding("max_new", f"gold answers are longer than max_new = {p.max_new} tokens",
                             places(short, len(held), "held-out golds"), "A perfect model is cut off there.",
                             f"raise max_new to {max(lengths.values())}", "error"))
    return found


def prefix(p: Plan, seen: list[Seen]) -> list[Finding]:
    """A row begins with the ids of the evaluation's prompt; if not, say where the texts part."""
    off = [s for s in seen if not s.starts and _cut(s, p) != "left"
           and s.row.ids != s.reference.ids[:len(s.row.ids)]]
    if not off:
        return []
    first, ids = off[0], [s.example.id for s in off]
    at = next((i for i, (a, b) in enumerate(zip(first.row.ids, first.reference.ids, strict=False)) if a != b),
              min(len(first.row.ids), len(first.reference.ids)))
    row, reference = (p.tokenizer.decode(list(x.ids[max(0, at - 3):at + 8])) for x in (first.row, first.reference))
    found = [Finding("prefix", f"training ids do not begin with the evaluation's prompt: token {at} begins "
                               f"{row!r:.60}, "
                     f"the prompt has {reference!r:.60}", places(ids, len(seen)),
                     "The model is trained on one beginning and asked with another.", TEMPLATE, "error")]
    if p.tokenizer.decode(list(first.row.ids)).strip() != p.tokenizer.decode(list(first.reference.ids)).strip():
        found.append(Finding("template", "the training text is not what the chat template writes", places(ids,
                                                                                                          len(seen)),
                             "What the model learnt of roles and turns before is not used.", TEMPLATE, "error"))
    return found


def markers(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Role markers are single tokens that the tokenizer knows as such; messages contain none of these."""
    control = set(p.tokenizer.all_special_tokens)
    known = control | {*p.tokenizer.get_added_vocab()}
    split: dict[str, list[str]] = {}
    spoofed = []
    for s in seen:
        said = "\n".join(m["content"] for m in p.form.messages(s.example))
        text = p.tokenizer.decode(list(s.row.ids), skip_special_tokens=False)
        for marker in {m.strip() for m in MARKER.findall(text)} - known:
            if marker not in said:
                split.setdefault(marker, []).append(s.example.id)
        if any(token in turn["content"] for token in control for turn in s.example.turns):
            spoofed.append(s.example.id)
    found = [Finding("markers", f"role marker {marker!r} is {len(encode(p.tokenizer, marker))} tokens and no special "
                                "one",
                     places(ids, len(seen)), "The model does not know it as a boundary (measured on a small model: no "
                                             "harm "
                     "by itself, but nothing ends a turn).", "roles by tokenizer.apply_chat_template", "error")
             for marker, ids in sorted(split.items())]
    if spoofed:
        found.append(Finding("control", "a message contains a control token of the tokenizer", places(spoofed,
                                                                                                      len(seen)),
                             "The text of a user opens or closes turns.", "escape or drop these rows", "error"))
    return found


def bos(p: Plan, seen: list[Seen]) -> list[Finding]:
    """At most one beginning-of-sequence token."""
    first = p.tokenizer.bos_token_id
    twice = [s.example.id for s in seen if first is not None and s.row.ids[:2] == (first, first)]
    if not twice:
        return []
    return [Finding("bos", f"two {p.tokenizer.bos_token!r} at the beginning", places(twice, len(seen)), "A beginning "
                                                                                                        "that "
                    "the model never saw.", "tokenize rendered text with add_special_tokens=False", "error")]


def end(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The last token with loss ends the turn, and generation stops at it."""
    text, last = ending(p.tokenizer)
    name = p.tokenizer.decode([last])
    whole = [s for s in seen if s.labelled and not _cut(s, p)]
    untaught = [s.example.id for s in whole if last not in s.labelled[-3:] and last in s.row.ids[s.prompt_length:]]
    absent = [s.example.id for s in whole if last not in s.row.ids[-8:] and last not in s.labelled]
    full = [s.example.id for s in whole if s.example.id not in absent and last not in s.labelled[-3:]
            and last not in s.row.ids[-8:]]
    found = []
    if absent or full:
        found.append(Finding("end", f"no end-of-turn token {name!r} after the answer", places(absent or full,
                                                                                              len(seen)),
                             "Generation never stops; a strict score is 0 %.", TEMPLATE, "error"))
    if untaught:
        found.append(Finding("end", f"the end-of-turn token {name!r} carries no loss", places(untaught, len(seen)),
                             "It is never learnt (often: pad is the same token, and pad is masked by id).",
                             "mask padding by length", "error"))
    if last not in p.stop_ids:
        found.append(Finding("stop", f"generation does not stop at {name!r}, which ends a turn of the template",
                             f"stop ids {list(p.stop_ids)}, expected {last}", "Every answer runs on to max_new.",
                             "stop_ids = (ending(tokenizer)[1],)", "error"))
    return found


def masking(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Loss on the answer and its end token, on all of it, and on nothing else."""
    none = [s.example.id for s in seen if not s.labelled]
    every = [s.example.id for s in seen if s.labelled and len(s.labelled) == len(s.row.labels)]
    rest = [s for s in seen if s.labelled and len(s.labelled) < len(s.row.labels)]
    shifted = [s.example.id for s in rest
               if any(a >= 0 and a != b for a, b in zip(s.row.labels, s.row.ids, strict=True))]
    true = [s for s in rest if s.example.id not in shifted]
    prompt = [s.example.id for s in true if s.starts and any(x >= 0 for x in s.row.labels[:s.prompt_length])]
    partly = [s.example.id for s in true if s.starts and not _cut(s, p) and s.row.ids == s.reference.ids
              and any(x < 0 for x in s.row.labels[s.prompt_length:-1])]
    padded = [s.example.id for s in true if _padding(s, p)]
    listed = (("masking", "no token carries loss", none, "Nothing is learnt; the loss is 0 or not a number."),
              ("masking", "every token carries loss", every, "The loss measures the prompt, which is nine tenths of "
                                                             "it."),
              ("masking", "tokens of the prompt carry loss", prompt, "The loss measures the prompt too."),
              ("masking", "tokens of the answer carry no loss", partly, "A part of the answer is never learnt."),
              ("shift", "labels are not the ids at their place", shifted, "Models shift labels themselves: each token "
               "learns the one after the next."),
              ("padding", "padding carries loss", padded, "The model learns to write padding."))
    return [Finding(check, what, places(ids, len(seen)), consequence, "labels: IGNORE before the answer and after its "
                    "end, the ids between", "error") for check, what, ids, consequence in listed if ids]


def _padding(s: Seen, p: Plan) -> bool:
    """Whether ids beyond the rendered text, as padding is, carry loss."""
    extra = s.row.labels[len(s.reference.ids):]
    return s.row.ids[:len(s.reference.ids)] == s.reference.ids and sum(x >= 0 and x == p.tokenizer.pad_token_id
                                                                        for x in extra) > 0


def vocabulary(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Ids are the tokenizer's, and the model has a row for each."""
    size = len(p.tokenizer)
    if p.model is not None:
        size = min(size, p.model.get_input_embeddings().weight.shape[0])
    odd = [s.example.id for s in seen if max(s.row.ids, default=0) >= size]
    found = []
    if odd:
        found.append(Finding("vocabulary", f"ids are not below {size}", places(odd, len(seen)), "The step fails, or "
                                                                                                "trains "
                             "rows that stand for nothing.", "tokenize with the model's own tokenizer", "error"))
    context = getattr(getattr(p.model, "config", None), "max_position_embeddings", None)
    if context and max((len(s.row.ids) for s in seen), default=0) + p.max_new > context:
        found.append(Finding("vocabulary", f"rows are longer than the model's context of {context}", "the longest row",
                             "Positions beyond it were never trained.", "drop the longest rows", "error"))
    return found


CHECKS = {"truncation": truncation, "prefix": prefix, "markers": markers, "bos": bos, "end": end, "masking": masking,
          "vocabulary": vocabulary}
