"""A camera frame -> the pixel tensor, by the bundle's own contract."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mmedge.bundle import ImageInput
from mmedge.errors import BundleFormatError, FrameInputError, MissingDependencyError

FrameArray = npt.NDArray[np.uint8]

MOST_THREADS = 64
"""Most threads that the frame library takes for one frame."""


class ImagePreprocessor:
    """Makes pixel tensors, and leads boxes back to the frame.

    Args:
        modality: Its name in the manifest.
        contract: What the manifest says of it.
        threads: CPU threads of one frame, 1 to `MOST_THREADS`.

    Attributes:
        modality, contract: As given.

    Raises:
        BundleFormatError: The contract contradicts itself.
        MissingDependencyError: `mmedge_kernels` is not installed.
    """

    def __init__(self, modality: str, contract: ImageInput, threads: int = 1) -> None:
        try:
            from mmedge_kernels import frame as kernel
            from mmedge_kernels.errors import FrameError
        except ImportError as error:
            raise MissingDependencyError(
                f"frames need mmedge_kernels, which comes with mmedge: {error}; reinstall it"
            ) from error
        self.modality = modality
        self.contract = contract
        self._plan_frame = kernel.plan_frame
        self._refused = FrameError
        self._threads = threads
        try:
            self._settings = kernel.FrameSettings(
                size=contract.size,
                resize=cast(Any, contract.resize),
                crop=cast(Any, contract.crop),
                shortest_edge=contract.shortest_edge,
                interpolation=cast(Any, contract.interpolation),
                mean=contract.mean,
                std=contract.std,
                color="bgr",
                layout=cast(Any, contract.layout),
                dtype=cast(Any, contract.tensor.dtype),
                pad_value=contract.pad_value,
            )
            made = self._plan_frame(self._settings, *contract.size).out_shape
        except FrameError as error:
            raise BundleFormatError(f"manifest: the image contract cannot be followed: {error}") from error
        promised = contract.tensor.shape
        if len(promised) != 4 or any(isinstance(a, int) and a != b for a, b in zip(promised, made, strict=True)):
            raise BundleFormatError(f"manifest: the image contract makes {made}, and the model takes {list(promised)}")

    def tensors(self, frame: FrameArray) -> dict[str, npt.NDArray[Any]]:
        """uint8 [H, W, 3] BGR -> the pixel tensor by its name, [1, 3, h, w] or [1, h, w, 3] as the manifest says.

        Raises:
            FrameInputError: `frame` is no such picture.
        """
        check_frame(frame)
        try:
            return {self.contract.tensor.name: self._plan(frame)(frame, threads=self._threads)}
        except self._refused as error:
            raise FrameInputError(str(error)) from error

    def to_frame(self, boxes: npt.NDArray[np.float32], frame: FrameArray) -> npt.NDArray[np.float32]:
        """(cx, cy, w, h) in 0..1 of the model's picture [..., 4] -> xyxy pixels of `frame`, inside of it."""
        geometry = self._plan(frame).geometry
        height, width = geometry.size
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        corners = np.concatenate((centre - half, centre + half), axis=-1) * np.array([width, height] * 2, np.float32)
        mapped: npt.NDArray[np.float32] = geometry.to_frame(corners).astype(np.float32, copy=False)
        return mapped

    def _plan(self, frame: FrameArray) -> Any:
        return self._plan_frame(self._settings, frame.shape[0], frame.shape[1])


def check_frame(frame: object) -> None:
    """Refuse what is no uint8 [H, W, 3] picture, and say how to make one of it.

    Raises:
        FrameInputError: See above.
    """
    if not isinstance(frame, np.ndarray):
        kind = f"{type(frame).__module__}.{type(frame).__qualname__}"
        raise FrameInputError(
            f"a frame must be a numpy array, uint8 [H, W, 3], BGR; got {kind}: convert it with numpy.asarray"
        )
    if frame.size == 0:
        raise FrameInputError(
            f"the frame has no pixels: its shape is {list(frame.shape)}; did the camera give nothing?"
        )
    advice = _shape_advice(frame.shape)
    if advice:
        raise FrameInputError(f"a frame must be [H, W, 3]; got {list(frame.shape)}: {advice}")
    if frame.dtype != np.uint8:
        raise FrameInputError(f"a frame must be uint8, 0..255; got {frame.dtype}: {_dtype_advice(frame.dtype)}")


def _shape_advice(shape: tuple[int, ...]) -> str | None:
    if len(shape) == 3 and shape[2] == 3:
        return None
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return "it is grey; use cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)"
    if len(shape) == 3 and shape[2] == 4:
        return "it has an alpha channel; use cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)"
    if len(shape) == 3 and shape[0] == 3:
        return "channels come last; use numpy.moveaxis(frame, 0, -1)"
    if len(shape) == 4:
        return "give one frame at a time"
    return "it is no colour picture"


def _dtype_advice(dtype: np.dtype[Any]) -> str:
    kinds: dict[str, str] = {
        "f": "for values in 0..1 use (frame * 255).round().clip(0, 255).astype('uint8'), after a look for NaN",
        "u": "for 16-bit pictures use (frame >> 8).astype('uint8')",
        "b": "use frame.astype('uint8') * 255",
    }
    return kinds.get(dtype.kind, "convert it with frame.clip(0, 255).astype('uint8')")
