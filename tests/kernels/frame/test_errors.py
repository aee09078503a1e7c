"""Frames, settings and outputs that do not fit give a FrameError that says why."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mmedge_kernels.errors import FrameError, KernelError, NativeLibraryError
from mmedge_kernels.frame import FrameSettings, frame_to_tensor, native, native_status, plan_frame

GOOD = {"size": (8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
FRAME = np.zeros((10, 12, 3), np.uint8)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ([[1, 2, 3]], "must be a numpy array.*got list"),
        (None, "must be a numpy array.*got NoneType"),
        (np.zeros((4, 4), np.uint8), r"got shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 1), np.uint8), 'color="grey"'),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got shape \(1, 4, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float32), "got float32"),
        (np.zeros((4, 4, 3), np.int8), "got int8"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 0, 3), np.uint8), "no pixels"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (10**6, 10**6, 3)), "from 1 to 65536"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (60000, 60000, 3)), "pixels"),
    ],
)
@pytest.mark.parametrize("implementation", ["auto", "reference"])
def test_bad_frames(frame, message, implementation):
    with pytest.raises(FrameError, match=message):
        frame_to_tensor(frame, implementation=implementation, **GOOD)


@pytest.mark.parametrize(
    ("color", "shape", "message"),
    [
        ("grey", (4, 4, 3), r"grey uint8 \[H, W\] or \[H, W, 1\], got shape \(4, 4, 3\); take one channel"),
        ("grey", (4,), r"got shape \(4,\)"),
        ("grey", (0, 4), "no pixels"),
        ("nv12", (4, 4, 3), r"nv12 uint8 \[H \* 3 / 2, W\].*got shape \(4, 4, 3\)"),
        ("nv12", (4, 4), r"got shape \(4, 4\); give all rows of both planes"),
        ("nv12", (11, 4), r"got shape \(11, 4\)"),
        ("nv12", (6, 5), r"an even height and an even width, got \(4, 5\)"),
        ("nv12", (6, 0), "no pixels"),
        ("yuyv", (4, 4), r"yuyv uint8 \[H, W, 2\], W even.*got shape \(4, 4\); shape the buffer"),
        ("yuyv", (4, 4, 3), r"got shape \(4, 4, 3\)"),
        ("yuyv", (4, 5, 2), r"an even width, got \(4, 5\)"),
        ("yuyv", (0, 4, 2), "no pixels"),
        ("rgb", (4, 4, 2), 'color="grey", "nv12" or "yuyv"'),
    ],
)
@pytest.mark.parametrize("implementation", ["auto", "reference"])
def test_bad_frames_of_a_format(color, shape, message, implementation):
    with pytest.raises(FrameError, match=message):
        frame_to_tensor(np.zeros(shape, np.uint8), color=color, implementation=implementation, **GOOD)


@pytest.mark.parametrize("color", ["bgr", "rgb", "grey", "nv12", "yuyv"])
@pytest.mark.parametrize("frame", [[[1, 2], [3, 4]], np.zeros((6, 4), np.float32)], ids=["list", "float32"])
def test_what_is_no_frame_in_any_format(color, frame):
    with pytest.raises(FrameError, match=rf"{color} uint8 \[H.*got (list|float32)"):
        frame_to_tensor(frame, color=color, **GOOD)


@pytest.mark.parametrize(("color", "height", "width"), [("nv12", 5, 4), ("nv12", 4, 5), ("yuyv", 4, 5)])
def test_plans_for_sizes_that_a_format_does_not_have(color, height, width):
    with pytest.raises(FrameError, match=rf"{color} frames .*got \({height}, {width}\)"):
        plan_frame(FrameSettings(color=color, **GOOD), height, width)


def test_luma_without_chroma_is_named_in_the_error():
    plan = plan_frame(FrameSettings(color="nv12", **GOOD), 12, 8)
    with pytest.raises(FrameError, match=r"takes frames of \(12, 8\).*got \(8, 8\) in an array of shape \(12, 8\)"):
        plan(np.zeros((12, 8), np.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (10**6, 10**6)}, "size must be"),
        ({"size": (20000, 20000)}, "size must be"),
        ({"size": (0, 8)}, "size must be"),
        ({"size": (-8, 8)}, "size must be"),
        ({"size": (8.5, 8)}, "size must be"),
        ({"size": 8}, "size must be"),
        ({"size": (8, 8, 3)}, "size must be"),
        ({"size": "ab"}, "size must be"),
        ({"resize": "area"}, "resize must be"),
        ({"crop": "top"}, "crop must be"),
        ({"crop": "none"}, 'needs crop="center"'),
        ({"resize": "stretch", "shortest_edge": 9}, "leave it out"),
        ({"shortest_edge": 0}, "shortest_edge must be"),
        ({"shortest_edge": 10**6}, "shortest_edge must be"),
        ({"shortest_edge": 7.5}, "shortest_edge must be"),
        ({"interpolation": "nearest"}, "interpolation must be one of 'bilinear', 'bicubic'"),
        ({"color": "rgba"}, "color must be one of 'bgr', 'rgb', 'grey', 'nv12', 'yuyv'"),
        ({"layout": "chw"}, "layout must be"),
        ({"dtype": "float64"}, "dtype must be"),
        ({"pad_value": 256}, "pad_value must be"),
        ({"pad_value": 0.5}, "pad_value must be"),
        ({"mean": None}, "mean must be given"),
        ({"std": None}, "std must be given"),
        ({"mean": 0.5}, "mean must be three numbers"),
        ({"mean": (0.5, 0.5)}, "mean must be three numbers"),
        ({"mean": ("a", "b", "c")}, "mean must be three numbers"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean must be finite"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be finite and above 0"),
        ({"std": (1e-6, 1, 1), "dtype": "float16"}, "take float32"),
        ({"threads": 0}, "threads must be"),
        ({"threads": 65}, "threads must be"),
        ({"threads": 1.5}, "threads must be"),
        ({"implementation": "cuda"}, "implementation must be"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_options(options, message):
    with pytest.raises(FrameError, match=message):
        frame_to_tensor(FRAME, **(GOOD | options))


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((3, 8, 8), np.float32), r"float32 \(1, 3, 8, 8\), got float32 \(3, 8, 8\)"),
        (np.empty((1, 3, 8, 8), np.float64), "got float64"),
        (np.empty((1, 8, 8, 3), np.float32).transpose(0, 3, 1, 2), "C-contiguous"),
        (read_only(np.empty((1, 3, 8, 8), np.float32)), "writeable"),
        (np.empty(4 * 192 + 1, np.uint8)[1:].view(np.float32).reshape(1, 3, 8, 8), "aligned"),
        ([0.0], "got list"),
    ],
)
def test_bad_out(out, message):
    with pytest.raises(FrameError, match=message):
        frame_to_tensor(FRAME, out=out, **GOOD)


def test_out_inside_the_frame():
    frame = np.zeros((10, 12, 3), np.uint8)
    out = frame.reshape(-1)[:192].reshape(1, 3, 8, 8)
    with pytest.raises(FrameError, match="share memory"):
        frame_to_tensor(frame, size=(8, 8), dtype="uint8", out=out)


def test_plan_refuses_another_frame_size():
    plan = plan_frame(FrameSettings(**GOOD), 10, 12)
    with pytest.raises(FrameError, match=r"frames of \(10, 12\) .*, got \(12, 10\)"):
        plan(np.zeros((12, 10, 3), np.uint8))


def test_frame_error_is_a_value_error():
    assert issubclass(FrameError, ValueError)
    assert issubclass(FrameError, KernelError)


@pytest.fixture
def library_folder(monkeypatch, tmp_path):
    """An empty folder as the only one in which the library is looked for."""
    monkeypatch.setattr("mmedge_kernels.__path__", [str(tmp_path)])
    native.load_library.cache_clear()
    plan_frame.__globals__["cached_plan"].cache_clear()
    yield tmp_path
    native.load_library.cache_clear()
    plan_frame.__globals__["cached_plan"].cache_clear()


def test_without_the_library_auto_takes_the_reference(library_folder):
    available, detail = native_status()
    assert not available
    assert str(library_folder) in detail
    assert plan_frame(FrameSettings(**GOOD), 10, 12).implementation == "reference"
    assert frame_to_tensor(FRAME, **GOOD).shape == (1, 3, 8, 8)
    with pytest.raises(NativeLibraryError, match="install g\\+\\+ or clang"):
        frame_to_tensor(FRAME, implementation="native", **GOOD)


@pytest.mark.usefixtures("needs_native")
def test_a_library_of_another_version_is_reported(monkeypatch):
    native.load_library.cache_clear()
    monkeypatch.setattr(native, "_INTERFACE", 1)
    with pytest.raises(NativeLibraryError, match=r"has interface 2, this package needs 1.*install the package again"):
        native.load_library()


def test_a_broken_library_is_reported(library_folder):
    (library_folder / native.LIBRARY_NAME).write_bytes(b"not a library")
    available, detail = native_status()
    assert not available
    assert "cannot be used" in detail


def test_import_loads_nothing_but_numpy():
    code = (
        "import sys, mmedge_kernels.frame as f\n"
        "from mmedge_kernels.frame import native\n"
        "bad = {'torch', 'cv2', 'PIL', 'mmedge', 'triton'} & set(sys.modules)\n"
        "assert not bad, bad\n"
        "assert native.load_library.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
