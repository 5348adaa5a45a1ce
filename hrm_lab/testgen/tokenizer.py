"""Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909) of the `tokenizers` library, trained on the training split
only.

Bytes are the alphabet, so that no text is out of vocabulary; each placeholder of `slots.py` is one token, and digits
stand alone. Unusual: requirements are split at words, tests are not. In a test a token may span several words of a
line (as in SuperBPE, Liu et al. 2025, arXiv 2503.13423), so a step that every test of a family has is a token or two,
decoding takes a third of the steps, and the tokens that depend on the requirement weigh more in the loss. One
vocabulary and one JSON file serve both.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from hrm_lab.files import write_atomic

PAD, BEGIN, END, HIDDEN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<begin>", "<end>", "<hidden>")
WORDS = r" ?\p{L}+|\d| ?[^\s\p{L}\d]|\s"  # a word with its space, one digit, one sign, one space or line end
LINES = r"\d|\n?[^\d\n]+|\n"  # one digit, or a line with the line end before it


def pieces(pattern: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def by_words(tokenizer: Tokenizer) -> Tokenizer:
    """The same vocabulary for requirements: no token spans two words."""
    same = Tokenizer.from_str(tokenizer.to_str())
    same.pre_tokenizer = pieces(WORDS)
    return same


def train(sources: Iterable[str], targets: Iterable[str], vocab_size: int, placeholders: Iterable[str]) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens, placeholders included. Raises ValueError: too small for the bytes."""
    placeholders = list(placeholders)
    least = len(SPECIAL) + len(placeholders) + 256
    if vocab_size < least:
        raise ValueError(f"vocab_size: got {vocab_size}, expected at least {least} (bytes and placeholders)")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pieces(LINES)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(placeholders), special_tokens=list(SPECIAL),
                                  min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    words = [word for text in sources for word in re.findall(r" ?[^\W\d_]+", text)]
    tokenizer.train_from_iterator([*words, *targets], trainer)
    tokenizer.add_tokens(placeholders)
    return tokenizer


def save(tokenizer: Tokenizer, path: Path | str):
    write_atomic(path, tokenizer.to_str(pretty=True))


def load(path: Path | str) -> Tokenizer:
    """Raises ValueError naming the file: missing, or no tokenizer."""
    try:
        return Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"{path}: {str(error).splitlines()[0]}; expected a tokenizer's JSON") from None


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False)
