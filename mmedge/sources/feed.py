"""The frames of one or several sources, in turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from mmedge.errors import InputError
from mmedge.sources.frame import Frame
from mmedge.sources.opening import open_source
from mmedge.sources.paced import PacedSource
from mmedge.sources.reader import Reader
from mmedge.sources.source import Source

POLICIES = ("auto", "freshest", "every")

CLOSE_S = 2.0
"""How long closing waits for drivers that hang."""

_LIVE_QUEUE = 64
_FILE_QUEUE = 2

SourceLike = str | int | Path | Source


class Feed:
    """Opens sources when entered, reads each in a thread of its own, and closes them when left.

    Args:
        sources: Names as for `open_source`, or open sources. Each keeps its own numbering.
        policy: ``auto``, ``freshest`` or ``every``, as `mmedge.stream.stream` tells.
        timeout: Seconds without a frame after which a source counts as lost.
        open_timeout: Seconds within which a camera or network stream must answer.

    Raises:
        InputError: An argument is out of range, or, on entering, pictures shall play in real time.
        SourceNotFoundError, SourceOpenError: On entering: a source cannot be opened.
    """

    def __init__(self, sources: Sequence[SourceLike], *, policy: str, timeout: float, open_timeout: float) -> None:
        if not sources:
            raise InputError("source must name at least one source, got an empty list")
        if policy not in POLICIES:
            raise InputError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
        if not timeout > 0 or not open_timeout > 0:
            raise InputError(f"timeout and open_timeout must be above 0 seconds, got {timeout} and {open_timeout}")
        self.readers: tuple[Reader, ...] = ()
        self._sources = sources
        self._policy = policy
        self._timeout = timeout
        self._open_timeout = open_timeout
        self._ready = threading.Condition()
        self._stopping = False
        self._turns: deque[Reader] = deque()

    def __enter__(self) -> Feed:
        with ExitStack() as opened:
            readers = []
            for source in self._sources:
                if isinstance(source, (str, int, Path)):
                    source = open_source(source, timeout=self._timeout, open_timeout=self._open_timeout)
                opened.callback(source.close)
                readers.append(self._reader(source))
            opened.pop_all()
        self.readers = tuple(readers)
        self._turns.extend(readers)
        for reader in readers:
            reader.start()
        return self

    def _reader(self, source: Source) -> Reader:
        if self._policy == "freshest" and not source.live:
            source = PacedSource(source)
        lossless = not source.live
        capacity = _FILE_QUEUE if lossless else _LIVE_QUEUE if self._policy == "every" else 1
        return Reader(source, self._ready, capacity=capacity, lossless=lossless, timeout=self._timeout)

    def next(self) -> Frame | None:
        """The next frame, waiting for it; sources that have one take turns. None after the last, or after `stop`.

        Raises:
            SourceLostError: A source stopped giving frames.
            SourceOpenError: Nothing in a file can be decoded.
        """
        with self._ready:
            while self._turns and not self._stopping:
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

    def stop(self) -> None:
        """Let `next` return None, from now on and in whatever thread waits in it."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self.readers:
            reader.stop()
        deadline = time.monotonic() + CLOSE_S
        for reader in self.readers:
            reader.join(max(deadline - time.monotonic(), 0.0))
