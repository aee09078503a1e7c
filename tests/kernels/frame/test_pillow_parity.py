"""The picture equals Pillow's to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmedge_kernels.frame import FrameSettings

MODES = ["shortest-edge", "stretch", "letterbox"]
INTERPOLATIONS = ["bilinear", "bicubic"]
EDGES = st.one_of(st.integers(1, 12), st.integers(1, 150), st.sampled_from([63, 64, 65, 127, 331, 500]))


def picture_settings(size, **options):
    return FrameSettings(size=size, dtype="uint8", layout="nhwc", **options)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("mode", MODES)
def test_photos(run, pillow_picture, photos, mode, interpolation):
    chosen = picture_settings((224, 168), resize=mode, interpolation=interpolation, color="rgb", pad_value=114)
    for name, rgb in photos.items():
        np.testing.assert_array_equal(run(chosen, rgb)[0], pillow_picture(rgb, chosen), err_msg=name)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_size(run, pillow_picture, noise, data):
    height, width = data.draw(EDGES), data.draw(EDGES)
    mode = data.draw(st.sampled_from(MODES))
    chosen = picture_settings(
        (data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))),
        resize=mode,
        shortest_edge=data.draw(st.none() | st.integers(1, 60)) if mode == "shortest-edge" else None,
        interpolation=data.draw(st.sampled_from(INTERPOLATIONS)),
        color="rgb",
        pad_value=data.draw(st.integers(0, 255)),
    )
    rgb = noise(height, width)
    np.testing.assert_array_equal(run(chosen, rgb)[0], pillow_picture(rgb, chosen))


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (1, 1, (1, 1)),
        (1, 1, (37, 5)),
        (1, 997, (13, 17)),
        (997, 1, (17, 13)),
        (500, 3, (64, 64)),
        (3, 500, (64, 64)),
        (2, 3, (211, 199)),
        (17, 19, (17, 19)),
        (17, 19, (17, 38)),
        (17, 19, (34, 19)),
        (16, 16, (16, 16)),
        (15, 5, (15, 5)),
        (4000, 2, (3, 1)),
        (2, 4000, (1, 3)),
        (1024, 1024, (1, 1)),
    ],
)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("mode", MODES)
def test_odd_sizes(run, pillow_picture, noise, height, width, size, mode, interpolation):
    chosen = picture_settings(size, resize=mode, interpolation=interpolation, color="rgb")
    rgb = noise(height, width)
    np.testing.assert_array_equal(run(chosen, rgb)[0], pillow_picture(rgb, chosen))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
def test_flat_frames_stay_flat(run, value):
    chosen = picture_settings((31, 47), resize="stretch")
    assert (run(chosen, np.full((301, 77, 3), value, np.uint8)) == value).all()


@pytest.mark.parametrize("mode", MODES)
def test_frames_that_shrink_mostly_in_height(run, pillow_picture, noise, mode):
    chosen = picture_settings((41, 97), resize=mode, color="rgb")
    rgb = noise(480, 101)
    np.testing.assert_array_equal(run(chosen, rgb)[0], pillow_picture(rgb, chosen))


def test_4k(run, pillow_picture):
    chosen = picture_settings((224, 224), color="rgb")
    rgb = np.random.default_rng(4).integers(0, 256, (2160, 3840, 3), dtype=np.uint8)
    np.testing.assert_array_equal(run(chosen, rgb)[0], pillow_picture(rgb, chosen))
