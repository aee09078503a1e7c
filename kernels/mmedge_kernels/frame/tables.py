"""Everything about one frame size and one set of settings that does not change from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmedge_kernels.errors import FrameError
from mmedge_kernels.frame.coefficients import AxisWeights, axis_weights
from mmedge_kernels.frame.formats import check_picture_size
from mmedge_kernels.frame.geometry import AxisGeometry, FrameGeometry
from mmedge_kernels.frame.settings import FrameSettings


@dataclass(frozen=True, eq=False)
class FrameTables:
    """What every implementation runs on.

    horizontal and vertical: weights of the outputs that the crop keeps. vertical_first: which pass comes first, and
    with it which intermediate values are rounded. values: [3, 256] of the output's dtype, the tensor element for each
    output channel (R, G, B) and each uint8 sample.
    """

    settings: FrameSettings
    geometry: FrameGeometry
    horizontal: AxisWeights
    vertical: AxisWeights
    vertical_first: bool
    values: NDArray[Any]

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        height, width = self.geometry.size
        return (1, 3, height, width) if self.settings.layout == "nchw" else (1, height, width, 3)


def frame_tables(settings: FrameSettings, height: int, width: int) -> FrameTables:
    """The tables for frames of `height` x `width` pixels; raises FrameError where the format has none of that size."""
    geometry = settings.geometry(height, width)
    check_picture_size(height, width, settings.color)
    return FrameTables(
        settings=settings,
        geometry=geometry,
        horizontal=_weights(geometry.horizontal, settings),
        vertical=_weights(geometry.vertical, settings),
        vertical_first=_vertical_first(geometry),
        values=_values(settings),
    )


def _weights(axis: AxisGeometry, settings: FrameSettings) -> AxisWeights:
    return axis_weights(axis.source, axis.resized, axis.crop_start, axis.taken, settings.interpolation)


def _vertical_first(geometry: FrameGeometry) -> bool:
    """The order of the passes in Pillow since its version 13; before, the horizontal pass was always the first."""
    rows_less = geometry.vertical.source - geometry.vertical.resized
    columns_less = geometry.horizontal.source - geometry.horizontal.resized
    return rows_less > 0 and rows_less > 2 * columns_less


def _values(settings: FrameSettings) -> NDArray[Any]:
    samples = np.arange(256)
    if settings.mean is None or settings.std is None:
        return np.broadcast_to(samples.astype(np.uint8), (3, 256)).copy()
    # The order of the roundings is that of the Hugging Face image processors.
    rescaled = (samples * (1 / 255)).astype(np.float32)
    mean = np.array(settings.mean, dtype=np.float32)[:, None]
    std = np.array(settings.std, dtype=np.float32)[:, None]
    with np.errstate(over="ignore", divide="ignore"):
        values = ((rescaled - mean) / std).astype(settings.dtype)
    if not np.isfinite(values).all():
        raise FrameError(
            f"mean {settings.mean} and std {settings.std} give values beyond the range of {settings.dtype}; "
            "check them, or take float32"
        )
    return values
