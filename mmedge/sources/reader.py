"""The thread between a source and whoever works on its frames."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import replace

from mmedge.errors import SourceLostError
from mmedge.sources.frame import Frame
from mmedge.sources.source import Source

log = logging.getLogger(__name__)


class Reader:
    """Reads a source in a thread of its own into a queue of at most `capacity` frames.

    Args:
        source: Open; the reader closes it.
        ready: Notified whenever there is something new to take; several readers may share one.
        capacity: Frames that wait at most. 1 on a live source keeps only the newest.
        lossless: Wait when the queue is full, instead of dropping the oldest frame.
        timeout: Seconds without a frame, beyond the time between two frames, after which the source counts as lost.
    """

    def __init__(
        self, source: Source, ready: threading.Condition, *, capacity: int, lossless: bool, timeout: float
    ) -> None:
        self.source = source
        self.delivered = 0
        self.dropped = 0
        self._ready = ready
        self._capacity = capacity
        self._lossless = lossless
        self._timeout = timeout + (1 / source.fps if source.fps else 0.0)
        self._queue: deque[Frame] = deque()
        self._next_index: int | None = None
        self._passed_over = 0
        self._warned = False
        self._active = time.monotonic()
        self._stopping = False
        self._finished = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"read {source.name}", daemon=True)

    def start(self) -> None:
        self._active = time.monotonic()
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping:
                frame = self.source.read()
                if frame is None:
                    break
                self._put(frame)
        except Exception as error:
            # Raised again by take(), in the thread that waits for frames.
            self._error = error
        finally:
            try:
                self.source.close()
            finally:
                with self._ready:
                    self._finished = True
                    self._ready.notify_all()

    def _put(self, frame: Frame) -> None:
        dropped = self._dropped_before(frame)
        if dropped != frame.dropped:
            frame = replace(frame, dropped=dropped)
        with self._ready:
            while self._lossless and len(self._queue) >= self._capacity and not self._stopping:
                self._ready.wait()
            if len(self._queue) >= self._capacity:
                self._passed_over += self._queue.popleft().dropped + 1
            self._queue.append(frame)
            self._active = time.monotonic()
            self._ready.notify_all()

    def _dropped_before(self, frame: Frame) -> int:
        """Frames that the source left out before this one: what it says, or what its numbering shows."""
        missing = 0 if self._next_index is None else frame.index - self._next_index
        if missing < 0 and not self._warned:
            self._warned = True
            log.warning(
                "%s: frame %d came where %d was expected; its drops are not counted where its numbers go back",
                self.source.name,
                frame.index,
                self._next_index,
            )
        self._next_index = frame.index + 1
        return max(missing, frame.dropped, 0)

    @property
    def ended(self) -> bool:
        """Everything was taken and nothing more will come. Call with `ready` held."""
        return self._finished and not self._queue and self._error is None

    def deadline(self) -> float:
        """When, on the monotonic clock, the source counts as lost unless a frame comes. Call with `ready` held."""
        return self._active + self._timeout

    def take(self) -> Frame | None:
        """The oldest frame that waits, or None. Call with `ready` held.

        Its `dropped` counts the frames since the one taken before.

        Raises:
            SourceLostError: There was no new frame for `timeout` seconds.
            Exception: What reading the source raised, once the frames before it are taken.
        """
        late = not self._finished and time.monotonic() >= self.deadline()
        if late and (not self._queue or (self._capacity == 1 and not self._lossless)):
            raise SourceLostError(
                f"{self.source.name} gave no new frame for {self._timeout:.3g} s; check the camera, or raise timeout="
            )
        if not self._queue:
            if self._error is not None:
                raise self._error
            return None
        frame = self._queue.popleft()
        if self._lossless:
            # The source could not go on while the queue was full: its time starts now.
            self._active = time.monotonic()
            self._ready.notify_all()
        if self._passed_over:
            frame = replace(frame, dropped=frame.dropped + self._passed_over)
            self._passed_over = 0
        self.delivered += 1
        self.dropped += frame.dropped
        return frame

    def stop(self) -> None:
        """Ask the thread to end; returns at once."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        self.source.close()

    def join(self, timeout: float) -> None:
        """Wait `timeout` seconds for the thread after `stop`; one that hangs in a driver is left behind, and logged."""
        if self._thread.ident is None or self._thread is threading.current_thread():
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.warning("%s: the driver does not return; its thread is left behind", self.source.name)
