"""Launches the Triton kernels of `cross_attention` on torch tensors: outputs, strides and grids."""

from __future__ import annotations

import torch
from torch import Tensor

from mmedge_kernels.cross_attention import triton, triton_backward
from mmedge_kernels.cross_attention.tiles import (
    PRECISION,
    DtypeName,
    Tiles,
    backward_tiles,
    forward_tiles,
    rows_per_part,
)
from mmedge_kernels.tensors import on_device

DTYPE_NAMES: dict[torch.dtype, DtypeName] = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
}
INTERPRETED_SM = 80  # the tiles that Triton's interpreter runs


def forward(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Like `reference.forward`; the output has the memory layout of q."""
    B, H, M, head_dim = q.shape
    L = k.shape[2]
    tiles = forward_tiles(queries=M, keys=L, head_dim=head_dim, dtype=DTYPE_NAMES[q.dtype], sm=_sm(q))
    out = torch.empty_like(q)
    lse = q.new_empty((B, H, M), dtype=torch.float32)
    with on_device(q.device):
        triton.cross_attention_forward[(B * H, -(-M // tiles.block_m))](
            *_inputs(q, k, v, key_mask, bias), *_strided(out), lse, H, M, L, scale,
            **_options(head_dim, tiles),
        )  # fmt: skip
    return out, lse


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    out: Tensor,
    lse: Tensor,
    with_scores: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of q (in its dtype and layout), k, v (float32), and of the scores (float32 [B, H, M, L]) if wanted."""
    B, H, M, head_dim = q.shape
    L = k.shape[2]
    tiles = backward_tiles(queries=M, keys=L, head_dim=head_dim, dtype=DTYPE_NAMES[q.dtype], sm=_sm(q))
    rows = rows_per_part(heads=B * H, queries=M, keys=L, tiles=tiles)
    parts = -(-M // rows)
    delta = torch.empty_like(lse)
    grad_q = torch.empty_like(q)
    grad_scores = q.new_empty((B, H, M, L), dtype=torch.float32) if with_scores else None
    grad_k, grad_v = (q.new_empty((parts, B, H, L, head_dim), dtype=torch.float32) for _ in range(2))
    inputs = _inputs(q, k, v, key_mask, bias)
    options = _options(head_dim, tiles)
    with on_device(q.device):
        triton_backward.cross_attention_backward_queries[(B * H, -(-M // tiles.block_m))](
            *inputs, *_strided(out), *_strided(grad_out), *_strided(grad_q),
            lse, delta, grad_scores, H, M, L, scale, **options,
        )  # fmt: skip
        triton_backward.cross_attention_backward_keys[(B * H, -(-L // tiles.block_l), parts)](
            *inputs, *_strided(grad_out), lse, delta, grad_k, grad_v, B, H, M, L, scale, rows, **options
        )
    # One prompt for many frames: its gradient is the sum over the frames.
    summed = (0, 1) if k.shape[0] < B else (0,)
    return grad_q, grad_k.sum(summed).reshape(k.shape), grad_v.sum(summed).reshape(v.shape), grad_scores


def _inputs(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, bias: Tensor | None) -> list[Tensor | int | None]:
    """The first arguments of every kernel: each tensor, broadcast, and its strides."""
    B, H, M, _ = q.shape
    L = k.shape[2]
    arguments = [*_strided(q), *_strided(k.expand(B, -1, -1, -1)), *_strided(v.expand(B, -1, -1, -1))]
    arguments += [None, 0, 0] if key_mask is None else _strided(key_mask.expand(B, L))
    arguments += [None, 0, 0, 0, 0] if bias is None else _strided(bias.expand(B, H, M, L))
    return arguments


def _strided(tensor: Tensor) -> list[Tensor | int | None]:
    return [tensor, *tensor.stride()]


def _options(head_dim: int, tiles: Tiles) -> dict[str, object]:
    """Constants of a kernel, and how it is compiled."""
    # Fused multiply-adds are named because their default differs between versions of Triton.
    compiled = {"num_warps": tiles.warps, "num_stages": tiles.stages, "enable_fp_fusion": True}
    return {"HEAD_DIM": head_dim, "PRECISION": PRECISION, **tiles.constants(), **compiled}


def _sm(tensor: Tensor) -> int:
    if not tensor.is_cuda:
        return INTERPRETED_SM
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor
