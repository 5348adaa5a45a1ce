"""Decoding under a grammar: restricted Gherkin by `llguidance`, with placeholders that the requirement really has.

The grammar fixes what the official parser wants (a feature, scenarios in the order Given, When, Then, rows as wide as
their header) and what restoring wants: the only expressions are those seen in training whose placeholders are bound.
One grammar a set of bound placeholders, built once. Unusual: a text that reaches its limit is cut back to the last
place where the grammar would have let it end, so that what comes out is valid or empty.
"""

import re

import llguidance
import llguidance.numpy
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from hrm_lab.testgen.tokenizer import END

COLUMNS = 6
LARK = r"""
start: head scenario+
head: (TAGS "\n")? "Feature: " LINE "\n"
scenario: (TAGS "\n")? (plain | outline)
plain: "Scenario: " LINE "\n" steps
outline: "Scenario Outline: " LINE "\n" steps "Examples:\n" table
steps: ("Given " LINE "\n" more)? ("When " LINE "\n" more)? "Then " LINE "\n" more
more: (("And " | "But ") LINE "\n")*
table: TABLES
TAGS: /@[a-z][a-z0-9_-]*( @[a-z][a-z0-9_-]*)*/
LINE: /(WORDFIRST|HOLES)(WORDREST|HOLES)*/
ROWS
"""  # a row is one token of the lexer, which is greedy: a cell of its own would swallow the space before the bar


def lark(holes: list[str]) -> str:
    """The grammar in which `holes` are the only expressions in braces."""
    each = "|".join(re.escape(hole).replace("/", r"\/").replace(r"\ ", " ") for hole in holes) or r"\{MARK0\}"
    widths = range(1, COLUMNS + 1)
    rows = [rf"ROW{n}: /(\| (WORDFIRST|HOLES)(WORDREST|HOLES)* ){{{n}}}\|\n/" for n in widths]
    text = LARK.replace("TABLES", " | ".join(f"ROW{n} ROW{n}+" for n in widths)).replace("ROWS", "\n".join(rows))
    signs = r"{}|\\\x00-\x1f\x7f-\x9f\u2028\u2029"  # what ends a line or a cell somewhere
    text = text.replace("WORDFIRST", rf"[^\s{signs}]").replace("WORDREST", f"[^{signs}]")
    return text.replace("HOLES", each)


class Constraint:
    """Keeps a batch of texts inside the grammar; `holes`: the expressions seen in training."""

    def __init__(self, tokenizer: Tokenizer, holes: tuple[str, ...]):
        self.tokenizer, self.holes = tokenizer, holes
        self.table = llguidance.LLTokenizer(tokenizer.to_str(), n_vocab=tokenizer.get_vocab_size(), eos_token=END)
        self.built: dict[frozenset[str], llguidance.LLMatcher] = {}

    def matcher(self, bound: frozenset[str]) -> llguidance.LLMatcher:
        """At the start of the grammar for a set of bound placeholders. Raises ValueError: a grammar that is none."""
        if bound not in self.built:
            kept = [hole for hole in self.holes if set(re.findall(r"\b[A-Z]+\d+\b", hole)) <= bound]
            grammar = llguidance.LLMatcher.grammar_from_lark(lark(kept))
            self.built[bound] = llguidance.LLMatcher(self.table, grammar, log_level=0)
            if self.built[bound].is_error():
                raise ValueError(f"grammar: {self.built[bound].get_error().splitlines()[0]}")
        return self.built[bound].deep_copy()

    def start(self, bound: list[frozenset[str]]):
        """choose(logits, rows) for `generate`, and finish(found) for what it gives; one set of names a source."""
        matchers = [self.matcher(names) for names in bound]
        size, ends = self.tokenizer.get_vocab_size(), [0] * len(bound)
        lengths = [0] * len(bound)
        masks = llguidance.numpy.allocate_token_bitmask(len(bound), size)

        def choose(logits: Tensor, rows: Tensor) -> Tensor:
            for n, row in enumerate(rows.tolist()):
                llguidance.numpy.fill_next_token_bitmask(matchers[row], masks, n)
            # not by the library's own function for torch, which compiles
            allowed = np.unpackbits(masks[:len(rows)].view(np.uint8), axis=1, count=size, bitorder="little")
            logits = logits.cpu().masked_fill(torch.from_numpy(allowed == 0), -torch.inf)
            picked = logits.argmax(-1)
            for row, token in zip(rows.tolist(), picked.tolist(), strict=True):
                if token != END:
                    matchers[row].consume_token(token)
                    lengths[row] += 1
                    if matchers[row].is_accepting():
                        ends[row] = lengths[row]
            return picked.to(rows.device)

        def finish(found: list[list[int]]) -> list[list[int]]:
            return [ids[:end] for ids, end in zip(found, ends, strict=True)]

        return choose, finish

    def accepts(self, text_ids: list[int], bound: frozenset[str]) -> bool:
        """Whether a whole text is in the grammar."""
        matcher = self.matcher(bound)
        return all(matcher.consume_token(token) for token in text_ids) and matcher.is_accepting()

