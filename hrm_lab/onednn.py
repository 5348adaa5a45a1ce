"""fp32 products of compiled levels on an x86 processor, by oneDNN in place of MKL.

torch takes oneDNN for bf16 and MKL for fp32, which is slower on AMD at large sizes (`benchmarks/throughput.py`). Only
for compiled levels, because each has one shape: oneDNN keeps memory for every shape that it meets, 10 MB at hidden
512, which ragged batches would add up to gigabytes. The operator is the one that torch's own compiler takes for
inference. The weights' gradient stays with MKL, which is faster there.
"""

import torch
from torch import Tensor


def available(device: torch.device) -> bool:
    """Whether this build of torch and this processor have it."""
    return (device.type == "cpu" and torch.backends.mkldnn.is_available()
            and torch.backends.cpu.get_cpu_capability().startswith("AVX")
            and hasattr(torch.ops.mkldnn, "_linear_pointwise"))


@torch.library.custom_op("hrm_lab::product", mutates_args=())
def product(x: Tensor, weight: Tensor) -> Tensor:
    """(..., D) and (E, D), fp32 -> x weight^T (..., E)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


@product.register_fake
def _shape(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _gradient(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = ctx.saved_tensors
    return product(grad, weight.t()), grad.flatten(0, -2).t() @ x.flatten(0, -2)


product.register_autograd(_gradient, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
