"""A compiled kernel in data: what is compiled ahead of time, and how the result is launched.

Operators declare their kernels with these, `mmedge_kernels.aot` compiles them and `mmedge_kernels.pack` launches what
came out. Nothing here needs Triton or torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mmedge_kernels.errors import TensorError

Constant: TypeAlias = int | float | bool | str | None


@dataclass(frozen=True)
class Parameter:
    """One run-time parameter of a kernel, in the kernel's order.

    type: as Triton writes it: ``*fp16``, ``*bf16``, ``*fp32``, ``*u8``, ``*i32`` for pointers, ``i32`` for numbers.
    aligned: the pointer is a multiple of 16 bytes, the number a multiple of 16; the compiled code relies on it.
    shape: sizes of the contiguous tensor behind a pointer, ``("B", "M", 768)``: a fixed size, or the name under which
    the number is known to the grid and the other tensors. An engine's plugin needs it of every pointer: that is how it
    finds the numbers, and how it knows which kernel fits a node.
    """

    name: str
    type: str
    aligned: bool = True
    shape: tuple[int | str, ...] = ()

    @property
    def is_pointer(self) -> bool:
        return self.type.startswith("*")


@dataclass(frozen=True)
class GridAxis:
    """Programs along one axis of the grid: the product of the named numbers, divided by `divisor`, rounded up.

    A name is that of an integer parameter or constant, or of a number that only the launch needs, such as B.
    """

    product: tuple[str, ...] = ()
    divisor: int = 1

    def programs(self, numbers: Mapping[str, int]) -> int:
        """Raises TensorError when a number that the axis needs is missing."""
        missing = [name for name in self.product if name not in numbers]
        if missing:
            raise TensorError(f"the grid needs the numbers {', '.join(missing)}, got {', '.join(numbers) or 'none'}")
        return -(-math.prod(numbers[name] for name in self.product) // self.divisor)


@dataclass(frozen=True)
class KernelSpec:
    """One specialisation of one kernel, before it is compiled.

    name: unique in a pack for one architecture, such as ``prompt_attention-fp16-d768-h12-l8``. operator: the folder it
    belongs to. function: ``module:name`` of the Triton function. parameters: run-time parameters in order. constants:
    values of the constexpr parameters. grid: up to three axes. warps, stages: as Triton takes them.
    spill_free: the kernel is built to keep everything in registers; a spill is a failure. plugin: an engine's plugin
    wants it as PTX: inputs come first, then numbers, then outputs; every pointer has a `shape`. sms: the GPU
    architectures that it is for, such as 87; empty: all that know its types. One name may have several specifications,
    each for other architectures.
    """

    name: str
    operator: str
    function: str
    parameters: tuple[Parameter, ...]
    constants: Mapping[str, Constant]
    grid: tuple[GridAxis, ...]
    warps: int = 4
    stages: int = 2
    spill_free: bool = True
    plugin: bool = False
    sms: tuple[int, ...] = ()
