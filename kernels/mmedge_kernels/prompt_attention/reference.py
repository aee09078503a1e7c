"""`prompt_attention` in plain torch: the definition of the result, for every device and dtype."""

from __future__ import annotations

import torch
from torch import Tensor


def prompt_attention(
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    heads: int,
    mask: Tensor | None,
    residual: Tensor | None,
    norm_eps: float | None,
) -> Tensor:
    """x [B, M, D] or [B, N, M, D], matrices with N in front or without -> [B, M, E] or [B, N, M, E].

    Computed in float32, or float64 where x is; arguments are checked by the caller.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    rows = with_prompts(x).to(exact)
    scores = rows @ a_matrix.to(exact)
    if norm_eps is not None:
        scores = scores * inverse_deviation(rows, norm_eps)
    weights = grouped_softmax(scores + a_bias.to(exact)[..., None, :], heads, mask)
    values = b_matrix.to(exact)
    if mask is not None:
        # What lies under the mask must not matter, not even a NaN.
        values = values.masked_fill(~mask.tile(heads)[..., None], 0.0)
    out = weights @ values + c_bias.to(exact)
    if residual is not None:
        out = out + with_prompts(residual).to(exact)
    return (out if a_matrix.ndim == 3 else out[:, 0]).to(x.dtype)


def with_prompts(frames: Tensor) -> Tensor:
    """[B, M, .] -> [B, 1, M, .], which broadcasts with matrices [., .] and [N, ., .]; [B, N, M, .] as it is."""
    return frames[:, None] if frames.ndim == 3 else frames


def inverse_deviation(rows: Tensor, norm_eps: float) -> Tensor:
    """1 / sqrt(variance + norm_eps) of each row, [..., M, D] -> [..., M, 1]."""
    return torch.rsqrt(rows.var(-1, unbiased=False, keepdim=True) + norm_eps)


def grouped_softmax(scores: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Softmax over each of `heads` groups of columns, [..., M, H * L] -> the same; a group of only -inf gives zeros.

    mask: bool, [L] or [N, L].
    """
    grouped: Tensor = torch.unflatten(scores, -1, (heads, -1))
    if mask is not None:
        grouped = grouped.masked_fill(~mask[..., None, None, :], -torch.inf)
    nothing = (grouped == -torch.inf).all(-1, keepdim=True)
    weights = torch.softmax(grouped.masked_fill(nothing, 0.0), dim=-1).masked_fill(nothing, 0.0)
    return weights.flatten(-2)
