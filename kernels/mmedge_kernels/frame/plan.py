"""A frame path made ready for one frame size: checks each frame and runs an implementation."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

import numpy as np
from numpy.typing import NDArray

from mmedge_kernels.errors import FrameError, ImplementationError, NativeLibraryError
from mmedge_kernels.frame import native, reference
from mmedge_kernels.frame.formats import Color, check_frame
from mmedge_kernels.frame.geometry import FrameGeometry
from mmedge_kernels.frame.settings import FrameSettings
from mmedge_kernels.frame.tables import FrameTables, frame_tables

if TYPE_CHECKING:
    from torch import Tensor

    from mmedge_kernels.frame.tensors import TensorPlan

Implementation: TypeAlias = Literal["auto", "native", "reference", "triton"]

_PLANS_KEPT = 16
_MAX_THREADS = 64


class FramePlan:
    """Frames of one size -> tensors of one form. Safe to call from several threads at once.

    geometry: where the pixels go, and the way back for boxes.
    """

    def __init__(self, tables: FrameTables, asked: Implementation, native_plan: native.NativePlan | None) -> None:
        self._tables = tables
        self._asked = asked
        self._native = native_plan
        self._tensor_plan: TensorPlan | None = None

    @property
    def geometry(self) -> FrameGeometry:
        return self._tables.geometry

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor."""
        return self._tables.out_shape

    @property
    def implementation(self) -> Literal["native", "reference", "triton"]:
        """What the plan runs; with "auto", what it runs for frames in the CPU's memory."""
        if self._asked == "triton":
            return "triton"
        return "reference" if self._native is None else "native"

    @overload
    def __call__(
        self, frame: NDArray[np.uint8], *, out: NDArray[Any] | None = None, threads: int = 1
    ) -> NDArray[Any]: ...

    @overload
    def __call__(self, frame: Tensor, *, out: Tensor | None = None, threads: int = 1) -> Tensor: ...

    def __call__(self, frame: Any, *, out: Any = None, threads: int = 1) -> Any:
        """The tensor of `frame`; arguments, result and errors as for `frame_to_tensor`."""
        height, width = frame_size(frame, self._tables.settings.color)
        if (height, width) != self.geometry.frame_size:
            raise FrameError(
                f"this plan takes frames of {self.geometry.frame_size} (height, width), got {(height, width)} in an "
                f"array of shape {tuple(frame.shape)}; make a plan for the new size"
            )
        if not isinstance(threads, int) or not 1 <= threads <= _MAX_THREADS:
            raise FrameError(f"threads must be a whole number from 1 to {_MAX_THREADS}, got {threads!r}")
        if is_tensor(frame):
            return self._for_tensors()(frame, out, threads)
        if self._asked == "triton":
            raise ImplementationError(
                'implementation "triton" takes torch tensors, got a numpy array; use torch.from_numpy(frame).cuda()'
            )
        out = np.empty(self.out_shape, self._tables.values.dtype) if out is None else self._checked_out(out, frame)
        self._run(frame, out, threads)
        return out

    def _run(self, frame: NDArray[np.uint8], out: NDArray[Any], threads: int) -> None:
        if self._native is None:
            reference.run(self._tables, frame, out)
        else:
            self._native.run(frame, out, min(threads, self.geometry.size[0]))

    def _for_tensors(self) -> TensorPlan:
        if self._tensor_plan is None:
            # Only here: whoever has a tensor has torch.
            from mmedge_kernels.frame.tensors import TensorPlan

            self._tensor_plan = TensorPlan(self._tables, self._asked, self._run)
        return self._tensor_plan

    def _checked_out(self, out: NDArray[Any], frame: NDArray[np.uint8]) -> NDArray[Any]:
        dtype = self._tables.values.dtype
        if not isinstance(out, np.ndarray) or out.shape != self.out_shape or out.dtype != dtype:
            got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise FrameError(f"out must be a numpy array of {dtype} {self.out_shape}, got {got}")
        if not out.flags.c_contiguous or not out.flags.writeable or not out.flags.aligned:
            raise FrameError("out must be C-contiguous, aligned and writeable; take numpy.empty(shape, dtype)")
        if np.may_share_memory(out, frame):
            raise FrameError("out must not share memory with the frame; take an array of its own")
        return out


@functools.lru_cache(maxsize=_PLANS_KEPT)
def cached_plan(settings: FrameSettings, height: int, width: int, implementation: Implementation) -> FramePlan:
    """The plan for these settings and this frame size; the last few are kept.

    Raises FrameError, and NativeLibraryError when implementation is "native" and the library cannot be used.
    """
    if implementation not in get_args(Implementation):
        raise FrameError(f"implementation must be one of {', '.join(get_args(Implementation))}, got {implementation!r}")
    tables = frame_tables(settings, height, width)
    use_native = implementation == "native" or (implementation == "auto" and native_status()[0])
    return FramePlan(tables, implementation, native.NativePlan(tables) if use_native else None)


def native_status() -> tuple[bool, str]:
    """(True, the instruction-set variant in use) or (False, why the native library cannot be used)."""
    try:
        return True, native.variants()[0]
    except NativeLibraryError as error:
        return False, str(error)


def is_tensor(frame: object) -> bool:
    """Whether `frame` is a torch tensor, asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(frame, torch.Tensor)


def frame_size(frame: Any, color: Color) -> tuple[int, int]:
    """(height, width) in pixels of an array or a tensor; raises FrameError unless it has the form of `color`."""
    if is_tensor(frame):
        from mmedge_kernels.frame.tensors import shape_of

        return check_frame(shape_of(frame), color)
    return check_frame(frame, color)
