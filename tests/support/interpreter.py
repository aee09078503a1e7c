"""Triton's interpreter, as the kernels' tests need it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmedge_kernels.specification import KernelSpec


def repair_bfloat16_products() -> None:
    """Makes the interpreter's `tl.dot` right for bfloat16.

    The interpreter keeps bfloat16 as the bits in uint16 and multiplies these (seen in Triton 3.6 and 3.9), so a product
    is off by many orders of magnitude. Here they become float32 first, which is exact.
    """
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    create_dot = InterpreterBuilder.create_dot

    def widened(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def create_dot_of_floats(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return create_dot(self, widened(a), widened(b), *rest)

    InterpreterBuilder.create_dot = create_dot_of_floats


def launch_specification(spec: KernelSpec, values: Mapping[str, Any]) -> None:
    """Runs a specification's kernel in the interpreter, with nothing but what the specification says.

    values: tensors and numbers by name; those that only the grid needs, too.
    """
    module, name = spec.function.split(":")
    given = {parameter.name: values[parameter.name] for parameter in spec.parameters}
    constants = {name: value for name, value in spec.constants.items() if isinstance(value, int)}
    grid = tuple(axis.programs({**constants, **values}) for axis in spec.grid)
    getattr(importlib.import_module(module), name)[grid](**given, **spec.constants)
