"""The frames of one or several sources, in turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import cast

from mmedge.errors import InputError
from mmedge.sources.frame import Frame
from mmedge.sources.opening import open_source
from mmedge.sources.paced import PacedSource
from mmedge.sources.reader import Reader
from mmedge.sources.source import Source, SourceLike
from mmedge.sources.spec import GRAMMAR, checked_seconds, spec_of

POLICIES = ("auto", "freshest", "every")

CLOSE_S = 2.0
"""How long closing waits for drivers that hang."""

_LIVE_QUEUE = 64
_FILE_QUEUE = 2

_MEMBERS = ("name", "live", "fps", "frame_count", "incomplete", "read", "close")


class Feed:
    """Opens sources, reads each in a thread of its own, and closes them; a ``with`` statement does both.

    Any thread may call any method.

    Args:
        sources: Names as for `open_source`, or open sources. Each keeps its own numbering.
        policy: ``auto``, ``freshest`` or ``every``, as `mmedge.stream.stream` tells.
        timeout: Seconds without a frame after which a source counts as lost.
        open_timeout: Seconds within which a camera or network stream must answer.

    Raises:
        InputError: An argument is out of range, or no source at all.
    """

    def __init__(self, sources: Sequence[SourceLike], *, policy: str, timeout: float, open_timeout: float) -> None:
        if not sources:
            raise InputError("source must name at least one source, got an empty list")
        if policy not in POLICIES:
            raise InputError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
        self.readers: tuple[Reader, ...] = ()
        self._sources = [_checked(source) for source in sources]
        self._policy = policy
        self._timeout = checked_seconds("timeout", timeout)
        self._open_timeout = checked_seconds("open_timeout", open_timeout)
        self._ready = threading.Condition()
        self._closed = False
        self._releasing = threading.RLock()
        self._released = False
        self._turns: deque[Reader] = deque()

    def open(self) -> None:
        """Open the sources and start reading. Where `close` came first, or comes meanwhile, nothing stays open.

        Raises:
            SourceNotFoundError, SourceOpenError: A source cannot be opened; the others are closed again.
            InputError: Pictures shall play in real time.
        """
        with ExitStack() as opened:
            readers = []
            for source in self._sources:
                if self._closed:
                    return
                if isinstance(source, str):
                    source = open_source(source, timeout=self._timeout, open_timeout=self._open_timeout)
                opened.callback(source.close)
                readers.append(self._reader(source))
            with self._ready:
                if self._closed:
                    return
                opened.pop_all()
                self.readers = tuple(readers)
                self._turns.extend(readers)
                for reader in readers:
                    reader.start()

    def _reader(self, source: Source) -> Reader:
        if self._policy == "freshest" and not source.live:
            source = PacedSource(source)
        lossless = not source.live
        capacity = _FILE_QUEUE if lossless else _LIVE_QUEUE if self._policy == "every" else 1
        return Reader(source, self._ready, capacity=capacity, lossless=lossless, timeout=self._timeout)

    def next(self) -> Frame | None:
        """The next frame, waiting for it; sources that have one take turns. None after the last, or after `close`.

        Raises:
            SourceLostError: A source stopped giving frames.
            SourceOpenError: Nothing in a file can be decoded.
        """
        with self._ready:
            while self._turns and not self._closed:
                for _ in range(len(self._turns)):
                    reader = self._turns[0]
                    self._turns.rotate(-1)
                    frame = reader.take()
                    if frame is not None:
                        return frame
                self._turns = deque(reader for reader in self._turns if not reader.ended)
                if self._turns:
                    self._ready.wait(max(min(r.deadline() for r in self._turns) - time.monotonic(), 0.0))
        return None

    def close(self) -> None:
        """Close the sources and end their threads; `next` gives None from now on, in whatever thread waits in it."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        # Whoever closes second waits for the first.
        with self._releasing:
            if self._released:
                return
            self._released = True
            for reader in self.readers:
                reader.stop()
            deadline = time.monotonic() + CLOSE_S
            for reader in self.readers:
                reader.join(max(deadline - time.monotonic(), 0.0))

    def __enter__(self) -> Feed:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked(source: object) -> str | Source:
    """The words for a source, or the open source.

    Raises:
        InputError: It is neither.
    """
    spec = spec_of(source)
    if spec is not None:
        return spec
    missing = [member for member in _MEMBERS if not hasattr(source, member)]
    if missing:
        raise InputError(
            f"{GRAMMAR}, or an object with {', '.join(_MEMBERS)} such as mmedge.open_source gives; "
            f"got {type(source).__name__}, which has no {', '.join(missing)}"
        )
    return cast(Source, source)
