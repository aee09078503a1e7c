"""The frame path in numpy: the definition of the result, and what runs where there is no native library.

A pass is a product with a banded matrix of integer weights, taken a block of outputs at a time. Samples and weights
are whole numbers in float64, where such sums are exact in any order, so BLAS may do them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmedge_kernels.frame.coefficients import PRECISION_BITS, AxisWeights
from mmedge_kernels.frame.formats import frame_planes
from mmedge_kernels.frame.tables import FrameTables

_OUTPUTS_PER_BLOCK = 32
_LINES_PER_BLOCK = 128


def run(tables: FrameTables, frame: NDArray[np.uint8], out: NDArray[Any]) -> None:
    """Writes the tensor of `frame` into `out`; all shapes and dtypes are checked by the caller."""
    geometry = tables.geometry
    rows, columns = tables.vertical, tables.horizontal
    picture = frame_planes(frame, tables.settings.color, _needed(rows), _needed(columns))
    passes = ((1, rows), (2, columns)) if tables.vertical_first else ((2, columns), (1, rows))
    for axis, weights in passes:
        picture = _resample(picture, axis, weights)
    target = out[0] if tables.settings.layout == "nchw" else out[0].transpose(2, 0, 1)
    target[...] = tables.values[:, tables.settings.pad_value, None, None]
    top, left = geometry.vertical.pad_start, geometry.horizontal.pad_start
    inside = target[:, top : top + picture.shape[1], left : left + picture.shape[2]]
    for channel in range(3):
        inside[channel] = tables.values[channel][picture[channel if len(picture) == 3 else 0]]


def _needed(axis: AxisWeights) -> slice:
    return slice(axis.origin, axis.origin + axis.extent)


def _resample(planes: NDArray[np.uint8], axis: int, weights: AxisWeights) -> NDArray[np.uint8]:
    """uint8 [C, H, W] -> the same with the outputs of `weights` along `axis`."""
    samples = planes.swapaxes(axis, 2)
    lines = samples.shape[1]
    result = np.empty((len(planes), lines, len(weights.starts)), dtype=np.uint8)
    for begin in range(0, lines, _LINES_PER_BLOCK):
        block = slice(begin, begin + _LINES_PER_BLOCK)
        result[:, block] = _weighted_sums(samples[:, block], weights)
    return result.swapaxes(axis, 2)


def _weighted_sums(samples: NDArray[np.uint8], axis: AxisWeights) -> NDArray[np.uint8]:
    """uint8 [C, lines, extent] -> uint8 [C, lines, count]."""
    count, taps = axis.weights.shape
    sums = np.empty((*samples.shape[:-1], count))
    for begin in range(0, count, _OUTPUTS_PER_BLOCK):
        block = slice(begin, begin + _OUTPUTS_PER_BLOCK)
        starts = axis.starts[block]
        low = int(starts[0])
        high = int((starts + axis.lengths[block]).max())
        # Room for the zero weights behind the last sample; cut off again before the product.
        matrix = np.zeros((high - low + taps, len(starts)))
        places = starts[:, None] - low + np.arange(taps)
        matrix[places, np.arange(len(starts))[:, None]] = axis.weights[block]
        sums[..., block] = samples[..., low:high].astype(np.float64) @ matrix[: high - low]
    sums += 1 << (PRECISION_BITS - 1)
    sums *= 2.0**-PRECISION_BITS
    return np.clip(np.floor(sums, out=sums), 0, 255, out=sums).astype(np.uint8)
