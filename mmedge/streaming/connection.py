"""The thread between a source and whoever works on its frames: it opens the source, reads it, and closes it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mmedge.sources.frame import Frame
from mmedge.sources.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """An open source, and what it says about itself: nobody but the connection asks it, for its driver may hang.

    Attributes:
        source: Is read and closed by the connection.
        name, live, fps: As in `Source`.
        camera: It can hang, be late, and be opened again: its frames come from the world, not from a file that plays in
            real time.
    """

    source: Source
    name: str
    live: bool
    fps: float | None
    camera: bool


class Receiver(Protocol):
    """What a connection reports to. Each method takes the stream's lock for a moment; none calls into a source."""

    def opened(self, connection: Connection, opened: Opened) -> bool:
        """The source is open; False where it is not wanted any more."""
        ...

    def wait_for_room(self, connection: Connection) -> bool:
        """Wait until another frame may be read; False where none is wanted any more."""
        ...

    def put(self, connection: Connection, frame: Frame, came: float, frozen: bool) -> None:
        """A frame came off the source."""
        ...

    def finished(self, connection: Connection, error: BaseException | None, incomplete: str | None) -> None:
        """No more frames come: the source ended, or `error` was raised. `incomplete` is what the source says."""
        ...


class Connection:
    """One attempt at a source, from opening to closing, in a thread of its own.

    A driver call that hangs cannot be ended from outside. Nobody waits for it: the connection is abandoned, what it
    reads or opens later goes nowhere, and its thread ends whenever the driver comes back.

    Args:
        receiver: Hears what happens.
        name: Of the source, for the thread.
        open_source: Opens the source; may take as long as it likes.
        frozen: Tells whether a picture that came at a moment is one of a camera that hangs.
    """

    def __init__(
        self,
        receiver: Receiver,
        name: str,
        open_source: Callable[[], Opened],
        frozen: Callable[[Frame, float], bool],
    ) -> None:
        self._receiver = receiver
        self._name = name
        self._open_source = open_source
        self._frozen = frozen
        self._source: Source | None = None
        self._stopping = threading.Event()
        self._reading = threading.Thread(target=self._run, name=f"read {name}", daemon=True)
        self._closing: threading.Thread | None = None

    def start(self) -> None:
        self._reading.start()

    def _run(self) -> None:
        error: BaseException | None = None
        incomplete = None
        try:
            opened = self._open_source()
            self._source = opened.source
            if self._receiver.opened(self, opened):
                self._read(opened.source)
                incomplete = opened.source.incomplete
        except BaseException as caught:
            error = caught
        # Told before the driver is asked to close, which may take forever.
        self._receiver.finished(self, error, incomplete)
        if self._source is not None:
            self._close(self._source)

    def _read(self, source: Source) -> None:
        while self._receiver.wait_for_room(self):
            frame = source.read()
            if frame is None:
                return
            came = time.monotonic()
            self._receiver.put(self, frame, came, self._frozen(frame, came))

    def _close(self, source: Source) -> None:
        try:
            source.close()
        except Exception:
            log.warning("%s: closing it failed", self._name, exc_info=True)

    def stop(self) -> None:
        """Ask the source to let go, from a thread of its own; returns at once."""
        source = self._source
        if source is None or self._stopping.is_set() or not self._reading.is_alive():
            return
        self._stopping.set()
        self._closing = threading.Thread(target=self._close, args=(source,), name=f"close {self._name}", daemon=True)
        self._closing.start()

    @property
    def alive(self) -> bool:
        """A thread of it still runs, or hangs in the driver."""
        return any(thread.is_alive() for thread in self._threads())

    def join(self, deadline: float) -> None:
        """Wait for its threads until `deadline`, seconds of `time.monotonic`; those that hang are logged."""
        for thread in self._threads():
            if thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in self._threads() if thread is not threading.current_thread()):
            log.warning("%s: the driver does not return; its thread is left behind", self._name)

    def _threads(self) -> list[threading.Thread]:
        return [thread for thread in (self._reading, self._closing) if thread is not None and thread.ident is not None]
