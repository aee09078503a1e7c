"""The last happenings, for whoever asks later."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

from mmedge.triggers.event import Event

MOST_EVENTS = 200
MOST_PIXELS = 64 * 2**20
"""Bytes; the oldest happenings lose their best frames first."""


class History:
    """The newest message of each of the last happenings. Any thread may call any method."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, Event] = OrderedDict()
        self._pixels = 0
        self._lock = threading.Lock()

    def add(self, event: Event) -> None:
        """Keep a message in place of the one before about the same happening."""
        with self._lock:
            before = self._events.get(event.id)
            if before is not None:
                self._pixels -= _pixels(before)
            self._events[event.id] = event
            self._pixels += _pixels(event)
            while len(self._events) > MOST_EVENTS:
                self._pixels -= _pixels(self._events.popitem(last=False)[1])
            for key in self._events:
                if self._pixels <= MOST_PIXELS:
                    break
                self._without_pixels(key)

    def newest(self, limit: int) -> list[Event]:
        """Up to `limit` messages, those of the happenings that began last first."""
        with self._lock:
            return list(reversed(self._events.values()))[:limit]

    def forget_pixels(self) -> None:
        """Let go of all best frames."""
        with self._lock:
            for key in self._events:
                self._without_pixels(key)

    def _without_pixels(self, key: str) -> None:
        self._pixels -= _pixels(self._events[key])
        self._events[key] = replace(self._events[key], best=None)


def _pixels(event: Event) -> int:
    return 0 if event.best is None else event.best.image.nbytes
