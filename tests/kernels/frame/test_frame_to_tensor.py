"""The public function: layouts, types, colours, strides, `out`, threads and plans."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmedge_kernels.frame import FrameSettings, frame_to_tensor, native, native_status, plan_frame
from mmedge_kernels.frame.tables import frame_tables

MEAN = (0.5, 0.25, 0.125)
STD = (0.2, 0.3, 0.4)
NORMALISATION = {"mean": MEAN, "std": STD}


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("color", ["bgr", "rgb"])
@pytest.mark.parametrize("resize", ["shortest-edge", "letterbox"])
def test_values_layout_and_color(run, noise, layout, dtype, color, resize):
    frame = noise(61, 103)
    rgb = frame[:, :, ::-1] if color == "bgr" else frame
    size = (45, 29)
    picture = run(FrameSettings(size=size, resize=resize, dtype="uint8", layout="nhwc", color="rgb", pad_value=9), rgb)
    wanted = picture
    if dtype != "uint8":
        rescaled = (picture * (1 / 255)).astype(np.float32)
        wanted = ((rescaled - np.float32(MEAN)) / np.float32(STD)).astype(dtype)
    wanted = wanted.transpose(0, 3, 1, 2) if layout == "nchw" else wanted
    options = {"resize": resize, "layout": layout, "dtype": dtype, "color": color, "pad_value": 9}
    tensor = run(FrameSettings(size=size, **options, **NORMALISATION), frame)
    assert tensor.shape == ((1, 3, *size) if layout == "nchw" else (1, *size, 3))
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor, wanted)


@pytest.mark.parametrize("implementation", ["auto", "native", "reference"])
def test_implementations_agree(request, run_reference, noise, implementation):
    if implementation == "native":
        request.getfixturevalue("needs_native")
    frame = noise(77, 50)
    expected = run_reference(FrameSettings(size=(32, 32), **NORMALISATION), frame)
    got = frame_to_tensor(frame, size=(32, 32), implementation=implementation, **NORMALISATION)
    np.testing.assert_array_equal(got, expected)


VIEWS = {
    "cropped": lambda frame: frame[3:60, 5:40],
    "flipped-down": lambda frame: frame[::-1],
    "mirrored": lambda frame: frame[:, ::-1],
    "every-second-row": lambda frame: frame[::2],
    "every-second-column": lambda frame: frame[:, ::2],
    "channels-reversed": lambda frame: frame[:, :, ::-1],
    "transposed": lambda frame: frame.transpose(1, 0, 2),
    "one-column": lambda frame: frame[:, 7:8],
    "one-column-of-many": lambda frame: frame[:, ::100],
    "one-row": lambda frame: frame[5:6],
    "column-major": np.asfortranarray,
    "repeated-row": lambda frame: np.broadcast_to(frame[:1], (40, *frame.shape[1:])),
}


@pytest.mark.parametrize("view", VIEWS)
def test_strided_frames(run, run_reference, noise, view):
    whole = noise(67, 59).copy()
    before = whole.copy()
    frame = VIEWS[view](whole)
    chosen = FrameSettings(size=(24, 31), **NORMALISATION)
    np.testing.assert_array_equal(run(chosen, frame), run_reference(chosen, np.array(frame, order="C")))
    np.testing.assert_array_equal(whole, before)


def test_read_only_frame(run, noise):
    frame = noise(40, 40)
    assert not frame.flags.writeable
    run(FrameSettings(size=(24, 31), **NORMALISATION), frame)


def test_out_is_reused(noise):
    out = np.full((1, 3, 20, 30), np.nan, np.float32)
    frame = noise(31, 57)
    assert frame_to_tensor(frame, size=(20, 30), out=out, **NORMALISATION) is out
    np.testing.assert_array_equal(out, frame_to_tensor(frame, size=(20, 30), **NORMALISATION))


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 60),
    out_height=st.integers(1, 90),
    threads=st.integers(2, 9),
    resize=st.sampled_from(["shortest-edge", "stretch", "letterbox"]),
)
@settings(max_examples=60, deadline=None)
def test_threads_equal_one_thread(noise, height, width, out_height, threads, resize):
    frame = noise(height, width)
    options = {"size": (out_height, 23), "resize": resize, **NORMALISATION}
    out = np.full((1, 3, out_height, 23), np.nan, np.float32)
    one = frame_to_tensor(frame, **options)
    np.testing.assert_array_equal(frame_to_tensor(frame, threads=threads, out=out, **options), one)


@pytest.mark.usefixtures("needs_native")
@pytest.mark.parametrize("threads", [1, 3])
def test_concurrent_runs_of_one_plan(noise, threads):
    plan = plan_frame(FrameSettings(size=(96, 96), **NORMALISATION), 270, 333)
    frames = [noise(270, 333, seed) for seed in range(8)]
    expected = [plan(frame) for frame in frames]
    start = threading.Barrier(4)

    def work(first: int) -> None:
        start.wait()
        for step in range(40):
            at = (first + step) % len(frames)
            np.testing.assert_array_equal(plan(frames[at], threads=threads), expected[at])

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, first) for first in range(4)]:
            future.result()


@pytest.mark.usefixtures("needs_native")
def test_working_memory_is_reused(noise):
    plan = native.NativePlan(frame_tables(FrameSettings(size=(8, 8), **NORMALISATION), 50, 60))
    out = np.empty((1, 3, 8, 8), np.float32)
    for _ in range(5):
        plan.run(noise(50, 60), out, 1)
        plan.run(noise(50, 60), out, 2)
    assert {threads: len(kept) for threads, kept in plan._spare.items()} == {1: 1, 2: 1}


@pytest.mark.usefixtures("needs_native")
@pytest.mark.parametrize("color", ["bgr", "grey", "nv12", "yuyv"])
@pytest.mark.parametrize(("height", "width"), [(540, 960), (960, 300)], ids=["horizontal-first", "vertical-first"])
def test_a_frame_makes_no_arrays(random_frame, color, height, width):
    chosen = FrameSettings(size=(224, 224), resize="stretch", color=color, **NORMALISATION)
    plan = plan_frame(chosen, height, width, implementation="native")
    frame = random_frame(color, height, width)
    out = plan(frame)
    plan(frame, out=out)
    tracemalloc.start()
    try:
        for _ in range(3):
            plan(frame, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4096  # Python's own small objects; the tensor alone has 602,112 bytes


def test_plan(noise):
    chosen = FrameSettings(size=[16, 24], **NORMALISATION)
    plan = plan_frame(chosen, 40, 50)
    assert plan.out_shape == (1, 3, 16, 24)
    assert plan.geometry == chosen.geometry(40, 50)
    assert plan.implementation == ("native" if native_status()[0] else "reference")
    assert plan_frame(FrameSettings(size=(16, 24), mean=list(MEAN), std=np.array(STD)), 40, 50) is plan
    frame = noise(40, 50)
    np.testing.assert_array_equal(plan(frame), frame_to_tensor(frame, size=(16, 24), **NORMALISATION))


def test_native_status_names_the_variant():
    available, detail = native_status()
    assert detail == native.variants()[0] if available else "compiler" in detail
