"""Small Triton kernels, to test with what compiles and launches kernels. Imports Triton and nothing else."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def softmax_rows(x_ptr, bias_ptr, rows, cols, out_ptr, scale: tl.constexpr, block: tl.constexpr):
    """x, out: [rows, cols]; bias: [cols] or None; one program a row."""
    row = tl.program_id(0)
    column = tl.arange(0, block)
    inside = column < cols
    scores = tl.load(x_ptr + row * cols + column, mask=inside, other=-float("inf")).to(tl.float32) * scale
    if bias_ptr is not None:
        scores += tl.load(bias_ptr + column, mask=inside, other=0.0).to(tl.float32)
    weights = tl.exp(scores - tl.max(scores, axis=0))
    weights = weights / tl.sum(weights, axis=0)
    tl.store(out_ptr + row * cols + column, weights.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def weighted_sum(q_ptr, k_ptr, v_ptr, m, n, out_ptr, scale: tl.constexpr, width: tl.constexpr):
    """q [B, H, m, width], k and v [B, H, n, width] -> q * scale * sum(k) + sum(v), sums over the n keys."""
    column = tl.arange(0, width)
    keys = tl.zeros((width,), dtype=tl.float32)
    values = tl.zeros((width,), dtype=tl.float32)
    for key in range(n):
        at = (tl.program_id(1) * n + key) * width + column
        keys += tl.load(k_ptr + at).to(tl.float32)
        values += tl.load(v_ptr + at).to(tl.float32)
    place = (tl.program_id(1) * m + tl.program_id(0)) * width + column
    out = tl.load(q_ptr + place).to(tl.float32) * scale * keys + values
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty))


@triton.jit
def transpose_tile(x_ptr, n, out_ptr, tile_rows: tl.constexpr, columns: tl.constexpr):
    """x [tile_rows, columns] -> out [columns, tile_rows], n times; elements change threads through shared memory."""
    row = tl.arange(0, tile_rows)
    column = tl.arange(0, columns)
    tile = tl.load(x_ptr + row[:, None] * columns + column[None, :])
    for _ in range(n):
        tl.store(out_ptr + column[:, None] * tile_rows + row[None, :], tl.trans(tile) + 1.0)


@triton.jit
def many_registers(x_ptr, n, out_ptr, tile_rows: tl.constexpr, columns: tl.constexpr):
    """Keeps a tile of tile_rows x columns floats across reductions: with few warps more than the registers hold."""
    row = tl.arange(0, tile_rows)
    column = tl.arange(0, columns)
    tile = tl.load(x_ptr + row[:, None] * columns + column[None, :])
    total = tl.sum(tile, axis=0)
    for _ in range(n):
        tile = tile * total[None, :] + 1.0
        total = tl.sum(tile, axis=0)
    tl.store(out_ptr + row[:, None] * columns + column[None, :], tile)


@triton.jit
def with_descriptor(x_ptr, n, out_ptr, block: tl.constexpr):
    """Reads through a tensor descriptor, for which newer GPUs need scratch memory of the launcher."""
    source = tl.make_tensor_descriptor(x_ptr, shape=[n, block], strides=[block, 1], block_shape=[16, block])
    row = tl.arange(0, 16)
    tl.store(out_ptr + row[:, None] * block + tl.arange(0, block)[None, :], source.load([0, 0]))


@triton.jit
def no_assembly(x_ptr, n, out_ptr, tile_rows: tl.constexpr, columns: tl.constexpr):
    """Holds an instruction that no GPU has."""
    at = tl.arange(0, tile_rows)
    x = tl.load(x_ptr + at)
    y = tl.inline_asm_elementwise("no.such.instruction $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1)
    tl.store(out_ptr + at * columns, y)
