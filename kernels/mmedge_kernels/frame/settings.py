"""What a model's input looks like: the settings of the frame path, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from mmedge_kernels.errors import FrameError
from mmedge_kernels.frame.coefficients import Interpolation
from mmedge_kernels.frame.formats import Color
from mmedge_kernels.frame.geometry import CropMode, FrameGeometry, ResizeMode, frame_geometry

Layout: TypeAlias = Literal["nchw", "nhwc"]
OutputType: TypeAlias = Literal["float32", "float16", "uint8"]


@dataclass(frozen=True)
class FrameSettings:
    """Settings of `mmedge_kernels.frame.frame_to_tensor`, which describes them; hashable.

    mean and std are kept as tuples; with dtype "uint8", which does not use them, as None.
    """

    size: tuple[int, int]
    resize: ResizeMode = "shortest-edge"
    crop: CropMode = "center"
    shortest_edge: int | None = None
    interpolation: Interpolation = "bicubic"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    color: Color = "bgr"
    layout: Layout = "nchw"
    dtype: OutputType = "float32"
    pad_value: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.geometry(1, 1).size)
        _check_choice("interpolation", self.interpolation, Interpolation)
        _check_choice("color", self.color, Color)
        _check_choice("layout", self.layout, Layout)
        _check_choice("dtype", self.dtype, OutputType)
        if not isinstance(self.pad_value, int) or not 0 <= self.pad_value <= 255:
            raise FrameError(f"pad_value must be a whole number from 0 to 255, got {self.pad_value!r}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, self._checked_triple(name, getattr(self, name)))

    def geometry(self, height: int, width: int) -> FrameGeometry:
        """The geometry of a frame of `height` x `width` pixels."""
        return frame_geometry(
            height, width, size=self.size, resize=self.resize, crop=self.crop, shortest_edge=self.shortest_edge
        )

    def _checked_triple(self, name: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
        if self.dtype == "uint8":
            return None
        if values is None:
            raise FrameError(f'{name} must be given for dtype="{self.dtype}": three numbers, in RGB order')
        try:
            red, green, blue = (float(value) for value in values)
        except (TypeError, ValueError):
            raise FrameError(f"{name} must be three numbers in RGB order, got {values!r}") from None
        if not all(math.isfinite(value) and (name == "mean" or value > 0) for value in (red, green, blue)):
            raise FrameError(f"{name} must be finite{'' if name == 'mean' else ' and above 0'}, got {values!r}")
        return red, green, blue


def _check_choice(name: str, value: Any, choices: Any) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise FrameError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
