"""Sources behind OpenCV's VideoCapture: video files, network streams and cameras."""

from __future__ import annotations

import logging
import math
import threading
import time

import cv2
import numpy as np
import numpy.typing as npt

from mmedge.errors import SourceLostError, SourceOpenError
from mmedge.sources.frame import Frame
from mmedge.sources.lag import Lag
from mmedge.sources.stamp import FrameMaker

_FASTEST = 1000.0
_FEW_FRAMES = 5
_LONGEST_BACKLOG_S = 3.0
_BACKLOG_CHECK_S = 0.25
_CATCHING_UP = 1.2
"""Seconds of the stream in a second of ours: above this, what comes is backlog and not the jitter of a network."""

log = logging.getLogger(__name__)


class Capture:
    """A VideoCapture that may be closed while another thread reads from it."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._in_use = threading.Lock()
        self.closed = False

    def property(self, number: int) -> float | None:
        """A property of the capture; None where it has no sensible value."""
        value = float(self._capture.get(number))
        return value if math.isfinite(value) and value > 0 else None

    def read(self) -> tuple[npt.NDArray[np.uint8], float] | None:
        """The next picture and its time stamp in milliseconds; None when there is none or the capture was closed."""
        with self._in_use:
            if self.closed:
                return None
            found, image = self._capture.read()
            place = float(self._capture.get(cv2.CAP_PROP_POS_MSEC))
            if self.closed:
                # close() came while this thread was inside the driver, where nobody else may release.
                self._capture.release()
                return None
        return (np.asarray(image, np.uint8), place) if found else None

    def close(self) -> None:
        self.closed = True
        if self._in_use.acquire(blocking=False):
            try:
                self._capture.release()
            finally:
                self._in_use.release()


def release(capture: cv2.VideoCapture) -> None:
    """Let go of a capture that nobody waits for any more."""
    capture.release()


def frame_rate(capture: Capture) -> float | None:
    """The nominal rate, or None where the header holds nonsense."""
    fps = capture.property(cv2.CAP_PROP_FPS)
    return fps if fps is not None and fps <= _FASTEST else None


class VideoSource:
    """A video file, every frame of it.

    Args:
        name: How it was asked for.
        capture: Open.
    """

    live = False

    def __init__(self, name: str, capture: Capture) -> None:
        self.name = name
        self.fps = frame_rate(capture)
        count = capture.property(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = None if count is None else round(count)
        self.incomplete: str | None = None
        self._capture = capture
        self._frames = FrameMaker(name)
        self._place = -1.0

    def read(self) -> Frame | None:
        """The next frame; None at the end of the file, or where it is damaged (`incomplete` then says so).

        Raises:
            SourceOpenError: It holds not one frame that can be decoded.
        """
        picture = self._capture.read()
        if picture is None:
            if not self._capture.closed:
                self._end()
            return None
        image, place = picture
        return self._frames.make(image, media_time_s=self._seconds(place))

    def _seconds(self, place: float) -> float | None:
        """Files without time stamps answer the same place for every frame."""
        index = self._frames.next_index
        if place > self._place or index == 0:
            self._place = place
        elif self.fps is not None:
            self._place = 1000 * index / self.fps
        else:
            return None
        return self._place / 1000

    def _end(self) -> None:
        given = self._frames.next_index
        if given == 0:
            raise SourceOpenError(f"{self.name} was opened, and not one frame of it can be decoded; is it damaged?")
        promised = self.frame_count or 0
        if promised - given > max(_FEW_FRAMES, promised // 100) and self.incomplete is None:
            self.incomplete = f"its header promises {promised} frames, {given} could be read: cut off or damaged"
            log.warning("%s: %s", self.name, self.incomplete)

    def close(self) -> None:
        self._capture.close()


class LiveSource:
    """A camera or a network stream. It has no end of its own: when frames stop, it is lost.

    Frames are stamped with the time at which they were taken as far as the stream's own time stamps tell it: one that
    waited in a socket or a decoder is so much older.

    Args:
        name: How it was asked for, passwords masked.
        capture: Open.
        timeout: Seconds after which a frame comes too late to be a new one: a network library that gives up waiting
            still hands out what its decoder holds.
        backlog: The stream's time stamps start at 0, and frames piled up while it was being opened. They are old and
            are thrown away, uncounted.
    """

    live = True
    frame_count = None
    incomplete = None

    def __init__(self, name: str, capture: Capture, *, timeout: float, backlog: bool = False) -> None:
        self.name = name
        self.fps = frame_rate(capture)
        self._capture = capture
        self._timeout = timeout
        self._backlog = backlog
        self._frames = FrameMaker(name)
        self._lag = Lag(began=time.monotonic() if backlog else None)

    def read(self) -> Frame | None:
        """The next frame, in the order in which the driver gives them; None once closed.

        Raises:
            SourceLostError: The driver gave no frame in time, or old ones without end.
        """
        if self._backlog:
            self._backlog = False
            self._throw_away_backlog()
        picture = self._wait()
        if picture is None:
            return None
        image, place = picture
        return self._frames.make(image, lag=self._lag.of(place, time.monotonic()))

    def _wait(self) -> tuple[npt.NDArray[np.uint8], float] | None:
        """The next picture and its time stamp in seconds."""
        began = time.monotonic()
        picture = self._capture.read()
        if self._capture.closed:
            return None
        if picture is None or time.monotonic() - began >= self._timeout:
            raise SourceLostError(
                f"{self.name} gave {self._frames.next_index} frames and then no more: it was unplugged, went off the "
                "network or ended; check it and open it again"
            )
        return picture[0], picture[1] / 1000

    def _throw_away_backlog(self) -> None:
        """Read on until the stream's clock runs no faster than ours: while it does, the frames are old ones."""
        began = checked = time.monotonic()
        reached: float | None = None
        while (picture := self._wait()) is not None:
            now, place = time.monotonic(), picture[1]
            self._lag.of(place, now)
            if reached is None:
                checked, reached = now, place
            elif now - checked >= _BACKLOG_CHECK_S:
                if place - reached <= _CATCHING_UP * (now - checked):
                    return
                checked, reached = now, place
            if now - began > _LONGEST_BACKLOG_S:
                raise SourceLostError(
                    f"{self.name}: after {now - began:.0f} s of throwing old frames away there still are more; this "
                    "machine decodes it too slowly (take a smaller picture or rate), or read right after opening"
                )

    def close(self) -> None:
        self._capture.close()
