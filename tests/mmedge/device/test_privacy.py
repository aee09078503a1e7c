from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.device import classification, frame_at, grounding

from mmedge.device.config import PrivacyConfig
from mmedge.device.privacy import FILL, Privacy
from mmedge.results import Embedding, RawResult, Result

FACE = "a face"
PROMPTS = ("a parcel", FACE)
ON = PrivacyConfig(blur=(FACE,))

SIZES = st.tuples(st.integers(1, 130), st.integers(1, 130))
BOX = st.tuples(*[st.floats(-0.25, 1.25, width=32)] * 4)


@settings(max_examples=50, deadline=None)
@given(
    size=SIZES,
    boxes=st.lists(BOX, min_size=1, max_size=5),
    margin=st.sampled_from([0.0, 0.2, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_leaves_does_not_depend_on_what_is_in_a_private_box(
    size: tuple[int, int], boxes: list[tuple[float, ...]], margin: float, seed: int
) -> None:
    height, width = size
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    other = image.copy()
    scaled = [(np.array(box) * (width, height, width, height)).astype(np.float32) for box in boxes]
    for x0, y0, x1, y1 in scaled:
        # Every pixel that a box touches, however little.
        left, right = sorted((x0, x1))
        top, bottom = sorted((y0, y1))
        part = other[
            max(0, int(np.floor(top))) : max(0, int(np.ceil(bottom))),
            max(0, int(np.floor(left))) : max(0, int(np.ceil(right))),
        ]
        part[:] = random.integers(0, 256, part.shape, np.uint8)
    shown = []
    for picture in (image, other):
        frame = frame_at(picture)
        found = [(FACE, 0.9, box) for box in scaled] + [("a parcel", 0.8, (0, 0, width, height))]
        seen = Privacy(PrivacyConfig(blur=(FACE,), margin=margin)).apply(
            frame, grounding(frame, PROMPTS, found), PROMPTS
        )
        assert seen is not None
        shown.append(seen.image)
    assert np.array_equal(shown[0], shown[1])
    # What is not covered is as it was.
    assert ((shown[0] == image) | (shown[0] == FILL)).all()


@settings(max_examples=40, deadline=None)
@given(first=SIZES, second=SIZES, box=BOX, age=st.floats(0, 1))
def test_a_place_stays_covered_after_a_find_also_in_frames_of_another_size(
    first: tuple[int, int], second: tuple[int, int], box: tuple[float, ...], age: float
) -> None:
    privacy = Privacy(PrivacyConfig(blur=(FACE,), hold=1.0, margin=0.0))
    frame = frame_at(np.zeros((*first, 3), np.uint8), 10.0)
    height, width = first
    where = np.array(box) * (width, height, width, height)
    privacy.apply(frame, grounding(frame, PROMPTS, [(FACE, 0.9, where)]), PROMPTS)
    later = frame_at(np.zeros((*second, 3), np.uint8), 10.0 + age)
    seen = privacy.apply(later, grounding(later, PROMPTS, []), PROMPTS)
    assert seen is not None
    rows = (np.arange(second[0]) + 0.5) / second[0]
    columns = (np.arange(second[1]) + 0.5) / second[1]
    x0, x1 = sorted((box[0], box[2]))
    y0, y1 = sorted((box[1], box[3]))
    inside = ((rows > y0) & (rows < y1))[:, None] & ((columns > x0) & (columns < x1))[None, :]
    assert (seen.image[inside] == FILL).all()


def test_the_cover_is_lifted_after_the_hold() -> None:
    privacy = Privacy(PrivacyConfig(blur=(FACE,), hold=1.0))
    frame = frame_at(np.zeros((48, 64, 3), np.uint8), 10.0)
    privacy.apply(frame, grounding(frame, PROMPTS, [(FACE, 0.9, (8, 8, 16, 16))]), PROMPTS)
    later = frame_at(np.zeros((48, 64, 3), np.uint8), 11.01)
    assert privacy.apply(later, grounding(later, PROMPTS, []), PROMPTS) is later


def test_a_hold_of_0_covers_the_frame_itself() -> None:
    privacy = Privacy(PrivacyConfig(blur=(FACE,), hold=0.0))
    frame = frame_at(np.zeros((48, 64, 3), np.uint8), 10.0)
    seen = privacy.apply(frame, grounding(frame, PROMPTS, [(FACE, 0.9, (8, 8, 16, 16))]), PROMPTS)
    assert seen is not None
    assert (seen.image[8:16, 8:16] == FILL).all()


def test_the_frame_of_the_camera_is_not_written_to_and_nobody_may_write_to_ours() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    frame = frame_at(image)
    seen = Privacy(ON).apply(frame, grounding(frame, PROMPTS, [(FACE, 0.9, (8, 8, 16, 16))]), PROMPTS)
    assert not image.any()
    assert seen is not None
    assert not seen.image.flags.writeable
    assert (seen.source, seen.index, seen.captured) == (frame.source, frame.index, frame.captured)


def test_a_box_is_grown_by_the_margin() -> None:
    frame = frame_at(np.zeros((100, 100, 3), np.uint8))
    found = grounding(frame, PROMPTS, [(FACE, 0.9, (40, 40, 60, 60))])
    seen = Privacy(PrivacyConfig(blur=(FACE,), margin=0.5)).apply(frame, found, PROMPTS)
    assert seen is not None
    assert (seen.image[30:70, 30:70] == FILL).all()
    assert not seen.image[:28].any()


def test_regions_are_covered_without_any_prompt() -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    seen = Privacy(PrivacyConfig(), [(0.05, 0.0, 0.51, 0.3)]).apply(frame, grounding(frame, PROMPTS, []), None)
    assert seen is not None
    assert (seen.image[:3, :6] == FILL).all()
    assert not seen.image[3:].any()
    assert not seen.image[:, 6:].any()


def test_a_frame_in_which_nothing_is_private_is_not_copied() -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    found = grounding(frame, PROMPTS, [("a parcel", 0.9, (0, 0, 10, 10))])
    assert Privacy(ON).apply(frame, found, PROMPTS) is frame


@pytest.mark.parametrize("prompts", [None, (), ("a parcel",)], ids=["unknown", "none", "not-in-force-yet"])
def test_no_frame_leaves_where_the_model_did_not_look(prompts: tuple[str, ...] | None) -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    assert Privacy(ON).apply(frame, grounding(frame, prompts or (), []), prompts) is None


def test_no_frame_leaves_where_the_scores_are_not_those_of_the_prompts() -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    assert Privacy(ON).apply(frame, grounding(frame, ("a parcel",), []), PROMPTS) is None


@pytest.mark.parametrize(("score", "covered"), [(0.29, False), (0.3, True), (0.9, True)])
def test_a_find_without_a_box_covers_the_whole_frame(score: float, covered: bool) -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    config = PrivacyConfig(blur=(FACE,), threshold=0.3)
    seen = Privacy(config).apply(frame, grounding(frame, PROMPTS, [], _1=score + 1e-6), PROMPTS)
    assert seen is not None
    assert (seen.image == FILL).all() == covered


@pytest.mark.parametrize(("score", "covered"), [(0.59, False), (0.61, True)])
def test_a_box_counts_from_the_threshold(score: float, covered: bool) -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    found = grounding(frame, PROMPTS, [(FACE, score, (2, 2, 4, 4))])
    seen = Privacy(PrivacyConfig(blur=(FACE,), threshold=0.6)).apply(frame, found, PROMPTS)
    assert seen is not None
    assert (seen.image[2:4, 2:4] == FILL).all() == covered


@pytest.mark.parametrize(("score", "covered"), [(0.2, False), (0.8, True)])
def test_a_model_without_boxes_covers_the_whole_frame(score: float, covered: bool) -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    config = PrivacyConfig(blur=(FACE,), threshold=0.5)
    seen = Privacy(config).apply(frame, classification(frame, {"a parcel": 0.9, FACE: score}), PROMPTS)
    assert seen is not None
    assert (seen.image == FILL).all() == covered
    assert (seen.image == FILL).any() == covered


def test_a_model_without_boxes_and_threshold_shows_nothing() -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    assert Privacy(ON).apply(frame, classification(frame, {FACE: 0.0}), (FACE,)) is None


@pytest.mark.parametrize("kind", [Embedding, RawResult])
def test_a_result_that_cannot_tell_shows_nothing(kind: type[Result]) -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    stamp = {"source": "front", "frame": 0, "captured": 0.0, "captured_at": frame.captured_at, "age_ms": 0.0}
    result = kind(**stamp, latency_ms=0.0)  # type: ignore[arg-type]
    assert Privacy(ON).apply(frame, result, PROMPTS) is None


def test_without_pixels_no_frame_leaves() -> None:
    frame = frame_at(np.zeros((10, 10, 3), np.uint8))
    assert Privacy(PrivacyConfig(pixels=False)).apply(frame, grounding(frame, PROMPTS, []), PROMPTS) is None
