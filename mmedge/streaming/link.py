"""The connections to one source, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

from mmedge.errors import InputError
from mmedge.sources.frame import Frame
from mmedge.sources.opening import open_source
from mmedge.sources.paced import PacedSource
from mmedge.sources.source import Source
from mmedge.sources.spec import mask_passwords, spec_of
from mmedge.streaming.connection import Connection, Opened, Receiver
from mmedge.streaming.options import SourceOptions

HANGING = 3
"""Threads of one source that may hang in its driver. Beyond that nothing is opened until one comes back."""

_CLOSE_GRACE_S = 1.0
"""How long a lost connection may take to let go of the device before it is opened again beside it."""

_HOPELESS_S = 3.0
"""A driver that did not come back in this time is not waited for at the end either."""

_SOON_S = 0.05


class Link:
    """Opens a source, and again where it is lost. For use with the stream's lock held.

    Attributes:
        given: The source was given open, and is not opened again.
        opened: What was open last; None before the first time.
        current: The connection in use.
        calling: Since when it is in a driver call, seconds of `time.monotonic`; None while it is in none.
        opened_at: When it was opened; None before.
        retry_at: When the source is to be opened again; None while it is open, and where nobody tries.
        reopened: How often it was opened after the first time.
    """

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._spec = spec_of(options.source)
        self.given = self._spec is None
        self._asked_for = self._given().name if self._spec is None else self._spec
        self.opened: Opened | None = None
        self.current: Connection | None = None
        self.calling: float | None = None
        self.opened_at: float | None = None
        self.retry_at: float | None = None
        self.reopened = 0
        self._left: list[tuple[Connection, float]] = []

    @property
    def name(self) -> str:
        """As in results, passwords masked."""
        if self._options.name is not None:
            return self._options.name
        return mask_passwords(self._asked_for if self.opened is None else self.opened.name)

    @property
    def camera(self) -> bool:
        """See `Opened`; False before the first time."""
        return self.opened is not None and self.opened.camera

    def connect(self, receiver: Receiver, frozen: Callable[[Frame, float], bool]) -> None:
        """Open the source in a thread of its own."""
        self.retry_at = self.opened_at = None
        self.calling = time.monotonic()
        self.current = Connection(receiver, self.name, self._open, frozen)
        self.current.start()

    def _given(self) -> Source:
        return cast(Source, self._options.source)

    def _open(self) -> Opened:
        options = self._options
        if self._spec is None:
            source = self._given()
        else:
            source = open_source(self._spec, timeout=options.timeout, open_timeout=options.open_timeout)
        camera = source.live
        if not camera and options.policy == "freshest":
            try:
                source = PacedSource(source)
            except InputError:
                source.close()
                raise
        return Opened(source, source.name, source.live, source.fps, camera)

    def established(self, opened: Opened) -> None:
        """The current connection is open."""
        self.reopened += self.opened is not None
        self.opened, self.opened_at, self.calling = opened, time.monotonic(), None

    def part(self) -> Connection | None:
        """Use the current connection no more; its thread may run on."""
        connection, self.current, self.calling = self.current, None, None
        if connection is not None:
            self._left.append((connection, time.monotonic()))
        return connection

    def close(self) -> list[Connection]:
        """Open nothing any more; returns the connections that may still come to their end."""
        self.retry_at = None
        self.part()
        now = time.monotonic()
        return [connection for connection, since in self._left if now - since < _HOPELESS_S]

    def postponed(self, now: float) -> str | None:
        """Why the source cannot be opened again yet, and `retry_at` is later; None where it can."""
        self._left = [(connection, since) for connection, since in self._left if connection.alive]
        if len(self._left) >= HANGING:
            self.retry_at = now + self._options.backoff.longest
            return f"{HANGING} calls into its driver hang; it is opened again when one of them returns"
        if any(now - since < _CLOSE_GRACE_S for _, since in self._left):
            self.retry_at = now + _SOON_S
            return "it is being closed"
        return None

    def patience(self, seconds: float) -> float:
        """`seconds`, and the time between two frames."""
        fps = None if self.opened is None else self.opened.fps
        return seconds + (1 / fps if fps else 0.0)
