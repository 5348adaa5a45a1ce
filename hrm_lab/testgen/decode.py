"""Decoding without a grammar and under one: what a model may write.

The grammar (`llguidance`) fixes what the official parser wants (a feature, scenarios in the order Given, When, Then,
rows as wide as their header, columns that are plain words) and what restoring wants: the only expressions are those
seen in training that this requirement gives words to. One grammar a set of expressions, built once. Unusual: whatever
the model prefers, a whole text comes out. One that reaches its limit is cut back to the last place where the
grammar would have let it end; one that never came to such a place is closed line by line, by the shortest lines that
make it whole. Without the grammar a placeholder is still a pointer: it can only be one that the requirement has.
"""

import re
from collections.abc import Mapping

import llguidance
import llguidance.numpy
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from hrm_lab.testgen.expressions import ExpressionError, Value, render
from hrm_lab.testgen.tokenizer import END, decode, encode

CUT = "unfinished"  # the word of the lines that close a text
BREAKS = r"\\\x00-\x1f\x7f-\x9f\u2028\u2029"  # what ends a line or a cell somewhere
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


def lark(holes: tuple[str, ...]) -> str:
    """The grammar in which `holes` are the only expressions in braces."""
    each = "".join("|" + re.escape(hole).replace("/", r"\/").replace(r"\ ", " ") for hole in holes)
    widths = range(1, COLUMNS + 1)
    rows = [rf"ROW{n}: /(\| (WORDFIRST|HOLES)(WORDREST|HOLES)* ){{{n}}}\|\n/" for n in widths]
    rows += [rf"HEAD{n}: /(\| [^\s{{}}SIGNS]([^{{}}SIGNS])* ){{{n}}}\|\n/".replace("SIGNS", BREAKS + r"|()\[\].*+?^$")
             for n in widths]  # the compiler reads a column's name as a pattern
    text = LARK.replace("TABLES", " | ".join(f"HEAD{n} ROW{n}+" for n in widths)).replace("ROWS", "\n".join(rows))
    signs = "{}|" + BREAKS
    text = text.replace("WORDFIRST", rf"[^\s{signs}]").replace("WORDREST", f"[^{signs}]")
    return text.replace("|HOLES", each)


def writable(hole: str, values: Mapping[str, Value]) -> bool:
    """Whether an expression in braces has a value here, of words that break no line and no cell."""
    try:
        text = render(hole, values)
    except ExpressionError:
        return False
    return bool(text.strip()) and not re.search(f"[{BREAKS}]", text)


class Constraint:
    """Keeps a batch of texts inside the grammar; `holes`: the expressions seen in training."""

    def __init__(self, tokenizer: Tokenizer, holes: tuple[str, ...]):
        self.tokenizer, self.holes = tokenizer, holes
        self.table = llguidance.LLTokenizer(tokenizer.to_str(), n_vocab=tokenizer.get_vocab_size(), eos_token=END)
        self.built: dict[tuple[str, ...], llguidance.LLMatcher] = {}
        self.shortest = len(encode(tokenizer, closed("")))  # tokens of the shortest whole text

    def matcher(self, values: Mapping[str, Value]) -> llguidance.LLMatcher:
        """At the start of the grammar for a requirement's values. Raises ValueError: a grammar that is none."""
        kept = tuple(hole for hole in self.holes if writable(hole, values))
        if kept not in self.built:
            self.built[kept] = llguidance.LLMatcher(self.table, llguidance.LLMatcher.grammar_from_lark(lark(kept)),
                                                    log_level=0)
            if self.built[kept].is_error():
                raise ValueError(f"grammar: {self.built[kept].get_error().splitlines()[0]}")
        return self.built[kept].deep_copy()

    def start(self, bound: list[Mapping[str, Value]], limit: int):
        """choose(logits, rows) for `generate`, and finish(found) for what it gives; the values of each source.

        Raises ValueError: fewer tokens than the shortest whole text takes.
        """
        if limit < self.shortest:
            raise ValueError(f"limit: got {limit} tokens, expected at least {self.shortest}: the shortest whole test")
        matchers = [self.matcher(values) for values in bound]
        size, ends, lengths = self.tokenizer.get_vocab_size(), [0] * len(bound), [0] * len(bound)
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
            return [ids[:end] if end else self.close(ids, limit) for ids, end in zip(found, ends, strict=True)]

        return choose, finish

    def close(self, ids: list[int], limit: int) -> list[int]:
        """A beginning made whole within `limit` tokens: as many of its lines as leave room, and what they still need.
        """
        lines = decode(self.tokenizer, ids).split("\n")[:-1]
        while len(made := encode(self.tokenizer, closed("".join(line + "\n" for line in lines)))) > limit:
            lines.pop()
        return made

    def accepts(self, text_ids: list[int], values: Mapping[str, Value]) -> bool:
        """Whether a whole text is in the grammar."""
        matcher = self.matcher(values)
        return all(matcher.consume_token(token) for token in text_ids) and matcher.is_accepting()


def closed(text: str) -> str:
    """Whole lines that begin a text of the grammar, with the fewest lines that make it whole; an unfinished scenario
    that is not the first is left out."""
    starts = [match.start() for match in re.finditer("^Scenario", text, re.M)]
    if starts:
        text = re.sub(r"^@.*\n\Z", "", text[:starts[-1]] if len(starts) > 1 else text, flags=re.M)
    for start, line in (("Feature", "Feature: "), ("Scenario", "Scenario: "), ("Then ", "Then ")):
        if not re.search(f"^{start}", text, re.M):
            text += f"{line}{CUT}\n"
    if len(starts) > 1 or not re.search("^Scenario Outline", text, re.M):
        return text
    if "\nExamples:\n" not in text:
        text += "Examples:\n"
    if not (rows := re.findall(r"^\|.*", text, re.M)):
        rows.append(f"| {CUT} |")
        text += rows[0] + "\n"
    return text if len(rows) > 1 else text + f"| {CUT} " * (rows[0].count("|") - 1) + "|\n"


def pointing(placeholders: Mapping[int, str], bound: list[Mapping[str, Value]], size: int):
    """choose(logits, rows) for `generate` without a grammar; placeholders: token id -> name; size: the vocabulary."""
    foreign = torch.zeros(len(bound), size, dtype=torch.bool)
    for token, name in placeholders.items():
        foreign[:, token] = torch.tensor([name not in values for values in bound])

    def choose(logits: Tensor, rows: Tensor) -> Tensor:
        return logits.masked_fill(foreign.to(logits.device)[rows], -torch.inf).argmax(-1)

    return choose
