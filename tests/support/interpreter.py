"""Triton's interpreter, as the kernels' tests need it."""

from __future__ import annotations

from typing import Any

import numpy as np


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
