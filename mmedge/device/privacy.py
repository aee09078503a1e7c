"""Covers what must not be seen, before anything else gets the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mmedge.device.config import Box, PrivacyConfig
from mmedge.results import Classification, Grounding, Result
from mmedge.sources.frame import Frame

GRID = 128
"""Places are remembered in a grid of so many columns and rows: constant memory, however many boxes come."""

FILL = 128
"""Grey level of what is covered. Nothing of what was there is left: neither a blur nor a mosaic promises that."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class Privacy:
    """Covers the private parts of the frames of one source. One thread at a time may use it.

    Args:
        config: What is private.
        regions: Parts of the picture that always are, in 0..1 of width and height.
    """

    def __init__(self, config: PrivacyConfig, regions: Sequence[Box] = ()) -> None:
        self._config = config
        self._regions = tuple(regions)
        self._until = np.full((GRID, GRID), -np.inf)

    def apply(self, frame: Frame, result: Result, prompts: Sequence[str] | None) -> Frame | None:
        """The frame as it may be seen; None where it may not, or where nobody can tell.

        The frame itself is not written to. Where nothing is covered, it is returned as it is.

        Args:
            frame: As the camera gave it.
            result: What the model says about it.
            prompts: The prompts that the result answers; None where they are not known.
        """
        if not self._config.pixels:
            return None
        if self._config.blur:
            found = self._private_boxes(frame, result, prompts)
            if found is None:
                return None
            for box in found:
                self._hold(box, frame)
        return self._covered(frame)

    def _private_boxes(self, frame: Frame, result: Result, prompts: Sequence[str] | None) -> list[Box] | None:
        """Boxes in pixels of the frame; None where the model did not look for all that is private."""
        if prompts is None or not set(self._config.blur) <= set(prompts):
            return None
        height, width = frame.image.shape[:2]
        whole: Box = (0.0, 0.0, float(width), float(height))
        if isinstance(result, Grounding):
            return self._grounded(result, prompts, whole)
        if isinstance(result, Classification) and self._config.threshold is not None:
            scores = dict(zip(result.labels, result.scores.tolist(), strict=True))
            found = any(scores.get(prompt, math.inf) >= self._config.threshold for prompt in self._config.blur)
            return [whole] if found else []
        return None

    def _grounded(self, result: Grounding, prompts: Sequence[str], whole: Box) -> list[Box] | None:
        if len(result.all_scores) != len(prompts):
            return None
        least = -math.inf if self._config.threshold is None else self._config.threshold
        boxes: list[Box] = []
        for prompt in self._config.blur:
            found = [
                tuple(box)
                for label, score, box in zip(result.labels, result.scores.tolist(), result.boxes.tolist(), strict=True)
                if label == prompt and score >= least
            ]
            # The model drops boxes below its own threshold: what is good enough for us may have none.
            unseen = self._config.threshold is not None and not found
            if unseen and float(result.all_scores[list(prompts).index(prompt)]) >= least:
                return [whole]
            boxes += found
        return boxes

    def _hold(self, box: Box, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        x0, x1 = _grown(box[0], box[2], self._config.margin, width)
        y0, y1 = _grown(box[1], box[3], self._config.margin, height)
        columns = slice(x0 * GRID // width, -(-x1 * GRID // width))
        rows = slice(y0 * GRID // height, -(-y1 * GRID // height))
        until = frame.captured + self._config.hold
        np.maximum(self._until[rows, columns], until, out=self._until[rows, columns])

    def _covered(self, frame: Frame) -> Frame:
        height, width = frame.image.shape[:2]
        held = self._until >= frame.captured
        if not self._regions and not held.any():
            return frame
        image = frame.image.copy()
        if held.any():
            _cover(image, held)
        for x0, y0, x1, y1 in self._regions:
            image[math.floor(y0 * height) : math.ceil(y1 * height), math.floor(x0 * width) : math.ceil(x1 * width)] = (
                FILL
            )
        image.flags.writeable = False
        return replace(frame, image=image)


def _grown(low: float, high: float, margin: float, size: int) -> tuple[int, int]:
    """A side of a box, grown and rounded outwards to whole pixels, within the frame."""
    low, high = min(low, high), max(low, high)
    extra = (high - low) * margin
    first, last = math.floor(low - extra), math.ceil(high + extra)
    return max(0, min(first, size)), max(0, min(max(last, first + 1), size))


def _cover(image: npt.NDArray[np.uint8], held: npt.NDArray[np.bool_]) -> None:
    """Fill every pixel that touches a held place of the grid, however little."""
    height, width = image.shape[:2]
    last = 0
    for row in range(1, GRID + 1):
        if row < GRID and np.array_equal(held[row], held[last]):
            continue
        rows = slice(last * height // GRID, -(-row * height // GRID))
        # Where the line changes, a run of held places begins or ends.
        edges = np.flatnonzero(np.diff(held[last], prepend=False, append=False)).tolist()
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            image[rows, first * width // GRID : -(-end * width // GRID)] = FILL
        last = row
