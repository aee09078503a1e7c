"""A recording that behaves like a camera."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from mmedge.errors import InputError
from mmedge.sources.frame import Frame
from mmedge.sources.source import Source
from mmedge.sources.stamp import CaptureClock


class PacedSource:
    """Hands out the frames of `inner` when they are due by its frame rate, as a live source.

    Frame i is due i / fps seconds after the first; a recording that decodes too slowly comes late, but whole.

    Raises:
        InputError: `inner` has no frame rate.
    """

    live = True

    def __init__(self, inner: Source) -> None:
        if inner.fps is None:
            raise InputError(f"{inner.name} has no frame rate and cannot play in real time; take policy 'every'")
        self.inner = inner
        self.name = inner.name
        self.fps = inner.fps
        self.frame_count = inner.frame_count
        self._clock = CaptureClock()
        self._started: float | None = None
        self._closing = threading.Event()

    @property
    def incomplete(self) -> str | None:
        return self.inner.incomplete

    def read(self) -> Frame | None:
        """The next frame once it is due; None at the end."""
        frame = self.inner.read()
        if frame is None:
            return None
        if self._started is None:
            self._started = time.monotonic() - frame.index / self.fps
        due = self._started + frame.index / self.fps
        if self._closing.wait(max(due - time.monotonic(), 0.0)):
            return None
        captured, captured_at = self._clock.ago()
        return replace(frame, captured=captured, captured_at=captured_at)

    def close(self) -> None:
        self._closing.set()
        self.inner.close()
