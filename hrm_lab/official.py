"""Weights of the public HRM (sapientinc/HRM) and TRM (SamsungSAILMontreal/TinyRecursiveModels) code, here.

Their `step_N` files are pickles, which nothing here opens: convert once, where their code runs, with
`safetensors.torch.save_file(torch.load("step_N"), "step_N.safetensors")`. The architecture is theirs
again through `official_config`, from the values of their `all_config.yaml`.
"""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hrm_lab.model import HRM, HRMConfig

# their key (without the wrappers' prefixes) -> ours
NAMES = [
    (r"embed_tokens\.embedding_weight", "embed"),
    (r"embed_pos\.embedding_weight", "position_embed"),
    (r"puzzle_emb\.weights", "puzzle_embed"),
    (r"lm_head\.weight", "head.weight"),
    (r"q_head\.(weight|bias)", r"q_head.\1"),
    (r"([HL])_init", r"\1_init"),
    (r"([HL])_level\.layers\.(\d+)\.self_attn\.qkv_proj\.weight", r"\1_level.layers.\2.attention.qkv.weight"),
    (r"([HL])_level\.layers\.(\d+)\.self_attn\.o_proj\.weight", r"\1_level.layers.\2.attention.out.weight"),
    (r"([HL])_level\.layers\.(\d+)\.mlp\.gate_up_proj\.weight", r"\1_level.layers.\2.mlp.gate_up.weight"),
    (r"([HL])_level\.layers\.(\d+)\.mlp\.down_proj\.weight", r"\1_level.layers.\2.mlp.down.weight"),
    (r"([HL])_level\.layers\.(\d+)\.mlp_t\.gate_up_proj\.weight", r"\1_level.layers.\2.mix.gate_up.weight"),
    (r"([HL])_level\.layers\.(\d+)\.mlp_t\.down_proj\.weight", r"\1_level.layers.\2.mix.down.weight"),
]
WRAPPERS = ("_orig_mod.", "model.", "inner.")
# not weights: a training-time scratch copy of the batch's puzzle embeddings, and rotation tables
SCRATCH = re.compile(r"puzzle_emb\.local_(weights|ids)|rotary_emb\.")


def official_config(arch: dict) -> HRMConfig:
    """HRMConfig from the `arch` part of their config plus `seq_len`, `vocab_size`, `num_puzzle_identifiers`.

    A config without H_layers, or with H_layers 0, is TRM's. Raises ValueError naming a missing key.
    """
    try:
        trm = not arch.get("H_layers", 0) or "mlp_t" in arch
        dim, hidden = arch.get("puzzle_emb_ndim", 0), arch["hidden_size"]
        return HRMConfig(
            vocab_size=arch["vocab_size"], seq_len=arch["seq_len"], variant="trm" if trm else "hrm", hidden=hidden,
            heads=arch["num_heads"], H_layers=arch.get("H_layers", 0), L_layers=arch["L_layers"],
            H_cycles=arch["H_cycles"], L_cycles=arch["L_cycles"], expansion=arch["expansion"],
            mixer="mlp" if arch.get("mlp_t") else "attention", positions=arch.get("pos_encodings") or "none",
            rope_theta=arch.get("rope_theta", 10000.0), norm_eps=arch.get("rms_norm_eps", 1e-5),
            num_puzzles=arch["num_puzzle_identifiers"] if dim else 0,
            prefix=arch.get("puzzle_emb_len", 16 if trm else 0) or -(-dim // hidden), puzzle_dim=dim,
            q_pool="first", loss=arch.get("loss_type", "stablemax_cross_entropy").split("_")[0],
            halt_max_steps=arch["halt_max_steps"], halt_exploration=arch["halt_exploration_prob"],
            q_continue=not arch.get("no_ACT_continue", trm))
    except KeyError as error:
        raise ValueError(f"official config: no key {error}, expected it in arch (see their all_config.yaml)") from None


def load_official(path: Path, arch: dict) -> HRM:
    """A model with the weights of one of their checkpoints, converted to safetensors.

    Raises ValueError naming keys that have no place here, or that are missing.
    """
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file ({error}); expected a converted checkpoint: "
                         "see hrm_lab.official") from None
    return from_state_dict({k.removeprefix("state/"): v for k, v in found.items()}, arch, str(path))


def from_state_dict(state: dict[str, torch.Tensor], arch: dict, source: str = "state dict") -> HRM:
    """HRM with the given official weights; `state` has their key names, with or without wrappers' prefixes."""
    model = HRM(official_config(arch))
    ours = {}
    for key, value in state.items():
        short = key
        for prefix in WRAPPERS:
            short = short.removeprefix(prefix)
        if SCRATCH.match(short):
            continue
        for pattern, name in NAMES:
            if match := re.fullmatch(pattern, short):
                ours[match.expand(name)] = value.float()
                break
        else:
            raise ValueError(f"{source}: key {key!r} has no counterpart; expected an HRM or TRM state dict")
    expected = dict(model.state_dict())
    if missing := sorted(set(expected) - set(ours)):
        raise ValueError(f"{source}: no weights for {', '.join(missing)}")
    for key, value in ours.items():
        if key not in expected or value.shape != expected[key].shape:
            wanted = tuple(expected[key].shape) if key in expected else "no such weight"
            raise ValueError(f"{source}: {key} has shape {tuple(value.shape)}, expected {wanted} from the config")
    model.load_state_dict(ours)
    return model
