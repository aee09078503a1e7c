"""The frame path in C++, through the C interface of the library that the package's build puts beside it."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmedge_kernels
from mmedge_kernels.errors import NativeLibraryError
from mmedge_kernels.frame.quads import QuadWindows, quad_plan
from mmedge_kernels.frame.tables import FrameTables

LIBRARY_NAME = "libmmedge_frame.so"
_INTERFACE = 2  # as MMEDGE_FRAME_INTERFACE in frame.h
_ALIGNMENT = 64


class _Axis(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_int32),
        ("quads", ctypes.c_int32),
        ("first", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
    )


class _Plan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("format", "chroma_row", "row0", "rows", "col0", "cols")),
        *((name, ctypes.c_int32) for name in ("height", "width", "top", "left")),
        *((name, ctypes.c_int32) for name in ("pad_value", "channels_last", "element_bytes")),
        ("values", ctypes.c_void_p),
        ("horizontal", _Axis),
        ("vertical", _Axis),
        ("vertical_before", _Axis),
    )


@functools.cache
def load_library() -> ctypes.CDLL:
    """The native library; looked for in every folder of the package, since an editable install has two.

    Raises NativeLibraryError when it is not there or cannot be loaded.
    """
    folders = [Path(folder) for folder in mmedge_kernels.__path__]
    found = [folder / LIBRARY_NAME for folder in folders if (folder / LIBRARY_NAME).is_file()]
    if not found:
        raise NativeLibraryError(
            f"{LIBRARY_NAME} is not in {os.pathsep.join(map(str, folders))}: the package was built without a C++ "
            'compiler; install g++ or clang and install the package again, or take implementation="reference"'
        )
    try:
        library = ctypes.CDLL(str(found[0]))
        _declare(library)
        interface = library.mmedge_frame_interface()
    except (OSError, AttributeError) as error:
        raise NativeLibraryError(
            f'{found[0]} cannot be used ({error}); install the package again, or take implementation="reference"'
        ) from error
    if interface != _INTERFACE:
        raise NativeLibraryError(
            f"{found[0]} has interface {interface}, this package needs {_INTERFACE}: it is left from another version; "
            "install the package again"
        )
    return library


def _declare(library: ctypes.CDLL) -> None:
    pointer, i32, i64, plan = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.POINTER(_Plan)
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "mmedge_frame_interface": (i32, []),
        "mmedge_frame_variants": (i32, []),
        "mmedge_frame_variant_name": (ctypes.c_char_p, [i32]),
        "mmedge_frame_pack": (None, [i32, pointer, i64, pointer]),
        "mmedge_frame_scratch_bytes": (i64, [plan, i32]),
        "mmedge_frame_run": (None, [i32, plan, pointer, i64, pointer, pointer, i32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def variants() -> tuple[str, ...]:
    """Instruction-set variants that this processor can run, best first. Raises NativeLibraryError."""
    library = load_library()
    return tuple(library.mmedge_frame_variant_name(i).decode() for i in range(library.mmedge_frame_variants()))


class NativePlan:
    """`FrameTables` in the form that the library takes, with the working memory of its runs.

    Runs may overlap: each takes working memory of its own, which is kept for later runs. variant: index into
    `variants()`. Raises NativeLibraryError.
    """

    def __init__(self, tables: FrameTables, variant: int = 0) -> None:
        self._library = load_library()
        self._variant = variant
        self._values = np.ascontiguousarray(tables.values)
        self._kept: list[NDArray[Any]] = []
        self._spare: dict[int, list[NDArray[np.uint8]]] = {}
        plan = quad_plan(tables)
        self._plan = _Plan(
            **plan.numbers,
            values=self._values.ctypes.data,
            horizontal=self._axis(plan.horizontal),
            vertical=self._axis(plan.vertical),
            vertical_before=self._axis(plan.vertical_before) if plan.vertical_before else _Axis(),
        )

    def run(self, frame: NDArray[np.uint8], out: NDArray[Any], threads: int) -> None:
        """Writes the tensor of `frame` into `out`; shapes and dtypes are checked by the caller."""
        if not _rows_are_dense(frame):
            frame = np.ascontiguousarray(frame)
        spare = self._spare.setdefault(threads, [])
        try:
            scratch = spare.pop()
        except IndexError:
            scratch = self._new_scratch(threads)
        self._library.mmedge_frame_run(
            self._variant,
            self._plan,
            frame.ctypes.data,
            frame.strides[0],
            out.ctypes.data,
            scratch.ctypes.data,
            threads,
        )
        spare.append(scratch)

    def _new_scratch(self, threads: int) -> NDArray[np.uint8]:
        size = self._library.mmedge_frame_scratch_bytes(self._plan, threads)
        memory = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        return memory[start : start + size]

    def _axis(self, windows: QuadWindows) -> _Axis:
        count, quads, _ = windows.weights.shape
        packed = np.empty_like(windows.weights)
        self._library.mmedge_frame_pack(self._variant, windows.weights.ctypes.data, count * quads, packed.ctypes.data)
        self._kept += [windows.first, packed]
        return _Axis(count, quads, windows.first.ctypes.data, packed.ctypes.data)


def _rows_are_dense(frame: NDArray[np.uint8]) -> bool:
    """Whether the bytes of a row follow one another; frame: [H, W] or [H, W, C]."""
    pixel = 1 if frame.ndim == 2 else frame.shape[2]
    return frame.strides[1] == pixel and (frame.ndim == 2 or frame.strides[2] == 1)
