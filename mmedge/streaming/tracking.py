"""The state of one source, and the news about it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone

from mmedge.streaming.states import State, StateChange

_UNREAD_NEWS = 256
"""Changes that wait for a listener that is slow; the oldest go first."""

_SEVERITY: dict[str, int] = {"live": 0, "stale": 1, "frozen": 2, "reconnecting": 3}


def worse(a: str, b: str) -> str:
    """Of two states of frames or sources the one that says less good of a picture.

    A source that ended or failed says nothing about the frames that it gave before.
    """
    return max(a, b, key=lambda state: _SEVERITY.get(state, 0))


class News:
    """Changes on their way to the listener, in their order. Call everything with the stream's lock held."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self._unread: deque[StateChange] = deque(maxlen=_UNREAD_NEWS)

    def add(self, change: StateChange) -> None:
        self._unread.append(change)
        self.wake()

    def next(self) -> StateChange | None:
        """The oldest that nobody heard of yet."""
        return self._unread.popleft() if self._unread else None


class Tracked:
    """The state that a source is in. Call everything with the stream's lock held.

    Attributes:
        state, reason: As in `StateChange`.
        since: When it came into that state, seconds of `time.monotonic`.
    """

    def __init__(self, news: News) -> None:
        self.state: State = "connecting"
        self.reason: str | None = None
        self.since = time.monotonic()
        self._news = news

    def to(self, state: State, name: str, reason: str | None = None) -> None:
        """Go to a state; no news where that is the present one. `reason` is without secrets."""
        self.reason = reason
        if state == self.state:
            return
        previous, self.state, self.since = self.state, state, time.monotonic()
        self._news.add(StateChange(name, previous, state, self.since, datetime.now(timezone.utc), reason))
