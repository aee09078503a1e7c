"""Where boxes of the model's input lie in the frame, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmedge_kernels.errors import FrameError
from mmedge_kernels.frame import frame_geometry

EDGES = st.integers(1, 3000)
MODES = st.sampled_from(["shortest-edge", "stretch", "letterbox"])


def test_clip_crop_of_1080p():
    geometry = frame_geometry(1080, 1920, size=(224, 224))
    assert geometry.frame_size == (1080, 1920)
    assert geometry.resized_size == (224, 398)
    assert geometry.crop_offset == (0, 87)
    assert geometry.padding == (0, 0, 0, 0)
    left, right = 87 * 1920 / 398, 311 * 1920 / 398
    np.testing.assert_allclose(geometry.to_frame([0, 0, 224, 224]), [left, 0, right, 1080])


def test_letterbox_puts_the_odd_pixel_last():
    geometry = frame_geometry(480, 640, size=(641, 640), resize="letterbox")
    assert geometry.resized_size == (480, 640)
    assert geometry.padding == (80, 81, 0, 0)
    np.testing.assert_allclose(geometry.to_frame([[0, 0, 640, 641]]), [[0, 0, 640, 480]])
    np.testing.assert_allclose(geometry.to_frame([0, 0, 640, 641], clip=False), [0, -80, 640, 561])


def test_shortest_edge_puts_the_odd_pixel_first():
    assert frame_geometry(10, 10, size=(15, 20), shortest_edge=10).padding == (3, 2, 5, 5)


def test_stretch_scales_each_axis():
    geometry = frame_geometry(100, 50, size=(200, 200), resize="stretch", crop="none")
    np.testing.assert_allclose(geometry.to_frame([20, 20, 40, 40]), [5, 10, 10, 20])
    np.testing.assert_allclose(geometry.to_input([5, 10, 10, 20]), [20, 20, 40, 40])


def test_a_sliver_keeps_a_pixel_in_the_letterbox():
    assert frame_geometry(1, 5000, size=(64, 64), resize="letterbox").resized_size == (1, 64)


@given(height=EDGES, width=EDGES, out_height=st.integers(1, 700), out_width=st.integers(1, 700), mode=MODES)
def test_sizes_add_up(height, width, out_height, out_width, mode):
    geometry = frame_geometry(height, width, size=(out_height, out_width), resize=mode)
    top, bottom, left, right = geometry.padding
    assert min(top, bottom, left, right) >= 0
    for axis, padding in ((geometry.vertical, top + bottom), (geometry.horizontal, left + right)):
        assert axis.taken + padding == axis.size
        assert 0 <= axis.crop_start <= axis.resized - axis.taken
        assert axis.taken >= 1


@given(
    height=EDGES,
    width=EDGES,
    size=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    mode=MODES,
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_round_trip(height, width, size, mode, corners):
    geometry = frame_geometry(height, width, size=size, resize=mode)
    low_x, high_x = geometry.horizontal.pad_start, geometry.horizontal.pad_start + geometry.horizontal.taken
    low_y, high_y = geometry.vertical.pad_start, geometry.vertical.pad_start + geometry.vertical.taken
    x0, y0, x1, y1 = corners
    inside = np.array([low_x + x0 * (high_x - low_x), low_y + y0 * (high_y - low_y)] * 2)
    inside[2:] = low_x + x1 * (high_x - low_x), low_y + y1 * (high_y - low_y)
    in_frame = geometry.to_frame(inside)
    assert (in_frame >= 0).all()
    assert (in_frame <= [width, height, width, height]).all()
    np.testing.assert_allclose(geometry.to_input(in_frame), inside, atol=1e-6)


@pytest.mark.parametrize(
    ("given_type", "result_type"),
    [("float32", "float32"), ("float16", "float32"), ("float64", "float64"), ("int64", "float64")],
)
def test_box_types(given_type, result_type):
    boxes = np.zeros((2, 5, 4), given_type)
    moved = frame_geometry(10, 10, size=(5, 5)).to_frame(boxes)
    assert moved.shape == (2, 5, 4)
    assert moved.dtype == result_type


def test_no_boxes():
    assert frame_geometry(10, 10, size=(5, 5)).to_frame(np.zeros((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("boxes", [np.zeros((3, 5)), np.zeros(()), ["a", "b", "c", "d"]])
def test_bad_boxes(boxes):
    with pytest.raises(FrameError, match=r"boxes must be numbers of shape \[..., 4\]"):
        frame_geometry(10, 10, size=(5, 5)).to_frame(boxes)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (-1, 5), (10**6, 10**6), (5.5, 5)])
def test_bad_frame_sizes(height, width):
    with pytest.raises(FrameError, match=r"frame must be \(height, width\)"):
        frame_geometry(height, width, size=(5, 5))
