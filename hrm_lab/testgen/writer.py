"""From requirement to test and from records to training pairs: slots out, tokens in, model, tokens out, slots back.

A `Codec` is all that text needs besides a model (tokenizer, lexicon, known expressions); it is learnt from the training
split alone and saved beside the weights. Unusual: the target is a *draft*, the test with expressions over placeholders.
For a grammar's records the draft is the family's own; for any other pair it is found from requirement and test.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from hrm_lab.files import write_json
from hrm_lab.runs import fast_in_bf16, read_json
from hrm_lab.testgen import gherkin, slots, tokenizer
from hrm_lab.testgen.batches import Pair, padded
from hrm_lab.testgen.decode import Constraint, pointing
from hrm_lab.testgen.domain import Domain
from hrm_lab.testgen.expressions import ExpressionError
from hrm_lab.testgen.records import Record
from hrm_lab.testgen.slots import KINDS, Abstract, Lexicon

NAMES = [f"{kind}{n}" for kind, most in KINDS.items() for n in range(1, most + 1)]
PLACEHOLDERS = [f" {{{name}}}" for name in NAMES] + [f"{{{name}}}" for name in NAMES] + NAMES
HOLE = re.compile(r"\{[^{}\n]+\}")
LONGEST = 400  # tokens of a source or a target that is trained on
LIMIT = 160  # tokens that are written, twice what a test of the domain takes


@dataclass(frozen=True)
class Example:
    """A record, its abstract requirement, and its test as a draft without indentation."""

    record: Record
    found: Abstract
    draft: str


@dataclass(frozen=True, eq=False)
class Codec:
    tokenizer: tokenizer.Tokenizer
    lexicon: Lexicon
    holes: tuple[str, ...]  # every expression in braces that training drafts hold

    @property
    def size(self) -> int:
        return self.tokenizer.get_vocab_size()

    @property
    def first_placeholder(self) -> int:
        return self.tokenizer.token_to_id(PLACEHOLDERS[0])

    @cached_property
    def placeholders(self) -> dict[int, str]:
        """Which value each placeholder's token points at."""
        return {self.tokenizer.token_to_id(token): token.strip(" {}") for token in PLACEHOLDERS}

    @cached_property
    def words(self) -> tokenizer.Tokenizer:
        return tokenizer.by_words(self.tokenizer)

    @cached_property
    def constraint(self) -> Constraint:
        """Its grammars are built once for all that writes with this codec."""
        return Constraint(self.tokenizer, self.holes)

    def source(self, found: Abstract) -> tuple[int, ...]:
        return (*tokenizer.encode(self.words, found.text), tokenizer.END)

    def target(self, draft: str) -> tuple[int, ...]:
        return (*tokenizer.encode(self.tokenizer, draft), tokenizer.END)

    def save(self, folder: Path | str):
        tokenizer.save(self.tokenizer, Path(folder) / "tokenizer.json")
        self.lexicon.save(Path(folder) / "lexicon.json")
        write_json(Path(folder) / "expressions.json", sorted(self.holes))

    @classmethod
    def load(cls, folder: Path | str) -> "Codec":
        folder = Path(folder)
        return cls(tokenizer.load(folder / "tokenizer.json"), Lexicon.load(folder / "lexicon.json"),
                   tuple(read_json(folder / "expressions.json")))


def examples(records: list[Record], lexicon: Lexicon, domain: Domain | None = None) -> list[Example]:
    """Those records whose test can be written over the placeholders of their requirement; the rest is left out."""
    made = []
    for record in records:
        found = slots.abstract(record.input, lexicon)
        family = domain.families.get(record.family) if domain and record.domain == domain.name else None
        draft = slots.drafted(record, found, family) if family else slots.annotate(record.target, found)
        if draft is not None:
            made.append(Example(record, found, gherkin.flat(draft) + "\n"))
    return made


def learn(lexicon: Lexicon, train: list[Example], vocab_size: int) -> Codec:
    """Tokenizer and expressions of training examples. Raises ValueError: too small a vocabulary."""
    sources, targets = ([FREE.sub("", text) for text in texts] for texts in (
        (e.found.text for e in train), (part for e in train for part in LITERAL.split(e.draft))))
    return Codec(tokenizer.train(sources, targets, vocab_size, PLACEHOLDERS), lexicon, holes(train))


ANY = "|".join(NAMES)
FREE = re.compile(rf" ?\{{(?:{ANY})\}}|\b(?:{ANY})\b")
LITERAL = re.compile(rf" ?\{{(?:{ANY})\}}|\b(?:{ANY})\b|(?=\n)")  # placeholders are cut out, a line begins with its end


def holes(train: list[Example]) -> tuple[str, ...]:
    return tuple(sorted({hole for e in train for hole in HOLE.findall(e.draft)}))


def with_holes(codec: Codec, train: list[Example]) -> Codec:
    """The codec that knows the expressions of further training examples as well."""
    return replace(codec, holes=tuple(sorted({*codec.holes, *holes(train)})))


def pairs(train: list[Example], codec: Codec) -> list[Pair]:
    """Token ids of the examples, weights from their records; longer ones than LONGEST tokens are left out."""
    made = [Pair(codec.source(e.found), codec.target(e.draft), e.record.weight) for e in train]
    return [pair for pair in made if max(len(pair.source), len(pair.target)) <= LONGEST]


@dataclass(frozen=True)
class Written:
    """What a model wrote: `draft` as it came, `text` restored Gherkin ("" if that failed), `reason` why it failed."""

    draft: str
    text: str
    reason: str


def restored(draft: str, found: Abstract) -> Written:
    """A draft with its placeholders filled and the usual indentation."""
    cells = {name: value.replace("\\", "\\\\").replace("|", "\\|") if isinstance(value, str) else value
             for name, value in found.values.items()}
    try:
        lines = [slots.restore(line, cells if line.startswith("|") else found.values) for line in draft.split("\n")]
    except ExpressionError as error:
        return Written(draft, "", str(error))
    if not draft.strip():
        return Written(draft, "", "nothing was written")
    return Written(draft, gherkin.layout("\n".join(lines).rstrip("\n")), "")


def write(model: nn.Module, codec: Codec, requirements: list[str], constrained: bool = True, limit: int = LIMIT,
          size: int = 64) -> list[Written]:
    """A test for each requirement, greedily; longer requirements than LONGEST tokens are refused with a reason.

    constrained: whole and valid Gherkin comes out, whatever the model prefers. Raises ValueError: a limit under it.
    """
    found = [slots.abstract(text, codec.lexicon) for text in requirements]
    sources = [codec.source(f) for f in found]
    fits = [n for n, source in enumerate(sources) if len(source) <= LONGEST]
    made = [Written("", "", f"requirement of {len(s)} tokens; expected at most {LONGEST}") for s in sources]
    order = sorted(fits, key=lambda n: len(sources[n]))
    device = next(model.parameters()).device
    dtype = torch.bfloat16 if fast_in_bf16(device) else torch.float32
    for at in range(0, len(order), size):
        rows = order[at:at + size]
        ids, lengths = padded([sources[n] for n in rows])
        bound, finish = [found[n].values for n in rows], list
        if constrained:
            choose, finish = codec.constraint.start(bound, limit)
        else:
            choose = pointing(codec.placeholders, bound, codec.size)
        out = model.generate(ids.to(device), lengths.to(device), limit, choose, dtype=dtype)
        for n, row in zip(rows, finish(out), strict=True):
            made[n] = restored(tokenizer.decode(codec.tokenizer, row), found[n])
    return made
