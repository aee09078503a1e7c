"""Grey and YUV frames: the conversion equals OpenCV's to the bit, and what follows is what RGB frames go through."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmedge_kernels.frame import FrameSettings, frame_to_tensor, plan_frame
from mmedge_kernels.frame.formats import frame_planes, yuv_to_rgb

NORMALISATION = {"mean": (0.5, 0.25, 0.125), "std": (0.2, 0.3, 0.4)}
YUV = ["nv12", "yuyv"]
FORMATS = ["grey", *YUV]
EVEN = st.integers(1, 60).map(lambda half: 2 * half)


def to_rgb(frame, color):
    """RGB [H, W, 3] by OpenCV."""
    if color == "grey":
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_NV12 if color == "nv12" else cv2.COLOR_YUV2RGB_YUYV)


def test_all_colors_are_there(all_colors):
    seen = np.zeros(2**24, bool)
    for luma, u, v in all_colors:
        chroma = (u.astype(int) << 8 | v).repeat(2, axis=0).repeat(2, axis=1)
        seen[luma.astype(int) << 16 | chroma] = True
    assert seen.all()


@pytest.mark.parametrize("color", YUV)
def test_the_definition_equals_opencv_for_every_color(all_colors, yuv_frame, color):
    for luma, u, v in all_colors:
        full = (plane.repeat(2, axis=0).repeat(2, axis=1) for plane in (u, v))
        rgb = yuv_to_rgb(luma, *full)
        np.testing.assert_array_equal(rgb.transpose(1, 2, 0), to_rgb(yuv_frame(color, luma, u, v), color))


@pytest.mark.parametrize("color", YUV)
def test_every_color(run, run_reference, all_colors, yuv_frame, color):
    # The numpy form is the definition of the test above with slow passes around it: one part is enough.
    for luma, u, v in all_colors[:1] if run is run_reference else all_colors:
        frame = yuv_frame(color, luma, u, v)
        chosen = FrameSettings(size=luma.shape, resize="stretch", color=color, dtype="uint8", layout="nhwc")
        np.testing.assert_array_equal(run(chosen, frame)[0], to_rgb(frame, color))


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_frame_equals_its_rgb_frame(run, run_reference, random_frame, data):
    color = data.draw(st.sampled_from(FORMATS))
    height, width = data.draw(EVEN), data.draw(EVEN)
    frame = random_frame(color, height, width, data.draw(st.integers(0, 9)))
    resize = data.draw(st.sampled_from(["shortest-edge", "stretch", "letterbox"]))
    options = {
        "size": (data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50))),
        "resize": resize,
        "shortest_edge": data.draw(st.none() | st.integers(1, 60)) if resize == "shortest-edge" else None,
        "interpolation": data.draw(st.sampled_from(["bilinear", "bicubic"])),
        "layout": data.draw(st.sampled_from(["nchw", "nhwc"])),
        "dtype": data.draw(st.sampled_from(["float32", "float16", "uint8"])),
        "pad_value": data.draw(st.integers(0, 255)),
        **NORMALISATION,
    }
    expected = run_reference(FrameSettings(color="rgb", **options), to_rgb(frame, color))
    np.testing.assert_array_equal(run(FrameSettings(color=color, **options), frame), expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 37), (37, 1), (15, 21)])
def test_grey_frames_may_have_odd_sizes(run, run_reference, random_frame, height, width):
    frame = random_frame("grey", height, width)
    options = {"size": (9, 14), "resize": "stretch", **NORMALISATION}
    expected = run_reference(FrameSettings(color="rgb", **options), to_rgb(frame, "grey"))
    chosen = FrameSettings(color="grey", **options)
    np.testing.assert_array_equal(run(chosen, frame), expected)
    np.testing.assert_array_equal(run(chosen, frame[:, :, None]), expected)


def test_yuyv_frames_may_have_an_odd_height(run, run_reference, random_frame):
    frame = random_frame("yuyv", 31, 22)
    options = {"size": (9, 14), **NORMALISATION}
    expected = run_reference(FrameSettings(color="rgb", **options), to_rgb(frame, "yuyv"))
    np.testing.assert_array_equal(run(FrameSettings(color="yuyv", **options), frame), expected)


VIEWS = {
    "with-a-pitch": lambda frame: np.pad(frame, ((0, 0), (0, 22), *[(0, 0)] * (frame.ndim - 2)))[:, : frame.shape[1]],
    "upside-down": lambda frame: frame[::-1].copy()[::-1],
    "every-second-row": lambda frame: frame.repeat(2, axis=0)[::2],
    "every-second-column": lambda frame: frame.repeat(2, axis=1)[:, ::2],
    "column-major": np.asfortranarray,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("color", ["bgr", *FORMATS])
@pytest.mark.parametrize(("height", "width"), [(46, 58), (130, 24)], ids=["wide", "tall"])
def test_strided_frames(run, random_frame, color, view, height, width):
    frame = random_frame(color, height, width)
    strided = VIEWS[view](frame)
    np.testing.assert_array_equal(strided, frame)
    assert strided.strides != frame.strides
    chosen = FrameSettings(size=(24, 20), resize="stretch", color=color, **NORMALISATION)
    np.testing.assert_array_equal(run(chosen, strided), run(chosen, frame))


@given(
    color=st.sampled_from(FORMATS),
    height=EVEN,
    width=EVEN,
    size=st.tuples(st.integers(2, 50), st.integers(1, 30)),
    threads=st.integers(2, 9),
)
@settings(max_examples=60, deadline=None)
def test_threads_equal_one_thread(random_frame, color, height, width, size, threads):
    frame = random_frame(color, height, width)
    options = {"size": size, "resize": "stretch", "color": color, **NORMALISATION}
    one = frame_to_tensor(frame, **options)
    np.testing.assert_array_equal(frame_to_tensor(frame, threads=threads, **options), one)


@pytest.mark.parametrize("color", FORMATS)
def test_geometry_is_that_of_the_picture(random_frame, color):
    chosen = FrameSettings(size=(16, 16), color=color, **NORMALISATION)
    plan = plan_frame(chosen, 40, 64)
    assert plan.geometry.frame_size == (40, 64)
    assert plan(random_frame(color, 40, 64)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("color", ["rgb", "bgr", *FORMATS])
def test_planes_are_the_part_that_was_asked_for(random_frame, color):
    frame = random_frame(color, 20, 30)
    whole = frame_planes(frame, color, slice(0, 20), slice(0, 30))
    assert whole.shape == (1 if color == "grey" else 3, 20, 30)
    np.testing.assert_array_equal(frame_planes(frame, color, slice(3, 18), slice(7, 30)), whole[:, 3:18, 7:30])
