"""A source that misbehaves as told."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from mmedge.errors import SourceError, SourceLostError
from mmedge.sources.fault.schedule import Place
from mmedge.sources.fault.words import Fault, Faults
from mmedge.sources.frame import Frame
from mmedge.sources.source import Source
from mmedge.sources.stamp import STALE_S

_HELD = 256
"""Frames that a delay holds at most; beyond that the source waits."""

_GREY = 128
"""What decoders put where a picture is cut off."""


class FaultSource:
    """The frames of `inner`, with faults.

    Frames keep the numbers and capture times that `inner` gave them. A fault that starts or lasts by time goes by the
    frame's place in the recording, or for cameras by its capture time, since the first frame.

    Args:
        name: How it was asked for, passwords masked.
        inner: Open.
        faults: Used by this source alone: they remember where they are.
    """

    def __init__(self, name: str, inner: Source, faults: Faults) -> None:
        self.name = name
        self.inner = inner
        self.live = inner.live
        self.fps = inner.fps
        self.frame_count = inner.frame_count
        self._faults = faults
        self._first: float | None = None
        self._dropped = 0
        self._picture: npt.NDArray[np.uint8] | None = None
        self._held: deque[tuple[float, float, Frame]] = deque()
        self._after: SourceError | None = None
        self._ended = False
        self._closing = threading.Event()

    @property
    def incomplete(self) -> str | None:
        return self.inner.incomplete

    def read(self) -> Frame | None:
        """The next frame that is left; None at the end or once closed. As in a driver, `close` does not end a hang.

        Raises:
            SourceLostError: A fault disconnected the source, or what `inner` raises.
        """
        self._fill()
        if self._closing.is_set():
            return None
        if not self._held:
            if self._after is not None:
                raise self._after
            return None
        due, hang, frame = self._held.popleft()
        if self._closing.wait(max(due - time.monotonic(), 0.0)):
            return None
        if hang:
            time.sleep(hang)
            if self._closing.is_set():
                return None
        late = (due or hang) and self.live and time.monotonic() - frame.captured > STALE_S
        return replace(frame, state="stale") if late and frame.state == "live" else frame

    def _fill(self) -> None:
        """Read on until the oldest frame is due: so a delay makes a camera's frames late, and not fewer."""
        while not self._ended:
            if self._held and (not self.live or len(self._held) >= _HELD or self._held[0][0] <= time.monotonic()):
                return
            try:
                frame = self.inner.read()
                kept = None if frame is None else self._faulty(frame)
            except SourceError as error:
                # The frames before it are handed out first.
                self._after, self._ended = error, True
                return
            if frame is None:
                self._ended = True
            elif kept is not None:
                self._held.append(kept)

    def _faulty(self, frame: Frame) -> tuple[float, float, Frame] | None:
        """When the frame is due, how long its read hangs, and the frame; None if it is dropped."""
        active = self._active(frame)
        if "disconnect" in active:
            raise SourceLostError(f"{self.name}: disconnected at frame {frame.index}, as its faults say")
        if "drop" in active:
            self._dropped += 1 + frame.dropped
            return None
        image = frame.image
        if "freeze" in active and self._picture is not None:
            image = self._picture.copy()
        elif self._freezes:
            self._picture = image.copy()
        if "corrupt" in active:
            image = corrupted(image, (self._faults.seed, frame.index))
        if "resize" in active and (size := active["resize"].size):
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        source = self.name if frame.source == self.inner.name else frame.source
        frame = replace(frame, image=image, source=source, dropped=frame.dropped + self._dropped)
        self._dropped = 0
        hang = active["hang"].seconds if "hang" in active else 0.0
        return self._due(active.get("delay")), hang, frame

    def _active(self, frame: Frame) -> dict[str, Fault]:
        moment = frame.captured if frame.media_time_s is None else frame.media_time_s
        if self._first is None:
            self._first = moment
        place = Place(frame.index, moment - self._first)
        # Each is asked, in this order: they remember where they are. Of two of one kind the later counts.
        return {fault.kind: fault for fault in self._faults.faults if fault.schedule.active(place)}

    @property
    def _freezes(self) -> bool:
        return any(fault.kind == "freeze" for fault in self._faults.faults)

    def _due(self, delay: Fault | None) -> float:
        """On the monotonic clock; never before the frame that is held already."""
        due = 0.0 if delay is None else time.monotonic() + delay.seconds
        return max(due, self._held[-1][0]) if self._held else due

    def close(self) -> None:
        self._closing.set()
        self.inner.close()


def corrupted(image: npt.NDArray[np.uint8], seed: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A copy of `image` (uint8 [H, W, 3]) with random bytes, or nothing but grey, from a random row on."""
    random = np.random.default_rng(seed)
    image = image.copy()
    rest = image[random.integers(len(image)) :]
    rest[...] = _GREY if random.random() < 0.5 else random.integers(256, size=rest.shape, dtype=np.uint8)
    return image
