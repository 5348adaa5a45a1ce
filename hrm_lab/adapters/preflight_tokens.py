"""Pre-flight checks of ids and labels: what the trainer sees against what the chat template and the evaluation give."""

import re

from .formats import encode, ending
from .preflight_plan import Finding, Plan, Seen, decoded, some

MARKER = re.compile(r"<\|[\w ]{1,40}\|>|<\|?/?(?:system|user|assistant|start_of_turn|end_of_turn|s)\|?>"
                    r"|\[/?INST\]|<</?SYS>>|^#{2,3} ?(?:Instruction|Response|Input|System|User|Assistant|Human)\b:?",
                    re.MULTILINE)
TEMPLATE = "make rows with training_row, which asks the chat template"


def _cut(s: Seen, p: Plan) -> str:
    """"", "right" (the answer lost its end) or "left" (the prompt lost its head)."""
    ids, whole = s.row.ids, s.reference.ids
    if len(ids) < len(whole) and ids == whole[:len(ids)] and (len(ids) < len(whole) - 1 or len(ids) >= p.max_length):
        return "right"
    if len(ids) >= p.max_length and whole[-1] not in ids[-3:]:  # rendered otherwise, and full to the limit
        return "right"
    if len(ids) < len(whole) and ids == whole[len(whole) - len(ids):]:
        return "left"
    return ""


def truncation(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The whole row, the answer and its end above all, fits in `max_length`; the gold answers in `max_new`."""
    right, left = ([s.example.id for s in seen if _cut(s, p) == side] for side in ("right", "left"))
    long = [s.example.id for s in seen if len(s.row.ids) > p.max_length]
    most = max((len(s.reference.ids) for s in seen), default=0)
    cure = f"raise max_length to {most}, or drop the rows"
    held = (*p.validation, *p.test)
    lengths = {e.id: len(encode(p.tokenizer, p.form.answer(e))) + 1 for e in held}
    short = [i for i, length in lengths.items() if length > p.max_new]
    return [
        *some("truncation", "answers are cut off", right, seen,
              "These rows teach to go on with the prompt, or never to stop.", cure),
        *some("truncation", "prompts have lost their beginning", left, seen,
              "The model learns to answer without the tools.", cure),
        *some("truncation", f"rows are longer than max_length = {p.max_length}", long, seen,
              "The trainer will cut them; the answer stands at the end.", cure),
        *some("max_new", f"gold answers are longer than max_new = {p.max_new} tokens", short, held,
              "A perfect model is cut off there.", f"raise max_new to {max(lengths.values(), default=0)}",
              "held-out golds")]


def prefix(p: Plan, seen: list[Seen]) -> list[Finding]:
    """A row begins with the ids of the evaluation's prompt; if not, say where the texts part."""
    off = [s for s in seen if not s.starts and _cut(s, p) != "left"
           and s.row.ids != s.reference.ids[:len(s.row.ids)]]
    if not off:
        return []
    mine, theirs, ids = off[0].row.ids, off[0].reference.ids, [s.example.id for s in off]
    at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    got, wanted = (decoded(p.tokenizer, x[max(0, at - 3):at + 8]) for x in (mine, theirs))
    other = ids if decoded(p.tokenizer, mine).strip() != decoded(p.tokenizer, theirs).strip() else []
    return [
        *some("prefix", f"training ids do not begin with the evaluation's prompt: from token {at} on they read "
              f"{got!r:.60}, the prompt {wanted!r:.60}", ids, seen,
              "The model is trained on one beginning and asked with another.", TEMPLATE),
        *some("template", "the training text is not what the chat template writes", other, seen,
              "What the model learnt of roles and turns before is not used.", TEMPLATE)]


def markers(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Role markers are single tokens that the tokenizer knows as such; messages contain none of these."""
    control = set(p.tokenizer.all_special_tokens)
    known = control | {*p.tokenizer.get_added_vocab()}
    split: dict[str, list[str]] = {}
    spoofed = []
    for s in seen:
        said = "\n".join(m["content"] for m in p.form.messages(s.example))
        for marker in {m.strip() for m in MARKER.findall(decoded(p.tokenizer, s.row.ids))} - known:
            if marker not in said:
                split.setdefault(marker, []).append(s.example.id)
        if any(token in turn["content"] for token in control for turn in s.example.turns):
            spoofed.append(s.example.id)
    found = some("control", "a message contains a control token of the tokenizer", spoofed, seen,
                 "The text of a user opens or closes turns.", "escape or drop these rows")
    for marker, ids in sorted(split.items()):
        found += some("markers", f"role marker {marker!r} is {len(encode(p.tokenizer, marker))} tokens and no special "
                      "one", ids, seen, "The model does not know it as a boundary, and nothing ends a turn.",
                      "roles by tokenizer.apply_chat_template")
    return found


def bos(p: Plan, seen: list[Seen]) -> list[Finding]:
    """At most one beginning-of-sequence token."""
    first = p.tokenizer.bos_token_id
    twice = [s.example.id for s in seen if first is not None and s.row.ids[:2] == (first, first)]
    return some("bos", f"two {p.tokenizer.bos_token!r} at the beginning", twice, seen,
                "A beginning that the model never saw.", "tokenize rendered text with add_special_tokens=False")


def end(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The token that ends a turn stands after the answer, carries loss, and stops generation."""
    last = ending(p.tokenizer)[1]
    name = repr(decoded(p.tokenizer, [last]))
    absent, untaught = [], []
    for s in seen:
        if s.labelled and not _cut(s, p):
            at = next(i for i, label in enumerate(s.row.labels) if label >= 0)
            at = at or (s.prompt_length if s.starts else len(s.row.ids) - 8)  # 0: loss everywhere
            if last not in s.row.ids[at:]:
                absent.append(s.example.id)
            elif last not in s.row.labels[at:]:
                untaught.append(s.example.id)
    found = [
        *some("end", f"no end-of-turn token {name} after the answer", absent, seen,
              "Generation never stops; a strict score is 0 %.", TEMPLATE),
        *some("end", f"the end-of-turn token {name} carries no loss", untaught, seen,
              "It is never learnt (often: pad is the same token, and pad is masked by id).", "mask padding by length")]
    if last not in p.stop_ids:
        found.append(Finding("stop", f"generation does not stop at {name}, which ends a turn of the template",
                             f"stop ids {list(p.stop_ids)}, expected {last}", "Every answer runs on to max_new.",
                             "stop_ids = (ending(tokenizer)[1],)", "error"))
    return found


def masking(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Loss on the answer and its end token, on all of it, and on nothing else."""
    kinds: dict[str, list[str]] = {}
    for s in seen:
        labels, ids, whole = s.row.labels, s.row.ids, s.reference.ids
        if not s.labelled or len(s.labelled) == len(labels):
            kinds.setdefault("every" if s.labelled else "none", []).append(s.example.id)
        elif any(label >= 0 and label != i for label, i in zip(labels, ids, strict=True)):
            kinds.setdefault("shifted", []).append(s.example.id)
        else:
            if s.starts and any(label >= 0 for label in labels[:s.prompt_length]):
                kinds.setdefault("prompt", []).append(s.example.id)
            if ids == whole and any(label < 0 for label in labels[s.prompt_length:-1]):
                kinds.setdefault("partly", []).append(s.example.id)
            if ids[:len(whole)] == whole and p.tokenizer.pad_token_id in labels[len(whole):]:
                kinds.setdefault("padded", []).append(s.example.id)
    listed = (
        ("masking", "none", "no token carries loss", "Nothing is learnt; the loss is 0 or not a number."),
        ("masking", "every", "every token carries loss", "The loss measures the prompt, nine tenths of the tokens."),
        ("masking", "prompt", "tokens of the prompt carry loss", "The loss measures the prompt too."),
        ("masking", "partly", "tokens of the answer carry no loss", "A part of the answer is never learnt."),
        ("shift", "shifted", "labels are not the ids at their place", "Models shift labels themselves: each token "
         "learns the one after the next."),
        ("padding", "padded", "padding carries loss", "The model learns to write padding."))
    cure = "labels: IGNORE before the answer and after its end, the ids between"
    return [f for check, kind, what, consequence in listed
            for f in some(check, what, kinds.get(kind, []), seen, consequence, cure)]


def vocabulary(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Ids are the tokenizer's, and the model has a row for each; rows fit into its context."""
    size = len(p.tokenizer)
    if p.model is not None:
        size = min(size, p.model.get_input_embeddings().weight.shape[0])
    odd = [s.example.id for s in seen if max(s.row.ids, default=0) >= size]
    context = getattr(getattr(p.model, "config", None), "max_position_embeddings", None)
    long = [s.example.id for s in seen if context and len(s.row.ids) > context]
    return [
        *some("vocabulary", f"ids are not below {size}", odd, seen, "The step fails, or trains rows that stand for "
              "nothing.", "tokenize with the model's own tokenizer"),
        *some("vocabulary", f"rows are longer than the model's context of {context}", long, seen,
              "Positions beyond it were never trained.", "drop these rows")]


CHECKS = {"truncation": truncation, "prefix": prefix, "markers": markers, "bos": bos, "end": end, "masking": masking,
          "vocabulary": vocabulary}
