"""The GPU, through PyCUDA: memory, one stream, and arrays that stay on it between stages."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mmedge.engines import Array
from mmedge.errors import EngineError


class DeviceArray:
    """An array in the memory of a GPU: dense, in C order. Nothing changes it once it is handed out.

    Attributes:
        shape, dtype, nbytes: As of a numpy array.
        device: Where it is.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: np.dtype[Any], memory: Any = None) -> None:
        self.device = device
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        self._memory = device.allocate(self.nbytes) if memory is None else memory

    @property
    def address(self) -> int:
        return int(self._memory)

    def numpy(self) -> Array:
        """A new array on the host.

        Raises:
            EngineError: The GPU failed.
        """
        with self.device.active():
            return self.device.fetch([self])[0]


class Device:
    """One GPU with one stream: what is put into it runs in that order. Any thread may use it, one at a time.

    Args:
        ordinal: Number of the GPU.

    Attributes:
        architecture: Such as ``sm_87``.
        driver_version: Newest CUDA version that the driver knows, such as 12060.

    Raises:
        EngineError: PyCUDA is not installed, or there is no such GPU.
    """

    def __init__(self, ordinal: int = 0) -> None:
        try:
            self._driver: Any = importlib.import_module("pycuda.driver")
        except (ImportError, OSError) as error:  # OSError: the driver's library does not load
            raise EngineError(
                f"running TensorRT engines needs PyCUDA ({error}); install it where the CUDA toolkit is: "
                "pip install pycuda"
            ) from error
        self._lock = threading.RLock()
        try:
            self._driver.init()
            device = self._driver.Device(ordinal)
            major, minor = device.compute_capability()
            # Other libraries of the process use the same context, so that memory can pass between them.
            self._context = device.retain_primary_context()
        except self._driver.Error as error:
            raise EngineError(f"there is no GPU {ordinal} that works: {error}; `nvidia-smi` shows which do") from error
        self.architecture = f"sm_{major}{minor}"
        self.driver_version = int(self._driver.get_driver_version())
        with self.active():
            self._stream = self._driver.Stream()

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream.handle)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Makes the GPU current on this thread and keeps others out; errors of the driver become EngineError."""
        with self._lock:
            self._context.push()
            try:
                yield
            except self._driver.Error as error:
                raise EngineError(f"the GPU failed: {' '.join(str(error).split())}") from error
            finally:
                self._context.pop()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes the GPU current on this thread, for work of the library's own that need not keep others out."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, size: int) -> Any:
        """Memory that is freed when nobody holds it. Call it while the GPU is `active`."""
        # An address is needed also for an array without elements.
        return self._driver.mem_alloc(max(size, 1))

    def free_bytes(self) -> int:
        """Bytes of device memory that nobody uses."""
        with self.active():
            return int(self._driver.mem_get_info()[0])

    def put(self, target: DeviceArray, source: Array | DeviceArray) -> None:
        """Copy into `target`, in the order of the stream; `source` has its shape and dtype."""
        if not target.nbytes:
            return
        if isinstance(source, DeviceArray):
            self._driver.memcpy_dtod_async(target.address, source.address, target.nbytes, self._stream)
        else:
            self._driver.memcpy_htod_async(target.address, np.asarray(source, order="C"), self._stream)

    def fetch(self, arrays: list[DeviceArray]) -> list[Array]:
        """New arrays on the host, when everything in the stream is done."""
        results: list[Array] = [np.empty(array.shape, array.dtype) for array in arrays]
        for array, result in zip(arrays, results, strict=True):
            if array.nbytes:
                self._driver.memcpy_dtoh_async(result, array.address, self._stream)
        self._stream.synchronize()
        return results

    def wait(self) -> None:
        """Return when everything in the stream is done."""
        self._stream.synchronize()
