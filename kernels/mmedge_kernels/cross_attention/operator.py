"""`cross_attention` as an operator of torch: one node for torch.compile and torch.export, with its own gradient.

The operators trust their arguments; `mmedge_kernels.cross_attention.cross_attention` checks them. Which implementation
runs is chosen at each call, so an exported program takes Triton where it finds a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmedge_kernels.cross_attention import reference
from mmedge_kernels.tensors import choose_implementation, without_autocast

FORWARD = "mmedge::cross_attention"
BACKWARD = "mmedge::cross_attention_backward"


@torch.library.custom_op(
    FORWARD,
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor? key_mask, Tensor? bias, float scale, str implementation)"
    " -> (Tensor out, Tensor lse)",
)
def forward(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, bias: Tensor | None, scale: float, implementation: str
) -> tuple[Tensor, Tensor]:
    """The output, in the layout of q, and the base-2 logarithm of each row's sum, which the gradient needs."""
    if choose_implementation(implementation, q) == "triton":
        from mmedge_kernels.cross_attention import launch

        return launch.forward(q, k, v, key_mask, bias, scale)
    with without_autocast(q.device):
        out, lse = reference.forward(q, k, v, key_mask, bias, scale)
    return _like(out, q), lse


@forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, bias: Tensor | None, scale: float, implementation: str
) -> tuple[Tensor, Tensor]:
    precise = torch.float64 if q.dtype == torch.float64 else torch.float32
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=precise)


@torch.library.custom_op(
    BACKWARD,
    mutates_args=(),
    schema="(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor? key_mask, Tensor? bias, float scale,"
    " str implementation, Tensor out, Tensor lse, bool with_bias)"
    " -> (Tensor grad_q, Tensor grad_k, Tensor grad_v, Tensor grad_bias)",
)
def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    implementation: str,
    out: Tensor,
    lse: Tensor,
    with_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients in the dtypes and layouts of q, k, v and bias; an empty one for bias unless with_bias."""
    gradients: tuple[Tensor, Tensor, Tensor, Tensor | None]
    if choose_implementation(implementation, q) == "triton":
        from mmedge_kernels.cross_attention import launch

        gradients = launch.backward(grad_out, q, k, v, key_mask, bias, scale, out, lse, with_bias)
    else:
        with without_autocast(q.device):
            gradients = reference.backward(grad_out, q, k, v, key_mask, bias, scale)
    grad_q, grad_k, grad_v, grad_scores = gradients
    grad_bias = q.new_empty(0)
    if with_bias and bias is not None and grad_scores is not None:
        grad_bias = _like(grad_scores.sum_to_size(bias.shape), bias)
    return _like(grad_q, q), _like(grad_k, k), _like(grad_v, v), grad_bias


@backward.register_fake
def _(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    implementation: str,
    out: Tensor,
    lse: Tensor,
    with_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_bias = q.new_empty(0) if bias is None or not with_bias else torch.empty_like(bias)
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), grad_bias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, key_mask, bias, scale, implementation = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, key_mask, bias, *output)
    ctx.scale, ctx.implementation = scale, implementation


def _differentiate(ctx: Any, grad_out: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, key_mask, bias, out, lse = ctx.saved_tensors
    with_bias = bool(ctx.needs_input_grad[4])
    grad_q, grad_k, grad_v, grad_bias = backward(
        grad_out, q, k, v, key_mask, bias, ctx.scale, ctx.implementation, out, lse, with_bias
    )
    return grad_q, grad_k, grad_v, None, grad_bias if with_bias else None, None, None


forward.register_autograd(_differentiate, setup_context=_setup_context)


def _like(values: Tensor, model: Tensor) -> Tensor:
    """`values` in the dtype and memory layout of `model`, as the fake implementations promise."""
    laid_out = torch.empty_like(model)
    if values.dtype == model.dtype and values.stride() == laid_out.stride():
        return values
    return laid_out.copy_(values)
