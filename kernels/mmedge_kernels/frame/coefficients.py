"""Integer weights of antialiased resampling along one axis, as Pillow computes them.

The source of the algorithm is Pillow's resampling (``Image.resize``): a filter widened by the downscale factor,
sampled at the pixel centres of each output's window, normalised to a sum of 1 in double precision and rounded, half
away from zero, to 22 fraction bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]

PRECISION_BITS = 22
FILTER_RADIUS: dict[Interpolation, float] = {"bilinear": 1.0, "bicubic": 2.0}


@dataclass(frozen=True)
class AxisWeights:
    """Output i is the weighted sum of the source samples ``origin + starts[i] + t``, t below ``lengths[i]``.

    origin, extent: the first source sample that any output needs, and how many from there on. starts: int64 [count],
    never decreasing. lengths: int64 [count]. weights: int32 [count, taps] in units of 2**-22, 0 behind the length.
    """

    origin: int
    extent: int
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    weights: NDArray[np.int32]


def axis_weights(source: int, resized: int, first: int, count: int, interpolation: Interpolation) -> AxisWeights:
    """Weights of the outputs first, ..., first + count - 1 of an axis resized from `source` to `resized` samples."""
    if source == resized:
        return unit_weights(first, count)
    outputs = np.arange(first, first + count, dtype=np.int64)
    scale = source / resized
    stretch = max(scale, 1.0)
    support = FILTER_RADIUS[interpolation] * stretch
    centers = (outputs + 0.5) * scale
    starts = np.maximum(np.trunc(centers - support + 0.5), 0).astype(np.int64)
    ends = np.minimum(np.trunc(centers + support + 0.5), source).astype(np.int64)
    taps = np.arange(min(source, math.ceil(support) * 2 + 1), dtype=np.int64)
    positions = starts[:, None] + taps
    values = _filter((positions - centers[:, None] + 0.5) * (1.0 / stretch), interpolation)
    values[positions >= ends[:, None]] = 0.0
    # A running sum adds in the order of the taps; numpy's own sum would add in pairs and round differently.
    values /= np.cumsum(values, axis=1)[:, -1:]
    scaled = values * (1 << PRECISION_BITS)
    weights = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32)
    origin = int(starts[0])
    return AxisWeights(origin, int(ends[-1]) - origin, starts - origin, ends - starts, weights)


def unit_weights(first: int, count: int) -> AxisWeights:
    """Weights of an axis that keeps its samples."""
    lengths = np.ones(count, dtype=np.int64)
    weights = np.full((count, 1), 1 << PRECISION_BITS, dtype=np.int32)
    return AxisWeights(first, count, np.arange(count, dtype=np.int64), lengths, weights)


def _filter(distances: NDArray[np.float64], interpolation: Interpolation) -> NDArray[np.float64]:
    x = np.abs(distances)
    if interpolation == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    # Keys' cubic with a = -0.5.
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
