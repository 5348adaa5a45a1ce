"""Low-rank adapters (LoRA) of peft, with a faster linear layer for training and judging on a CPU.

peft injects, saves and loads the adapters. Unusual: its linear layer makes five passes over the output of every layer
(cast, two products, scale, add, cast), which cost as much as the frozen product itself where rows are few. Here the
low-rank term is added inside the product (addmm), its gradients are four thin products, and the adapter's fp32 weights
are cast, not the activations. Same values and gradients (tested). `quicken` replaces the forward of peft's plain linear
layers and no other (not 4-bit ones, DoRA, dropout or several adapters at once).
Source: Hu et al. 2021 (arXiv 2106.09685).
"""

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from types import MethodType

import torch
import torch.nn.functional as F

ADAPTER = "default"


class LowRank(torch.autograd.Function):
    """x (..., I) -> x W^T + scale x A^T B^T (..., O); W (O, I) frozen, A (r, I), B (O, r), bias (O,) frozen or None."""

    @staticmethod
    def forward(ctx, x, weight, bias, a, b, scale):
        flat = x.reshape(-1, x.shape[-1])
        a_cast, b_cast = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = flat @ a_cast.t()
        out = F.linear(flat, weight, bias)
        out.addmm_(inner, b_cast.t())
        ctx.save_for_backward(flat, inner, weight, a_cast, b_cast)
        ctx.shape, ctx.kind, ctx.scale = x.shape, a.dtype, scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, grad):
        flat, inner, weight, a, b = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        low = grad @ b
        grad_x = (grad @ weight).addmm_(low, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        grad_a = (low.t() @ flat).to(ctx.kind)
        grad_b = (grad.t() @ inner).to(ctx.kind) * ctx.scale
        return grad_x, None, None, grad_a, grad_b, None


def _forward(self, x, *args, **kwargs):
    if self.disable_adapters or self.merged:
        return self.base_layer(x)
    base = self.base_layer
    return LowRank.apply(x, base.weight, base.bias, self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight,
                         self.scaling[ADAPTER])


def quicken(model) -> int:
    """Give peft's plain linear layers the faster forward; returns how many. Others stay as they are."""
    from peft.tuners.lora import Linear

    count = 0
    for module in model.modules():
        if type(module) is Linear and list(module.lora_A) == [ADAPTER] and not module.use_dora.get(ADAPTER) \
                and isinstance(module.lora_dropout[ADAPTER], torch.nn.Identity):
            module.forward = MethodType(_forward, module)
            count += 1
    return count


def attach(model, rank: int, alpha: float, targets: str | tuple[str, ...] = "all-linear", top: int = 0,
           dropout: float = 0.0, seed: int = 0, name: str = ""):
    """The model as a `PeftModel` with fresh adapters (A random from `seed`, B zero), in fp32.

    targets: names of linear layers, or "all-linear" (all but the output layer). top: only the last `top` layers of the
    stack; 0: all. name: what the adapter's config calls its base model. Raises ValueError: peft finds no such layer.
    """
    from peft import LoraConfig, get_peft_model

    deep = model.config.num_hidden_layers
    if not 0 <= top <= deep:
        raise ValueError(f"top: got {top}, expected 0 (all layers) to {deep}")
    layers = list(range(deep - top, deep)) if top else None
    if targets == "all-linear":  # by name: peft takes no layer numbers beside its own "all-linear"
        last = model.get_output_embeddings()
        targets = sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules()
                          if isinstance(module, torch.nn.Linear) and module is not last})
    chosen = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), layers_to_transform=layers,
                        lora_dropout=dropout, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)  # peft asks transformers
        torch.manual_seed(seed)
        made = get_peft_model(model, chosen)
    made.peft_config[ADAPTER].base_model_name_or_path = name or model.config.name_or_path
    quicken(made)
    return made


def detach(adapted):
    """The base model again, without its adapters."""
    return adapted.unload()


def weights(adapted) -> dict[str, torch.Tensor]:
    """The adapter's tensors by the names of peft's files."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(adapted, save_embedding_layers=False)


def put(adapted, tensors: dict[str, torch.Tensor]):
    """Set the adapter's tensors. Raises ValueError naming the first that is missing or has no place."""
    from peft import set_peft_model_state_dict

    found = weights(adapted)
    if odd := sorted(set(found) ^ set(tensors)):
        raise ValueError(f"adapter: {odd[0]} is in one of file and model alone; expected the same {len(found)} tensors")
    set_peft_model_state_dict(adapted, tensors)


def save(adapted, folder: Path | str):
    """A folder that `PeftModel.from_pretrained` loads; all of it or nothing, in place of what was there."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        adapted.save_pretrained(part, save_embedding_layers=False)  # "auto" asks the Hub for the base's config
        (part / "README.md").unlink(missing_ok=True)  # peft's empty model card
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def merge(adapted, tokenizer, folder: Path | str):
    """Write base plus adapter as one plain model that transformers loads, with its tokenizer; returns the model.

    The adapter is gone from `adapted` after this. In bf16 the sum is rounded: load the base in fp32 to merge.
    """
    whole = adapted.merge_and_unload(safe_merge=True)
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return whole


def load(adapted, folder: Path | str):
    """Set the adapter's weights to those of a folder that `save` or peft wrote. Raises ValueError: another shape."""
    from peft import load_peft_weights

    put(adapted, load_peft_weights(str(folder), device="cpu"))
