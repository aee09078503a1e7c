"""Several sources: opened, watched, read in turn, and closed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from mmedge.sources.frame import Frame
from mmedge.streaming.channel import Channel
from mmedge.streaming.limited import Limited
from mmedge.streaming.options import SourceOptions
from mmedge.streaming.report import SourceReport
from mmedge.streaming.states import StateChange
from mmedge.streaming.tracking import News

log = logging.getLogger(__name__)

CLOSE_S = 2.0
"""How long closing waits for drivers that hang."""

_WORSE = ("stale", "frozen", "reconnecting", "failed")
_BURST = 10
_MOST_LOGS = 1000


class Supervisor:
    """Watches sources from a thread of its own, which calls into no driver and so never hangs. Any thread may call.

    Args:
        sources: Checked.
        on_state: Is told each change of a source's state, in their order, from the supervisor's thread.
    """

    def __init__(self, sources: Sequence[SourceOptions], on_state: Callable[[StateChange], None] | None) -> None:
        # Taken again by its own thread: a signal handler runs in the middle of whatever it does.
        self._lock = threading.RLock()
        self._frames = threading.Condition(self._lock)
        self._attention = threading.Condition(self._lock)
        self._news = News(self._attention.notify_all)
        self.channels = tuple(Channel(options, self._lock, self._frames, self._news) for options in sources)
        self._on_state = on_state
        self._stopped = False
        self._closed = False
        self._releasing = threading.RLock()
        self._released = False
        self._thread: threading.Thread | None = None
        self._refused = Limited(log, logging.ERROR)
        self._logs: dict[tuple[str, str], Limited] = {}

    def start(self) -> None:
        """Open the sources, each in a thread of its own. Nothing happens the second time, or after `close`."""
        with self._lock:
            if self._stopped or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._watch, name="watch sources", daemon=True)
            for channel in self.channels:
                channel.start()
            self._thread.start()

    def _watch(self) -> None:
        while True:
            with self._lock:
                change = self._news.next()
                if change is None:
                    if self._closed:
                        return
                    now = time.monotonic()
                    for channel in self.channels:
                        channel.tick(now)
                    change = self._news.next()
                if change is None:
                    deadline = min((channel.deadline() for channel in self.channels), default=None)
                    self._attention.wait(None if deadline is None else max(deadline - time.monotonic(), 0.0))
                    continue
            self._tell(change)

    def _tell(self, change: StateChange) -> None:
        # What happens at the first opening, whoever asked for the source is told as an error.
        if change.previous != "connecting" and change.state != "ended":
            level = logging.WARNING if change.state in _WORSE else logging.INFO
            key = change.source, change.state
            if len(self._logs) > _MOST_LOGS:
                self._logs.clear()
            limited = self._logs.setdefault(key, Limited(log, level, _BURST))
            # Errors of sources begin with their name.
            reason = (change.reason or "").removeprefix(f"{change.source}: ")
            limited(f"{change.source}: {change.state}" + (f": {reason}" if reason else ""))
        if self._on_state is None:
            return
        try:
            self._on_state(change)
        except Exception as error:
            self._refused("on_state failed", error)

    def add(self, sources: Sequence[SourceOptions]) -> bool:
        """Watch further sources; False, and nothing is done, where the stream has ended."""
        with self._lock:
            if self._stopped or all(channel.over for channel in self.channels):
                return False
            added = tuple(Channel(options, self._lock, self._frames, self._news) for options in sources)
            self.channels = (*self.channels, *added)
            if self._thread is not None:
                for channel in added:
                    channel.start()
            self._attention.notify_all()
            return True

    def remove(self, name: str) -> bool:
        """Let go of a source; False where there is none of that name. Returns at once."""
        with self._lock:
            gone = [channel for channel in self.channels if channel.name == name]
            connections = [connection for channel in gone for connection in channel.close()]
            self.channels = tuple(channel for channel in self.channels if channel not in gone)
            self._attention.notify_all()
            self._frames.notify_all()
        for connection in connections:
            connection.stop()
        return bool(gone)

    def take(self, limit: int) -> list[tuple[Channel, Frame]]:
        """Up to `limit` frames that are due, one of each source, waiting for the first.

        Sources whose last frame was taken longest ago come first. Empty after the last frame, or after `close`.

        Raises:
            Exception: Why a source could not be opened, or, once all are over, why the first of them failed.
        """
        with self._lock:
            while not self._stopped:
                for channel in self.channels:
                    if channel.never_there and channel.error is not None:
                        raise channel.error
                now = time.monotonic()
                taken = self._due(now, limit)
                if taken:
                    return taken
                if all(channel.over for channel in self.channels):
                    self._raise_failure()
                    return []
                waiting = [due for channel in self.channels if (due := channel.due_at()) is not None]
                self._frames.wait(max(min(waiting) - now, 0.0) if waiting else None)
        return []

    def _due(self, now: float, limit: int) -> list[tuple[Channel, Frame]]:
        due = [channel for channel in self.channels if (at := channel.due_at()) is not None and at <= now]
        taken: list[tuple[Channel, Frame]] = []
        for channel in sorted(due, key=lambda channel: channel.served):
            frame = channel.take(now) if len(taken) < limit else None
            if frame is not None:
                taken.append((channel, frame))
        return taken

    def _raise_failure(self) -> None:
        for channel in self.channels:
            if channel.error is not None:
                raise channel.error

    @property
    def lock(self) -> threading.RLock:
        """Held by whoever calls a channel."""
        return self._lock

    @property
    def stopped(self) -> bool:
        """`take` gives nothing any more."""
        return self._stopped

    def reports(self) -> tuple[SourceReport, ...]:
        """One for each source, in their order, all of the same moment."""
        with self._lock:
            return tuple(channel.report() for channel in self.channels)

    def stop(self) -> None:
        """Let `take` give nothing from now on, in whatever thread waits in it; returns at once."""
        with self._lock:
            self._stopped = True
            self._frames.notify_all()

    def close(self, deadline: float | None = None) -> None:
        """Close the sources and end all threads, within 2 seconds; `take` gives nothing from now on.

        Args:
            deadline: When to wait no longer, seconds of `time.monotonic`; None: 2 seconds from now.
        """
        if deadline is None:
            deadline = time.monotonic() + CLOSE_S
        self.stop()
        with self._lock:
            self._closed = True
            connections = [connection for channel in self.channels for connection in channel.close()]
            self._attention.notify_all()
        # Whoever closes second waits for the first.
        with self._releasing:
            if self._released:
                return
            self._released = True
            for connection in connections:
                connection.stop()
            for connection in connections:
                connection.join(deadline)
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(max(deadline - time.monotonic(), 0.0))
