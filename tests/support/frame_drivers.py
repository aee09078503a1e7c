"""The test programs of the native frame library: how they are built, and the file that `frame_replay` reads."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmedge_kernels.frame import FrameSettings, reference
from mmedge_kernels.frame.formats import check_frame
from mmedge_kernels.frame.quads import QuadWindows, quad_plan
from mmedge_kernels.frame.tables import FrameTables, frame_tables

REPOSITORY = Path(__file__).resolve().parents[2]
SANITIZED = (
    "-DCMAKE_BUILD_TYPE=Sanitized",  # a name without flags of its own
    "-DCMAKE_CXX_FLAGS=-fsanitize=address,undefined -fno-sanitize-recover=all -Og -g1",
)
AARCH64_COMPILER = "aarch64-linux-gnu-g++"
AARCH64 = (
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    f"-DCMAKE_CXX_COMPILER={AARCH64_COMPILER}",
    "-DCMAKE_EXE_LINKER_FLAGS=-static",  # so that the emulator needs no libraries of that processor
)


def missing_program(*names: str) -> str | None:
    """The first of these programs that is not installed."""
    return next((name for name in names if shutil.which(name) is None), None)


def build(folder: Path, options: Iterable[str], *programs: str) -> Path:
    """Builds test programs with CMake in `folder`, where they then are."""
    for command in (
        ["cmake", "-S", str(REPOSITORY), "-B", str(folder), *options],
        ["cmake", "--build", str(folder), "--parallel", "2", "--target", *programs],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@dataclass(frozen=True, eq=False)
class Case:
    """A frame with dense rows, what is to become of it, and in how many bands."""

    settings: FrameSettings
    frame: NDArray[np.uint8]
    threads: int = 1

    @property
    def tables(self) -> FrameTables:
        return frame_tables(self.settings, *check_frame(self.frame, self.settings.color))

    def expected(self) -> NDArray[Any]:
        """The tensor by the reference."""
        out = np.empty(self.tables.out_shape, self.tables.values.dtype)
        reference.run(self.tables, self.frame, out)
        return out

    def to_bytes(self) -> bytes:
        """The case as `frame_replay` reads it."""
        plan = quad_plan(self.tables)
        stride = self.frame.strides[0]
        gone_back = -min(0, stride) * (len(self.frame) - 1)
        memory = ctypes.string_at(
            self.frame.ctypes.data - gone_back, abs(stride) * (len(self.frame) - 1) + self.frame[0].nbytes
        )
        out_bytes = int(np.prod(self.tables.out_shape)) * self.tables.values.itemsize
        numbers = (*plan.numbers.values(), self.threads, stride, gone_back, len(memory), out_bytes)
        nothing = QuadWindows(np.empty(0, np.int32), np.empty((0, 0, 4), np.int32))
        axes = (plan.horizontal, plan.vertical, plan.vertical_before or nothing)
        return _numbers(numbers) + b"".join(map(_axis_bytes, axes)) + self.tables.values.tobytes() + memory


def replay(command: Sequence[str], cases: Sequence[Case], folder: Path) -> tuple[dict[str, list[NDArray[Any]]], int]:
    """Runs `frame_replay`, started by `command`: variant -> tensors of the cases, and how often it allocated memory."""
    inputs, outputs = folder / "cases", folder / "outputs"
    inputs.write_bytes(_numbers([len(cases)]) + b"".join(case.to_bytes() for case in cases))
    done = subprocess.run([*command, str(inputs), str(outputs)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    names, allocations = done.stdout.splitlines()
    made = outputs.read_bytes()
    tensors: dict[str, list[NDArray[Any]]] = {}
    at = 0
    for name in names.split():
        tensors[name] = []
        for case in cases:
            shape, dtype = case.tables.out_shape, case.tables.values.dtype
            tensors[name].append(np.frombuffer(made, dtype, int(np.prod(shape)), at).reshape(shape))
            at += tensors[name][-1].nbytes
    assert at == len(made)
    return tensors, int(allocations.removeprefix("allocations "))


def _numbers(numbers: Iterable[int]) -> bytes:
    given = tuple(numbers)
    return struct.pack(f"<{len(given)}i", *given)


def _axis_bytes(windows: QuadWindows) -> bytes:
    count, quads, _ = windows.weights.shape
    return _numbers((count, quads)) + windows.first.astype("<i4").tobytes() + windows.weights.astype("<i4").tobytes()
