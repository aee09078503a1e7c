"""Camera frame -> model tensor: colour format, antialiased resize, crop or padding, normalisation and layout at once.

The resized picture is Pillow's to the bit, so a model sees on the device what it saw in training. Three
implementations give the same bits: `native.py` (C++ with SIMD), `triton.py` (on a GPU) and `reference.py` (numpy).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmedge_kernels.frame.coefficients import Interpolation
from mmedge_kernels.frame.formats import Color
from mmedge_kernels.frame.geometry import CropMode, FrameGeometry, ResizeMode, frame_geometry
from mmedge_kernels.frame.plan import FramePlan, Implementation, cached_plan, frame_size, native_status
from mmedge_kernels.frame.settings import FrameSettings, Layout, OutputType

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FrameGeometry",
    "FramePlan",
    "FrameSettings",
    "frame_geometry",
    "frame_to_tensor",
    "native_status",
    "plan_frame",
]


def frame_to_tensor(
    frame: NDArray[np.uint8] | Tensor,
    *,
    size: tuple[int, int],
    resize: ResizeMode = "shortest-edge",
    crop: CropMode = "center",
    shortest_edge: int | None = None,
    interpolation: Interpolation = "bicubic",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    color: Color = "bgr",
    layout: Layout = "nchw",
    dtype: OutputType = "float32",
    pad_value: int = 0,
    out: NDArray[Any] | Tensor | None = None,
    threads: int = 1,
    implementation: Implementation = "auto",
) -> Any:
    """The model's input tensor of one camera frame, channels in RGB order.

    frame: uint8, an array or a torch tensor, any strides, not modified; its shape follows from color. Rows may be any
      distance apart; other gaps between bytes cost a copy on the CPU. color:
      "bgr", "rgb"  [H, W, 3], "bgr" as OpenCV gives it.
      "grey"        [H, W] or [H, W, 1]; becomes three equal channels.
      "nv12"        [H * 3 / 2, W], H and W even: H rows of Y, then H / 2 rows of U V U V.
      "yuyv"        [H, W, 2], W even: Y U Y V for two pixels.
      YUV is BT.601 limited range and becomes RGB to the bit as by ``cv2.cvtColor`` (COLOR_YUV2RGB_NV12,
      COLOR_YUV2RGB_YUYV); then all formats are alike.
    size, resize, crop, shortest_edge: what part of the frame lands where, see `frame_geometry`; size is (height,
      width). interpolation: "bicubic" or "bilinear", antialiased, equal to the bit to ``Image.resize`` of Pillow 13
      with BICUBIC or BILINEAR. Older versions differ by at most a few levels, and only where the height shrinks by
      more than twice as many pixels as the width does.
    mean, std: three numbers each, in RGB order. An element is ``(float32(sample * (1 / 255)) - mean) / std`` in
      float32, to the bit what the Hugging Face image processors compute, then rounded to `dtype` ("float32" or
      "float16"). dtype "uint8": the samples as they are; mean and std are not used.
    pad_value: uint8 sample of the padding, normalised like the others.
    layout: "nchw" -> [1, 3, h, w], "nhwc" -> [1, h, w, 3].
    out: an array of the result's shape and dtype, C-contiguous, to write into; given again for each frame, a native
      run makes no arrays, and with one thread the library allocates nothing.
    threads: bands of rows computed at the same time by the native implementation, 1 to 64.
    implementation: "native", "reference", "triton", or "auto": Triton for tensors on an NVIDIA GPU, and for all others
      native where the library is there.

    Returns `out` or a new array; for a torch tensor a tensor on its device. Tables are made for the first frame of a
    size and kept for the last 16 combinations.
    Raises FrameError for a frame, out or setting that does not fit, NativeLibraryError when implementation is
    "native" and the library cannot be used, ImplementationError when one is asked for that cannot run where the frame
    is.
    """
    settings = FrameSettings(
        size=size,
        resize=resize,
        crop=crop,
        shortest_edge=shortest_edge,
        interpolation=interpolation,
        mean=mean,
        std=std,
        color=color,
        layout=layout,
        dtype=dtype,
        pad_value=pad_value,
    )
    height, width = frame_size(frame, settings.color)
    plan: Any = cached_plan(settings, height, width, implementation)
    return plan(frame, out=out, threads=threads)


def plan_frame(
    settings: FrameSettings, height: int, width: int, *, implementation: Implementation = "auto"
) -> FramePlan:
    """A plan for frames of `height` x `width` pixels, to be called once a frame: ``plan(frame, out=out)``.

    Worth it where the frame size is known before the first frame, or where several cameras of one size share a plan.
    Raises like `frame_to_tensor`.
    """
    return cached_plan(settings, height, width, implementation)
