"""The frame path for Triton, in two passes: no torch, so that it can be compiled ahead of time.

The first pass reads the camera's bytes, turns them into RGB and resamples along one axis into a small uint8 picture.
The second resamples along the other axis, looks the tensor's elements up and pads. Between the passes samples are
rounded to uint8, as Pillow rounds them; the frame is read once, and the small picture stays in the L2 cache.

Weights are whole numbers in units of 2**-22, and the sums fit into 32 bits: every order of adding gives the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mmedge_kernels.frame.coefficients import PRECISION_BITS
from mmedge_kernels.frame.formats import BLUE_OF_U, GREEN_OF_U, GREEN_OF_V, LUMA, RED_OF_V, YUV_BITS

_PRECISION_BITS = tl.constexpr(PRECISION_BITS)
_HALF = tl.constexpr(1 << (PRECISION_BITS - 1))
_YUV_BITS = tl.constexpr(YUV_BITS)
_YUV_HALF = tl.constexpr(1 << (YUV_BITS - 1))
_LUMA = tl.constexpr(LUMA)
_BLUE_OF_U = tl.constexpr(BLUE_OF_U)
_GREEN_OF_U = tl.constexpr(GREEN_OF_U)
_GREEN_OF_V = tl.constexpr(GREEN_OF_V)
_RED_OF_V = tl.constexpr(RED_OF_V)


@triton.jit
def _to_uint8(sums, BITS: tl.constexpr):
    """int32 sums with half a unit added already -> int32 in 0..255."""
    return tl.minimum(tl.maximum(sums >> BITS, 0), 255)


@triton.jit
def _pixel(
    frame_ptr, row, column, luma_rows, row_stride, column_stride, channel_stride, inside, COLOR: tl.constexpr
):  # fmt: skip
    """int32 R, G, B of the pixels at row, column (tensors of one shape); of a grey frame three times the same."""
    at = frame_ptr + row.to(tl.int64) * row_stride + column * column_stride
    if COLOR == "grey":
        red = tl.load(at, mask=inside, other=0).to(tl.int32)
        return red, red, red
    if COLOR == "rgb" or COLOR == "bgr":
        first = tl.load(at, mask=inside, other=0).to(tl.int32)
        green = tl.load(at + channel_stride, mask=inside, other=0).to(tl.int32)
        third = tl.load(at + 2 * channel_stride, mask=inside, other=0).to(tl.int32)
        if COLOR == "rgb":
            return first, green, third
        return third, green, first
    if COLOR == "nv12":
        u_at = frame_ptr + (luma_rows + row // 2).to(tl.int64) * row_stride + (column // 2 * 2) * column_stride
        v_at = u_at + column_stride
    else:
        u_at = frame_ptr + row.to(tl.int64) * row_stride + (column // 2 * 2) * column_stride + channel_stride
        v_at = u_at + column_stride
    luma = tl.maximum(tl.load(at, mask=inside, other=0).to(tl.int32) - 16, 0) * _LUMA + _YUV_HALF
    u = tl.load(u_at, mask=inside, other=0).to(tl.int32) - 128
    v = tl.load(v_at, mask=inside, other=0).to(tl.int32) - 128
    return (
        _to_uint8(luma + _RED_OF_V * v, _YUV_BITS),
        _to_uint8(luma + _GREEN_OF_U * u + _GREEN_OF_V * v, _YUV_BITS),
        _to_uint8(luma + _BLUE_OF_U * u, _YUV_BITS),
    )


@triton.jit
def frame_first_pass(
    frame_ptr,
    starts_ptr,
    weights_ptr,
    luma_rows,
    row_stride,
    column_stride,
    channel_stride,
    row_origin,
    column_origin,
    extent,
    rows,
    columns,
    taps,
    picture_ptr,
    COLOR: tl.constexpr,
    VERTICAL: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Camera bytes -> uint8 picture [3, rows, columns] ([1, rows, columns] where COLOR is grey).

    The axis that is resampled is the vertical one where VERTICAL: starts int32 [count] are its first samples, counted
    from its origin, weights int32 [taps, count], extent the samples that it needs. luma_rows: H of an NV12 frame.
    """
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    index = row if VERTICAL else column
    count = rows if VERTICAL else columns
    first = tl.load(starts_ptr + index, mask=index < count, other=0)
    red = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), _HALF, tl.int32)
    green = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), _HALF, tl.int32)
    blue = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), _HALF, tl.int32)
    for tap in range(taps):
        weight = tl.load(weights_ptr + tap * count + index, mask=index < count, other=0)
        # Weights behind the end of a window are zero; what they are multiplied with only has to exist.
        place = tl.minimum(first + tap, extent - 1)
        if VERTICAL:
            source_row = (row_origin + place)[:, None] + tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.int32)
            source_column = (column_origin + column)[None, :] + tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.int32)
            factor = weight[:, None]
        else:
            source_row = (row_origin + row)[:, None] + tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.int32)
            source_column = (column_origin + place)[None, :] + tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.int32)
            factor = weight[None, :]
        r, g, b = _pixel(
            frame_ptr, source_row, source_column, luma_rows, row_stride, column_stride, channel_stride, inside, COLOR
        )
        red += r * factor
        if COLOR != "grey":
            green += g * factor
            blue += b * factor
    at = picture_ptr + row[:, None] * columns + column[None, :]
    tl.store(at, _to_uint8(red, _PRECISION_BITS).to(tl.uint8), mask=inside)
    if COLOR != "grey":
        tl.store(at + rows * columns, _to_uint8(green, _PRECISION_BITS).to(tl.uint8), mask=inside)
        tl.store(at + 2 * rows * columns, _to_uint8(blue, _PRECISION_BITS).to(tl.uint8), mask=inside)


@triton.jit
def frame_second_pass(
    picture_ptr,
    starts_ptr,
    weights_ptr,
    values_ptr,
    rows,
    columns,
    taps,
    count_rows,
    count_columns,
    height,
    width,
    top,
    left,
    pad_value,
    out_ptr,
    GREY: tl.constexpr,
    VERTICAL: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """uint8 picture [3 or 1, rows, columns] -> tensor [3, height, width], or [height, width, 3] where CHANNELS_LAST.

    The resampled picture has count_rows and count_columns and lies at top, left; around it is padding. values: the
    tensor's element for each channel and sample, [3, 256]. starts, weights: of the vertical axis where VERTICAL.
    """
    y = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    x = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    row, column = y - top, x - left
    row_inside = (row >= 0) & (row < count_rows)
    column_inside = (column >= 0) & (column < count_columns)
    inside = row_inside[:, None] & column_inside[None, :]
    stored = (y < height)[:, None] & (x < width)[None, :]
    index = row if VERTICAL else column
    index_inside = row_inside if VERTICAL else column_inside
    count = count_rows if VERTICAL else count_columns
    first = tl.load(starts_ptr + index, mask=index_inside, other=0)
    for channel in tl.static_range(1 if GREY else 3):
        sums = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), _HALF, tl.int32)
        for tap in range(taps):
            weight = tl.load(weights_ptr + tap * count + index, mask=index_inside, other=0)
            if VERTICAL:
                place = tl.minimum(first + tap, rows - 1)
                at = place[:, None] * columns + column[None, :]
                factor = weight[:, None]
            else:
                place = tl.minimum(first + tap, columns - 1)
                at = row[:, None] * columns + place[None, :]
                factor = weight[None, :]
            sample = tl.load(picture_ptr + channel * rows * columns + at, mask=inside, other=0)
            sums += sample.to(tl.int32) * factor
        level = tl.where(inside, _to_uint8(sums, _PRECISION_BITS), pad_value)
        for copy in tl.static_range(3 if GREY else 1):
            plane = channel + copy
            element = tl.load(values_ptr + plane * 256 + level, mask=stored, other=0)
            if CHANNELS_LAST:
                out_at = out_ptr + (y[:, None] * width + x[None, :]) * 3 + plane
            else:
                out_at = out_ptr + (plane * height + y[:, None]) * width + x[None, :]
            tl.store(out_at, element, mask=stored)
