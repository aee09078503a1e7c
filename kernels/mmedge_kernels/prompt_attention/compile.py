"""From projections and a prompt to the two matrices that take their place while the prompt stands.

For head h, with scale s and text keys K_h, values V_h [L, d]:

    scores_h = s (x Wq_h + bq_h) K_h^T  =  x A_h + a_h        A_h = s Wq_h K_h^T    [D, L]
    out      = sum_h softmax(scores_h) V_h Wo_h + bo          B_h = V_h Wo_h        [L, E]

A LayerNorm in front, n(x) = g * (x - mean) / deviation + b, folds in as well: g scales the rows of A, b goes into a,
and subtracting the mean of x is the same as taking from each column of A its own mean. What is left for the frame is
the division by the standard deviation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmedge_kernels.errors import TensorError
from mmedge_kernels.tensors import check_tensor

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class CompiledPrompt(NamedTuple):
    """What `prompt_attention` takes after x, in its order; N in front where there are several prompts.

    a_matrix: [D, H * L], a_bias: [H * L], b_matrix: [H * L, E], c_bias: [E]. The matrices have the projections' dtype,
    the biases float32 (float64 where the projections are). Column h * L + l belongs to head h and token l.
    """

    a_matrix: Tensor
    a_bias: Tensor
    b_matrix: Tensor
    c_bias: Tensor


def compile_prompt(
    context: Tensor,
    *,
    wq: Tensor,
    bq: Tensor | None,
    wk: Tensor,
    bk: Tensor | None,
    wv: Tensor,
    bv: Tensor | None,
    wo: Tensor,
    bo: Tensor | None,
    heads: int,
    norm: tuple[Tensor, Tensor] | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
    pad_to: int | None = None,
) -> CompiledPrompt:
    """Cross-attention to a fixed prompt as two matrices and a softmax.

    context: text features [L, C], or [N, L, C] for N prompts.
    wq [H * d, D], wk and wv [H * d, C], wo [E, H * d], bq, bk, bv [H * d], bo [E]: as `torch.nn.Linear` keeps them.
      With fewer key heads than query heads (grouped or multi-query), wk and wv have K * d rows, H a multiple of K.
    heads: H. scale: of the scores, 1 / sqrt(d) where it is None.
    norm: weight and bias [D] of a LayerNorm in front of wq; give its epsilon to `prompt_attention` as norm_eps.
    mask: bool, [L] or [N, L]; False leaves the token out. pad_to: L of the result, with tokens that are left out, for
      kernels that are compiled for a fixed L.

    Computed in float32, or float64 where the projections are; differentiable. Exact but for rounding.
    Raises TensorError where shapes, dtypes or numbers do not fit each other.
    """
    check_tensor("context", context, "[L, C] or [N, L, C]", (2, 3), _FLOATS)
    for name, weight in (("wk", wk), ("wv", wv)):
        check_tensor(name, weight, "[K * d, C]", (2,), _FLOATS)
        if weight.shape[1] != context.shape[-1]:
            raise TensorError(f"{name} must be [K * d, C] with C = {context.shape[-1]}, got {list(weight.shape)}")
    head_dim = _head_dim(wq, heads)
    exact = torch.promote_types(wq.dtype, torch.float32)
    keys = _heads(context.to(exact), wk, bk, head_dim, "bk")
    values = _heads(context.to(exact), wv, bv, head_dim, "bv")
    return compile_keys_values(
        keys, values, wq=wq, bq=bq, wo=wo, bo=bo, heads=heads, norm=norm, scale=scale, mask=mask, pad_to=pad_to
    )


def compile_keys_values(
    keys: Tensor,
    values: Tensor,
    *,
    wq: Tensor,
    bq: Tensor | None,
    wo: Tensor,
    bo: Tensor | None,
    heads: int,
    norm: tuple[Tensor, Tensor] | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
    pad_to: int | None = None,
) -> CompiledPrompt:
    """`compile_prompt` where the prompt's keys and values are there already.

    keys, values: [K, L, d], or [N, K, L, d] for N prompts; H is a multiple of K. The other arguments, the result and
    the errors are those of `compile_prompt`.
    """
    head_dim = _head_dim(wq, heads)
    _check_prompt(keys, values, heads, head_dim)
    _check_projections(wq, bq, wo, bo, norm, heads * head_dim)
    _check_mask(mask, keys, pad_to)
    if scale is not None and not math.isfinite(scale):
        raise TensorError(f"scale must be a finite number, or None for 1 / sqrt(d), got {scale!r}")
    exact = torch.promote_types(wq.dtype, torch.float32)
    repeats = heads // keys.shape[-3]
    keys = keys.to(exact).repeat_interleave(repeats, -3) * (head_dim**-0.5 if scale is None else scale)
    values = values.to(exact).repeat_interleave(repeats, -3)
    if mask is not None:
        # What lies under the mask must not matter, not even a NaN.
        left_out = ~mask[..., None, :, None]
        keys, values = keys.masked_fill(left_out, 0.0), values.masked_fill(left_out, 0.0)
    query = torch.unflatten(wq.to(exact), 0, (heads, head_dim))
    a_matrix = torch.einsum("hdi,...hld->...ihl", query, keys)
    a_bias = torch.zeros_like(keys[..., 0])
    if bq is not None:
        a_bias = a_bias + torch.einsum("hd,...hld->...hl", torch.unflatten(bq.to(exact), 0, (heads, head_dim)), keys)
    if norm is not None:
        weight, bias = (part.to(exact) for part in norm)
        a_bias = a_bias + torch.einsum("i,...ihl->...hl", bias, a_matrix)
        a_matrix = a_matrix * weight[:, None, None]
        a_matrix = a_matrix - a_matrix.mean(-3, keepdim=True)
    if mask is not None:
        a_bias = a_bias.masked_fill(~mask[..., None, :], -torch.inf)
    b_matrix = torch.einsum("...hld,ehd->...hle", values, torch.unflatten(wo.to(exact), 1, (heads, head_dim)))
    if pad_to is not None:
        extra = pad_to - keys.shape[-2]
        a_matrix = torch.nn.functional.pad(a_matrix, (0, extra))
        a_bias = torch.nn.functional.pad(a_bias, (0, extra), value=-torch.inf)
        b_matrix = torch.nn.functional.pad(b_matrix, (0, 0, 0, extra))
    c_bias = wo.new_zeros(wo.shape[0], dtype=exact) if bo is None else bo.to(exact)
    dtype = wq.dtype
    return CompiledPrompt(
        a_matrix.flatten(-2).to(dtype), a_bias.flatten(-2), b_matrix.flatten(-3, -2).to(dtype), c_bias
    )


def _heads(context: Tensor, weight: Tensor, bias: Tensor | None, head_dim: int, bias_name: str) -> Tensor:
    """[..., L, C] -> [..., K, L, d]."""
    if weight.shape[0] % head_dim:
        raise TensorError(f"wk and wv must have a multiple of d = {head_dim} rows, got {list(weight.shape)}")
    projected = context @ weight.to(context.dtype).T
    if bias is not None:
        _check_vector(bias_name, bias, weight.shape[0])
        projected = projected + bias.to(context.dtype)
    split: Tensor = torch.unflatten(projected, -1, (-1, head_dim))
    return split.transpose(-2, -3)


def _head_dim(wq: Tensor, heads: int) -> int:
    check_tensor("wq", wq, "[H * d, D]", (2,), _FLOATS)
    if not isinstance(heads, int) or isinstance(heads, bool) or heads < 1 or wq.shape[0] % heads:
        raise TensorError(f"heads must be a whole number that divides wq's {wq.shape[0]} rows, got {heads!r}")
    return wq.shape[0] // heads


def _check_prompt(keys: Tensor, values: Tensor, heads: int, head_dim: int) -> None:
    for name, tensor in (("keys", keys), ("values", values)):
        check_tensor(name, tensor, "[K, L, d] or [N, K, L, d]", (3, 4), _FLOATS)
    if keys.shape != values.shape:
        raise TensorError(f"keys and values must have one shape, got {list(keys.shape)} and {list(values.shape)}")
    if keys.shape[-1] != head_dim or heads % keys.shape[-3]:
        raise TensorError(
            f"keys must be [K, L, d] with d = {head_dim} (wq's rows by heads) and {heads} heads a multiple of K, got "
            f"{list(keys.shape)}"
        )


def _check_projections(
    wq: Tensor, bq: Tensor | None, wo: Tensor, bo: Tensor | None, norm: tuple[Tensor, Tensor] | None, inner: int
) -> None:
    check_tensor("wo", wo, "[E, H * d]", (2,), (wq.dtype,), wq.device)
    if wo.shape[1] != inner:
        raise TensorError(f"wo must be [E, H * d] with H * d = {inner}, as wq has rows, got {list(wo.shape)}")
    for name, bias, length in (("bq", bq, inner), ("bo", bo, wo.shape[0])):
        if bias is not None:
            _check_vector(name, bias, length)
    if norm is not None:
        if not isinstance(norm, tuple) or len(norm) != 2:
            raise TensorError(f"norm must be (weight, bias) of the LayerNorm, two tensors, got {norm!r:.80}")
        for name, part in zip(("norm weight", "norm bias"), norm, strict=True):
            _check_vector(name, part, wq.shape[1])


def _check_vector(name: str, vector: Tensor, length: int) -> None:
    check_tensor(name, vector, f"[{length}]", (1,), _FLOATS)
    if vector.shape[0] != length:
        raise TensorError(f"{name} must be [{length}], got {list(vector.shape)}")


def _check_mask(mask: Tensor | None, keys: Tensor, pad_to: int | None) -> None:
    tokens = keys.shape[-2]
    if mask is not None:
        check_tensor("mask", mask, "[L] or [N, L]", (1, 2), (torch.bool,), keys.device)
        fits = mask.shape[-1] == tokens and (mask.ndim == 1 or (keys.ndim == 4 and mask.shape[0] == keys.shape[0]))
        if not fits:
            raise TensorError(f"mask must be [L] or [N, L] for keys {list(keys.shape)}, got {list(mask.shape)}")
    if pad_to is not None and (isinstance(pad_to, bool) or not isinstance(pad_to, int) or pad_to < tokens):
        raise TensorError(f"pad_to must be a whole number of at least L = {tokens}, got {pad_to!r}")
