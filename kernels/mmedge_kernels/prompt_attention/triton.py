"""The fused kernel of `prompt_attention`, for Triton: no torch, so that it can be compiled ahead of time.

A program takes BLOCK_M rows of x. It multiplies them with A, a block of D at a time, and keeps the scores of all heads
side by side in registers: HEADS_PADDED groups of KEYS_PADDED columns, both powers of two. One softmax a group, and the
weights go straight into the second product. The variance that a LayerNorm needs is gathered while x passes by.

Where the columns of all heads are too many for the registers, GROUPS > 1 takes the heads in groups; the scores are then
computed anew for each block of the output.

A matrix is a triple: where it begins, the step to the next row, the step to the next column.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _place(matrix, rows, columns):
    """Where the elements of some rows and columns of a matrix lie."""
    return matrix[0] + rows[:, None] * matrix[1] + columns[None, :] * matrix[2]


@triton.jit
def _scores(
    x, a, rows, row_inside, columns, column_inside,
    D: tl.constexpr, norm_eps: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """x A, divided by the standard deviation of each row where norm_eps is given: float32 [BLOCK_M, COLUMNS]."""
    scores = tl.zeros((BLOCK_M, COLUMNS), dtype=tl.float32)
    mean = tl.zeros((BLOCK_M,), dtype=tl.float32)
    squares = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        depth = start + tl.arange(0, BLOCK_D)
        if D % BLOCK_D == 0:
            x_block = tl.load(_place(x, rows, depth), mask=row_inside[:, None], other=0.0)
            a_block = tl.load(_place(a, depth, columns), mask=column_inside[None, :], other=0.0)
        else:
            deep = depth < D
            x_block = tl.load(_place(x, rows, depth), mask=row_inside[:, None] & deep[None, :], other=0.0)
            a_block = tl.load(_place(a, depth, columns), mask=deep[:, None] & column_inside[None, :], other=0.0)
        if norm_eps is not None:
            # Mean and squared deviations of blocks are merged (Chan, Golub and LeVeque 1979): a sum of squares less
            # the square of the sum would cancel where the mean is large.
            taken = tl.minimum(D - start, BLOCK_D).to(tl.float32)
            values = x_block.to(tl.float32)
            block_mean = tl.sum(values, axis=1) / taken
            off = tl.where((depth < D)[None, :], values - block_mean[:, None], 0.0)
            step = block_mean - mean
            before = (start + 0.0) / (start + taken)
            squares += tl.sum(off * off, axis=1) + step * step * (taken * before)
            mean += step * (1.0 - before)
        scores = tl.dot(x_block, a_block, scores, input_precision=PRECISION)
    if norm_eps is not None:
        scores *= (1.0 / tl.sqrt(squares / D + norm_eps))[:, None]
    return scores


@triton.jit
def _grouped_softmax(
    scores, BLOCK_M: tl.constexpr, HEADS_PADDED: tl.constexpr, KEYS_PADDED: tl.constexpr, dtype: tl.constexpr
):
    """Softmax over each group of KEYS_PADDED columns; a group that is -inf throughout gives zeros."""
    grouped = tl.reshape(scores * LOG2_E, (BLOCK_M, HEADS_PADDED, KEYS_PADDED))
    highest = tl.max(grouped, axis=2)
    highest = tl.where(highest == -float("inf"), 0.0, highest)
    weights = tl.exp2(grouped - highest[:, :, None])
    total = tl.sum(weights, axis=2)
    weights *= (1.0 / tl.where(total == 0.0, 1.0, total))[:, :, None]
    return tl.reshape(weights, (BLOCK_M, HEADS_PADDED * KEYS_PADDED)).to(dtype)


@triton.jit
def _weights(
    x, a, a_bias_ptr, mask_ptr, rows, row_inside, first_head, L,
    D: tl.constexpr, HEADS: tl.constexpr, norm_eps: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
    HEADS_PADDED: tl.constexpr, KEYS_PADDED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attention weights of HEADS_PADDED heads from first_head on, their columns, and which of these take part."""
    place = tl.arange(0, HEADS_PADDED * KEYS_PADDED)
    head = first_head + place // KEYS_PADDED
    key = place % KEYS_PADDED
    inside = (head < HEADS) & (key < L)
    columns = head * L + key
    scores = _scores(
        x, a, rows, row_inside, columns, inside,
        D, norm_eps, BLOCK_M, BLOCK_D, HEADS_PADDED * KEYS_PADDED, PRECISION,
    )  # fmt: skip
    takes_part = inside
    if mask_ptr is not None:
        takes_part = inside & (tl.load(mask_ptr + key, mask=key < L, other=0) != 0)
    bias = tl.load(a_bias_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    scores = tl.where(takes_part[None, :], scores + bias[None, :], -float("inf"))
    return _grouped_softmax(scores, BLOCK_M, HEADS_PADDED, KEYS_PADDED, x[0].dtype.element_ty), columns, takes_part


@triton.jit
def _finish(sums, rows, width, row_inside, residual, c_bias_ptr, out, E: tl.constexpr):
    """Adds bias and residual to a block of the output and stores it."""
    inside = row_inside[:, None] & (width < E)[None, :]
    sums += tl.load(c_bias_ptr + width, mask=width < E, other=0.0).to(tl.float32)[None, :]
    if residual is not None:
        sums += tl.load(_place(residual, rows, width), mask=inside, other=0.0).to(tl.float32)
    tl.store(_place(out, rows, width), sums.to(out[0].dtype.element_ty), mask=inside)


@triton.jit
def _attend(
    x, a, a_bias_ptr, b, c_bias_ptr, mask_ptr, residual, out, M, L,
    D: tl.constexpr, E: tl.constexpr, HEADS: tl.constexpr, norm_eps: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, PART_E: tl.constexpr,
    HEADS_PADDED: tl.constexpr, KEYS_PADDED: tl.constexpr, GROUPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M rows of one frame under one prompt, PART_E columns of the output."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_inside = rows < M
    part = tl.program_id(1) * PART_E
    if GROUPS == 1:
        weights, columns, takes_part = _weights(
            x, a, a_bias_ptr, mask_ptr, rows, row_inside, 0, L,
            D, HEADS, norm_eps, BLOCK_M, BLOCK_D, HEADS_PADDED, KEYS_PADDED, PRECISION,
        )  # fmt: skip
        for start in range(0, PART_E, BLOCK_E):
            width = part + start + tl.arange(0, BLOCK_E)
            b_block = tl.load(_place(b, columns, width), mask=takes_part[:, None] & (width < E)[None, :], other=0.0)
            sums = tl.dot(weights, b_block, input_precision=PRECISION)
            _finish(sums, rows, width, row_inside, residual, c_bias_ptr, out, E)
    else:
        width = part + tl.arange(0, BLOCK_E)
        sums = tl.zeros((BLOCK_M, BLOCK_E), dtype=tl.float32)
        for group in range(GROUPS):
            weights, columns, takes_part = _weights(
                x, a, a_bias_ptr, mask_ptr, rows, row_inside, group * HEADS_PADDED, L,
                D, HEADS, norm_eps, BLOCK_M, BLOCK_D, HEADS_PADDED, KEYS_PADDED, PRECISION,
            )  # fmt: skip
            b_block = tl.load(_place(b, columns, width), mask=takes_part[:, None] & (width < E)[None, :], other=0.0)
            sums = tl.dot(weights, b_block, sums, input_precision=PRECISION)
        _finish(sums, rows, width, row_inside, residual, c_bias_ptr, out, E)


@triton.jit
def prompt_attention_strided(
    x_ptr, a_ptr, a_bias_ptr, b_ptr, c_bias_ptr, mask_ptr, residual_ptr, out_ptr,
    x_stride_b, x_stride_n, x_stride_m, x_stride_d,
    a_stride_n, a_stride_d, a_stride_c,
    a_bias_stride_n,
    b_stride_n, b_stride_c, b_stride_e,
    mask_stride_n,
    residual_stride_b, residual_stride_n, residual_stride_m, residual_stride_e,
    out_stride_n, out_stride_m,
    M, N, L,
    D: tl.constexpr, E: tl.constexpr, HEADS: tl.constexpr, norm_eps: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, PART_E: tl.constexpr,
    HEADS_PADDED: tl.constexpr, KEYS_PADDED: tl.constexpr, GROUPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Any strides; mask_ptr and residual_ptr may be None. Grid: blocks of M, parts of E, B * N."""
    batch = tl.program_id(2).to(tl.int64)
    frame = batch // N
    prompt = batch % N
    if mask_ptr is not None:
        mask_ptr += prompt * mask_stride_n
    residual = residual_ptr
    if residual_ptr is not None:
        start = residual_ptr + frame * residual_stride_b + prompt * residual_stride_n
        residual = (start, residual_stride_m, residual_stride_e)
    _attend(
        (x_ptr + frame * x_stride_b + prompt * x_stride_n, x_stride_m, x_stride_d),
        (a_ptr + prompt * a_stride_n, a_stride_d, a_stride_c),
        a_bias_ptr + prompt * a_bias_stride_n,
        (b_ptr + prompt * b_stride_n, b_stride_c, b_stride_e),
        c_bias_ptr, mask_ptr, residual, (out_ptr + batch * out_stride_n, out_stride_m, 1), M, L,
        D, E, HEADS, norm_eps, BLOCK_M, BLOCK_D, BLOCK_E, PART_E, HEADS_PADDED, KEYS_PADDED, GROUPS, PRECISION,
    )  # fmt: skip


@triton.jit
def prompt_attention_dense(
    x_ptr, a_ptr, a_bias_ptr, b_ptr, c_bias_ptr, residual_ptr, M, N, out_ptr,
    L: tl.constexpr, D: tl.constexpr, E: tl.constexpr, HEADS: tl.constexpr, norm_eps: tl.constexpr,
    X_PER_PROMPT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, PART_E: tl.constexpr,
    HEADS_PADDED: tl.constexpr, KEYS_PADDED: tl.constexpr, GROUPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Contiguous tensors and a fixed L, for use without torch: inputs, numbers and outputs in an engine's order.

    x and residual: [B, N, M, .] where X_PER_PROMPT, else [B, M, .]. Keys that are left out have a bias of -inf.
    """
    batch = tl.program_id(2).to(tl.int64)
    prompt = batch % N
    source = batch if X_PER_PROMPT else batch // N
    residual = residual_ptr
    if residual_ptr is not None:
        residual = (residual_ptr + source * M * E, E, 1)
    _attend(
        (x_ptr + source * M * D, D, 1),
        (a_ptr + prompt * (D * HEADS * L), HEADS * L, 1),
        a_bias_ptr + prompt * (HEADS * L),
        (b_ptr + prompt * (HEADS * L * E), E, 1),
        c_bias_ptr, None, residual, (out_ptr + batch * M * E, E, 1), M, L,
        D, E, HEADS, norm_eps, BLOCK_M, BLOCK_D, BLOCK_E, PART_E, HEADS_PADDED, KEYS_PADDED, GROUPS, PRECISION,
    )  # fmt: skip
