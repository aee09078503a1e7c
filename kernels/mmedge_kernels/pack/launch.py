"""Loading and launching a compiled kernel through PyCUDA, with every argument checked."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, SupportsInt, TypeAlias

from mmedge_kernels.errors import PackError, TensorError
from mmedge_kernels.pack.manifest import ELEMENT_BYTES, PackedKernel
from mmedge_kernels.specification import Parameter

Argument: TypeAlias = int | SupportsInt

ALIGNMENT = 16
"""Bytes of which aligned pointers are a multiple, and of which aligned numbers are one."""

_STATIC_LIMIT = 48 << 10  # more shared memory than this must be asked for, kernel by kernel
_LARGEST_GRID = (2**31 - 1, 65535, 65535)
_LARGEST_NUMBER = 2**31 - 1
_THREADS_PER_WARP = 32


class LoadedKernel:
    """A kernel in the CUDA context in which it was loaded. kernel: what it is."""

    def __init__(self, kernel: PackedKernel, module: Any, function: Any) -> None:
        self.kernel = kernel
        self._module = module  # unloads its code when it goes
        self._function = function
        self._block = (kernel.warps * _THREADS_PER_WARP, 1, 1)

    def launch(self, stream: Any, arguments: Mapping[str, Argument]) -> None:
        """Put one run into `stream`; returns before it is done.

        stream: a ``pycuda.driver.Stream``, or None for the default stream. arguments: by name, exactly the kernel's
        pointers and its `numbers`. A pointer is a device address, or an object that int() turns into one
        (``DeviceAllocation``); the tensor behind it is contiguous and has the shape that the kernel names.
        Raises TensorError for a missing or unknown name, a null or misaligned pointer, a number out of range, or a
        grid that is empty or too large.
        """
        grid, values = launch_values(self.kernel, arguments)
        self._function.prepared_async_call(grid, self._block, stream, *values, shared_size=self.kernel.shared_bytes)


def load_kernel(kernel: PackedKernel, cubin: bytes) -> LoadedKernel:
    """Load verified machine code into the current context; raises PackError when the driver does not take it."""
    driver = _pycuda()
    cuda = driver.get_driver_version() // 1000
    if cuda < int(kernel.toolkit.split(".")[0]):
        raise PackError(
            f"{kernel.name} was assembled with CUDA {kernel.toolkit}, this driver is for CUDA {cuda}: update it, or "
            "make the pack for the target that names this driver"
        )
    try:
        module = driver.module_from_buffer(cubin)
        function = module.get_function(kernel.entry)
        if kernel.shared_bytes > _STATIC_LIMIT:
            attribute = driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            function.set_attribute(attribute, kernel.shared_bytes)
        function.prepare(argument_format(kernel))
    except driver.Error as error:
        raise PackError(f"{kernel.name} ({kernel.architecture}) was not loaded by the driver: {error}") from error
    return LoadedKernel(kernel, module, function)


def current_sm() -> int:
    """The architecture of the GPU of the current CUDA context, such as 87. Raises PackError when there is none."""
    driver = _pycuda()
    try:
        major, minor = driver.Context.get_device().compute_capability()
    except driver.Error as error:
        raise PackError(f"no CUDA context is current ({error}); make one, or import pycuda.autoprimaryctx") from error
    return int(major) * 10 + int(minor)


def argument_format(kernel: PackedKernel) -> str:
    """The arguments as `struct` writes them, scratch pointers included: ``PPiiPP``."""
    own = "".join("P" if parameter.is_pointer else "i" for parameter in kernel.parameters)
    return own + "P" * len(kernel.scratch)


def launch_values(kernel: PackedKernel, arguments: Mapping[str, Argument]) -> tuple[tuple[int, int, int], list[int]]:
    """Grid and argument values, in the kernel's order and with null for the scratch pointers; raises TensorError."""
    pointers = [parameter.name for parameter in kernel.parameters if parameter.is_pointer]
    expected = {*pointers, *kernel.numbers}
    if set(arguments) != expected:
        missing, unknown = sorted(expected - set(arguments)), sorted(set(arguments) - expected)
        parts = [f"{word} {', '.join(names)}" for word, names in (("lacks", missing), ("knows no", unknown)) if names]
        raise TensorError(f"{kernel.name} {' and '.join(parts)}; it takes {', '.join([*pointers, *kernel.numbers])}")
    numbers = {name: _number(kernel, name, arguments[name]) for name in kernel.numbers}
    values = [
        _pointer(kernel, parameter, arguments[parameter.name]) if parameter.is_pointer
        else _aligned(kernel, parameter, numbers[parameter.name])
        for parameter in kernel.parameters
    ]  # fmt: skip
    return _grid(kernel, numbers), values + [0] * len(kernel.scratch)


def _number(kernel: PackedKernel, name: str, value: Argument) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TensorError(f"{kernel.name}: {name} must be a whole number, got {value!r:.80}")
    number = int(value)
    if not -_LARGEST_NUMBER - 1 <= number <= _LARGEST_NUMBER:
        raise TensorError(f"{kernel.name}: {name} must be from -2^31 to 2^31 - 1, got {number}")
    return number


def _aligned(kernel: PackedKernel, parameter: Parameter, number: int) -> int:
    if parameter.aligned and number % ALIGNMENT:
        raise TensorError(
            f"{kernel.name} was compiled for {parameter.name} that is a multiple of {ALIGNMENT}, got {number}"
        )
    return number


def _pointer(kernel: PackedKernel, parameter: Parameter, value: Argument) -> int:
    if isinstance(value, (bool, float, str)) or not hasattr(value, "__int__"):
        raise TensorError(
            f"{kernel.name}: {parameter.name} must be a device address or an allocation, got {value!r:.80}"
        )
    address = int(value)
    step = ALIGNMENT if parameter.aligned else ELEMENT_BYTES[parameter.type.removeprefix("*")]
    if not 0 < address < 2**64 or address % step:
        raise TensorError(
            f"{kernel.name}: {parameter.name} must be a device address that is a multiple of {step} bytes, "
            f"got {address:#x}"
        )
    return address


def _grid(kernel: PackedKernel, numbers: Mapping[str, int]) -> tuple[int, int, int]:
    known = {name: value for name, value in kernel.constants.items() if isinstance(value, int)} | dict(numbers)
    axes = [axis.programs(known) for axis in kernel.grid] + [1, 1]
    for axis, (programs, most) in enumerate(zip(axes, _LARGEST_GRID, strict=False)):
        if not 1 <= programs <= most:
            sizes = ", ".join(f"{name}={numbers[name]}" for name in kernel.numbers)
            raise TensorError(
                f"{kernel.name}: {sizes} make {programs} programs along axis {axis} of the grid; 1 to {most} can run"
            )
    return axes[0], axes[1], axes[2]


def _pycuda() -> Any:
    try:
        return importlib.import_module("pycuda.driver")
    except (ImportError, OSError) as error:  # OSError: the driver's library does not load
        raise PackError(f"loading a kernel needs PyCUDA: {error}; install it with: pip install pycuda") from error
