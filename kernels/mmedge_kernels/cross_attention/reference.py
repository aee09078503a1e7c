"""`cross_attention` in plain torch: slow, obvious, on any device. What the other implementations are compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def forward(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Output [B, H, M, d] in the dtype of q, and lse [B, H, M]: log2 of sum(exp(scores)), +inf where no key takes part.

    Computed in float32, in float64 for float64; any strides, differentiable by torch.
    """
    weights, top, total = _exponentials(q, k, v, key_mask, bias, scale)
    out = weights @ _unmasked(v, key_mask, weights.dtype) / torch.where(total == 0, 1, total)
    lse = torch.where(total == 0, math.inf, top * math.log2(math.e) + total.log2())
    return out.to(q.dtype), lse[..., 0]


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and of the scores [B, H, M, L], not yet rounded or reduced to the shape of bias."""
    weights, _, total = _exponentials(q, k, v, key_mask, bias, scale)
    weights = weights / torch.where(total == 0, 1, total)
    grad_out, q = grad_out.to(weights.dtype), q.to(weights.dtype)
    keys, values = _unmasked(k, key_mask, weights.dtype), _unmasked(v, key_mask, weights.dtype)
    grad_weights = grad_out @ values.mT
    grad_scores = weights * (grad_weights - (grad_weights * weights).sum(-1, keepdim=True))
    grad_q = scale * grad_scores @ keys
    grad_k = (scale * grad_scores.mT @ q).sum_to_size(k.shape)
    grad_v = (weights.mT @ grad_out).sum_to_size(v.shape)
    return grad_q, grad_k, grad_v, grad_scores


def _exponentials(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """exp(scores - top) [B, H, M, L], top and the sum over the keys, both [B, H, M, 1]."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    scores = scale * (q.to(dtype) @ _unmasked(k, key_mask, dtype).mT)
    if bias is not None:
        scores = scores + bias
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask[:, None, None, :], -math.inf)
    top = scores.amax(-1, keepdim=True).detach()
    top = torch.where(top == -math.inf, 0, top)
    weights = (scores - top).exp()
    return weights, top, weights.sum(-1, keepdim=True)


def _unmasked(rows: Tensor, key_mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """k or v with zeros under the mask: 0 times NaN would be NaN."""
    rows = rows.to(dtype)
    return rows if key_mask is None else rows.masked_fill(~key_mask[:, None, :, None], 0.0)
