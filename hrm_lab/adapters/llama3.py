"""The tokenizer of Llama 3 with its public chat format, without an account: for checks, not for a model.

The ranks come from the wheel of Meta's `llama-models` (Llama 3 Community License; fetched, never shipped). Byte-pair
merges are not in that file: a merge is every split of a token into two tokens, applied in the order of the ranks, as
OpenAI's tiktoken does it. The chat format is the one that Meta documents for Llama 3 (a header with the role for each
turn, <|eot_id|> after it); later templates also print dates, and come with their models.
"""

import base64
import json
import zipfile
from pathlib import Path

from hrm_lab.files import write_atomic
from hrm_lab.sources import fetch

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
CONTROL = ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
           "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
           "<|eot_id|>", "<|python_tag|>")
CHAT = ("{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + "
        "'<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif "
        "%}")


def byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each of 256 bytes (GPT-2's table)."""
    kept = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in kept else next(others)) for b in range(256)]


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges that make tokens of ranks, in order."""
    found = []
    for token, rank in ranks.items():
        parts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        found += [(rank, ranks[left], ranks[right], left, right) for left, right in parts]
    return [(left, right) for *_, left, right in sorted(found, key=lambda m: m[:3])]


def tokenizer(cache: Path | str):
    """A fast tokenizer of transformers, built once and kept in `cache`. Raises `hrm_lab.sources.SourceError`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    path = Path(cache) / "llama3-tokenizer.json"
    if not path.exists():
        with zipfile.ZipFile(fetch("llama-models", cache)) as wheel:
            lines = wheel.read("llama_models/llama3/tokenizer.model").split(b"\n")
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
        letters = byte_letters()

        def written(token: bytes) -> str:
            return "".join(letters[b] for b in token)

        bpe = models.BPE({written(t): r for t, r in ranks.items()}, [(written(a), written(b)) for a,
                                                                     b in merges(ranks)],
                         ignore_merges=True)
        made = Tokenizer(bpe)
        made.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False,
                                                                                     use_regex=False)])
        made.decoder = decoders.ByteLevel()
        made.add_special_tokens([*CONTROL])
        made.post_processor = processors.TemplateProcessing(  # as the published one does: text gets a beginning
            single=f"{CONTROL[0]} $A", special_tokens=[(CONTROL[0], made.token_to_id(CONTROL[0]))])
        write_atomic(path, json.dumps(json.loads(made.to_str())))
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(path)), bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>", chat_template=CHAT, clean_up_tokenization_spaces=False)
