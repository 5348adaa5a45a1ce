"""Greedy generation in batches: no padding in the prompts, their common beginning once, finished rows dropped.

What comes out is what generating one by one gives (tested, in fp32). Unusual: prompts are read as one `packing.Pack`;
keys and values of the common beginning are held and attended to once for all rows; the batch shrinks as rows end; and
`both` reads a prompt once for its free and its constrained answer, which are one line of the batch up to the token at
which the grammar first overrules the model, and two lines after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import heap
from .formats import IGNORE, Row
from .packing import pack


@dataclass(frozen=True)
class Output:
    """A generated answer. `ids` ends before the end token."""

    ids: tuple[int, ...]
    stopped: bool  # by an end token, not by the limit
    steered: int  # how often a grammar overruled the model's first choice


class Store:
    """Keys and values of a batch under way: the common beginning once, and a row's own, flush right, then new ones."""

    def __init__(self, layers: int, room: int):
        self.shared: list = [None] * layers  # (keys, values) of (K, P, D)
        self.own: list = [None] * layers  # (keys, values) of (B, K, R, D), R = longest own prompt + room
        self.room, self.used, self.bias = room, 0, None

    def fill(self, layer: int, key: Tensor, value: Tensor, shared: int, lengths: tuple[int, ...]):
        """Take (1, K, L, D) in the layout of a pack."""
        longest = max(lengths)
        self.shared[layer] = (key[0, :, :shared].clone(), value[0, :, :shared].clone())
        held = []
        for t in (key, value):
            whole = t.new_zeros(len(lengths), t.shape[1], longest + self.room, t.shape[3])
            start = shared
            for i, length in enumerate(lengths):
                whole[i, :, longest - length:longest] = t[0, :, start:start + length]
                start += length
            held.append(whole)
        self.own[layer] = tuple(held)
        if self.bias is None:
            self.used = longest
            self.bias = key.new_zeros(len(lengths), 1, 1, longest + self.room)
            for i, length in enumerate(lengths):
                self.bias[i, :, :, :longest - length] = float("-inf")

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention (B, H, 1, D) of one new token a row to all before it and itself, which are kept."""
        B, H, _, D = query.shape
        K = key.shape[1]
        keys, values = self.own[layer]
        keys[:, :, self.used], values[:, :, self.used] = key[:, :, 0], value[:, :, 0]
        end = self.used + 1
        grouped = query.reshape(B, K, H // K, D)
        mine = grouped @ keys[:, :, :end].transpose(2, 3) * scale + self.bias[..., :end]  # (B, K, G, end)
        first_keys, first_values = self.shared[layer]
        P = first_keys.shape[1]
        if not P:
            return (mine.softmax(-1) @ values[:, :, :end]).view(B, H, 1, D)
        flat = grouped.transpose(0, 1).reshape(K, -1, D)
        first = (flat @ first_keys.transpose(1, 2) * scale).view(K, B, H // K, P).transpose(0, 1)
        shares = torch.cat((first, mine), 3).softmax(-1)
        seen = shares[..., :P].transpose(0, 1).reshape(K, -1, P) @ first_values  # (K, B * G, D)
        out = seen.view(K, B, H // K, D).transpose(0, 1) + shares[..., P:] @ values[:, :, :end]
        return out.reshape(B, H, 1, D)

    def keep(self, index: Tensor):
        """These rows go on, in this order; one that is named twice goes on as two."""
        for layer, pair in enumerate(self.own):  # one by one, or all are held twice
            self.own[layer] = tuple(t[index] for t in pair)
        self.bias = self.bias[index]


Choose = Callable[[Tensor, list[int]], tuple[list[int], list[bool]]]  # logits (B, V), rows -> tokens, steered


def first_choice(logits: Tensor, rows: list[int]) -> tuple[list[int], list[bool]]:
    """The most probable token of each line."""
    return logits.argmax(-1).tolist(), [False] * len(rows)


BOUND, FREE = "bound", "free"  # a line of a batch: under `choose`, or by first choices alone


@torch.inference_mode()
def generate(model, prompts: Sequence[Sequence[int]], ends: frozenset[int], longest: int = 96, batch: int = 16,
             choose: Choose = first_choice) -> list[Output]:
    """The greedy answers to prompts of ids, in their order. The model's attention must be `packing.ATTENTION`.

    ends: ids that end an answer. longest: tokens an answer at most. choose: from logits (B, V) and the numbers of the
    rows in `prompts` to tokens; `constrain.Constraint` is one. Raises ValueError: a prompt without ids.
    """
    return _all(model, prompts, ends, longest, batch, choose, fork=False)[BOUND]


@torch.inference_mode()
def both(model, prompts: Sequence[Sequence[int]], ends: frozenset[int], choose: Choose, longest: int = 96,
         batch: int = 16) -> tuple[list[Output], list[Output]]:
    """(free, constrained) answers: one line for both until the grammar of `choose` overrules it, two from there on."""
    found = _all(model, prompts, ends, longest, batch, choose, fork=True)
    return found[FREE], found[BOUND]


def _all(model, prompts, ends, longest, batch, choose, fork: bool) -> dict[str, list[Output]]:
    """The outputs of all prompts by kind of line; FREE only where `fork`."""
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {i}: got no ids, expected at least one")
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    found: dict[tuple[int, str], Output] = {}
    for start in range(0, len(order), batch):
        found |= _together(model, {i: prompts[i] for i in order[start:start + batch]}, ends, longest, choose, fork)
        heap.give_back()
    return {kind: [found[i, kind] for i in range(len(prompts))] for kind in ((BOUND, FREE) if fork else (BOUND,))}


def _together(model, prompts: dict, ends: frozenset[int], longest: int, choose: Choose, fork: bool) -> dict:
    """(number of prompt, kind of line) -> output, of one batch."""
    device = next(model.parameters()).device
    rows = [Row(str(i), tuple(p), (IGNORE,) * len(p)) for i, p in prompts.items()]
    packed = pack(rows, device)
    store = Store(model.config.num_hidden_layers, longest)
    last = packed.shared + torch.tensor(packed.lengths, device=device).cumsum(0) - 1
    logits = model(input_ids=packed.ids, position_ids=packed.positions, use_cache=False, logits_to_keep=last,
                   shared=packed.shared, lengths=packed.lengths, store=store).logits[0]
    places = torch.tensor([len(p) for p in prompts.values()], device=device)
    live = [(i, BOUND) for i in prompts]
    said: dict[tuple[int, str], list[int]] = {line: [] for line in live}
    steered, stopped = dict.fromkeys(prompts, 0), set()
    for step in range(longest):
        tokens = dict(zip(live, logits.argmax(-1).tolist(), strict=True))
        bound = [at for at, (_, kind) in enumerate(live) if kind == BOUND]
        origin = {line: at for at, line in enumerate(live)}
        chosen = choose(logits[bound], [live[at][0] for at in bound]) if bound else ([], [])
        for at, token, was in zip(bound, *chosen, strict=True):
            i = live[at][0]
            steered[i] += was
            if was and fork and (i, FREE) not in said:
                said[i, FREE], origin[i, FREE], tokens[i, FREE] = [*said[i, BOUND]], at, tokens[i, BOUND]
            tokens[i, BOUND] = token
        stopped |= {line for line, token in tokens.items() if token in ends}
        going = [line for line in tokens if line not in stopped]
        for line in going:
            said[line].append(tokens[line])
        if not going or step == longest - 1:
            break
        if going != live:
            index = torch.tensor([origin[line] for line in going], device=device)
            store.keep(index)
            places, live = places[index], going
        logits = model(input_ids=torch.tensor([tokens[line] for line in live], device=device)[:, None],
                       position_ids=places[:, None], use_cache=False, store=store).logits[:, 0]
        store.used += 1
        places = places + 1
    made = {(i, kind): Output(tuple(own), (i, kind) in stopped, steered[i] if kind == BOUND else 0)
            for (i, kind), own in said.items()}
    return made | {(i, FREE): made[i, BOUND] for i in prompts if fork and (i, FREE) not in made}
