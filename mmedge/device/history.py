"""The last happenings, for whoever asks later."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import fields, replace
from typing import Any

import cv2
import numpy as np

from mmedge.errors import SinkError
from mmedge.sinks.jpeg import encode_jpeg
from mmedge.sources.frame import Frame
from mmedge.triggers.event import Event

MOST_EVENTS = 200
MOST_BYTES = 32 * 2**20
"""Of pictures; the oldest happenings lose their best frames first."""


class History:
    """The newest message of each of the last happenings. Any thread may call any method."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, Event] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, event: Event) -> None:
        """Keep a message in place of the one before about the same happening."""
        with self._lock:
            self._put(event)
            while len(self._events) > MOST_EVENTS:
                self._bytes -= _size(self._events.popitem(last=False)[1])
            for key in self._events:
                if self._bytes <= MOST_BYTES:
                    break
                self._without_picture(key)

    def pack(self) -> None:
        """Make JPEGs of the best frames of what is over: a twentieth of the memory. Takes milliseconds for each."""
        with self._lock:
            over = [event for event in self._events.values() if event.kind == "end"]
        for event in over:
            if event.best is None or isinstance(event.best, _Packed):
                continue
            try:
                packed = replace(event, best=_Packed(event.best))
            except SinkError:
                continue
            with self._lock:
                # It may have been replaced, dropped, or made private meanwhile.
                if self._events.get(event.id) is event:
                    self._put(packed)

    def newest(self, limit: int) -> list[Event]:
        """Up to `limit` messages, those of the happenings that began last first."""
        with self._lock:
            return list(reversed(self._events.values()))[:limit]

    def forget_pixels(self) -> None:
        """Let go of all best frames."""
        with self._lock:
            for key in self._events:
                self._without_picture(key)

    def _put(self, event: Event) -> None:
        before = self._events.get(event.id)
        self._bytes += _size(event) - (0 if before is None else _size(before))
        self._events[event.id] = event

    def _without_picture(self, key: str) -> None:
        self._put(replace(self._events[key], best=None))


class _Packed(Frame):
    """A frame that is kept as a JPEG; its `image` is made anew each time that somebody looks at it.

    Raises:
        SinkError: It is too large for a JPEG.
    """

    def __init__(self, frame: Frame) -> None:
        values = {field.name: getattr(frame, field.name) for field in fields(Frame) if field.name != "image"}
        # A frozen dataclass; and without an attribute `image`, so that `__getattr__` is asked for it.
        vars(self).update(values, jpeg=encode_jpeg(frame.image))

    def __getattr__(self, name: str) -> Any:
        if name != "image":
            raise AttributeError(name)
        return cv2.imdecode(np.frombuffer(vars(self)["jpeg"], np.uint8), cv2.IMREAD_COLOR)


def _size(event: Event) -> int:
    if isinstance(event.best, _Packed):
        return len(vars(event.best)["jpeg"])
    return 0 if event.best is None else event.best.image.nbytes
