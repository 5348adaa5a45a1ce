"""One study from end to end: data on five axes, a base, the fine-tuned model, its rivals, one table, the report's
files.

What notebook 04 and `benchmarks/testgen.py` call. The base knows general Gherkin and another domain; fine-tuning adds
the domain set. Unusual: validation holds back whole wordings of the training split, one in ten, so that early
stopping watches for new wordings while the held-out paraphrases stay unseen.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hrm_lab import runs
from hrm_lab.testgen import baselines, finetune, improve, reviewing, scores, slots, store, writer
from hrm_lab.testgen.collector import fulfilment
from hrm_lab.testgen.domain import ROOT, Domain, draw, load
from hrm_lab.testgen.finetune import Training
from hrm_lab.testgen.harvest import harvest
from hrm_lab.testgen.records import Record
from hrm_lab.testgen.seq2seq import Seq2Seq, Seq2SeqConfig
from hrm_lab.testgen.writer import Codec, Example, Written

AXES = ("values", "names", "paraphrase", "family")
WRITTEN = "the 14 of the 68"  # handwritten, held out


@dataclass(frozen=True, eq=False)
class Data:
    """The domain, what is trained on, what validates, and what is held out by axis."""

    domain: Domain
    train: list[Record]
    valid: list[Record]
    held: dict[str, list[Record]]


def wording(record: Record) -> int:
    """Which of its family's wordings a drawn record has."""
    return int(record.id.rsplit("/", 1)[1])


def kept_back(record: Record, domain: Domain) -> bool:
    """Whether a drawn record has a wording that its family gives to validation: one in ten."""
    family = domain.families[record.family]
    return wording(record) % 10 == sum(map(ord, family.name)) % min(10, len(family.requirements))


def prepare(domain: Domain, n_train: int, n_valid: int, n_test: int, seed: int = 0, weight: float = 4.0) -> Data:
    """Draw all splits. The 54 handwritten examples are in training with that weight, the 14 are an axis of their own.
    """
    drawn = draw(domain, round(1.15 * n_train), seed)
    train = [r for r in drawn if not kept_back(r, domain)][:n_train]
    held_back = [r for r in draw(domain, 12 * n_valid, seed + 1) if kept_back(r, domain)][:n_valid]
    held = {axis: draw(domain, n_test, seed + 2, axis) for axis in AXES}
    if domain.name == "media":
        ours, theirs = fulfilment()
        train += [replace(r, weight=weight) for r in ours]
        held[WRITTEN] = theirs
    groups = {r.group for r in train}
    return Data(domain, train, [r for r in held_back if r.group not in groups], held)


def learn_codec(general: list[Record], media: list[Record], domains: list[Domain], vocab_size: int) -> Codec:
    """Lexicon and tokenizer from training splits: general Gherkin, the other domain and the domain set."""
    lexicon = slots.learn(media, [r.input for r in general])
    examples = [e for d in domains for e in writer.examples([r for r in media if r.domain == d.name], lexicon, d)]
    return writer.learn(lexicon, examples + writer.examples(general, lexicon), vocab_size)


def build(codec: Codec, shape: dict, seed: int = 0) -> Seq2Seq:
    torch.manual_seed(seed)
    return Seq2Seq(Seq2SeqConfig(vocab_size=codec.size, **shape))


def train(model: nn.Module, codec: Codec, data: Data, plan: Training, run: Path | str, check_n: int = 60,
          resume: bool = False) -> dict:
    """Fine-tune on the domain set; the best epoch is the one with most correct tests on held-back wordings."""
    learn = writer.pairs(writer.examples(data.train, codec.lexicon, data.domain), codec)
    valid = writer.pairs(writer.examples(data.valid, codec.lexicon, data.domain), codec)
    records = data.valid[:check_n]

    def check(model: nn.Module) -> dict:
        texts = writer.write(model, codec, [r.input for r in records], constrained=False)
        found = scores.verdicts(records, texts, data.domain)
        return {"valid": float(np.mean([v.valid for v in found])),
                "correct": (share := float(np.mean([v.correct for v in found]))), "merit": share, "n": len(found)}

    describe = asdict(model.config) if isinstance(model, Seq2Seq) else {"kind": type(model).__name__}
    return finetune.fit(model, plan, learn, valid, run, check=check, resume=resume, describe=describe)


def best_arm(histories: Mapping[str, list[dict]]) -> str:
    """The arm with most correct tests on held-back wordings at its best epoch; the first where they are level."""
    return max(histories, key=lambda name: max(row["correct"] for row in histories[name]))


# ---------------------------------------------------------------- the table


@dataclass(frozen=True, eq=False)
class Rival:
    """Anything that writes tests: `write(requirements)`, and the nats of each target token if it is a language model.
    """

    write: Callable[[list[str]], list[Written]]
    nats: Callable[[list[Example]], list[np.ndarray]] | None = None


def model_rival(model: nn.Module, codec: Codec, constrained: bool = True) -> Rival:
    """A model that is trained no more: what it wrote for a requirement is kept."""
    known: dict[str, Written] = {}

    def write(texts: list[str]) -> list[Written]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, writer.write(model, codec, new, constrained), strict=True))
        return [known[text] for text in texts]

    return Rival(write, lambda held: finetune.token_nll(model, writer.pairs(held, codec)))


def rivals(train_examples: list[Example], valid: list[Example], codec: Codec) -> dict[str, Rival]:
    """Uniform, unigram, bigram, nearest test (filled and copied), keyword rules; all from the training split."""
    learn = writer.pairs(train_examples, codec)
    counts, nearest = baselines.Counts.of(codec.size, learn), baselines.Nearest(train_examples)
    rules = baselines.Rules(train_examples)
    found, held = [e.found for e in valid], writer.pairs(valid, codec)
    trust = baselines.best_trust(nearest, codec, counts, found, held)

    def sampled(order: int):
        return lambda texts: baselines.sample(counts, order, codec, texts)

    return {
        "uniform": Rival(sampled(0), lambda held: baselines.uniform(codec.size, writer.pairs(held, codec))),
        "unigram": Rival(sampled(1), lambda held: counts.nll(1, writer.pairs(held, codec))),
        "bigram": Rival(sampled(2), lambda held: counts.nll(2, writer.pairs(held, codec))),
        "nearest test, copied": Rival(lambda texts: baselines.retrieve(nearest, codec, texts, filled=False)),
        "nearest test, filled": Rival(
            lambda texts: baselines.retrieve(nearest, codec, texts),
            lambda held: baselines.retrieval_nll(nearest, codec, counts, [e.found for e in held],
                                                 writer.pairs(held, codec), trust)),
        "keyword rules": Rival(lambda texts: rules.write(codec, texts)),
    }


def judged(rival: Rival, codec: Codec, domain: Domain, records: list[Record]) -> dict:
    """All scores of one rival on one axis. Its loss is that of the records that have a draft (n says how many)."""
    written = rival.write([r.input for r in records])
    table = scores.executed(records, written, domain)
    held = writer.examples(records, codec.lexicon, domain)
    if rival.nats and held:
        table |= scores.language(rival.nats(held), [e.record.target for e in held])
    return table


def gate(old: Rival, new: Rival, records: list[Record], domain: Domain) -> store.Promotion:
    """Whether `new` may take the place of `old`, by tests of the same requirements."""
    requirements = [r.input for r in records]
    sides = (scores.verdicts(records, rival.write(requirements), domain) for rival in (old, new))
    return store.promote(*({r.id: v for r, v in zip(records, found, strict=True)} for found in sides))


# ---------------------------------------------------------------- models


def load_base(folder: Path | str) -> tuple[Codec, Seq2Seq]:
    """The shipped base: what its training data say of words, and its weights."""
    return Codec.load(folder), finetune.load_model(Path(folder) / "base.safetensors")


def pretrain(data: Data, plan: dict, run: Path | str) -> tuple[Codec, Seq2Seq]:
    """A base from the other domain and, with a cache folder of sdists, from real Gherkin; saved as `load_base` reads
    it.

    plan: cache (None: no real Gherkin), n_other, vocabulary, model (shape), training, longest (tokens of a target).
    """
    other, run = library(), Path(run)
    general = harvest(plan["cache"])[0] if plan["cache"] else []
    drawn = draw(other, plan["n_other"], 0)
    codec = learn_codec(general, [*drawn, *data.train], [other, data.domain], plan["vocabulary"])
    made = writer.examples(general, codec.lexicon) + writer.examples(drawn, codec.lexicon, other)
    pairs = [p for p in writer.pairs(made, codec) if max(len(p.source), len(p.target)) <= plan["longest"]]
    model = build(codec, plan["model"])
    finetune.fit(model, Training(**plan["training"], visible_from=codec.first_placeholder),
                 [p for n, p in enumerate(pairs) if n % 20], pairs[::20], run, describe=asdict(model.config))
    codec.save(run)
    runs.save_checkpoint(run / "base.safetensors", model.state_dict(), {"config": asdict(model.config)})
    return codec, model


def tuned_from(base: Seq2Seq, **changes) -> Seq2Seq:
    """A copy of the base's weights, perhaps with other cycles, to be fine-tuned."""
    model = Seq2Seq(replace(base.config, **changes))
    model.load_state_dict(base.state_dict())
    return model


def feedback_trial(base: Seq2Seq, codec: Codec, domain: Domain, plan: dict, run: Path | str,
                   db: sqlite3.Connection) -> list[improve.Round]:
    """Verdicts against a control, from a model that knows `wordings` wordings a family and is not yet good.

    Every verdict of the simulated reviewer is kept in `db`.

    plan: wordings, of (how many wordings a family has in the trial), n_train, n_fresh, pool (requirements that may be
    asked about), rounds, verdicts, start and again (settings of `Training`), repeats, seed.
    """
    drawn = draw(domain, 12 * plan["n_train"], plan["seed"])
    known = [r for r in drawn if wording(r) < plan["wordings"]][:plan["n_train"]]
    others = [r for r in draw(domain, 4 * (plan["pool"] + plan["n_fresh"]), plan["seed"] + 1)
              if plan["wordings"] <= wording(r) < plan["of"]]
    fresh = others[:plan["n_fresh"]]
    judged = {r.group for r in fresh}
    pool = [r for r in others[plan["n_fresh"]:] if r.group not in judged][:plan["pool"]]
    held = [r for r in draw(domain, 600, plan["seed"] + 2) if wording(r) < plan["wordings"]][:40]
    examples, valid = (writer.examples(rows, codec.lexicon, domain) for rows in (known, held))
    model, visible = tuned_from(base), codec.first_placeholder
    finetune.fit(model, Training(**plan["start"], visible_from=visible, seed=plan["seed"]),
                 writer.pairs(examples, codec), writer.pairs(valid, codec), Path(run) / "start")

    def review(record: Record, text: str) -> str:
        return reviewing.simulate(db, record, text, domain, "feedback trial")

    return improve.simulate(model, codec, domain, examples, pool, (plan["rounds"], plan["verdicts"]), fresh, valid,
                            Training(**plan["again"], visible_from=visible, seed=plan["seed"]), review, run,
                            plan["repeats"])


def media() -> Domain:
    return load(ROOT / "media")


def library() -> Domain:
    return load(ROOT / "library")
