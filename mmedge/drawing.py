"""Drawing results on frames, legible from 176x144 to 4K."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mmedge.inputs.image import FrameArray
from mmedge.results import Classification, Grounding, Result
from mmedge.triggers.settings import Zone

Color = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MOST_LINES = 5
_WARNING: Color = (40, 40, 220)
_ZONE: Color = (255, 255, 255)
# BGR; neighbours differ in hue and in lightness, so that they stay apart on a grey screen and for colour-blind eyes.
_COLORS: tuple[Color, ...] = (
    (60, 180, 255),
    (200, 120, 40),
    (90, 210, 120),
    (180, 70, 200),
    (230, 220, 80),
    (70, 90, 230),
    (200, 200, 200),
    (60, 130, 60),
)


def draw(result: Result, frame: FrameArray, zones: Sequence[Zone] = ()) -> FrameArray:
    """A copy of `frame` with boxes or a list of scores on it, and the state of its source if that is not live.

    Args:
        result: Of this frame.
        frame: uint8 [H, W, 3], BGR.
        zones: Outlined under all else, those of the result's source.
    """
    canvas = np.ascontiguousarray(frame).copy()
    pen = _Pen(canvas)
    for zone in zones:
        if zone.sources is None or result.source in zone.sources:
            pen.zone(zone)
    if isinstance(result, Grounding):
        texts = captions(result)
        # The best detection is drawn last and lies on top.
        for index in reversed(range(len(result.labels))):
            pen.box(result.boxes[index], texts[index], color_of(int(result.prompts[index])))
    elif isinstance(result, Classification):
        texts = captions(result)
        best = np.argsort(-result.scores, kind="stable")[:_MOST_LINES]
        for line, index in enumerate(best):
            pen.line(line, texts[index], color_of(int(index)))
    if result.state != "live":
        pen.banner(result.state.upper())
    return canvas


def captions(result: Grounding | Classification) -> list[str]:
    """The words beside each box or score: ``#3 0.91 a red cube``, the number only where things are followed."""
    texts = [f"{score:.2f} {label}" for score, label in zip(result.scores, result.labels, strict=True)]
    if isinstance(result, Grounding) and result.track_ids is not None:
        return [f"#{track} {text}" for track, text in zip(result.track_ids, texts, strict=True)]
    return texts


def color_of(prompt: int) -> Color:
    """The color in BGR of the prompt at this place of the list."""
    return _COLORS[prompt % len(_COLORS)]


class _Pen:
    """Draws on one picture, with sizes that follow from the picture's."""

    def __init__(self, canvas: FrameArray) -> None:
        self._canvas = canvas
        self._height, self._width = canvas.shape[:2]
        unit = min(self._height, self._width)
        self._scale = max(0.33, unit / 900)
        self._thin = max(1, round(unit / 500))
        self._pad = max(2, round(unit / 240))

    def box(self, box: Sequence[float] | FrameArray, text: str, color: Color) -> None:
        limits = np.array([self._width - 1, self._height - 1] * 2)
        x0, y0, x1, y1 = (int(v) for v in np.clip(np.round(box), 0, limits))
        cv2.rectangle(self._canvas, (x0, y0), (x1, y1), color, self._thin + 1)
        text, _, height = self._fitted(text)
        self._label(text, x0, y0 - height if y0 >= height else y0, color)

    def zone(self, zone: Zone) -> None:
        corners = np.round(np.array(zone.points) * [self._width - 1, self._height - 1]).astype(np.int32)
        # White on black can be seen on any ground.
        cv2.polylines(self._canvas, [corners], True, (0, 0, 0), self._thin + 2, cv2.LINE_AA)
        cv2.polylines(self._canvas, [corners], True, _ZONE, self._thin, cv2.LINE_AA)
        text, _, height = self._fitted(zone.name)
        left, low = corners[corners[:, 1].argmax()].tolist()
        self._label(text, left, low - height, _ZONE)

    def line(self, number: int, text: str, color: Color) -> None:
        text, _, height = self._fitted(text)
        self._label(text, 0, number * height, color)

    def banner(self, text: str) -> None:
        text, width, height = self._fitted(text)
        corner = (self._width, self._height)
        cv2.rectangle(self._canvas, (0, self._height - height), corner, _WARNING, cv2.FILLED)
        self._label(text, (self._width - width) // 2, self._height - height, _WARNING)

    def _label(self, text: str, left: int, top: int, color: Color) -> None:
        """Text on a filled ground, moved so that all of it lies in the picture."""
        width, height = self._size(text)
        left = max(0, min(left, self._width - width))
        top = max(0, min(top, self._height - height))
        cv2.rectangle(self._canvas, (left, top), (left + width, top + height), color, cv2.FILLED)
        ink = (0, 0, 0) if sum(color) > 330 else (255, 255, 255)
        foot = top + height - self._pad - self._descent(text)
        cv2.putText(self._canvas, text, (left + self._pad, foot), _FONT, self._scale, ink, self._thin, cv2.LINE_AA)

    def _fitted(self, text: str) -> tuple[str, int, int]:
        """`text`, cut to the width of the picture, with the width and height of its label."""
        text = drawable(text)
        width, height = self._size(text)
        if width > self._width:
            text = text[: max(1, int(len(text) * self._width / width) - 4)] + "..."
            width, height = self._size(text)
        return text, width, height

    def _size(self, text: str) -> tuple[int, int]:
        (width, height), _ = cv2.getTextSize(text, _FONT, self._scale, self._thin)
        return width + 2 * self._pad, height + self._descent(text) + 2 * self._pad

    def _descent(self, text: str) -> int:
        return int(cv2.getTextSize(text, _FONT, self._scale, self._thin)[1])


def drawable(text: str) -> str:
    """What OpenCV can draw of `text`: from version 5 on nearly everything, before that ASCII alone."""
    text = " ".join(text.split())
    if int(cv2.__version__.split(".")[0]) >= 5:
        return text
    return text.encode("ascii", "replace").decode()
