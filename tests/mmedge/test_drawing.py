"""Which letters reach the picture."""

from __future__ import annotations

import cv2
import pytest

from mmedge.drawing import drawable


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
