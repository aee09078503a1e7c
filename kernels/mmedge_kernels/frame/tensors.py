"""Frames that are torch tensors: on an NVIDIA GPU the Triton form, on the CPU what arrays get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmedge_kernels.errors import FrameError, ImplementationError
from mmedge_kernels.frame.tables import FrameTables
from mmedge_kernels.tensors import choose_implementation

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "uint8": torch.uint8}


class TensorPlan:
    """`FrameTables` for torch tensors, on every device that they come from.

    implementation: what the caller asked for. run_array: writes the tensor of a frame into an array, on the CPU.
    """

    def __init__(
        self,
        tables: FrameTables,
        implementation: str,
        run_array: Callable[[NDArray[np.uint8], NDArray[Any], int], None],
    ) -> None:
        self._tables = tables
        self._implementation = implementation
        self._run_array = run_array
        self._gpu_plans: dict[torch.device, Any] = {}

    def __call__(self, frame: Tensor, out: Any, threads: int) -> Tensor:
        """The tensor of a checked frame, on its device."""
        if self._implementation == "triton" or (self._implementation == "auto" and frame.is_cuda):
            # The rules of the other operators, which take no uint8, by a tensor that they take.
            choose_implementation("triton", torch.empty(0, device=frame.device))
            result = self._checked_out(out, frame)
            self._gpu_plan(frame.device).run(frame, result)
            return result
        if frame.device.type != "cpu":
            raise ImplementationError(
                f'implementation "{self._implementation}" runs on the CPU, got a tensor on {frame.device}; move it, or '
                'take "auto"'
            )
        result = self._checked_out(out, frame)
        self._run_array(frame.numpy(), result.numpy(), threads)
        return result

    def _gpu_plan(self, device: torch.device) -> Any:
        if device not in self._gpu_plans:
            from mmedge_kernels.frame.gpu import GpuPlan

            self._gpu_plans[device] = GpuPlan(self._tables, device)
        return self._gpu_plans[device]

    def _checked_out(self, out: Any, frame: Tensor) -> Tensor:
        dtype, shape = _DTYPES[self._tables.settings.dtype], self._tables.out_shape
        if out is None:
            return torch.empty(shape, dtype=dtype, device=frame.device)
        fits = isinstance(out, Tensor) and out.shape == shape and out.dtype == dtype and out.device == frame.device
        if not fits:
            got = f"{out.dtype} {tuple(out.shape)} on {out.device}" if isinstance(out, Tensor) else type(out).__name__
            wanted = f"{self._tables.settings.dtype} {shape} on {frame.device}"
            raise FrameError(f"out must be a torch tensor of {wanted}, got {got.removeprefix('torch.')}")
        if not out.is_contiguous():
            raise FrameError("out must be contiguous; take torch.empty(shape, dtype=dtype, device=device)")
        if out.untyped_storage().data_ptr() == frame.untyped_storage().data_ptr():
            raise FrameError("out must not share memory with the frame; take a tensor of its own")
        result: Tensor = out
        return result


def shape_of(frame: Tensor) -> NDArray[Any]:
    """An array of the frame's shape without memory of its own, for checks that are written for arrays.

    Raises FrameError for what is not uint8: torch has dtypes that numpy has not.
    """
    if frame.dtype != torch.uint8:
        got = str(frame.dtype).removeprefix("torch.")
        raise FrameError(f"frame must be uint8, got {got}; scale it to 0..255 and convert it first")
    return np.broadcast_to(np.zeros((), np.uint8), tuple(frame.shape))
