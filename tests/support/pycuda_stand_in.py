"""A stand-in for `pycuda.driver` that runs nothing and writes down what it was asked for.

Names, order and meaning of the arguments are those of PyCUDA 2026.1.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any


class Error(Exception):
    """As `pycuda.driver.Error`."""


class Driver:
    """The module. calls: what was asked for, in order; launches: the arguments as bytes, as the GPU would get them."""

    Error = Error
    function_attribute = SimpleNamespace(MAX_DYNAMIC_SHARED_SIZE_BYTES="max-dynamic-shared")

    def __init__(self, sm: int = 87, version: int = 12060, *, context: bool = True, loads: bool = True) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.launches: list[bytes] = []
        self._sm, self._version, self._context, self._loads = sm, version, context, loads
        self.Context = SimpleNamespace(get_device=self._device)

    def _device(self) -> Any:
        if not self._context:
            raise Error("invalid device context")
        return SimpleNamespace(compute_capability=lambda: divmod(self._sm, 10))

    def get_driver_version(self) -> int:
        return self._version

    def module_from_buffer(self, buffer: bytes) -> Any:
        self.calls.append(("module_from_buffer", bytes(buffer)))
        if not self._loads:
            raise Error("cuModuleLoadDataEx failed: no kernel image is available")
        return SimpleNamespace(get_function=self._function)

    def _function(self, name: str) -> Function:
        self.calls.append(("get_function", name))
        return Function(self)


class Function:
    """As `pycuda.driver.Function`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._format = ""

    def set_attribute(self, attribute: str, value: int) -> None:
        self._driver.calls.append(("set_attribute", attribute, value))

    def prepare(self, arg_types: str) -> Function:
        self._format = arg_types
        self._driver.calls.append(("prepare", arg_types))
        return self

    def prepared_async_call(self, grid: Any, block: Any, stream: Any, *args: int, shared_size: int = 0) -> None:
        self._driver.calls.append(("launch", grid, block, stream, shared_size))
        self._driver.launches.append(struct.pack(self._format, *args))
