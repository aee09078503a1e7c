"""When a source is opened again."""

from __future__ import annotations

import random

from mmedge.streaming.options import Backoff

_DOUBLINGS = 60


class Attempts:
    """Counts the attempts in a row and says how long to wait before each.

    A connection that held for longer than the longest wait ends the row: a camera that comes and goes at once, again
    and again, is left alone for longer and longer like one that does not come at all.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._count = 0
        self._random = random.Random()

    def held(self, seconds: float) -> None:
        """A connection gave frames for so long."""
        if seconds > self._backoff.longest:
            self._count = 0

    def next(self) -> float | None:
        """Seconds until the next attempt; None where there shall be none."""
        if self._backoff.attempts is not None and self._count >= self._backoff.attempts:
            return None
        wait = min(self._backoff.first * 2.0 ** min(self._count, _DOUBLINGS), self._backoff.longest)
        self._count += 1
        return wait * (1 - self._random.random() / 2)
