"""What a repeated tensor is: a smaller one, and how it is laid out along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmedge_export.graph.sinking.extents import Size, product


@dataclass(frozen=True)
class Count:
    """How often something is repeated.

    Attributes:
        size: By which counts are compared.
        source: An int64 vector of one element that holds it at run time; not needed where `size` is a number.
    """

    size: Size
    source: ir.Value | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Tiling:
    """``value[(i·count + j)·inner + k] == base[i·inner + k]`` along `axis`, for i < outer, j < count, k < inner."""

    axis: int
    count: Count
    outer: int = 1
    inner: int = 1

    @property
    def base_size(self) -> int:
        return self.outer * self.inner

    @property
    def size(self) -> Size:
        """The size of the axis in the repeated tensor."""
        return Size(self.base_size) * self.count.size

    def along(self, axis: int) -> Tiling:
        return replace(self, axis=axis)

    def alike(self, other: Tiling) -> bool:
        """The same layout, on whatever axis."""
        return self.along(0) == other.along(0)


def full_shape(base: Sequence[Size], tiling: Tiling) -> list[Size]:
    """The axes of the repeated tensor."""
    return [tiling.size if axis == tiling.axis else size for axis, size in enumerate(base)]


def regrouped(base: Sequence[Size], tiling: Tiling, target: Sequence[Size]) -> Tiling | None:
    """Where the repeat is after a reshape to `target`, or None if it is spread over several axes.

    Row-major order is kept by a reshape, so the repeat is still one factor of the flat index: it is enough that what
    stands left and right of it multiplies to the same numbers.
    """
    left = product(base[: tiling.axis]) * Size(tiling.outer)
    right = product(base[tiling.axis + 1 :]) * Size(tiling.inner)
    for axis, size in enumerate(target):
        outer = left.divided(product(target[:axis]))
        inner = right.divided(product(target[axis + 1 :]))
        if outer is None or inner is None or outer.symbols or inner.symbols or min(outer.factor, inner.factor) < 1:
            continue
        found = Tiling(axis, tiling.count, outer.factor, inner.factor)
        if found.size == size:
            return found
    return None


def one_row(array: npt.NDArray[np.generic], axis: int, tiling: Tiling) -> npt.NDArray[np.generic] | None:
    """The base of a constant that is itself repeated as `tiling` says along `axis`, or None if its rows differ."""
    count = tiling.count.size.number
    if count is None or array.shape[axis] != count * tiling.base_size:
        return None
    split = array.reshape(*array.shape[:axis], tiling.outer, count, tiling.inner, *array.shape[axis + 1 :])
    first = np.take(split, [0], axis=axis + 1)
    if not np.array_equal(np.broadcast_to(first, split.shape), split):
        return None
    return np.ascontiguousarray(first.reshape(*array.shape[:axis], tiling.base_size, *array.shape[axis + 1 :]))
