"""The frames of one source that wait for the model."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from mmedge.sources.frame import Frame
from mmedge.streaming.counters import Counters, Reason
from mmedge.streaming.options import SourceOptions

LIVE_QUEUE = 64
FILE_QUEUE = 2


class Gate:
    """Lets at most `rate` frames a second through; None: all.

    A frame that comes late may be followed sooner by the next one, by up to half the time between two, so that the
    average is reached and never exceeded.

    Attributes:
        opens: When the next frame may pass, seconds of `time.monotonic`.
    """

    def __init__(self, rate: float | None) -> None:
        self._interval = 0.0 if rate is None else 1 / rate
        self.opens = 0.0

    def passed(self, now: float) -> None:
        self.opens = max(self.opens + self._interval, now + self._interval / 2)


class Intake:
    """A bounded queue that knows the policy. For use with the stream's lock held.

    Attributes:
        lossless: Whoever puts a frame waits until there is room; otherwise the oldest frame goes.
    """

    def __init__(self, options: SourceOptions, counters: Counters) -> None:
        self.lossless = True
        self._options = options
        self._counters = counters
        self._gate = Gate(options.max_rate)
        self._queue: deque[Frame] = deque()
        self._capacity = 1
        self._thinned = False
        self._before_newest = 0
        self._before_oldest = 0

    def begin(self, live: bool) -> None:
        """The source is open; `live` says whether its frames come by themselves."""
        self.lossless = not live
        every = self._options.policy == "every"
        self._capacity = FILE_QUEUE if self.lossless else LIVE_QUEUE if every else 1
        # A queue that is emptied more slowly than it fills would hold nothing but old frames.
        self._thinned = live and every and self._options.max_rate is not None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        return len(self._queue) >= self._capacity

    def put(self, frame: Frame, now: float) -> None:
        """Take in the frame that came at `now`; its `dropped` counts what its source left out before it."""
        self._counters.read += 1
        self._counters.dropped["source"] += frame.dropped
        if self._thinned:
            if now < self._gate.opens:
                self._counters.dropped["rate"] += 1
                self._before_newest += frame.dropped + 1
                return
            self._gate.passed(now)
        if self.full:
            self._drop_oldest("newer" if now >= self._gate.opens or self._thinned else "rate")
        if self._before_newest:
            frame = replace(frame, dropped=frame.dropped + self._before_newest)
            self._before_newest = 0
        self._queue.append(frame)

    def due_at(self) -> float | None:
        """When its oldest frame may go to the model, seconds of `time.monotonic`; None where there is none."""
        if not self._queue:
            return None
        return 0.0 if self._thinned else self._gate.opens

    def take(self, now: float) -> Frame | None:
        """The oldest frame that is not too old; its `dropped` counts those since the one taken before."""
        limit = self._options.max_age
        while not self.lossless and limit is not None and self._queue and now - self._queue[0].captured > limit:
            self._drop_oldest("age")
        if not self._queue:
            return None
        frame = self._queue.popleft()
        if not self._thinned:
            self._gate.passed(now)
        if self._before_oldest:
            frame = replace(frame, dropped=frame.dropped + self._before_oldest)
            self._before_oldest = 0
        return frame

    def close(self) -> None:
        """Drop what waits."""
        while self._queue:
            self._drop_oldest("closed")

    def _drop_oldest(self, reason: Reason) -> None:
        self._counters.dropped[reason] += 1
        self._before_oldest += self._queue.popleft().dropped + 1
