"""The backward kernels of `cross_attention`, for Triton: no torch.

The weights are made anew from the base-2 logarithm of each row's sum, which the forward pass kept (Dao et al. 2022, the
backward pass of FlashAttention): with delta the sum of out * grad_out over a row, the gradient of a score is
weight * (grad_out v^T - delta). One kernel goes by tiles of queries, the other by tiles of keys; no two programs write
to the same place, so there are no atomic additions and the order of every sum is fixed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mmedge_kernels.cross_attention.triton import (
    base2_scores,
    load_rows,
    masked_scores,
    product,
    store_rows,
    taking_part,
)


@triton.jit
def cross_attention_backward_queries(
    q_ptr, q_stride_b, q_stride_h, q_stride_m, q_stride_d,
    k_ptr, k_stride_b, k_stride_h, k_stride_l, k_stride_d,
    v_ptr, v_stride_b, v_stride_h, v_stride_l, v_stride_d,
    mask_ptr, mask_stride_b, mask_stride_l,
    bias_ptr, bias_stride_b, bias_stride_h, bias_stride_m, bias_stride_l,
    out_ptr, out_stride_b, out_stride_h, out_stride_m, out_stride_d,
    grad_out_ptr, grad_out_stride_b, grad_out_stride_h, grad_out_stride_m, grad_out_stride_d,
    grad_q_ptr, grad_q_stride_b, grad_q_stride_h, grad_q_stride_m, grad_q_stride_d,
    lse_ptr, delta_ptr, grad_scores_ptr, H, M, L, scale,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """grad_q, delta [B, H, M], and grad_scores [B, H, M, L] float32 unless None. Grid: B * H, M tiles."""
    head = tl.program_id(0).to(tl.int64)
    b, h = (tl.program_id(0) // H).to(tl.int64), (tl.program_id(0) % H).to(tl.int64)
    q = (q_ptr + b * q_stride_b + h * q_stride_h, q_stride_m, q_stride_d)
    k = (k_ptr + b * k_stride_b + h * k_stride_h, k_stride_l, k_stride_d)
    v = (v_ptr + b * v_stride_b + h * v_stride_h, v_stride_l, v_stride_d)
    out = (out_ptr + b * out_stride_b + h * out_stride_h, out_stride_m, out_stride_d)
    grad_out = (grad_out_ptr + b * grad_out_stride_b + h * grad_out_stride_h, grad_out_stride_m, grad_out_stride_d)
    grad_q = (grad_q_ptr + b * grad_q_stride_b + h * grad_q_stride_h, grad_q_stride_m, grad_q_stride_d)
    mask = mask_ptr
    if mask_ptr is not None:
        mask = (mask_ptr + b * mask_stride_b, mask_stride_l)
    bias = bias_ptr
    if bias_ptr is not None:
        bias = (bias_ptr + b * bias_stride_b + h * bias_stride_h, bias_stride_m, bias_stride_l)
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_inside = rows < M
    lse = tl.load(lse_ptr + head * M + rows, mask=row_inside, other=float("inf"))
    delta = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for first in tl.static_range(0, HEAD_DIM, STEP_D):
        o = load_rows(out, rows, row_inside, first, HEAD_DIM, STEP_D).to(tl.float32)
        delta += tl.sum(o * load_rows(grad_out, rows, row_inside, first, HEAD_DIM, STEP_D).to(tl.float32), axis=1)
    tl.store(delta_ptr + head * M + rows, delta, mask=row_inside)

    sums = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    for start in range(0, L, BLOCK_L):
        keys = start + tl.arange(0, BLOCK_L)
        part = taking_part(keys, L, mask)
        scores = masked_scores(q, rows, row_inside, k, keys, L, part, bias, scale, HEAD_DIM, STEP_D, PRECISION)
        weights = tl.exp2(scores - lse[:, None])
        grad_weights = product(grad_out, rows, row_inside, v, keys, part, HEAD_DIM, STEP_D, PRECISION)
        grad_scores = weights * (grad_weights - delta[:, None])
        if grad_scores_ptr is not None:
            at = grad_scores_ptr + head * M * L + rows.to(tl.int64)[:, None] * L + keys[None, :]
            tl.store(at, grad_scores, mask=row_inside[:, None] & (keys < L)[None, :])
        key_rows = load_rows(k, keys, part, 0, HEAD_DIM, BLOCK_D)
        sums = tl.dot(grad_scores.to(key_rows.dtype), key_rows, sums, input_precision=PRECISION)
    store_rows(grad_q, rows, row_inside, sums * scale, HEAD_DIM, BLOCK_D)


@triton.jit
def cross_attention_backward_keys(
    q_ptr, q_stride_b, q_stride_h, q_stride_m, q_stride_d,
    k_ptr, k_stride_b, k_stride_h, k_stride_l, k_stride_d,
    v_ptr, v_stride_b, v_stride_h, v_stride_l, v_stride_d,
    mask_ptr, mask_stride_b, mask_stride_l,
    bias_ptr, bias_stride_b, bias_stride_h, bias_stride_m, bias_stride_l,
    grad_out_ptr, grad_out_stride_b, grad_out_stride_h, grad_out_stride_m, grad_out_stride_d,
    lse_ptr, delta_ptr, grad_k_ptr, grad_v_ptr, B, H, M, L, scale, rows_per_part,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums over rows_per_part queries: float32 [parts, B, H, L, d], contiguous. Grid: B * H, L tiles, parts."""
    head = tl.program_id(0).to(tl.int64)
    b, h = (tl.program_id(0) // H).to(tl.int64), (tl.program_id(0) % H).to(tl.int64)
    q = (q_ptr + b * q_stride_b + h * q_stride_h, q_stride_m, q_stride_d)
    k = (k_ptr + b * k_stride_b + h * k_stride_h, k_stride_l, k_stride_d)
    v = (v_ptr + b * v_stride_b + h * v_stride_h, v_stride_l, v_stride_d)
    grad_out = (grad_out_ptr + b * grad_out_stride_b + h * grad_out_stride_h, grad_out_stride_m, grad_out_stride_d)
    mask = mask_ptr
    if mask_ptr is not None:
        mask = (mask_ptr + b * mask_stride_b, mask_stride_l)
    bias = bias_ptr
    if bias_ptr is not None:
        bias = (bias_ptr + b * bias_stride_b + h * bias_stride_h, bias_stride_l, bias_stride_m)
    keys = tl.program_id(1) * BLOCK_L + tl.arange(0, BLOCK_L)
    part = taking_part(keys, L, mask)
    grad_k = tl.zeros((BLOCK_L, BLOCK_D), dtype=tl.float32)
    grad_v = tl.zeros((BLOCK_L, BLOCK_D), dtype=tl.float32)
    first_row = tl.program_id(2) * rows_per_part
    for start in range(first_row, tl.minimum(first_row + rows_per_part, M), BLOCK_M):
        rows = start + tl.arange(0, BLOCK_M)
        row_inside = rows < M
        # Keys by queries: the weights are then laid out as the left side of the products that follow.
        scores = base2_scores(
            k, keys, keys < L, q, rows, row_inside, bias, scale, HEAD_DIM, STEP_D, PRECISION
        )  # fmt: skip
        scores = tl.where(part[:, None], scores, -float("inf"))
        lse = tl.load(lse_ptr + head * M + rows, mask=row_inside, other=float("inf"))
        delta = tl.load(delta_ptr + head * M + rows, mask=row_inside, other=0.0)
        weights = tl.exp2(scores - lse[None, :])
        grad_out_rows = load_rows(grad_out, rows, row_inside, 0, HEAD_DIM, BLOCK_D)
        grad_v = tl.dot(weights.to(grad_out_rows.dtype), grad_out_rows, grad_v, input_precision=PRECISION)
        grad_weights = product(v, keys, part, grad_out, rows, row_inside, HEAD_DIM, STEP_D, PRECISION)
        grad_scores = weights * (grad_weights - delta[None, :])
        q_rows = load_rows(q, rows, row_inside, 0, HEAD_DIM, BLOCK_D)
        grad_k = tl.dot(grad_scores.to(q_rows.dtype), q_rows, grad_k, input_precision=PRECISION)
    start = ((tl.program_id(2).to(tl.int64) * B * H + head) * L) * HEAD_DIM
    store_rows((grad_k_ptr + start, HEAD_DIM, 1), keys, keys < L, grad_k * scale, HEAD_DIM, BLOCK_D)
    store_rows((grad_v_ptr + start, HEAD_DIM, 1), keys, keys < L, grad_v, HEAD_DIM, BLOCK_D)
