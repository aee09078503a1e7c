"""What `cross_attention` takes: checks of its arguments."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmedge_kernels.cross_attention.tiles import LONGEST
from mmedge_kernels.errors import TensorError
from mmedge_kernels.tensors import TRITON_DTYPES, check_implementation, check_shape, check_tensor

DTYPES = (*TRITON_DTYPES, torch.float64)
LARGEST_HEAD_DIM = 256


def check_inputs(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, bias: Tensor | None, implementation: str
) -> None:
    """Raises TensorError for what does not fit; see `mmedge_kernels.cross_attention.cross_attention`."""
    check_implementation(implementation)
    check_tensor("q", q, "[B, H, M, d]", 4, DTYPES)
    B, H, M, head_dim = q.shape
    if head_dim > LARGEST_HEAD_DIM:
        raise TensorError(f"q [B, H, M, d] must have d from 1 to {LARGEST_HEAD_DIM}, got d = {head_dim}")
    check_tensor("k", k, "[B or 1, H, L, d]", 4, (q.dtype,), q.device)
    L = k.shape[2]
    check_shape("k", k, "[B or 1, H, L, d]", ((B, 1), H, L, head_dim))
    check_tensor("v", v, "[B or 1, H, L, d]", 4, (q.dtype,), q.device)
    check_shape("v", v, "the shape of k", tuple(k.shape))
    for letter, length in (("M", M), ("L", L)):
        if length > LONGEST:
            raise TensorError(f"{letter} must be at most {LONGEST}, got {length}; split it")
    if key_mask is not None:
        check_tensor("key_mask", key_mask, "[B or 1, L]", 2, (torch.bool,), q.device)
        check_shape("key_mask", key_mask, "[B or 1, L]", ((B, 1), L))
    if bias is not None:
        dtypes = (q.dtype,) if q.dtype == torch.float32 else (q.dtype, torch.float32)
        check_tensor("bias", bias, "broadcastable to [B, H, M, L]", (0, 1, 2, 3, 4), dtypes, q.device)
        wanted = ((B, 1), (H, 1), (M, 1), (L, 1))
        check_shape("bias", bias, "broadcastable to [B, H, M, L]", wanted[4 - bias.ndim :])


def check_scale(scale: object) -> float:
    """Raises TensorError unless scale is a finite number."""
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise TensorError(
            f"scale must be a finite number or None, got {type(scale).__name__}; multiply q by a scale that is learned"
        )
    if not -math.inf < scale < math.inf:  # torch.compile does not trace math.isfinite of a number that varies
        raise TensorError(f"scale must be finite, got {scale}")
    return float(scale)
