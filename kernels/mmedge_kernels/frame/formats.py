"""What a frame of each colour format is: its shape, its size in pixels, and its samples as RGB or grey.

YUV is BT.601 limited range, the chroma of a pixel that of its pair or block, and becomes RGB in the fixed-point
arithmetic of OpenCV's ``cvtColor`` (COLOR_YUV2RGB_NV12, COLOR_YUV2RGB_YUYV), equal to it to the bit.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmedge_kernels.errors import FrameError

Color: TypeAlias = Literal["bgr", "rgb", "grey", "nv12", "yuyv"]

YUV_BITS = 20
# Added to each channel for Y - 16, U - 128 and V - 128, in units of 2**-YUV_BITS: 1.164, 2.018, ... rounded.
LUMA = 1220542
BLUE_OF_U = 2116026
GREEN_OF_U, GREEN_OF_V = -409993, -852492
RED_OF_V = 1673527

_SHAPES: dict[Color, str] = {
    "bgr": "uint8 [H, W, 3]",
    "rgb": "uint8 [H, W, 3]",
    "grey": "uint8 [H, W] or [H, W, 1]",
    "nv12": "uint8 [H * 3 / 2, W], H and W even: H rows of Y, then H / 2 rows of U V U V",
    "yuyv": "uint8 [H, W, 2], W even: Y U Y V for two pixels",
}
_ADVICE: dict[Color, str] = {
    "bgr": 'say color="grey", "nv12" or "yuyv" if it is one of those, or turn it into three channels first',
    "rgb": 'say color="grey", "nv12" or "yuyv" if it is one of those, or turn it into three channels first',
    "grey": "take one channel, or say what its colour format is",
    "nv12": "give all rows of both planes as one array, without gaps between them",
    "yuyv": "shape the buffer of the camera as [H, W, 2]; other orders of the bytes must be swapped first",
}


def check_frame(frame: NDArray[np.uint8], color: Color) -> tuple[int, int]:
    """(height, width) in pixels of a frame in the format `color`; raises FrameError unless it has its form."""
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"frame must be a numpy array, {color} {_SHAPES[color]}, got {type(frame).__name__}")
    if frame.dtype != np.uint8:
        raise FrameError(
            f"frame must be {color} {_SHAPES[color]}, got {frame.dtype}; scale it to 0..255 and convert it first"
        )
    if not _fits(frame.shape, color):
        raise FrameError(f"frame must be {color} {_SHAPES[color]}, got shape {frame.shape}; {_ADVICE[color]}")
    if 0 in frame.shape:
        raise FrameError(f"frame has no pixels: shape {frame.shape}; check the camera or the crop")
    height, width = frame.shape[:2]
    if color == "nv12":
        height = height // 3 * 2
    check_picture_size(height, width, color)
    return height, width


def check_picture_size(height: int, width: int, color: Color) -> None:
    """Raises FrameError when pictures of this size do not exist in the format `color`."""
    if (color in ("nv12", "yuyv") and width % 2) or (color == "nv12" and height % 2):
        wanted = "an even height and an even width" if color == "nv12" else "an even width"
        raise FrameError(
            f"{color} frames share chroma between pixels and have {wanted}, got {(height, width)} (height, width); "
            "check with what size the buffer of the camera was shaped"
        )


def _fits(shape: tuple[int, ...], color: Color) -> bool:
    if color == "nv12":
        return len(shape) == 2 and shape[0] % 3 == 0
    if color == "grey":
        return len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
    return len(shape) == 3 and shape[2] == (2 if color == "yuyv" else 3)


def frame_planes(frame: NDArray[np.uint8], color: Color, rows: slice, columns: slice) -> NDArray[np.uint8]:
    """The pixels of `rows` and `columns` of a checked frame, RGB uint8 [3, h, w]; of a grey frame [1, h, w]."""
    if color == "grey":
        return (frame[:, :, 0] if frame.ndim == 3 else frame)[None, rows, columns]
    if color in ("bgr", "rgb"):
        planes = frame[rows, columns].transpose(2, 0, 1)
        return planes[::-1] if color == "bgr" else planes
    pairs = slice(columns.start // 2 * 2, (columns.stop + 1) // 2 * 2)
    if color == "nv12":
        height = frame.shape[0] // 3 * 2
        chroma = frame[height + rows.start // 2 : height + (rows.stop + 1) // 2, pairs].repeat(2, axis=0)
        luma, chroma = frame[rows, columns], chroma[rows.start % 2 :][: rows.stop - rows.start]
    else:
        luma, chroma = frame[rows, columns, 0], frame[rows, pairs, 1]
    u, v = (chroma[:, first::2].repeat(2, axis=1)[:, columns.start % 2 :][:, : luma.shape[1]] for first in (0, 1))
    return yuv_to_rgb(luma, u, v)


def yuv_to_rgb(luma: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 Y, U and V of one shape -> uint8 [3, ...] R, G, B."""
    scaled = np.maximum(luma.astype(np.int32) - 16, 0) * LUMA + (1 << (YUV_BITS - 1))
    u_part, v_part = u.astype(np.int32) - 128, v.astype(np.int32) - 128
    sums = np.empty((3, *luma.shape), dtype=np.int32)
    sums[0] = scaled + RED_OF_V * v_part
    sums[1] = scaled + GREEN_OF_U * u_part + GREEN_OF_V * v_part
    sums[2] = scaled + BLUE_OF_U * u_part
    sums >>= YUV_BITS
    return np.clip(sums, 0, 255, out=sums).astype(np.uint8)
