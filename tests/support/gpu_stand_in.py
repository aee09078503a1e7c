"""A stand-in for a GPU: `pycuda.driver` and `cuda.bindings.driver` on memory of the host.

Names, order and meaning of the arguments are those of PyCUDA 2026.1 and cuda-bindings 13.5. It is stricter than a GPU:
what is put into a stream happens when somebody waits for it and not before, every call needs a context on its thread,
and memory that was freed is gone.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

Work = Callable[[], None]


class Error(Exception):
    """As `pycuda.driver.Error`."""


class CUresult(enum.Enum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class Gpu:
    """One GPU.

    Attributes:
        calls: Kinds of what was asked for, in order.
        captures: Whether it can record graphs.
        launches: Whether it runs what it recorded.
    """

    def __init__(self, *, sm: int = 89) -> None:
        self.calls: list[str] = []
        self.captures = True
        self.launches = True
        self.capturing: list[Work] | None = None
        self._sm = sm
        self._memory: dict[int, bytearray] = {}
        self._next = 0x1000
        self._queue: list[Work] = []
        self._depth = threading.local()

    def check_current(self) -> None:
        if getattr(self._depth, "value", 0) < 1:
            raise Error("invalid device context")

    def enqueue(self, kind: str, work: Work) -> None:
        self.check_current()
        self.calls.append(kind)
        (self._queue if self.capturing is None else self.capturing).append(work)

    def synchronize(self) -> None:
        self.check_current()
        self.calls.append("synchronize")
        self.flush()

    def flush(self) -> None:
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def read(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return np.frombuffer(bytes(self._memory[address][:size]), dtype).reshape(shape)

    def write(self, address: int, data: bytes) -> None:
        memory = self._memory[address]
        assert len(data) <= len(memory), "written beyond the end"
        memory[: len(data)] = data

    @property
    def allocations(self) -> int:
        return len(self._memory)

    def allocate(self, size: int) -> _Allocation:
        self.check_current()
        assert size > 0, "PyCUDA cannot allocate nothing"
        address, self._next = self._next, self._next + size + 256 - size % 256
        # Whatever is read before it is written shows itself.
        self._memory[address] = bytearray(b"\xff" * size)
        return _Allocation(self, address)

    def free(self, address: int) -> None:
        # As cuMemFree: what still runs ends first.
        self.flush()
        del self._memory[address]

    def pycuda(self) -> ModuleType:
        """A module `pycuda.driver`."""
        module = ModuleType("pycuda.driver")
        members: dict[str, Any] = {
            "Error": Error,
            "init": lambda: None,
            "Device": self._device,
            "Stream": lambda: SimpleNamespace(handle=7, synchronize=self.synchronize),
            "mem_alloc": self.allocate,
            "mem_get_info": lambda: (6 << 30, 8 << 30),
            "get_driver_version": lambda: 13000,
            "memcpy_htod_async": self._to_device,
            "memcpy_dtoh_async": self._to_host,
            "memcpy_dtod_async": self._within,
        }
        for name, value in members.items():
            setattr(module, name, value)
        return module

    def cuda_bindings(self) -> ModuleType:
        """A module `cuda.bindings.driver`."""
        module = ModuleType("cuda.bindings.driver")
        members: dict[str, Any] = {
            "CUresult": CUresult,
            "CUstreamCaptureMode": SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1),
            "cuStreamBeginCapture": self._begin,
            "cuStreamEndCapture": self._end,
            "cuGraphInstantiate": lambda graph, flags: (CUresult.CUDA_SUCCESS, tuple(graph)),
            "cuGraphDestroy": lambda graph: (CUresult.CUDA_SUCCESS,),
            "cuGraphExecDestroy": self._forget,
            "cuGraphLaunch": self._launch,
        }
        for name, value in members.items():
            setattr(module, name, value)
        return module

    def _device(self, ordinal: int) -> Any:
        if ordinal:
            raise Error("invalid device ordinal")
        return SimpleNamespace(
            compute_capability=lambda: divmod(self._sm, 10),
            retain_primary_context=lambda: SimpleNamespace(push=lambda: self._shift(1), pop=lambda: self._shift(-1)),
        )

    def _shift(self, by: int) -> None:
        self._depth.value = getattr(self._depth, "value", 0) + by
        assert self._depth.value >= 0

    def _to_device(self, target: int, source: np.ndarray[Any, Any], stream: Any) -> None:
        assert source.flags["C_CONTIGUOUS"]
        data = source.tobytes()
        self.enqueue("to device", lambda: self.write(target, data))

    def _to_host(self, target: np.ndarray[Any, Any], source: int, stream: Any) -> None:
        def work() -> None:
            target[...] = self.read(source, target.shape, target.dtype)

        self.enqueue("to host", work)

    def _within(self, target: int, source: int, size: int, stream: Any) -> None:
        self.enqueue("within", lambda: self.write(target, bytes(self._memory[source][:size])))

    def _begin(self, stream: int, mode: int) -> tuple[CUresult]:
        if not self.captures:
            return (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        assert stream == 7
        self.capturing = []
        self.calls.append("capture")
        return (CUresult.CUDA_SUCCESS,)

    def _end(self, stream: int) -> tuple[CUresult, list[Work]]:
        graph, self.capturing = self.capturing or [], None
        return CUresult.CUDA_SUCCESS, graph

    def _launch(self, graph: tuple[Work, ...], stream: int) -> tuple[CUresult]:
        if not self.launches:
            return (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        self.enqueue("launch graph", lambda: [work() for work in graph] and None)
        return (CUresult.CUDA_SUCCESS,)

    def _forget(self, graph: tuple[Work, ...]) -> tuple[CUresult]:
        self.calls.append("forget graph")
        return (CUresult.CUDA_SUCCESS,)


class _Allocation:
    """As `pycuda.driver.DeviceAllocation`: frees its memory when it goes."""

    def __init__(self, gpu: Gpu, address: int) -> None:
        self._gpu = gpu
        self._address = address

    def __int__(self) -> int:
        return self._address

    def __del__(self) -> None:
        self._gpu.free(self._address)
