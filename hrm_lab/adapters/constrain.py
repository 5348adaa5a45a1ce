"""Generation under a grammar, a row each: only tokens that keep the answer well-formed are ever chosen.

The grammars come from the formats (`Format.grammar`): a call of one of the tools, arguments as their JSON schemas say.
llguidance (Microsoft, MIT) computes the mask of a step in microseconds. Unusual: whether a mask overruled the model's
first choice is counted, for that number says how much of a constrained score is the grammar's (see `decode.both`).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Constraint:
    """A `decode.Choose`: the most probable token that the row's grammar allows.

    grammars: one for each prompt, in llguidance's Lark syntax. Raises ValueError naming the row whose grammar is wrong.
    """

    def __init__(self, tokenizer, grammars: Sequence[str], vocabulary: int):
        import llguidance.hf
        import llguidance.numpy

        self.lib = llguidance.numpy
        known = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary)
        self.matchers = []
        for i, grammar in enumerate(grammars):
            matcher = llguidance.LLMatcher(known, grammar)
            if matcher.is_error():
                raise ValueError(f"grammar of row {i}: {' '.join(matcher.get_error().split())[:300]}")
            self.matchers.append(matcher)
        self.vocabulary = vocabulary

    def __call__(self, logits: Tensor, rows: list[int]) -> tuple[list[int], list[bool]]:
        bits = self.lib.allocate_token_bitmask(len(rows), self.vocabulary)
        for at, i in enumerate(rows):
            self.lib.fill_next_token_bitmask(self.matchers[i], bits, at)
        allowed = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, :self.vocabulary].astype(bool)
        free = logits.argmax(-1)
        tokens = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), float("-inf")).argmax(-1)
        for i, token in zip(rows, tokens.tolist(), strict=True):
            if not self.matchers[i].consume_token(token):
                raise ValueError(f"grammar of row {i}: refuses token {token}, which it allowed: "
                                 f"{self.matchers[i].get_error()}")
        return tokens.tolist(), (tokens != free).tolist()
