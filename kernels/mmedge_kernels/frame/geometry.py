"""Where each pixel of a frame lands in the model's input: resize, crop and padding, without any pixel work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmedge_kernels.errors import FrameError

ResizeMode: TypeAlias = Literal["shortest-edge", "stretch", "letterbox"]
CropMode: TypeAlias = Literal["center", "none"]

MAX_EDGE = 65_536
MAX_FRAME_PIXELS = 2**28
MAX_OUTPUT_PIXELS = 2**26


@dataclass(frozen=True)
class AxisGeometry:
    """One axis of a frame's way into the model's input, in pixels.

    ``source`` pixels are resized to ``resized``; of those, ``taken`` from ``crop_start`` on are kept and lie in the
    output of ``size`` pixels from ``pad_start`` on. The rest of the output is padding.
    """

    source: int
    resized: int
    size: int
    crop_start: int
    pad_start: int
    taken: int

    def to_frame(self, positions: NDArray[np.float64], clip: bool) -> NDArray[np.float64]:
        moved = (positions - self.pad_start + self.crop_start) * (self.source / self.resized)
        return np.clip(moved, 0.0, self.source) if clip else moved

    def to_input(self, positions: NDArray[np.float64], clip: bool) -> NDArray[np.float64]:
        moved = positions * (self.resized / self.source) - self.crop_start + self.pad_start
        return np.clip(moved, self.pad_start, self.pad_start + self.taken) if clip else moved


@dataclass(frozen=True)
class FrameGeometry:
    """How a frame of one size becomes a model input of one size; see `frame_geometry`."""

    vertical: AxisGeometry
    horizontal: AxisGeometry

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the frame."""
        return self.vertical.source, self.horizontal.source

    @property
    def resized_size(self) -> tuple[int, int]:
        """(height, width) after the resize, before crop and padding."""
        return self.vertical.resized, self.horizontal.resized

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the model's input."""
        return self.vertical.size, self.horizontal.size

    @property
    def crop_offset(self) -> tuple[int, int]:
        """(top, left) of the crop in the resized picture."""
        return self.vertical.crop_start, self.horizontal.crop_start

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) padding pixels of the model's input."""
        vertical, horizontal = self.vertical, self.horizontal
        bottom = vertical.size - vertical.pad_start - vertical.taken
        right = horizontal.size - horizontal.pad_start - horizontal.taken
        return vertical.pad_start, bottom, horizontal.pad_start, right

    def to_frame(self, boxes: ArrayLike, *, clip: bool = True) -> NDArray[np.floating[Any]]:
        """Boxes in the model input's pixels -> boxes in the frame's pixels.

        boxes: xyxy, [..., 4]; pixel edges are whole numbers, so the whole input is (0, 0, width, height).
        clip: keep the result inside the frame.
        Returns float32 for float16 and float32 boxes, else float64, [..., 4].
        Raises FrameError when the last dimension is not 4.
        """
        return self._map(boxes, "to_frame", clip)

    def to_input(self, boxes: ArrayLike, *, clip: bool = True) -> NDArray[np.floating[Any]]:
        """The inverse of `to_frame`; clip keeps the result inside the picture, outside of the padding."""
        return self._map(boxes, "to_input", clip)

    def _map(self, boxes: ArrayLike, direction: Literal["to_frame", "to_input"], clip: bool) -> NDArray[Any]:
        given = np.asarray(boxes)
        if given.ndim == 0 or given.shape[-1] != 4 or given.dtype.kind not in "iuf":
            raise FrameError(
                f"boxes must be numbers of shape [..., 4] (x0, y0, x1, y1), got {given.dtype} of shape "
                f"{given.shape}; reshape or convert them first"
            )
        exact = given.astype(np.float64)
        moved = np.empty_like(exact)
        moved[..., 0::2] = getattr(self.horizontal, direction)(exact[..., 0::2], clip)
        moved[..., 1::2] = getattr(self.vertical, direction)(exact[..., 1::2], clip)
        return moved.astype(np.result_type(given.dtype, np.float32), copy=False)


def frame_geometry(
    height: int,
    width: int,
    *,
    size: tuple[int, int],
    resize: ResizeMode = "shortest-edge",
    crop: CropMode = "center",
    shortest_edge: int | None = None,
) -> FrameGeometry:
    """The geometry of a frame of `height` x `width` pixels on its way to a model input of `size` (height, width).

    resize:
      "shortest-edge"  the shortest edge becomes `shortest_edge` (default: the smaller of `size`), the other one
                       ``int(shortest_edge * long / short)``; then the centre of `size` is cut out, with padding
                       where the resized picture is smaller. The rule of the Hugging Face CLIPImageProcessor: the
                       crop starts at ``(resized - size) // 2``, the padding at ``ceil((size - resized) / 2)``.
      "stretch"        straight to `size`; the aspect ratio changes.
      "letterbox"      as large as fits into `size` with the aspect ratio kept: each edge is
                       ``round(edge * min(size_h / height, size_w / width))``, halves to even, at least 1; padding
                       on both sides, the odd pixel at the bottom and on the right.
    crop: "center", or "none", which "shortest-edge" does not take because its result would not be of `size`; the
      other modes have nothing to crop.

    Raises FrameError for sizes below 1 or beyond the limits (edges of 65,536, frames of 2**28 pixels, inputs of
    2**26) and for modes that are unknown or do not go together.
    """
    source_height, source_width = _checked_size("frame", (height, width), MAX_FRAME_PIXELS)
    out_height, out_width = _checked_size("size", size, MAX_OUTPUT_PIXELS)
    _check_modes(resize, crop, shortest_edge)
    if resize == "shortest-edge":
        target = min(out_height, out_width) if shortest_edge is None else shortest_edge
        resized = _shortest_edge_size(source_height, source_width, target)
    elif resize == "stretch":
        resized = (out_height, out_width)
    else:
        scale = min(out_height / source_height, out_width / source_width)
        resized = (max(1, round(source_height * scale)), max(1, round(source_width * scale)))
    pad_low = resize == "letterbox"
    return FrameGeometry(
        vertical=_axis(source_height, resized[0], out_height, pad_low),
        horizontal=_axis(source_width, resized[1], out_width, pad_low),
    )


def _axis(source: int, resized: int, size: int, pad_low: bool) -> AxisGeometry:
    spare = size - resized
    return AxisGeometry(
        source=source,
        resized=resized,
        size=size,
        crop_start=max(0, (resized - size) // 2),
        pad_start=0 if spare <= 0 else spare // 2 if pad_low else (spare + 1) // 2,
        taken=min(size, resized),
    )


def _shortest_edge_size(height: int, width: int, target: int) -> tuple[int, int]:
    short, long = min(height, width), max(height, width)
    other = int(target * long / short)
    return (other, target) if width <= height else (target, other)


def _checked_size(name: str, given: Any, max_pixels: int) -> tuple[int, int]:
    try:
        height, width = (int(edge) for edge in given)
        whole = (height, width) == tuple(given)
    except (TypeError, ValueError):
        whole = False
    if not whole or not (1 <= height <= MAX_EDGE and 1 <= width <= MAX_EDGE) or height * width > max_pixels:
        raise FrameError(
            f"{name} must be (height, width), whole numbers from 1 to {MAX_EDGE} with at most {max_pixels} pixels "
            f"together, got {given!r}"
        )
    return height, width


def _check_modes(resize: str, crop: str, shortest_edge: int | None) -> None:
    if resize not in ("shortest-edge", "stretch", "letterbox"):
        raise FrameError(f'resize must be "shortest-edge", "stretch" or "letterbox", got {resize!r}')
    if crop not in ("center", "none"):
        raise FrameError(f'crop must be "center" or "none", got {crop!r}')
    if resize == "shortest-edge" and crop == "none":
        raise FrameError(
            'resize="shortest-edge" needs crop="center"; for the whole frame take "stretch" or "letterbox"'
        )
    if shortest_edge is None:
        return
    if resize != "shortest-edge":
        raise FrameError(f'shortest_edge goes with resize="shortest-edge" only, got resize={resize!r}; leave it out')
    if not isinstance(shortest_edge, (int, np.integer)) or not 1 <= shortest_edge <= MAX_EDGE:
        raise FrameError(f"shortest_edge must be a whole number from 1 to {MAX_EDGE}, got {shortest_edge!r}")
