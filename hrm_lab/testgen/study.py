"""One study from end to end: data on five axes, a base, the fine-tuned model, its rivals, one table, the report's
files.

What notebook 04 and `benchmarks/testgen.py` call. The base knows general Gherkin and another domain; fine-tuning adds
the domain set. Unusual: validation holds back whole wordings of the training split, one a family, so that early
stopping watches for new wordings while the held-out paraphrases stay unseen.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hrm_lab import metrics
from hrm_lab.files import write_atomic, write_json
from hrm_lab.testgen import baselines, finetune, scores, slots, writer
from hrm_lab.testgen.collector import fulfilment
from hrm_lab.testgen.domain import ROOT, Domain, draw, load
from hrm_lab.testgen.finetune import Training
from hrm_lab.testgen.records import Record
from hrm_lab.testgen.seq2seq import Seq2Seq, Seq2SeqConfig
from hrm_lab.testgen.writer import Codec, Example, Written

AXES = ("values", "names", "paraphrase", "family")
WRITTEN = "the 14 of the 68"  # handwritten, held out
SHOWN = ("valid", "slots", "executable", "correct", "mutation", "duplicates")


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
    """Whether a drawn record has the wording that its family gives to validation."""
    family = domain.families[record.family]
    return wording(record) == sum(map(ord, family.name)) % len(family.requirements)


def prepare(domain: Domain, n_train: int, n_valid: int, n_test: int, seed: int = 0, weight: float = 4.0) -> Data:
    """Draw all splits. The 54 handwritten examples are in training with that weight, the 14 are an axis of their own.
    """
    drawn = draw(domain, round(1.15 * n_train), seed)
    train = [r for r in drawn if not kept_back(r, domain)][:n_train]
    held_back = [r for r in draw(domain, 12 * n_valid, seed + 1) if kept_back(r, domain)][:n_valid]
    held = {axis: draw(domain, n_test, seed + 2, axis) for axis in AXES}
    if domain.name == "media":
        ours, theirs = fulfilment()
        train += [r.__class__(**{**asdict(r), "weight": weight}) for r in ours]
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


# ---------------------------------------------------------------- the table


@dataclass(frozen=True, eq=False)
class Rival:
    """Anything that writes tests: `write(requirements)`, and the nats of each target token if it is a language model.
    """

    write: Callable[[list[str]], list[Written]]
    nats: Callable[[list[Example]], list[np.ndarray]] | None = None


def model_rival(model: nn.Module, codec: Codec, constrained: bool = True) -> Rival:
    return Rival(lambda texts: writer.write(model, codec, texts, constrained),
                 lambda held: finetune.token_nll(model, writer.pairs(held, codec)))


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


def flat(tables: dict[str, dict[str, dict]]) -> dict:
    """writer -> axis -> scores as one mapping of names to scores, for metrics.json; families only of the first writer.
    """
    first = next(iter(tables))
    return {f"{name}/{axis}/{key}".replace(" ", "_").replace(",", ""): score for name, own in tables.items()
            for axis, table in own.items() for key, score in table.items()
            if "/" not in key or (name == first and axis in ("paraphrase", "family"))}


# ---------------------------------------------------------------- what it shows


def goals(table: dict[str, dict]) -> list[dict]:
    """The issue's numbers beside what was reached, for the fine-tuned model: axis -> scores."""
    wanted = [("valid, constrained", "values", "valid", 1.0)]
    wanted += [(f"correct, {axis}", axis, "correct", least)
               for axis, least in (("values", 0.95), ("paraphrase", 0.85), ("names", 0.75))]
    wanted += [(f"mutation, {axis}", axis, "mutation", least)
               for axis, least in (("values", 0.90), ("paraphrase", 0.80), ("names", 0.70))]
    return [{"goal": name, "at least": least, **table[axis][key], "met": table[axis][key]["value"] >= least}
            for name, axis, key, least in wanted]


def findings(tables: dict[str, dict[str, dict]], control: str) -> list[str]:
    """What the tables show, as markdown sentences computed from their numbers."""
    mine, base = tables["fine-tuned"], tables["base"]
    out = []
    for axis, table in mine.items():
        rest = {name: own[axis]["correct"]["value"] for name, own in tables.items()
                if name not in ("fine-tuned", control) and axis in own}
        best = max(rest, key=rest.get)
        gap = 100 * (table["correct"]["value"] - rest[best])
        out.append(f"**{axis}:** correct {metrics.format_score(table['correct'])}, mutation score "
                   f"{metrics.format_score(table['mutation'])}; the best baseline is {best} "
                   f"({100 * rest[best]:.1f} % correct), {abs(gap):.1f} points {'below' if gap >= 0 else '**above**'}.")
    change = 100 * (mine["values"]["perplexity"]["value"] / base["values"]["perplexity"]["value"] - 1)
    others = {name: own["values"] for name, own in tables.items() if name not in ("fine-tuned", control, "base")}
    lower = [name for name, table in others.items() if "perplexity" in table
             and table["perplexity"]["value"] <= mine["values"]["perplexity"]["value"]]
    out.append(f"Perplexity a target token changes by {change:+.2f} % from the base to the fine-tuned model; "
               + (f"{', '.join(lower)} is as low." if lower else "every baseline is higher."))
    flagged, why = scores.guard(base["values"], mine["values"])
    out.append(f"**Flagged: {why}.**" if flagged else f"The guard finds nothing: {why}.")
    both = [metrics.format_score(own["paraphrase"]["correct"]) for own in (mine, tables[control])]
    out.append(f"Recursion against its control without, paraphrases: {both[0]} against {both[1]}.")
    return out


def write_report(out: Path | str, config: dict, history: list[dict], tables: dict, sentences: list[str],
                 samples: list[dict]):
    """FINE_TUNING_REPORT.md, training_results.json and evaluation_results.json in the folder `out`."""
    rows = ["# Fine-tuning report", "", *[f"- {sentence}" for sentence in sentences], "", "## Configuration", "",
            "```json", json.dumps(config, indent=1, default=str), "```", "", "## Epochs", "",
            "| epoch | training loss | validation loss | perplexity | valid | correct |", "| --- " * 6 + "|"]
    rows += [f"| {r['epoch']} | {r['train_loss']:.4f} | {r['loss']:.4f} | {r['perplexity']:.3f} | {r['valid']:.3f} | "
             f"{r['correct']:.3f} |" for r in history]
    for axis in next(iter(tables.values())):
        rows += ["", f"## {axis}", "", "| writer | perplexity | bits a byte | " + " | ".join(SHOWN) + " |",
                 "| --- " * (3 + len(SHOWN)) + "|"]
        for name, own in tables.items():
            table = own[axis]
            cells = [metrics.format_score(table[key]) if key in table else "-"
                     for key in ("perplexity", "bits_per_byte", *SHOWN)]
            rows.append(f"| {name} | {' | '.join(cells)} |")
    for sample in samples:
        rows += ["", f"## Sample: {sample['requirement']}", ""]
        for name, text in sample["tests"].items():
            rows += [f"{name}:", "", "```gherkin", text.rstrip() or "(nothing)", "```", ""]
    write_atomic(Path(out) / "FINE_TUNING_REPORT.md", "\n".join(rows) + "\n")
    write_json(Path(out) / "training_results.json", {"config": config, "history": history})
    write_json(Path(out) / "evaluation_results.json", {"tables": tables, "findings": sentences})


def media() -> Domain:
    return load(ROOT / "media")


def library() -> Domain:
    return load(ROOT / "library")
