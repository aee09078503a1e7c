"""How often results come."""

from __future__ import annotations

import time
from collections import deque

_WINDOW_S = 5.0
_MOST = 256


class Pace:
    """Counts the results of one source over the last seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_MOST)

    def add(self, now: float) -> None:
        """A result came at `now`, seconds of `time.monotonic`."""
        self._times.append(now)

    def rate(self) -> float:
        """Results a second over the last 5 s, or the last 256 results where these are fewer."""
        now = time.monotonic()
        recent = [moment for moment in list(self._times) if now - moment <= _WINDOW_S]
        if not recent:
            return 0.0
        span = now - recent[0] if len(recent) == _MOST else _WINDOW_S
        began = now - self._times[0]
        return len(recent) / max(min(span, began), 0.2)
