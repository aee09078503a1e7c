"""The kernels of `cross_attention`, for Triton: no torch, so that they can be compiled ahead of time.

A program of the forward pass takes BLOCK_M queries of one head. In the short form it holds all keys at once, in one
tile of BLOCK_L, or in two tiles of BLOCK_L and REST_L, so that 77 keys cost 64 + 16 columns and not 128: one softmax
and no rescaling. In the streaming form it walks over tiles of BLOCK_L keys and keeps maximum and sum of the softmax as
it goes (Milakov and Gimelshein 2018). Scores are in base 2, so the softmax needs no multiplication of its own.

The base-2 logarithm of each row's sum (lse) is kept for the backward pass, whose kernels are in `triton_backward.py`.

A matrix is a triple: where it begins, the step to the next row, the step to the next column. Scores are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_rows(matrix, rows, inside, first, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """WIDTH columns of a matrix from `first` on; zeros where a row is not inside and behind HEAD_DIM."""
    depth = first + tl.arange(0, WIDTH)
    at = matrix[0] + rows.to(tl.int64)[:, None] * matrix[1] + depth.to(tl.int64)[None, :] * matrix[2]
    if HEAD_DIM % WIDTH == 0:
        return tl.load(at, mask=inside[:, None], other=0.0)
    return tl.load(at, mask=inside[:, None] & (depth < HEAD_DIM)[None, :], other=0.0)


@triton.jit
def store_rows(matrix, rows, inside, values, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    depth = tl.arange(0, WIDTH)
    at = matrix[0] + rows.to(tl.int64)[:, None] * matrix[1] + depth.to(tl.int64)[None, :] * matrix[2]
    tl.store(at, values.to(matrix[0].dtype.element_ty), mask=inside[:, None] & (depth < HEAD_DIM)[None, :])


@triton.jit
def product(
    left,
    left_rows,
    left_inside,
    right,
    right_rows,
    right_inside,
    HEAD_DIM: tl.constexpr,
    STEP_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """left right^T for some rows of both, STEP_D columns at a time: [left rows, right rows]."""
    sums = tl.zeros((left_rows.shape[0], right_rows.shape[0]), dtype=tl.float32)
    for first in tl.static_range(0, HEAD_DIM, STEP_D):
        a = load_rows(left, left_rows, left_inside, first, HEAD_DIM, STEP_D)
        b = load_rows(right, right_rows, right_inside, first, HEAD_DIM, STEP_D)
        sums = tl.dot(a, tl.trans(b), sums, input_precision=PRECISION)
    return sums


@triton.jit
def taking_part(keys, L, mask):
    """Which keys exist and are not masked."""
    part = keys < L
    if mask is not None:
        part = part & (tl.load(mask[0] + keys.to(tl.int64) * mask[1], mask=part, other=0) != 0)
    return part


@triton.jit
def base2_scores(
    left, left_rows, left_inside, right, right_rows, right_inside, bias, scale,
    HEAD_DIM: tl.constexpr, STEP_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores in base 2: queries by keys, or keys by queries where left, right and the steps of bias are swapped."""
    sums = product(left, left_rows, left_inside, right, right_rows, right_inside, HEAD_DIM, STEP_D, PRECISION)
    scores = sums * (scale * LOG2_E)
    if bias is not None:
        at = bias[0] + left_rows.to(tl.int64)[:, None] * bias[1] + right_rows.to(tl.int64)[None, :] * bias[2]
        added = tl.load(at, mask=left_inside[:, None] & right_inside[None, :], other=0.0)
        scores += added.to(tl.float32) * LOG2_E
    return scores


@triton.jit
def masked_scores(
    q, rows, row_inside, k, keys, L, part, bias, scale,
    HEAD_DIM: tl.constexpr, STEP_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Queries by keys; -inf for keys that take no part, whatever lies in k and bias there."""
    # k is not read through the mask: its load would wait for that of the mask.
    scores = base2_scores(q, rows, row_inside, k, keys, keys < L, bias, scale, HEAD_DIM, STEP_D, PRECISION)
    return tl.where(part[None, :], scores, -float("inf"))


@triton.jit
def _finite_top(top):
    """A maximum that can be subtracted: 0 where a row is -inf throughout."""
    return tl.where(top == -float("inf"), 0.0, top)


@triton.jit
def _attend(
    q, k, v, mask, bias, rows, M, L, scale,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_L: tl.constexpr, REST_L: tl.constexpr, BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Output of some rows, float32 [BLOCK_M, BLOCK_D], and the base-2 logarithm of their sums, +inf where masked."""
    row_inside = rows < M
    if SHORT:
        keys = tl.arange(0, BLOCK_L)
        part = taking_part(keys, L, mask)
        values = load_rows(v, keys, part, 0, HEAD_DIM, BLOCK_D)
        if REST_L > 0:
            rest_keys = BLOCK_L + tl.arange(0, REST_L)
            rest_part = taking_part(rest_keys, L, mask)
            rest_values = load_rows(v, rest_keys, rest_part, 0, HEAD_DIM, BLOCK_D)
        scores = masked_scores(q, rows, row_inside, k, keys, L, part, bias, scale, HEAD_DIM, STEP_D, PRECISION)
        top = tl.max(scores, axis=1)
        if REST_L > 0:
            rest = masked_scores(
                q, rows, row_inside, k, rest_keys, L, rest_part, bias, scale, HEAD_DIM, STEP_D, PRECISION
            )
            top = tl.maximum(top, tl.max(rest, axis=1))
        top = _finite_top(top)
        weights = tl.exp2(scores - top[:, None])
        total = tl.sum(weights, axis=1)
        sums = tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
        if REST_L > 0:
            rest = tl.exp2(rest - top[:, None])
            total += tl.sum(rest, axis=1)
            sums = tl.dot(rest.to(values.dtype), rest_values, sums, input_precision=PRECISION)
    else:
        top = tl.full((BLOCK_M,), -float("inf"), dtype=tl.float32)
        total = tl.zeros((BLOCK_M,), dtype=tl.float32)
        sums = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
        for start in range(0, L, BLOCK_L):
            keys = start + tl.arange(0, BLOCK_L)
            part = taking_part(keys, L, mask)
            scores = masked_scores(q, rows, row_inside, k, keys, L, part, bias, scale, HEAD_DIM, STEP_D, PRECISION)
            higher = tl.maximum(top, tl.max(scores, axis=1))
            weights = tl.exp2(scores - _finite_top(higher)[:, None])
            shrink = tl.exp2(top - _finite_top(higher))
            total = total * shrink + tl.sum(weights, axis=1)
            values = load_rows(v, keys, part, 0, HEAD_DIM, BLOCK_D)
            sums = tl.dot(weights.to(values.dtype), values, sums * shrink[:, None], input_precision=PRECISION)
            top = higher
        top = _finite_top(top)
    # Masked rows have a sum of 0: zeros come out, and the +inf makes their weights 0 in the backward pass.
    empty = total == 0.0
    lse = tl.where(empty, float("inf"), top + tl.log2(tl.where(empty, 1.0, total)))
    return sums / tl.where(empty, 1.0, total)[:, None], lse


@triton.jit
def cross_attention_dense(
    q_ptr,
    k_ptr,
    v_ptr,
    mask_ptr,
    H,
    M,
    L,
    KB,
    out_ptr,
    scale: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_L: tl.constexpr,
    REST_L: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr,
    SHORT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Dense q, out [B, H, M, d], k, v [KB, H, L, d], mask bool [KB, L] or None; KB is 1 or B. Grid: B * H, M tiles."""
    head = tl.program_id(0).to(tl.int64)
    kv_batch = (tl.program_id(0) // H * (KB > 1)).to(tl.int64)
    kv_start = (kv_batch * H + tl.program_id(0) % H) * L * HEAD_DIM
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    q = (q_ptr + head * M * HEAD_DIM, HEAD_DIM, 1)
    mask = mask_ptr
    if mask_ptr is not None:
        mask = (mask_ptr + kv_batch * L, 1)
    sums, _ = _attend(
        q, (k_ptr + kv_start, HEAD_DIM, 1), (v_ptr + kv_start, HEAD_DIM, 1), mask, None, rows, M, L, scale,
        HEAD_DIM, BLOCK_M, BLOCK_L, REST_L, BLOCK_D, STEP_D, SHORT, PRECISION,
    )  # fmt: skip
    store_rows((out_ptr + head * M * HEAD_DIM, HEAD_DIM, 1), rows, rows < M, sums, HEAD_DIM, BLOCK_D)


@triton.jit
def cross_attention_forward(
    q_ptr, q_stride_b, q_stride_h, q_stride_m, q_stride_d,
    k_ptr, k_stride_b, k_stride_h, k_stride_l, k_stride_d,
    v_ptr, v_stride_b, v_stride_h, v_stride_l, v_stride_d,
    mask_ptr, mask_stride_b, mask_stride_l,
    bias_ptr, bias_stride_b, bias_stride_h, bias_stride_m, bias_stride_l,
    out_ptr, out_stride_b, out_stride_h, out_stride_m, out_stride_d,
    lse_ptr, H, M, L, scale,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_L: tl.constexpr, REST_L: tl.constexpr, BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Any strides, 0 too; lse [B, H, M] is contiguous. Grid: B * H, M tiles."""
    head = tl.program_id(0).to(tl.int64)
    b, h = (tl.program_id(0) // H).to(tl.int64), (tl.program_id(0) % H).to(tl.int64)
    q = (q_ptr + b * q_stride_b + h * q_stride_h, q_stride_m, q_stride_d)
    k = (k_ptr + b * k_stride_b + h * k_stride_h, k_stride_l, k_stride_d)
    v = (v_ptr + b * v_stride_b + h * v_stride_h, v_stride_l, v_stride_d)
    mask = mask_ptr
    if mask_ptr is not None:
        mask = (mask_ptr + b * mask_stride_b, mask_stride_l)
    bias = bias_ptr
    if bias_ptr is not None:
        bias = (bias_ptr + b * bias_stride_b + h * bias_stride_h, bias_stride_m, bias_stride_l)
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    sums, lse = _attend(
        q, k, v, mask, bias, rows, M, L, scale,
        HEAD_DIM, BLOCK_M, BLOCK_L, REST_L, BLOCK_D, STEP_D, SHORT, PRECISION,
    )  # fmt: skip
    out = (out_ptr + b * out_stride_b + h * out_stride_h, out_stride_m, out_stride_d)
    store_rows(out, rows, rows < M, sums, HEAD_DIM, BLOCK_D)
    tl.store(lse_ptr + head * M + rows, lse, mask=rows < M)
