"""What reaches the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from support.sink_items import classification, observation

from mmedge.drawing import captions, draw, drawable
from mmedge.results import Classification, Grounding
from mmedge.triggers.settings import Zone

GREY = np.full((96, 128, 3), 120, np.uint8)
LEFT = ((0.05, 0.05), (0.4, 0.05), (0.4, 0.95), (0.05, 0.95))


@pytest.mark.parametrize(
    ("version", "text", "drawn"),
    [
        ("4.13.0", "naïve 日本 x", "na?ve ?? x"),
        ("5.0.0", "naïve 日本 x", "naïve 日本 x"),
        ("5.0.0", " two\n lines\t", "two lines"),
    ],
)
def test_old_opencv_gets_one_mark_per_letter_it_cannot_draw(
    monkeypatch: pytest.MonkeyPatch, version: str, text: str, drawn: str
) -> None:
    monkeypatch.setattr(cv2, "__version__", version)
    assert drawable(text) == drawn


def test_captions_name_tracks_where_things_are_followed() -> None:
    followed, plain, scores = (
        observation(1, track_ids=np.array([12, 3])).result,
        observation(1).result,
        classification().result,
    )
    assert isinstance(followed, Grounding)
    assert isinstance(plain, Grounding)
    assert isinstance(scores, Classification)
    assert [text.split()[0] for text in captions(followed)] == ["#12", "#3"]
    assert captions(plain) == [text.split(" ", 1)[1] for text in captions(followed)]
    assert captions(scores) == ["0.25 a person", "0.75 a parcel"]


@pytest.mark.parametrize(("sources", "drawn"), [(None, True), (("door", "yard"), True), (("yard",), False)])
def test_zones_of_the_source_are_outlined(sources: tuple[str, ...] | None, drawn: bool) -> None:
    picture = draw(observation(1, boxes=0).result, GREY, [Zone("left", LEFT, sources)])
    assert (picture != GREY).any() == drawn
    assert (picture[:, 100:] == GREY[:, 100:]).all()


@pytest.mark.parametrize("state", ["stale", "frozen", "reconnecting"])
@pytest.mark.parametrize("size", [(96, 128), (480, 640), (24, 100)])
def test_a_red_bar_across_the_picture_says_that_it_is_not_live(state: str, size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 120, np.uint8)
    picture = draw(observation(1, boxes=0, state=state).result, frame)
    bottom = picture[-1, [0, -1]].astype(int)
    assert (bottom[:, 2] > bottom[:, :2].max(axis=1) + 100).all()
    assert (draw(observation(1, boxes=0).result, frame) == frame).all()
