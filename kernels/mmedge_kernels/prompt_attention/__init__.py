"""Cross-attention to a fixed prompt: two products with a grouped softmax between them, as one kernel.

While a prompt stands, its keys and values are constants, and so are their products with the projections around them;
`compile_prompt` makes these once, and `prompt_attention` is what is left for each frame.

Letters: B frames, N prompts, M rows (image tokens) of a frame, D their width, E the width of the output, H heads,
L tokens of a prompt.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmedge_kernels.errors import TensorError
from mmedge_kernels.prompt_attention import reference
from mmedge_kernels.prompt_attention.compile import CompiledPrompt, compile_keys_values, compile_prompt
from mmedge_kernels.prompt_attention.operator import prompt_attention_op
from mmedge_kernels.tensors import (
    TRITON_DTYPES,
    Implementation,
    autocast,
    check_shape,
    check_tensor,
    choose_implementation,
)

__all__ = ["CompiledPrompt", "compile_keys_values", "compile_prompt", "prompt_attention"]


def prompt_attention(
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    *,
    heads: int,
    mask: Tensor | None = None,
    residual: Tensor | None = None,
    norm_eps: float | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """softmax_h(x A + a) B + c + residual, with one softmax for the L columns of each head h.

    x: [B, M, D]; [B, N, M, D] where each of N prompts has rows of its own.
    a_matrix [D, H * L], a_bias [H * L], b_matrix [H * L, E]; N in front of each for N prompts at once.
    c_bias: [E]. heads: H. What `compile_prompt` returns goes in as ``prompt_attention(x, *compiled, heads=H)``.
    mask: bool, [L] or [N, L]; False leaves a token out, whatever stands there, NaN too. A bias of -inf does the same.
    residual: added to the result; of its shape, or [B, M, E] for all prompts.
    norm_eps: x A is divided by sqrt(variance of the row of x + norm_eps) before a is added: with the matrices that
      `compile_prompt` makes for a norm, this is LayerNorm.
    dtype: float16, bfloat16, float32 (float64: reference only), the same for x, a_matrix, b_matrix and residual;
      biases also float32. Sums, softmax and biases are computed in float32, float64 for float64. Under torch.autocast
      these four are cast to autocast's dtype first.
    implementation: "triton", "reference", or "auto": Triton for tensors on an NVIDIA GPU, the reference elsewhere.

    Returns [B, M, E], or [B, N, M, E] where there are N prompts, contiguous, of x's dtype. A head whose tokens are all
    left out adds nothing. Differentiable in everything but mask. The same inputs give the same bits on the same device
    and versions.
    Raises TensorError for arguments that do not fit, ImplementationError where "triton" is asked for and cannot run.
    """
    x, a_matrix, b_matrix, residual = autocast(x, a_matrix, b_matrix, residual)
    check_tensor("x", x, "[B, M, D] or [B, N, M, D]", (3, 4), (*TRITON_DTYPES, torch.float64))
    _check_matrices(x, a_matrix, a_bias, b_matrix, c_bias, heads)
    prompts = a_matrix.shape[:-2]
    if x.ndim == 4 and (not prompts or x.shape[1] != prompts[0]):
        needs = f"N = {prompts[0]} prompts" if prompts else "matrices [N, ., .]"
        raise TensorError(f"x [B, N, M, D] must match {needs}, got {list(x.shape)} and a_matrix {list(a_matrix.shape)}")
    if mask is not None:
        check_tensor("mask", mask, "[L] or [N, L]", (1, 2), (torch.bool,), x.device)
        tokens = a_matrix.shape[-1] // heads
        if mask.ndim == 2 and not prompts:
            raise TensorError(f"mask must be [L] for matrices without N, got {list(mask.shape)}")
        check_shape("mask", mask, "[N, L]" if mask.ndim == 2 else "[L]", (*prompts[: mask.ndim - 1], tokens))
    if residual is not None:
        check_tensor("residual", residual, "[B, M, E] or [B, N, M, E]", (3, 4), (x.dtype,), x.device)
        if residual.ndim == 4 and not prompts:
            raise TensorError(f"residual must be [B, M, E] for matrices without N, got {list(residual.shape)}")
        middle = prompts[: residual.ndim - 3]
        check_shape("residual", residual, "like the result", (x.shape[0], *middle, x.shape[-2], b_matrix.shape[-1]))
    if norm_eps is not None and not (isinstance(norm_eps, float) and math.isfinite(norm_eps) and norm_eps >= 0):
        raise TensorError(f"norm_eps must be a finite float of at least 0, or None, got {norm_eps!r}")
    choose_implementation(implementation, x)
    if torch.onnx.is_in_onnx_export():
        # ONNX knows no operator of ours: there it becomes the standard ones that every engine runs.
        return reference.prompt_attention(x, a_matrix, a_bias, b_matrix, c_bias, heads, mask, residual, norm_eps)
    out: Tensor = prompt_attention_op(
        x, a_matrix, a_bias, b_matrix, c_bias, heads, mask, residual, norm_eps, implementation
    )  # fmt: skip
    return out


def _check_matrices(x: Tensor, a_matrix: Tensor, a_bias: Tensor, b_matrix: Tensor, c_bias: Tensor, heads: int) -> None:
    """Raises TensorError unless the compiled prompt fits x and itself."""
    check_tensor("a_matrix", a_matrix, "[D, H * L] or [N, D, H * L]", (2, 3), (x.dtype,), x.device)
    prompts, columns = a_matrix.shape[:-2], a_matrix.shape[-1]
    many = len(prompts)
    check_shape("a_matrix", a_matrix, "[N, D, H * L]" if many else "[D, H * L]", (*prompts, x.shape[-1], columns))
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or columns % heads:
        raise TensorError(f"heads must be a whole number that divides a_matrix's {columns} columns, got {heads!r}")
    biases = (x.dtype, torch.float32)
    check_tensor("a_bias", a_bias, "[N, H * L]" if many else "[H * L]", 1 + many, biases, x.device)
    check_shape("a_bias", a_bias, "[N, H * L]" if many else "[H * L]", (*prompts, columns))
    check_tensor("b_matrix", b_matrix, "[N, H * L, E]" if many else "[H * L, E]", 2 + many, (x.dtype,), x.device)
    width = b_matrix.shape[-1]
    check_shape("b_matrix", b_matrix, "[N, H * L, E]" if many else "[H * L, E]", (*prompts, columns, width))
    check_tensor("c_bias", c_bias, "[E]", 1, biases, x.device)
    check_shape("c_bias", c_bias, "[E]", (width,))
