"""Specifications of the small kernels, and what they compile to."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmedge_kernels.aot.build import compile_for
from mmedge_kernels.aot.compile import CompiledKernel
from mmedge_kernels.aot.targets import find_target
from mmedge_kernels.specification import GridAxis, KernelSpec, Parameter

_TESTS = str(Path(__file__).resolve().parents[1])
_MODULE = "support.small_kernels"


def softmax_spec(dtype: str = "fp16", *, bias: bool = False, **changes: Any) -> KernelSpec:
    """`softmax_rows` for rows of up to 128 elements."""
    pointer = f"*{dtype}"
    parameters = (
        Parameter("x_ptr", pointer, aligned=False, shape=("rows", "cols")),
        *([Parameter("bias_ptr", "*fp32", shape=("cols",))] if bias else []),
        Parameter("rows", "i32", aligned=False),
        Parameter("cols", "i32", aligned=False),
        Parameter("out_ptr", pointer, shape=("rows", "cols")),
    )
    given: dict[str, Any] = {
        "name": f"softmax-{dtype}{'-bias' if bias else ''}",
        "operator": "softmax",
        "function": f"{_MODULE}:softmax_rows",
        "parameters": parameters,
        "constants": {"scale": 0.5, "block": 128, **({} if bias else {"bias_ptr": None})},
        "grid": (GridAxis(("rows",)),),
        "plugin": True,
    }
    return KernelSpec(**(given | changes))


def weighted_sum_spec(dtype: str = "fp16", width: int = 64, *, scale: float = 0.1, **changes: Any) -> KernelSpec:
    """`weighted_sum` with the inputs and the constant of the operator ``cross_attention``."""
    pointer = f"*{dtype}"
    given: dict[str, Any] = {
        "name": f"weighted_sum-{dtype}-w{width}",
        "operator": "cross_attention",
        "function": f"{_MODULE}:weighted_sum",
        "parameters": (
            Parameter("q_ptr", pointer, shape=("B", "H", "m", width)),
            Parameter("k_ptr", pointer, shape=("B", "H", "n", width)),
            Parameter("v_ptr", pointer, shape=("B", "H", "n", width)),
            Parameter("m", "i32", aligned=False),
            Parameter("n", "i32", aligned=False),
            Parameter("out_ptr", pointer, shape=("B", "H", "m", width)),
        ),
        "constants": {"scale": scale, "width": width},
        "grid": (GridAxis(("m",)), GridAxis(("B", "H"))),
        "warps": 2,
        "plugin": True,
    }
    return KernelSpec(**(given | changes))


def tile_spec(function: str, rows: int, columns: int, **changes: Any) -> KernelSpec:
    """A kernel on one tile [rows, columns] of float32: ``transpose_tile`` or ``many_registers``."""
    given: dict[str, Any] = {
        "name": f"{function}-{rows}x{columns}",
        "operator": "tile",
        "function": f"{_MODULE}:{function}",
        "parameters": (
            Parameter("x_ptr", "*fp32", shape=("n", columns)),
            Parameter("n", "i32", aligned=False),
            Parameter("out_ptr", "*fp32", shape=(columns, rows)),
        ),
        "constants": {"tile_rows": rows, "columns": columns},
        "grid": (GridAxis(()),),
    }
    return KernelSpec(**(given | changes))


def descriptor_spec(**changes: Any) -> KernelSpec:
    """`with_descriptor`, which no pack can hold."""
    return tile_spec("with_descriptor", 16, 64, **{"constants": {"block": 64}, **changes})


@contextmanager
def small_kernels_importable() -> Iterator[None]:
    """Lets the processes that compile find the small kernels."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_TESTS, before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def compile_spec(spec: KernelSpec, target: str = "sm_87") -> CompiledKernel:
    """`spec`, which is for one architecture, compiled."""
    with small_kernels_importable():
        (compiled,) = compile_for([find_target(target)], [spec])
    return compiled


@functools.cache
def compiled_softmax(target: str = "sm_87") -> CompiledKernel:
    """The softmax kernel; compiled once a session."""
    return compile_spec(softmax_spec(), target)


@functools.cache
def compiled_weighted_sums() -> tuple[CompiledKernel, ...]:
    """Four kernels of the operator ``cross_attention`` for sm_87, and one for sm_80; compiled once a session."""
    specs = [
        weighted_sum_spec("fp16", 64),
        weighted_sum_spec("fp32", 64),
        weighted_sum_spec("fp16", 32),
        weighted_sum_spec("fp16", 64, scale=0.2, name="weighted_sum-fp16-w64-other"),
    ]
    with small_kernels_importable():
        orin = compile_for([find_target("sm_87")], specs)
        return (*orin, *compile_for([find_target("sm_80")], specs[:1]))
