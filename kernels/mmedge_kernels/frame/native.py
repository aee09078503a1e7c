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
from mmedge_kernels.frame.coefficients import AxisWeights, unit_weights
from mmedge_kernels.frame.tables import FrameTables

LIBRARY_NAME = "libmmedge_frame.so"
_INTERFACE = 1  # as MMEDGE_FRAME_INTERFACE in frame.h
_ALIGNMENT = 64


class _Axis(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_int32),
        ("max_quads", ctypes.c_int32),
        ("first", ctypes.c_void_p),
        ("quads", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
    )


class _Plan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("row0", "rows", "col0", "cols", "height", "width", "top", "left")),
        *((name, ctypes.c_int32) for name in ("pad_value", "reverse", "channels_last", "element_bytes")),
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
        geometry, settings = tables.geometry, tables.settings
        vertical = self._axis(tables.vertical)
        self._plan = _Plan(
            row0=tables.vertical.origin,
            rows=tables.vertical.extent,
            col0=tables.horizontal.origin,
            cols=tables.horizontal.extent,
            height=geometry.size[0],
            width=geometry.size[1],
            top=geometry.vertical.pad_start,
            left=geometry.horizontal.pad_start,
            pad_value=settings.pad_value,
            reverse=settings.color == "bgr",
            channels_last=settings.layout == "nhwc",
            element_bytes=self._values.itemsize,
            values=self._values.ctypes.data,
            horizontal=self._axis(tables.horizontal),
            vertical=self._axis(unit_weights(0, vertical.count)) if tables.vertical_first else vertical,
            vertical_before=vertical if tables.vertical_first else _Axis(),
        )

    def run(self, frame: NDArray[np.uint8], out: NDArray[Any], threads: int) -> None:
        """Writes the tensor of `frame`, uint8 [H, W, 3], into `out`; shapes and dtypes are checked by the caller."""
        if frame.strides[2] != 1 or frame.strides[1] != 3:
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

    def _axis(self, axis: AxisWeights) -> _Axis:
        quads = (axis.starts % 4 + axis.lengths + 3) // 4
        max_quads = int(quads.max())
        count, taps = axis.weights.shape
        aligned = np.zeros((count, max_quads * 4 + taps), dtype=np.int32)
        places = (axis.starts % 4)[:, None] + np.arange(taps)
        np.put_along_axis(aligned, places, axis.weights, axis=1)
        weights = np.ascontiguousarray(aligned[:, : max_quads * 4])
        packed = np.empty_like(weights)
        self._library.mmedge_frame_pack(self._variant, weights.ctypes.data, weights.size // 4, packed.ctypes.data)
        first, lengths = (axis.starts // 4).astype(np.int32), quads.astype(np.int32)
        self._kept += [first, lengths, packed]
        return _Axis(count, max_quads, first.ctypes.data, lengths.ctypes.data, packed.ctypes.data)
