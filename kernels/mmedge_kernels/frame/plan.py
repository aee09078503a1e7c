"""A frame path made ready for one frame size: checks each frame and runs an implementation."""

from __future__ import annotations

import functools
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmedge_kernels.errors import FrameError, NativeLibraryError
from mmedge_kernels.frame import native, reference
from mmedge_kernels.frame.geometry import FrameGeometry
from mmedge_kernels.frame.settings import FrameSettings
from mmedge_kernels.frame.tables import FrameTables, frame_tables

Implementation: TypeAlias = Literal["auto", "native", "reference"]

_PLANS_KEPT = 16
_MAX_THREADS = 64


class FramePlan:
    """Frames of one size -> tensors of one form. Safe to call from several threads at once.

    geometry: where the pixels go, and the way back for boxes.
    """

    def __init__(self, tables: FrameTables, native_plan: native.NativePlan | None) -> None:
        self._tables = tables
        self._native = native_plan

    @property
    def geometry(self) -> FrameGeometry:
        return self._tables.geometry

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor."""
        return self._tables.out_shape

    @property
    def implementation(self) -> Literal["native", "reference"]:
        """What the plan runs."""
        return "reference" if self._native is None else "native"

    def __call__(self, frame: NDArray[np.uint8], *, out: NDArray[Any] | None = None, threads: int = 1) -> NDArray[Any]:
        """The tensor of `frame`; arguments, result and errors as for `frame_to_tensor`."""
        height, width = check_frame(frame)
        if (height, width) != self.geometry.frame_size:
            raise FrameError(
                f"this plan takes frames of {self.geometry.frame_size} (height, width), got {(height, width)}; "
                "make a plan for the new size"
            )
        if not isinstance(threads, int) or not 1 <= threads <= _MAX_THREADS:
            raise FrameError(f"threads must be a whole number from 1 to {_MAX_THREADS}, got {threads!r}")
        out = np.empty(self.out_shape, self._tables.values.dtype) if out is None else self._checked_out(out, frame)
        if self._native is None:
            reference.run(self._tables, frame, out)
        else:
            self._native.run(frame, out, min(threads, self.geometry.size[0]))
        return out

    def _checked_out(self, out: NDArray[Any], frame: NDArray[np.uint8]) -> NDArray[Any]:
        dtype = self._tables.values.dtype
        if not isinstance(out, np.ndarray) or out.shape != self.out_shape or out.dtype != dtype:
            got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise FrameError(f"out must be a numpy array of {dtype} {self.out_shape}, got {got}")
        if not out.flags.c_contiguous or not out.flags.writeable:
            raise FrameError("out must be C-contiguous and writeable; take numpy.empty(shape, dtype)")
        if np.may_share_memory(out, frame):
            raise FrameError("out must not share memory with the frame; take an array of its own")
        return out


@functools.lru_cache(maxsize=_PLANS_KEPT)
def cached_plan(settings: FrameSettings, height: int, width: int, implementation: Implementation) -> FramePlan:
    """The plan for these settings and this frame size; the last few are kept.

    Raises FrameError, and NativeLibraryError when implementation is "native" and the library cannot be used.
    """
    if implementation not in ("auto", "native", "reference"):
        raise FrameError(f'implementation must be "auto", "native" or "reference", got {implementation!r}')
    tables = frame_tables(settings, height, width)
    use_native = implementation == "native" or (implementation == "auto" and native_status()[0])
    return FramePlan(tables, native.NativePlan(tables) if use_native else None)


def native_status() -> tuple[bool, str]:
    """(True, the instruction-set variant in use) or (False, why the native library cannot be used)."""
    try:
        return True, native.variants()[0]
    except NativeLibraryError as error:
        return False, str(error)


def check_frame(frame: NDArray[np.uint8]) -> tuple[int, int]:
    """(height, width) of a frame; raises FrameError unless it is uint8 [H, W, 3]."""
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"frame must be a numpy array, uint8 [H, W, 3], got {type(frame).__name__}")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise FrameError(
            f"frame must be uint8 [H, W, 3], got shape {frame.shape}; turn grey or four-channel pictures into three "
            "channels first"
        )
    if frame.dtype != np.uint8:
        raise FrameError(f"frame must be uint8 [H, W, 3], got {frame.dtype}; scale it to 0..255 and convert it first")
    if 0 in frame.shape:
        raise FrameError(f"frame has no pixels: shape {frame.shape}; check the camera or the crop")
    return frame.shape[0], frame.shape[1]
