"""Learning from verdicts, proved by simulation: an honest reviewer runs each test, a control trains as long without it.

A round: the model picks from a pool those requirements whose tests it is least sure of (uncertainty sampling, Lewis and
Gale 1994, arXiv cmp-lg/9407020), the reviewer accepts, edits (the right test takes the place of the wrong one) or
rejects, and the model is trained on with what it was told among its old examples. The
control gets the same number of steps on the old examples alone, so that what is measured is the verdicts and not the
training. Edits weigh 2, accepted tests 1; rejected ones teach only through the preference pairs that the store
exports. Unusual: acceptance is judged on requirements that no round has shown; on these, too, the gate decides after
each round whether the new model takes over.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from hrm_lab import metrics
from hrm_lab.testgen import finetune, scores, slots, store, writer
from hrm_lab.testgen.batches import Pair
from hrm_lab.testgen.domain import Domain
from hrm_lab.testgen.finetune import Training
from hrm_lab.testgen.judge import Verdict
from hrm_lab.testgen.records import Record
from hrm_lab.testgen.writer import Codec, Example, Written

WEIGHTS = {"accept": 1.0, "edit": 2.0}


@dataclass(frozen=True)
class Round:
    """One arm after one round: what its fresh tests are worth, by record id, and the reviewer's verdicts so far."""

    arm: str
    number: int
    judged: dict[str, Verdict]
    verdicts: dict[str, int]

    @property
    def accepted(self) -> np.ndarray:
        """(n,) bool: which of the fresh tests are right."""
        return np.array([verdict.correct for verdict in self.judged.values()])

    @property
    def acceptance(self) -> dict:
        return metrics.proportion(int(self.accepted.sum()), len(self.accepted))


def taught(records: list[Record], written: list[Written], verdicts: list[str], codec: Codec,
           domain: Domain) -> list[Example]:
    """Training examples from verdicts: an accepted test as the model drafted it, an edited one as the reviewer has it.
    """
    made = []
    for record, text, verdict in zip(records, written, verdicts, strict=True):
        if verdict == "accept":
            found = slots.abstract(record.input, codec.lexicon)
            made.append(Example(replace(record, weight=WEIGHTS["accept"]), found, text.draft))
        elif verdict == "edit":
            made += writer.examples([replace(record, weight=WEIGHTS["edit"])], codec.lexicon, domain)
    return made


def least_sure(model: nn.Module, codec: Codec, pool: list[Record], n: int) -> list[int]:
    """Which n of a pool to ask about: those whose test, as the model writes it, has most nats; of one wording once
    as long as there are others.
    """
    found = [slots.abstract(r.input, codec.lexicon) for r in pool]
    texts = writer.write(model, codec, [r.input for r in pool], constrained=False)
    said = [Pair(codec.source(f), codec.target(text.draft)) for f, text in zip(found, texts, strict=True)]
    nats = [row.sum() for row in finetune.token_nll(model, said)]
    seen, first, rest = set(), [], []
    for at in sorted(range(len(pool)), key=lambda i: -nats[i]):
        wording = slots.wording(found[at])
        (rest if wording in seen else first).append(at)
        seen.add(wording)
    return (first + rest)[:n]


def simulate(start: nn.Module, codec: Codec, domain: Domain, known: list[Example], pool: list[Record],
             rounds: tuple[int, int], fresh: list[Record], valid: list[Example], plan: Training,
             review: Callable[[Record, str], str], out: Path | str, repeats: int = 8) -> list[Round]:
    """Rounds of verdicts against a control, both from the same model; both arms at round 0 first.

    pool: the requirements that may be asked about, each once; rounds: how many, and verdicts in each; fresh: those that
    acceptance is judged on; review(record, text) -> "accept", "edit" or "reject". Each taught example stands `repeats`
    times among the known ones. The control sees as many.
    """

    def judged(model: nn.Module) -> dict[str, Verdict]:
        texts = writer.write(model, codec, [r.input for r in fresh])
        return {r.id: v for r, v in zip(fresh, scores.verdicts(fresh, texts, domain), strict=True)}

    arms = {"feedback": copy.deepcopy(start), "control": copy.deepcopy(start)}
    counts, first = {"accept": 0, "edit": 0, "reject": 0}, judged(start)
    found = [Round(arm, 0, first, dict(counts)) for arm in arms]
    held, gained = writer.pairs(valid, codec), []
    old = writer.pairs(known, codec)
    for number in range(1, rounds[0] + 1):
        asked = least_sure(arms["feedback"], codec, pool, rounds[1])
        records, pool = [pool[n] for n in asked], [one for n, one in enumerate(pool) if n not in asked]
        texts = writer.write(arms["feedback"], codec, [r.input for r in records])
        verdicts = [review(record, text.text) for record, text in zip(records, texts, strict=True)]
        for verdict in verdicts:
            counts[verdict] += 1
        gained += writer.pairs(taught(records, texts, verdicts, codec, domain), codec)
        extra = np.random.default_rng((plan.seed, number)).integers(0, len(old), repeats * len(gained))
        sets = {"feedback": old + gained * repeats, "control": old + [old[n] for n in extra]}
        for arm, model in arms.items():
            finetune.fit(model, plan, sets[arm], held, Path(out) / f"{arm}-{number}")
            found.append(Round(arm, number, judged(model), dict(counts) if arm == "feedback" else {}))
    return found


def gain(rounds: list[Round]) -> dict:
    """Acceptance with feedback minus without, after the last round, on the same requirements."""
    last = {r.arm: r.accepted for r in rounds if r.number == max(r.number for r in rounds)}
    return metrics.paired_difference(last["feedback"], last["control"])


def promotions(rounds: list[Round]) -> list[tuple[Round, store.Promotion]]:
    """Each round's new model against the one in service, on the fresh requirements; one that may be worse stays out."""
    serving, *later = [r for r in rounds if r.arm == "feedback"]
    found = []
    for new in later:
        found.append((new, gate := store.promote(serving.judged, new.judged)))
        serving = new if gate.promoted else serving
    return found
