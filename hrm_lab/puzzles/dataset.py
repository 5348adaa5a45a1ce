"""One import for datasets (`Meta`, `Split`, `load`, `save`, `audit`, `card`), and the training stream `Sampler`.

As in the official `puzzle_dataset.py`, an epoch visits each group once and shows one random puzzle of it
(variants of a puzzle do not crowd out others). Unlike there, the stream is endless, augments on the fly,
and can be stopped and continued to the bit: its whole state is a few counters and two RNG states.
"""

import numpy as np

from hrm_lab.puzzles.audit import audit, card
from hrm_lab.puzzles.augment import augment as augment_batch
from hrm_lab.puzzles.layout import IGNORE, DatasetError, Meta, Split, load, save

__all__ = ["IGNORE", "DatasetError", "Meta", "Sampler", "Split", "audit", "card", "load", "save"]

BALANCES = ("none", "difficulty", "task")
BINS = 5  # of equal width over difficulty 0..1
WINDOW_CHUNK = 256  # groups drawn between two looks at the curriculum's window


def _other(values: np.ndarray, symbols: np.ndarray, where: np.ndarray, p: float, rng: np.random.Generator):
    """Replace each value at `where` with probability p by another of the `symbols`, evenly."""
    hit = where & (rng.random(values.shape) < p)
    step = rng.integers(1, max(len(symbols), 2), values.shape)
    if len(symbols) < 2:
        return values
    place = np.searchsorted(symbols, values).clip(0, len(symbols) - 1)
    return np.where(hit, symbols[(place + step) % len(symbols)], values)


class Sampler:
    """Endless shuffled stream of training examples.

    augment: apply the dataset's symmetries (`meta.augment`) afresh to each example.
    label_noise, input_noise: probability that a scored label (an input that is not padding) is replaced by
        another symbol that occurs among the labels (inputs). Drawn from a stream of their own: without noise
        the examples are the same, bit for bit, whether the switches exist or not.
    balance: "difficulty" gives the same share to each of five bins of equal width that is not empty, "task"
        to each task (both by the first example of a group); small strata are shown more often.
    curriculum: 0 .. 1. The stream starts with the easiest 1 - curriculum of the groups and widens linearly to
        all of them by the time that `curriculum_examples` have been drawn.
    """

    def __init__(self, split: Split, seed: int, augment: bool = True, label_noise: float = 0.0,
                 input_noise: float = 0.0, balance: str = "none", curriculum: float = 0.0,
                 curriculum_examples: int = 0):
        for name, value in (("label_noise", label_noise), ("input_noise", input_noise), ("curriculum", curriculum)):
            if not 0 <= value <= 1:
                raise ValueError(f"Sampler: {name} is {value}; expected 0..1")
        if balance not in BALANCES:
            raise ValueError(f"Sampler: balance is {balance!r}; expected one of {', '.join(BALANCES)}")
        if (curriculum > 0) != (curriculum_examples > 0):
            raise ValueError(f"Sampler: curriculum {curriculum} with curriculum_examples {curriculum_examples}; "
                             "expected both above 0, or both 0")
        self.split, self.seed, self.balance = split, seed, balance
        self.kind = split.meta.augment if augment else "none"
        self.label_noise, self.input_noise = label_noise, input_noise
        self.curriculum, self.curriculum_examples = curriculum, curriculum_examples

        puzzles = np.arange(len(split)) if split.puzzles is None else split.puzzles
        first = np.flatnonzero(np.diff(puzzles, prepend=-1))  # (P,) first example of each puzzle
        self._puzzle_start, self._puzzle_size = first, np.diff(first, append=len(split))
        groups = split.groups[first]
        group_first = np.flatnonzero(np.diff(groups, prepend=-1))  # (G,) first puzzle of each group
        self._group_start, self._group_size = group_first, np.diff(group_first, append=len(first))
        example = first[group_first]  # (G,) first example of each group
        self._by_difficulty = np.argsort(split.difficulty[example], kind="stable")
        if balance == "task":
            self._stratum = split.tasks[example]
        else:
            self._stratum = np.minimum((split.difficulty[example] * BINS).astype(np.int64), BINS - 1)

        self._label_symbols = np.unique(split.labels[split.labels != IGNORE])
        used = np.unique(split.inputs)
        self._input_symbols = used[used != split.meta.pad_id]
        self._augment_rng = np.random.default_rng([seed, 1])
        self._noise_rng = np.random.default_rng([seed, 2])
        self.drawn = 0  # examples handed out so far
        self._chunk, self._chunk_start = 0, 0  # number of the current order, and `drawn` when it was made
        self._order = self._make_order()
        self._cursor = 0

    def _make_order(self) -> np.ndarray:
        """Examples of the next epoch (or, under a growing curriculum, of the next chunk), in order."""
        rng = np.random.default_rng([self.seed, 0, self._chunk])
        count = len(self._group_start)
        eligible, size = np.arange(count), count
        if self._chunk_start < self.curriculum_examples:
            share = 1 - self.curriculum * (1 - self._chunk_start / self.curriculum_examples)
            eligible = self._by_difficulty[:max(1, round(share * count))]
            size = min(len(eligible), WINDOW_CHUNK)
        if self.balance == "none":
            groups = rng.permutation(eligible)[:size]
        else:
            strata = self._stratum[eligible]
            names = np.unique(strata)
            share = -(-size // len(names))  # rounded up
            parts = []
            for name in names:
                members = eligible[strata == name]
                rounds = [rng.permutation(members) for _ in range(-(-share // len(members)))]
                parts.append(np.concatenate(rounds)[:share])
            groups = rng.permutation(np.concatenate(parts))
        puzzles = self._group_start[groups] + rng.integers(self._group_size[groups])
        sizes = self._puzzle_size[puzzles]
        if (sizes == 1).all():
            return self._puzzle_start[puzzles]
        owner = np.repeat(np.arange(len(puzzles)), sizes)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        examples = self._puzzle_start[puzzles][owner] + within
        return examples[np.lexsort((rng.random(len(owner)), owner))]  # puzzle by puzzle, its examples shuffled

    def take(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The next n examples: inputs (n, T), labels (n, T), puzzle ids (n,), tasks (n,), all int64."""
        rows = []
        while (missing := n - sum(map(len, rows))) > 0:
            if self._cursor == len(self._order):
                self._chunk, self._chunk_start = self._chunk + 1, self.drawn
                self._order, self._cursor = self._make_order(), 0
            rows.append(self._order[self._cursor:self._cursor + missing])
            self._cursor += len(rows[-1])
            self.drawn += len(rows[-1])
        index = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        split = self.split
        inputs, labels = split.inputs[index].astype(np.int64), split.labels[index].astype(np.int64)
        inputs, labels = augment_batch(self.kind, inputs, labels, split.meta.grid, self._augment_rng)
        if self.input_noise:
            inputs = _other(inputs, self._input_symbols, inputs != split.meta.pad_id, self.input_noise,
                            self._noise_rng)
        if self.label_noise:
            labels = _other(labels, self._label_symbols, labels != IGNORE, self.label_noise, self._noise_rng)
        return inputs, labels, split.puzzle_ids[index].astype(np.int64), split.tasks[index].astype(np.int64)

    def state(self) -> dict:
        """Where the stream stands, as plain JSON; `load_state` on a sampler built alike continues bit for bit."""
        return {"seed": self.seed, "examples": len(self.split), "drawn": self.drawn, "chunk": self._chunk,
                "chunk_start": self._chunk_start, "cursor": self._cursor,
                "augment_rng": self._augment_rng.bit_generator.state,
                "noise_rng": self._noise_rng.bit_generator.state}

    def load_state(self, state: dict) -> None:
        """Continue from a `state()`. Refuses one of another seed or dataset size."""
        for name, value in (("seed", self.seed), ("examples", len(self.split))):
            if state.get(name) != value:
                raise ValueError(f"Sampler state: {name} is {state.get(name)!r}; expected {value}, as this sampler has")
        self.drawn, self._chunk, self._chunk_start = state["drawn"], state["chunk"], state["chunk_start"]
        self._order, self._cursor = self._make_order(), state["cursor"]
        self._augment_rng.bit_generator.state = state["augment_rng"]
        self._noise_rng.bit_generator.state = state["noise_rng"]
