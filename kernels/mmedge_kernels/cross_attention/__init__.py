"""Cross-attention of image tokens over a short text, fused: Triton on NVIDIA GPUs, plain torch elsewhere.

One operator of torch (``mmedge::cross_attention``), so torch.compile and torch.export see one node. `reference.py`
defines the result, `triton.py` and `triton_backward.py` hold the kernels, `kernels.py` what is compiled ahead of time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmedge_kernels.cross_attention import operator, reference
from mmedge_kernels.cross_attention.inputs import check_inputs, check_scale
from mmedge_kernels.tensors import Implementation, autocast

__all__ = ["cross_attention"]


def cross_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    key_mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """softmax(scale * q k^T + bias) v, for each of B frames and H heads: [B, H, M, d].

    q: [B, H, M, d], M image tokens, d from 1 to 256; float16, bfloat16, float32, or float64 (reference only).
    k, v: [B, H, L, d], or [1, H, L, d] for one prompt under all frames; dtype and device of q. Any strides, 0 too.
    key_mask: bool [B, L] or [1, L], True where a key takes part. What lies in k, v and bias under False has no
      influence, not even NaN, and gets a gradient of zero.
    bias: added to the scores; at most 4 dimensions, broadcast to [B, H, M, L]; float32 or the dtype of q. It may be
      -inf; NaN in k or v then still counts, as everywhere but under key_mask.
    scale: a finite number; 1 / sqrt(d) if not given.
    implementation: "triton", "reference", or "auto": Triton for tensors on an NVIDIA GPU, where it is installed.

    Returns the dtype and the memory layout of q. A row without any key (all masked, or a bias of -inf) gives zeros and
    gradients of zero. Scores, softmax and sums are float32 (float64 for float64); the Triton kernels round the weights
    to the dtype of v before the second product, the reference does not.
    Gradients of q, k, v and bias; a gradient of a gradient is not available.
    Deterministic: the same inputs on the same device with the same versions give the same bits, forward and backward;
    there are no atomic additions.
    Under torch.autocast q, k, v and bias are cast to autocast's dtype first, like those of torch's own attention.

    Raises TensorError for a tensor or setting that does not fit, ImplementationError where a forced implementation
    cannot run.
    """
    q, k, v, bias = autocast(q, k, v, bias)
    check_inputs(q, k, v, key_mask, bias, implementation)
    number = 1.0 / math.sqrt(q.shape[3]) if scale is None else check_scale(scale)
    if torch.onnx.is_in_onnx_export():
        # ONNX knows no operator of ours: there it becomes the standard ones that every engine runs.
        return reference.forward(q, k, v, key_mask, bias, number)[0]
    out: Tensor = operator.forward(q, k, v, key_mask, bias, number, implementation)[0]
    return out
