"""Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909) of the `tokenizers` library, trained on the training split
only.

Bytes are the alphabet, so that no text is out of vocabulary. Unusual: each placeholder of `slots.py` is one token,
digits stand alone (a number that was not made abstract is read digit by digit), and the file is plain JSON.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from hrm_lab.files import write_atomic

PAD, BEGIN, END, HIDDEN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<begin>", "<end>", "<hidden>")
WORDS = r" ?\p{L}+|\d| ?[^\s\p{L}\d]|\s"  # a word with its space, one digit, one sign, one space or line end


def train(texts: Iterable[str], vocab_size: int, placeholders: Iterable[str]) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens, placeholders included. Raises ValueError: too small for the bytes."""
    placeholders = list(placeholders)
    least = len(SPECIAL) + len(placeholders) + 256
    if vocab_size < least:
        raise ValueError(f"vocab_size: got {vocab_size}, expected at least {least} (bytes and placeholders)")
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(placeholders), special_tokens=list(SPECIAL),
                                  min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
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
