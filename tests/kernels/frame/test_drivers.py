"""The native library without Python: under the sanitizers, counted for allocations, on an emulated ARM processor."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import frame_drivers
from support.frame_drivers import Case

from mmedge_kernels.frame import FrameSettings, native

EMULATOR = "qemu-aarch64-static"
OPTIONS = [
    ({"size": (24, 31)}, (61, 84)),
    ({"size": (33, 20), "resize": "stretch", "layout": "nhwc", "dtype": "float16"}, (160, 22)),
    ({"size": (40, 40), "resize": "letterbox", "dtype": "uint8", "pad_value": 9}, (90, 46)),
    ({"size": (19, 67), "shortest_edge": 12, "interpolation": "bilinear"}, (39, 38)),
    ({"size": (1, 1), "resize": "stretch"}, (2, 2)),
]


@pytest.fixture(scope="module")
def cases(random_frame) -> list[Case]:
    """Every colour format, order of passes, output type and layout; some upside down, with gaps or in bands."""
    made = []
    for color in ("bgr", "rgb", "grey", "nv12", "yuyv"):
        for index, (options, (height, width)) in enumerate(OPTIONS):
            frame = random_frame(color, height - height % 2 if color == "nv12" else height, width)
            settings = FrameSettings(color=color, mean=(0.5, 0.25, 0.125), std=(0.2, 0.3, 0.4), **options)
            made.append(Case(settings, frame[:: -1 if index % 2 else 1], threads=1 if index == 4 else 1 + index % 3))
    with_gaps = random_frame("nv12", 48, 64)[:, 8:50]
    made.append(Case(FrameSettings(size=(16, 16), color="nv12", dtype="uint8"), with_gaps))
    assert {case.tables.vertical_first for case in made} == {True, False}
    return made


def build(folder: Path, options: Sequence[str], *programs: str) -> Path:
    compiler = frame_drivers.AARCH64_COMPILER if options is frame_drivers.AARCH64 else "c++"
    missing = frame_drivers.missing_program("cmake", compiler)
    if missing:
        pytest.skip(f"{missing} is not installed; .ci/run names the packages")
    return frame_drivers.build(folder, options, *programs)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> Path:
    """The folder of both programs for this processor, with the sanitizers."""
    return build(tmp_path_factory.mktemp("sanitized"), frame_drivers.SANITIZED, "frame_fuzz", "frame_replay")


@pytest.fixture(scope="module")
def aarch64(tmp_path_factory) -> Path:
    """The folder of both programs for aarch64."""
    if frame_drivers.missing_program(EMULATOR):
        pytest.skip(f"{EMULATOR} is not installed; .ci/run names the packages")
    return build(tmp_path_factory.mktemp("aarch64"), frame_drivers.AARCH64, "frame_replay", "frame_fuzz")


def check(tensors: dict[str, list[NDArray[Any]]], cases: list[Case]) -> None:
    for index, case in enumerate(cases):
        for variant, made in tensors.items():
            np.testing.assert_array_equal(made[index], case.expected(), err_msg=f"{variant}, {case.settings}")


def check_fuzz(command: Sequence[str | Path], variants: Sequence[str]) -> None:
    cases, seed = "300", str(secrets.randbits(32))
    done = subprocess.run([*command, cases, seed], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"frame_fuzz {cases} {seed}: {done.stderr[-4000:]}"
    assert done.stdout.strip() == f"{' '.join(variants)}: {cases} cases"


@pytest.mark.usefixtures("needs_native")
def test_fuzz_under_the_sanitizers(sanitized):
    check_fuzz([sanitized / "frame_fuzz"], native.variants())


@pytest.mark.usefixtures("needs_native")
def test_one_thread_allocates_nothing(sanitized, tmp_path, cases):
    tensors, allocations = frame_drivers.replay([str(sanitized / "frame_replay")], cases, tmp_path)
    assert tuple(tensors) == native.variants()
    check(tensors, cases)
    assert allocations == 0


@pytest.mark.parametrize(
    ("processor", "variants"), [("max", ["neon-dotprod", "portable"]), ("cortex-a53", ["portable"])]
)
def test_on_aarch64(aarch64, tmp_path, cases, processor, variants):
    tensors, allocations = frame_drivers.replay(
        [EMULATOR, "-cpu", processor, str(aarch64 / "frame_replay")], cases, tmp_path
    )
    assert list(tensors) == variants
    check(tensors, cases)
    assert allocations == 0


def test_every_color_on_aarch64(aarch64, tmp_path, all_colors, yuv_frame):
    options = {"resize": "stretch", "color": "nv12", "dtype": "uint8"}
    parts = [
        Case(FrameSettings(size=luma.shape, **options), yuv_frame("nv12", luma, u, v)) for luma, u, v in all_colors
    ]
    tensors, _ = frame_drivers.replay([EMULATOR, str(aarch64 / "frame_replay")], parts, tmp_path)
    check(tensors, parts)


def test_fuzz_on_aarch64(aarch64):
    check_fuzz([EMULATOR, aarch64 / "frame_fuzz"], ["neon-dotprod", "portable"])
