"""Where could recursion help? Boundaries that the model must compute itself, with more and fewer cycles.

In the track proper, boundary cells are expressions and code computes them; this takes that help away. Numbers stand in
the requirement digit by digit, and the model has to write `29` for "at least 30" (one step) or 90 for "2 parts of 45
minutes" (two numbers). What is asked: are tests of unseen values correct more often with recursion over the source than
without? Arms of equal layers start from the same weights; all see the same examples in the same order, as many steps.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from hrm_lab import metrics, runs
from hrm_lab.model import count_parameters
from hrm_lab.testgen import finetune, scores, slots, study, writer
from hrm_lab.testgen.batches import padded
from hrm_lab.testgen.domain import Domain, draw
from hrm_lab.testgen.finetune import Training
from hrm_lab.testgen.slots import PLACEHOLDER, Abstract
from hrm_lab.testgen.tokenizer import decode
from hrm_lab.testgen.writer import HOLE, Codec, Example

KINDS = {"one step": ("minimum_quality", "peak_limit", "retries", "sla_hours", "age_rating"),
         "two numbers": ("parts_runtime", "loudness_tolerance", "storage_fee")}
FAMILIES = tuple(family for families in KINDS.values() for family in families)


def literal(e: Example) -> Example:
    """The example with its numbers as digits and its computed cells as results; names and terms stay placeholders."""
    numbers = {b.name: b.surface for b in e.found.bindings if b.name.startswith("NUM")}
    text = PLACEHOLDER.sub(lambda m: numbers.get(m[1], m[0]), e.found.text)

    def result(match):
        named = any(name in match[0] for name in numbers)
        return slots.restore(match[0], e.found.values) if named else match[0]

    return Example(e.record, Abstract(text, e.found.bindings), HOLE.sub(result, e.draft))


def compare(codec: Codec, domain: Domain, shape: dict, arms: dict[str, dict], plan: Training, n_train: int, n_test: int,
            run: Path | str) -> dict[str, dict]:
    """arm -> correct on unseen values and minus the first arm (paired), in all and by kind of boundary; CPU-seconds.
    """
    families = tuple(f for f in FAMILIES if f in domain.families)
    train, held = ([literal(e) for e in writer.examples(draw(domain, n, seed, axis, families), codec.lexicon, domain)]
                   for n, seed, axis in ((n_train, 0, "train"), (n_test, 2, "values")))
    pairs, found, first = writer.pairs(train, codec), {}, None
    among = {"all": FAMILIES, **KINDS}
    rows = {kind: [n for n, e in enumerate(held) if e.record.family in own] for kind, own in among.items()}
    for name, changes in arms.items():
        model, clock = study.build(codec, shape | changes, plan.seed), runs.Clock()
        shown = replace(plan, visible_from=codec.first_placeholder)
        finetune.fit(model, shown, pairs[50:], pairs[:50], Path(run) / name)
        texts = model.generate(*padded([codec.source(e.found) for e in held]), writer.LIMIT)
        written = [writer.restored(decode(codec.tokenizer, ids), e.found) for ids, e in zip(texts, held, strict=True)]
        right = np.array([v.correct for v in scores.verdicts([e.record for e in held], written, domain)])
        first = right if first is None else first
        found[name] = {"parameters": count_parameters(model), "cpu_seconds": clock.cpu, "correct": {
            kind: metrics.proportion(int(right[own].sum()), len(own)) for kind, own in rows.items()}, "minus_first": {
            kind: metrics.paired_difference(right[own], first[own]) for kind, own in rows.items()}}
    return found
