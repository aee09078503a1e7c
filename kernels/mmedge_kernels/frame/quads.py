"""`FrameTables` as the native library takes them: the numbers of its plan, and windows of whole quads.

A quad is four neighbouring samples of an axis, counted from the first one that is needed. Nothing here needs the
library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmedge_kernels.frame.coefficients import AxisWeights, unit_weights
from mmedge_kernels.frame.formats import Color
from mmedge_kernels.frame.tables import FrameTables

_FORMATS: dict[Color, int] = {"rgb": 0, "bgr": 1, "grey": 2, "nv12": 3, "yuyv": 4}  # as MMEDGE_FRAME_RGB, ...


@dataclass(frozen=True, eq=False)
class QuadWindows:
    """Output i is the weighted sum of as many quads from quad first[i] on as there are rows in weights[i].

    first: int32 [count], never decreasing. weights: int32 [count, quads, 4], in units of 2**-22.
    """

    first: NDArray[np.int32]
    weights: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class QuadPlan:
    """A plan of the library without its pointers.

    numbers: the fields before `values`, in their order and by their names in ``frame.h``. vertical_before: the vertical
    pass where it comes first, and then `vertical` keeps the rows that it makes.
    """

    numbers: dict[str, int]
    horizontal: QuadWindows
    vertical: QuadWindows
    vertical_before: QuadWindows | None


def quad_plan(tables: FrameTables) -> QuadPlan:
    """The plan for these tables."""
    geometry, settings = tables.geometry, tables.settings
    rows, columns = tables.vertical, tables.horizontal
    if settings.color in ("nv12", "yuyv"):
        columns = _whole_pairs(columns)
    if settings.color == "nv12":
        rows = _whole_pairs(rows)
    numbers = {
        "format": _FORMATS[settings.color],
        "chroma_row": geometry.vertical.source if settings.color == "nv12" else 0,
        "row0": rows.origin,
        "rows": rows.extent,
        "col0": columns.origin,
        "cols": columns.extent,
        "height": geometry.size[0],
        "width": geometry.size[1],
        "top": geometry.vertical.pad_start,
        "left": geometry.horizontal.pad_start,
        "pad_value": settings.pad_value,
        "channels_last": int(settings.layout == "nhwc"),
        "element_bytes": tables.values.itemsize,
    }
    vertical = _windows(rows)
    if not tables.vertical_first:
        return QuadPlan(numbers, _windows(columns), vertical, None)
    return QuadPlan(numbers, _windows(columns), _windows(unit_weights(0, len(vertical.first))), vertical)


def _windows(axis: AxisWeights) -> QuadWindows:
    count, taps = axis.weights.shape
    quads = int(((axis.starts % 4 + axis.lengths + 3) // 4).max())
    # The last windows move back rather than reach behind the samples.
    first = np.minimum(axis.starts // 4, (axis.extent + 3) // 4 - quads)
    before = axis.starts - 4 * first
    aligned = np.zeros((count, max(quads * 4, int(before.max()) + taps)), dtype=np.int32)
    np.put_along_axis(aligned, before[:, None] + np.arange(taps), axis.weights, axis=1)
    weights = aligned[:, : quads * 4].reshape(count, quads, 4)  # what is cut off is zero
    return QuadWindows(first.astype(np.int32), np.ascontiguousarray(weights))


def _whole_pairs(axis: AxisWeights) -> AxisWeights:
    """The same weights, with the first sample and the number of samples even, as chroma is shared by two."""
    before = axis.origin % 2
    extent = (before + axis.extent + 1) // 2 * 2
    return replace(axis, origin=axis.origin - before, extent=extent, starts=axis.starts + before)
