"""What a model must beat: guessing, counting, copying the nearest test, and rules.

Language models over the same tokens: uniform, unigram, bigram, and the nearest test read as a prediction
(`Retrieval`). Writers: the nearest training requirement's test, its placeholders filled from the new requirement, or
copied with its old values as one who only copies would; and keyword rules. All see the training split alone. Unusual:
retrieval and rules get the same slots and expressions as the model, so what they lack is not the arithmetic.
"""

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from hrm_lab.testgen import slots
from hrm_lab.testgen.batches import Pair
from hrm_lab.testgen.slots import Abstract
from hrm_lab.testgen.tokenizer import BEGIN, END, decode
from hrm_lab.testgen.writer import Codec, Example, Written, restored

KEYWORDS = 8  # words that a rule knows of a family
TRUST = (0.5, 0.8, 0.9, 0.95, 0.99)  # weights of the retrieved token that are tried


# ---------------------------------------------------------------- language models: nats of each target token


def uniform(size: int, pairs: list[Pair]) -> list[np.ndarray]:
    return [np.full(len(p.target), math.log(size)) for p in pairs]


@dataclass(frozen=True)
class Counts:
    """Unigram and bigram counts of training targets, smoothed: a bigram leans on its unigram, that on the uniform."""

    size: int
    single: np.ndarray  # (size,) probabilities
    double: dict[int, Counter] = field(repr=False)
    total: dict[int, int] = field(repr=False)

    @classmethod
    def of(cls, size: int, pairs: list[Pair]) -> "Counts":
        single, double = np.full(size, 0.1), defaultdict(Counter)
        for p in pairs:
            np.add.at(single, list(p.target), 1)
            for a, b in zip((BEGIN, *p.target), p.target, strict=False):
                double[a][b] += 1
        return cls(size, single / single.sum(), dict(double), {a: sum(c.values()) for a, c in double.items()})

    def bigram(self, a: int, b: int) -> float:
        return (self.double.get(a, Counter())[b] + self.single[b]) / (self.total.get(a, 0) + 1)

    def nll(self, order: int, pairs: list[Pair]) -> list[np.ndarray]:
        """order 1 or 2."""
        if order == 1:
            return [-np.log(self.single[list(p.target)]) for p in pairs]
        return [np.array([-math.log(self.bigram(a, b)) for a, b in zip((BEGIN, *p.target), p.target, strict=False)])
                for p in pairs]


def sample(counts: Counts, order: int, codec: Codec, requirements: list[str], limit: int = 150) -> list[Written]:
    """Tests drawn from counts alone (order 0: uniform); the requirement only fills placeholders. Same seed, same
    tests.
    """
    made, summed = [], np.cumsum(counts.single)
    after = {token: (list(options), np.cumsum(list(options.values()))) for token, options in counts.double.items()}
    for number, text in enumerate(requirements):
        rng, last, ids = np.random.default_rng((order, number)), BEGIN, []
        while len(ids) < limit:
            if order == 2 and last in after:
                options, total = after[last]
                last = options[np.searchsorted(total, rng.random() * total[-1], "right")]
            elif order:
                last = min(int(np.searchsorted(summed, rng.random(), "right")), counts.size - 1)
            else:
                last = int(rng.integers(counts.size))
            if last == END:
                break
            ids.append(last)
        made.append(restored(decode(codec.tokenizer, ids), slots.abstract(text, codec.lexicon)))
    return made


# ---------------------------------------------------------------- the nearest requirement


class Nearest:
    """Cosine over TF-IDF of the words of abstract requirements."""

    def __init__(self, train: list[Example]):
        self.train = train
        seen = [Counter(self.words(e.found)) for e in train]
        frequency = Counter(word for counts in seen for word in counts)
        self.index = {word: n for n, word in enumerate(sorted(frequency))}
        self.weight = np.array([math.log(len(train) / frequency[word]) + 1 for word in sorted(frequency)], np.float32)
        self.rows = np.stack([self.vector(counts) for counts in seen])

    @staticmethod
    def words(found: Abstract) -> list[str]:
        return [word.lower() for word in re.findall(r"[^\W\d_]+", found.text)]  # a placeholder counts as its kind

    def vector(self, counts: Counter) -> np.ndarray:
        row = np.zeros(len(self.index), np.float32)
        for word, n in counts.items():
            if word in self.index:
                row[self.index[word]] = n
        row *= self.weight
        return row / max(float(np.linalg.norm(row)), 1e-9)

    def find(self, requirements: list[Abstract]) -> list[Example]:
        queries = np.stack([self.vector(Counter(self.words(found))) for found in requirements])
        return [self.train[n] for n in (queries @ self.rows.T).argmax(1)]


def retrieve(nearest: Nearest, codec: Codec, requirements: list[str], filled: bool = True) -> list[Written]:
    """The nearest test; filled: with the new requirement's values, otherwise as it stands."""
    found = [slots.abstract(text, codec.lexicon) for text in requirements]
    return [restored(e.draft, f) if filled else Written(e.draft, e.record.target, "")
            for e, f in zip(nearest.find(found), found, strict=True)]


def retrieval_nll(nearest: Nearest, codec: Codec, counts: Counts, sources: list[Abstract], pairs: list[Pair],
                  trust: float) -> list[np.ndarray]:
    """The retrieved test as a language model: with probability `trust` its next token, otherwise the bigram's.

    The place in the retrieved test is kept up by the last two tokens, so that one difference does not lose it.
    """
    made = []
    for example, pair in zip(nearest.find(sources), pairs, strict=True):
        known, said = (BEGIN, *codec.target(example.draft)), (BEGIN, *pair.target)
        after = defaultdict(list)  # two tokens -> places behind them
        for n in range(2, len(known)):
            after[known[n - 2:n]].append(n)
        at, nats = 1, []
        for n in range(1, len(said)):
            guess = known[at] if at < len(known) else None
            p = counts.bigram(said[n - 1], said[n])
            nats.append(-math.log(p if guess is None else trust * (guess == said[n]) + (1 - trust) * p))
            at += 1
            if guess != said[n]:
                places = after[said[n - 1:n + 1]]
                at = next((place for place in places if place >= at), places[0] if places else at)
        made.append(np.array(nats))
    return made


def best_trust(nearest: Nearest, codec: Codec, counts: Counts, sources: list[Abstract], pairs: list[Pair]) -> float:
    """The trust with the lowest loss on validation pairs."""
    return min(TRUST, key=lambda trust: float(np.concatenate(
        retrieval_nll(nearest, codec, counts, sources, pairs, trust)).mean()))


# ---------------------------------------------------------------- rules


class Rules:
    """Keywords name the family; its most frequent training test for these kinds of values is filled in order."""

    def __init__(self, train: list[Example]):
        counts, total, self.tests = defaultdict(Counter), Counter(), defaultdict(Counter)
        for e in train:
            family = e.record.family
            words = set(Nearest.words(e.found))
            counts[family].update(words)
            total.update(words)
            self.tests[family, self.kinds(e.found)][e.draft] += 1
            self.tests[family, None][e.draft] += 1
        self.keywords = {family: {word: n * n / total[word] for word, n in sorted(
            seen.items(), key=lambda item: (-item[1] ** 2 / total[item[0]], item[0]))[:KEYWORDS]}
            for family, seen in sorted(counts.items())}

    @staticmethod
    def kinds(found: Abstract) -> tuple[str, ...]:
        return tuple(b.name for b in found.bindings)

    def write(self, codec: Codec, requirements: list[str]) -> list[Written]:
        made = []
        for text in requirements:
            found = slots.abstract(text, codec.lexicon)
            words = set(Nearest.words(found))
            family = max(self.keywords, key=lambda f: sum(self.keywords[f].get(word, 0) for word in words)
                         / sum(self.keywords[f].values()))
            kinds = self.kinds(found) if (family, self.kinds(found)) in self.tests else None
            made.append(restored(self.tests[family, kinds].most_common(1)[0][0], found))
        return made
