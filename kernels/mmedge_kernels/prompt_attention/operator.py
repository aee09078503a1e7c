"""`prompt_attention` as a torch operator: one node for `torch.export` and `torch.compile`, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmedge_kernels.prompt_attention import reference
from mmedge_kernels.tensors import choose_implementation, without_autocast


@torch.library.custom_op("mmedge::prompt_attention", mutates_args=())
def prompt_attention_op(
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    heads: int,
    mask: Tensor | None,
    residual: Tensor | None,
    norm_eps: float | None,
    implementation: str,
) -> Tensor:
    arguments = (x, a_matrix, a_bias, b_matrix, c_bias, heads, mask, residual, norm_eps)
    if choose_implementation(implementation, x) == "reference":
        with without_autocast(x.device):
            return reference.prompt_attention(*arguments)
    from mmedge_kernels.prompt_attention import launch

    return launch.prompt_attention(*arguments)


@prompt_attention_op.register_fake
def _fake(
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    heads: int,
    mask: Tensor | None,
    residual: Tensor | None,
    norm_eps: float | None,
    implementation: str,
) -> Tensor:
    prompts = a_matrix.shape[:-2]
    return x.new_empty((x.shape[0], *prompts, x.shape[-2], b_matrix.shape[-1]))


@torch.library.custom_op("mmedge::prompt_attention_backward", mutates_args=())
def prompt_attention_backward_op(
    grad: Tensor,
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    heads: int,
    mask: Tensor | None,
    residual: Tensor | None,
    norm_eps: float | None,
) -> list[Tensor]:
    """Gradients of x, a_matrix, a_bias, b_matrix, c_bias, and of the residual where there is one.

    Composed of torch's own products, deterministic where these are; the scores are computed again, not kept.
    """
    with without_autocast(x.device):
        return _gradients(grad, x, a_matrix, a_bias, b_matrix, c_bias, heads, mask, residual, norm_eps)


@prompt_attention_backward_op.register_fake
def _fake_backward(
    grad: Tensor,
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    heads: int,
    mask: Tensor | None,
    residual: Tensor | None,
    norm_eps: float | None,
) -> list[Tensor]:
    wanted = [x, a_matrix, a_bias, b_matrix, c_bias] + ([] if residual is None else [residual])
    return [torch.empty(like.shape, dtype=like.dtype, device=like.device) for like in wanted]


def _gradients(
    grad: Tensor,
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    heads: int,
    mask: Tensor | None,
    residual: Tensor | None,
    norm_eps: float | None,
) -> list[Tensor]:
    exact = torch.promote_types(x.dtype, torch.float32)
    rows, upstream = (reference.with_prompts(tensor).to(exact) for tensor in (x, grad))
    a, b = a_matrix.to(exact), b_matrix.to(exact)
    raw = rows @ a
    scale = torch.ones_like(raw[..., :1]) if norm_eps is None else reference.inverse_deviation(rows, norm_eps)
    weights = reference.grouped_softmax(raw * scale + a_bias.to(exact)[..., None, :], heads, mask)
    product = weights * (upstream @ b.transpose(-1, -2))
    shares = torch.unflatten(product, -1, (heads, -1)).sum(-1, keepdim=True)
    to_scores = product - (torch.unflatten(weights, -1, (heads, -1)) * shares).flatten(-2)
    to_raw = to_scores * scale
    to_rows = to_raw @ a.transpose(-1, -2)
    if norm_eps is not None:
        to_scale = (to_scores * raw).sum(-1, keepdim=True)
        to_rows = to_rows - to_scale * scale**3 * (rows - rows.mean(-1, keepdim=True)) / rows.shape[-1]
    found = [
        (to_rows, x, x.shape[-2:]),
        (rows.transpose(-1, -2) @ to_raw, a_matrix, a_matrix.shape[-2:]),
        (to_scores, a_bias, (1, a_bias.shape[-1])),
        (weights.transpose(-1, -2) @ upstream, b_matrix, b_matrix.shape[-2:]),
        (upstream, c_bias, (1, c_bias.shape[-1])),
    ]
    if residual is not None:
        found.append((upstream.clone(), residual, residual.shape[-2:]))  # an operator must not return its argument
    frames = {id(x), id(residual)}
    return [_summed(gradient, like, ends, id(like) in frames) for gradient, like, ends in found]


def _summed(gradient: Tensor, like: Tensor, ends: Sequence[int], per_frame: bool) -> Tensor:
    """Sums a gradient [B, N, ., .] over everything that shared `like`, whose last two dimensions are `ends`.

    per_frame: `like` is [B, ., .] or [B, N, ., .]; otherwise it belongs to all frames, for each prompt or not.
    """
    frames = gradient.shape[0] if per_frame else 1
    prompts = gradient.shape[1] if like.numel() // (frames * ends[0] * ends[1]) > 1 else 1
    return gradient.sum_to_size(frames, prompts, *ends).reshape(like.shape).to(like.dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, heads, mask, residual, norm_eps, _ = inputs
    ctx.save_for_backward(*tensors, mask, residual)
    ctx.heads, ctx.norm_eps = heads, norm_eps


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, mask, residual = ctx.saved_tensors
    gradients = prompt_attention_backward_op(grad, *tensors, ctx.heads, mask, residual, ctx.norm_eps)
    to_residual = gradients[5] if residual is not None else None
    return (*gradients[:5], None, None, to_residual, None, None)


prompt_attention_op.register_autograd(_backward, setup_context=_setup)
