"""A bounded queue and a thread between the camera and a sink."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import replace
from enum import Enum
from typing import Any

from mmedge.errors import InputError
from mmedge.sinks.sink import Item, Observation, Sink, SinkCounters
from mmedge.sources.spec import error_words
from mmedge.triggers.event import Event

_log = logging.getLogger("mmedge")

_MOST_CAPACITY = 1_000_000
_MOST_PIXELS = 128 * 2**20
_LOG_EVERY_S = 60.0
_LONGEST_ERROR = 300
_IDLE_S = 1.0


class Queued:
    """Gives items to a sink in a thread of its own, so that whoever has them never waits.

    An item that finds the queue full pushes another one out: the oldest observation, or, where none waits, the oldest
    item of any kind. The queue is full at `capacity` items, or at 128 MiB of pixels if that is less. What is left keeps
    its order.

    A sink may have the attributes ``takes``, a tuple of the classes of items that mean something to it (others are not
    queued, nor counted), and ``pixels``, False where it writes none (frames then do not wait in the queue), and the
    methods ``idle``, called like `write` once nothing came for a second, and ``cancel``, which is called from another
    thread at the end and breaks off waits of its own.

    Args:
        sink: Its `write` and `close` are called from the thread, and from nowhere else.
        capacity: Most items that wait, from 1.
        name: For the log; None: the sink's kind.

    Raises:
        InputError: `capacity` is out of range.
    """

    def __init__(self, sink: Sink, capacity: int = 64, name: str | None = None) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or not 1 <= capacity <= _MOST_CAPACITY:
            raise InputError(f"capacity must be a whole number from 1 to {_MOST_CAPACITY:,}, got {capacity!r}")
        self.sink = sink
        self.name = sink.kind if name is None else name
        self._queue = _Queue(capacity)
        self._counters = SinkCounters()
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._takes: tuple[type, ...] = getattr(sink, "takes", (object,))
        self._pixels: bool = getattr(sink, "pixels", True)
        self._errors_logged, self._drops_logged = _Seldom(), _Seldom()
        self._thread = threading.Thread(target=self._work, name=f"mmedge sink {self.name}", daemon=True)
        self._thread.start()

    @property
    def kind(self) -> str:
        """Of the sink."""
        return self.sink.kind

    @property
    def counters(self) -> SinkCounters:
        """What was done so far. A copy; any thread may ask."""
        with self._changed:
            return replace(self._counters)

    def put(self, item: Item) -> None:
        """Queue an item and return at once. After `close` it is counted as dropped."""
        if not isinstance(item, self._takes):
            return
        if not self._pixels:
            item = _without_pixels(item)
        with self._changed:
            if self._deadline is not None:
                self._counters.dropped += 1
                return
            dropped = self._queue.add(item)
            self._counters.dropped += dropped
            total = self._counters.dropped
            self._changed.notify_all()
        if dropped and self._drops_logged.due():
            _log.warning("sink %s is too slow or does not answer (items dropped so far: %d)", self.name, total)

    def close(self, timeout: float = 2.0) -> bool:
        """Write what waits, for half of `timeout`, then close the sink. May be called more than once.

        What was not written by then is counted as dropped. A sink that hangs is left behind in its thread.

        Args:
            timeout: Seconds until this returns at the latest.

        Returns:
            Whether the sink is closed.
        """
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout / 2
            self._changed.notify_all()
        ends = time.monotonic() + timeout
        if cancel := getattr(self.sink, "cancel", None):
            cancel()
        self._thread.join(max(0.0, ends - time.monotonic()))
        if not self._thread.is_alive():
            return True
        _log.warning("sink %s does not end; its thread is left behind", self.name)
        return False

    def _work(self) -> None:
        idle = getattr(self.sink, "idle", None)
        rests = idle is None
        while (item := self._next(None if rests else _IDLE_S)) is not _END:
            if isinstance(item, _Marker):
                self._attempt(idle)
            else:
                self._attempt(self.sink.write, item)
            rests = idle is None or isinstance(item, _Marker)
        self._attempt(self.sink.close)

    def _next(self, patience: float | None) -> Item | _Marker:
        """What comes next: an item, the end, or nothing for so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._queue) or self._deadline is not None, patience):
                return _NOTHING
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._counters.dropped += self._queue.clear()
            return self._queue.take() if len(self._queue) else _END

    def _attempt(self, call: Any, *items: Item) -> None:
        try:
            call(*items)
        except Exception as error:
            message = (" ".join(error_words(error).split()) or type(error).__name__)[:_LONGEST_ERROR]
            with self._changed:
                self._counters.errors += 1
                self._counters.last_error = message
                total = self._counters.errors
            if self._errors_logged.due():
                _log.warning("sink %s: %s (errors so far: %d)", self.name, message, total)
        else:
            with self._changed:
                self._counters.written += len(items)


class _Marker(Enum):
    NOTHING = 0
    END = 1


_NOTHING, _END = _Marker.NOTHING, _Marker.END


class _Queue:
    """Two queues that are read as one, in the order of arrival: observations, which may go, and all else."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._arrived = 0
        self._pixels = 0
        self._observations: deque[tuple[int, Item]] = deque()
        self._others: deque[tuple[int, Item]] = deque()

    def __len__(self) -> int:
        return len(self._observations) + len(self._others)

    def add(self, item: Item) -> int:
        """Append an item; returns how many had to go for it."""
        self._arrived += 1
        (self._observations if isinstance(item, Observation) else self._others).append((self._arrived, item))
        self._pixels += _pixels_of(item)
        dropped = 0
        while len(self) > self._capacity or (self._pixels > _MOST_PIXELS and len(self) > 1):
            self._pop(self._observations or self._others)
            dropped += 1
        return dropped

    def take(self) -> Item:
        queues = [queue for queue in (self._observations, self._others) if queue]
        return self._pop(min(queues, key=lambda queue: queue[0][0]))

    def clear(self) -> int:
        """Empty it; returns how many items were in it."""
        count = len(self)
        self._observations.clear()
        self._others.clear()
        self._pixels = 0
        return count

    def _pop(self, queue: deque[tuple[int, Item]]) -> Item:
        item = queue.popleft()[1]
        self._pixels -= _pixels_of(item)
        return item


class _Seldom:
    """Says yes once a minute at most."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _LOG_EVERY_S
        return True


def _without_pixels(item: Item) -> Item:
    if isinstance(item, Observation):
        return Observation(None, item.result)
    return replace(item, best=None) if isinstance(item, Event) else item


def _pixels_of(item: Item) -> int:
    """Bytes of the picture in an item."""
    frame = item.frame if isinstance(item, Observation) else item.best if isinstance(item, Event) else None
    return 0 if frame is None else frame.image.nbytes
