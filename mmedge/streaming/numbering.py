"""One numbering and one row of times for a source, however often it is opened."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from mmedge.sources.frame import Frame

log = logging.getLogger(__name__)

_TICK = timedelta(microseconds=1)


class Numbering:
    """Makes indices count upwards and times increase, and finds what a source left out.

    A source that is opened again starts at 0, with a wall clock that may have been set meanwhile. Its frames go on
    where those before ended: a clock that was set forward is followed from then on, one that was set back is not.
    """

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._expected: int | None = None
        self._offset = 0
        self._shift = timedelta(0)
        self._warned = False

    def restart(self) -> None:
        """The next frame comes from a source that was opened again."""
        self._expected = None

    def next(self, frame: Frame, name: str | None) -> Frame:
        """The frame as the rest sees it; its `dropped` counts the frames that the source left out before it.

        Args:
            frame: As its source made it.
            name: The name that it shall bear instead of its own.
        """
        missing = self._missing(frame)
        self._expected = frame.index + 1
        captured, captured_at = frame.captured, frame.captured_at + self._shift
        last = self._last
        if last is not None:
            captured = max(captured, last.captured)
            if captured_at <= last.captured_at:
                passed = max(timedelta(seconds=captured - last.captured), _TICK)
                captured_at = last.captured_at + passed
                self._shift = captured_at - frame.captured_at
        self._last = replace(
            frame,
            source=frame.source if name is None else name,
            index=frame.index + self._offset,
            captured=captured,
            captured_at=captured_at,
            dropped=missing,
        )
        # Kept without its pixels, or each source would hold one picture more.
        numbered, self._last = self._last, replace(self._last, image=self._last.image[:0])
        return numbered

    def _missing(self, frame: Frame) -> int:
        """Frames that the source left out before this one: what it says, or what its numbering shows."""
        gap = 0 if self._expected is None else frame.index - self._expected
        missing = max(gap, frame.dropped, 0)
        if gap < 0 and not self._warned:
            self._warned = True
            log.warning(
                "%s: frame %d came where %s was expected; its drops are not counted where its numbers go back",
                frame.source,
                frame.index,
                self._expected,
            )
        if self._last is not None and (self._expected is None or gap < 0):
            self._offset = self._last.index + 1 + missing - frame.index
        return missing
