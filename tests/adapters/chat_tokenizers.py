"""A small byte-level BPE tokenizer with ChatML, trained on the spot: what a chat model's tokenizer does, no network."""

from functools import cache

from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>"
          "\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
LINES = ('{"name": "area_of_circle", "arguments": {"radius": 5, "unit": "cm"}}', "What is the weather in Paris today?",
         "call the function that does what the user asks", "true false null 0.5 -12 2024-01-31")


@cache
def tiny_tokenizer():
    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    special = ["<|begin|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator([*LINES, *special], vocab_size=500, min_frequency=1, special_tokens=special,
                            show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token="<|begin|>", eos_token="<|im_end|>",
                                   pad_token="<|pad|>", chat_template="{{ bos_token }}" + CHATML,
                                   additional_special_tokens=["<|im_start|>"])
