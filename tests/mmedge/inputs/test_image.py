"""Frames: what is taken, what is refused and with which advice, and how boxes find their way back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.bundles import COLORS, IMAGE_INPUT, frame_of

from mmedge.bundle import ImageInput, TensorSpec
from mmedge.errors import BundleFormatError, FrameInputError
from mmedge.inputs.image import ImagePreprocessor, check_frame


def contract(size: tuple[int, int] = (8, 8), **changes: Any) -> ImageInput:
    given = {"tensor": TensorSpec("pixels", "float32", (1, 3, *size)), "size": size, **changes}
    return replace(IMAGE_INPUT, **given)


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("size", [(48, 64), (9, 501), (1, 1), (63, 500)])
def test_channels_arrive_in_rgb_order(color: str, size: tuple[int, int]) -> None:
    pixels = ImagePreprocessor("image", contract(resize="stretch")).tensors(frame_of(color, *size))["pixels"]
    assert (pixels.shape, pixels.dtype) == ((1, 3, 8, 8), np.float32)
    wanted = np.zeros(3)
    wanted[list(COLORS).index(color)] = 1.0
    np.testing.assert_allclose(pixels.mean(axis=(0, 2, 3)), wanted, atol=1e-6)


def test_mean_std_layout_and_dtype_follow_the_contract() -> None:
    spec = TensorSpec("x", "float16", (1, 8, 8, 3))
    made = contract(tensor=spec, layout="nhwc", mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 1.0))
    pixels = ImagePreprocessor("image", made).tensors(np.full((20, 30, 3), 255, np.uint8))["x"]
    assert (pixels.shape, pixels.dtype) == ((1, 8, 8, 3), np.float16)
    assert pixels[0, 3, 4].tolist() == [1.0, 2.0, 0.5]


@pytest.mark.parametrize(
    ("resize", "size", "frame", "whole"),
    [
        ("stretch", (8, 8), (48, 64), (0, 0, 64, 48)),
        ("letterbox", (8, 8), (32, 64), (0, 0, 64, 32)),
        ("shortest-edge", (8, 8), (32, 64), (16, 0, 48, 32)),
        ("stretch", (10, 30), (63, 500), (0, 0, 500, 63)),
    ],
)
def test_boxes_find_their_way_back(
    resize: str, size: tuple[int, int], frame: tuple[int, int], whole: tuple[int, ...]
) -> None:
    image = ImagePreprocessor("image", contract(size, resize=resize))
    boxes = np.array([[0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 0.0, 0.0], [2.0, 2.0, 0.1, 0.1]], np.float32)
    mapped = image.to_frame(boxes, np.zeros((*frame, 3), np.uint8))
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped[0], whole, atol=1e-4)
    np.testing.assert_allclose(mapped[1], [frame[1] / 2, frame[0] / 2] * 2, atol=1e-4)
    assert (mapped >= 0).all()
    assert (mapped <= [frame[1], frame[0]] * 2).all()


@pytest.mark.parametrize(
    ("frame", "advice"),
    [
        pytest.param([[0, 0, 0]], "numpy.asarray", id="list"),
        pytest.param(None, "NoneType", id="none"),
        pytest.param(np.zeros((0, 4, 3), np.uint8), "no pixels", id="empty"),
        pytest.param(np.zeros((4, 4), np.uint8), "COLOR_GRAY2BGR", id="grey"),
        pytest.param(np.zeros((4, 4, 1), np.uint8), "COLOR_GRAY2BGR", id="grey-channel"),
        pytest.param(np.zeros((4, 5, 4), np.uint8), "COLOR_BGRA2BGR", id="alpha"),
        pytest.param(np.zeros((3, 8, 9), np.uint8), "moveaxis", id="channels-first"),
        pytest.param(np.zeros((1, 8, 8, 3), np.uint8), "one frame at a time", id="batch"),
        pytest.param(np.zeros(7, np.uint8), "no colour picture", id="vector"),
        pytest.param(np.full((4, 4, 3), np.nan, np.float32), r"float32: .*NaN", id="float-nan"),
        pytest.param(np.zeros((4, 4, 3), np.float64), r"\* 255", id="float"),
        pytest.param(np.zeros((4, 4, 3), np.uint16), ">> 8", id="16-bit"),
        pytest.param(np.zeros((4, 4, 3), np.bool_), r"astype\('uint8'\)", id="bool"),
        pytest.param(np.zeros((4, 4, 3), np.int32), "clip", id="int"),
        pytest.param(np.zeros((4, 4, 3), object), "convert", id="object"),
    ],
)
def test_what_is_no_frame_is_refused_with_advice(frame: Any, advice: str) -> None:
    with pytest.raises(FrameInputError, match=advice):
        check_frame(frame)
    with pytest.raises(FrameInputError, match=advice):
        ImagePreprocessor("image", contract()).tensors(frame)


def test_views_and_read_only_frames_are_taken() -> None:
    whole = np.zeros((20, 31, 3), np.uint8)
    whole[..., 0] = np.arange(31)
    whole.flags.writeable = False
    image = ImagePreprocessor("image", contract())
    mirrored = image.tensors(whole[:, ::-1])["pixels"]
    np.testing.assert_array_equal(mirrored, image.tensors(np.ascontiguousarray(whole[:, ::-1]))["pixels"])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"crop": "none", "resize": "shortest-edge"}, id="no-crop"),
        pytest.param({"tensor": TensorSpec("pixels", "float32", (1, 3, 8, 9))}, id="width"),
        pytest.param({"tensor": TensorSpec("pixels", "float32", (3, 8, 8))}, id="rank"),
        pytest.param({"tensor": TensorSpec("pixels", "float32", (2, 3, 8, 8))}, id="batch"),
        pytest.param({"tensor": TensorSpec("pixels", "int64", (1, 3, 8, 8))}, id="dtype"),
        pytest.param({"layout": "nhwc"}, id="layout"),
        pytest.param({"shortest_edge": 9, "resize": "stretch"}, id="edge-without-use"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleFormatError, match="image contract"):
        ImagePreprocessor("image", contract(**changes))


def test_named_axes_take_what_comes() -> None:
    spec = TensorSpec("pixels", "float32", ("batch", 3, "h", "w"))
    assert ImagePreprocessor("image", contract(tensor=spec)).tensors(frame_of("red"))["pixels"].shape == (1, 3, 8, 8)
