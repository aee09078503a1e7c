"""One source: its state, and its frames on their way to the model."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Literal

from mmedge.errors import (
    InputError,
    MissingDependencyError,
    MmedgeError,
    SourceError,
    SourceLostError,
    SourceOpenError,
)
from mmedge.sources.frame import Frame
from mmedge.sources.spec import error_words
from mmedge.streaming.backoff import Attempts
from mmedge.streaming.connection import Connection, Opened
from mmedge.streaming.counters import Counters
from mmedge.streaming.frozen import FrozenDetector
from mmedge.streaming.intake import Intake
from mmedge.streaming.limited import Limited
from mmedge.streaming.link import Link
from mmedge.streaming.numbering import Numbering
from mmedge.streaming.options import SourceOptions
from mmedge.streaming.report import SourceReport
from mmedge.streaming.states import State
from mmedge.streaming.tracking import News, Tracked, worse

log = logging.getLogger(__name__)

Outcome = Literal["processed", "error", "closed"]

_OPEN_GRACE_S = 2.0
"""Sources give up opening by themselves at `open_timeout`, with the cause; only after this much more are they left."""


class Channel:
    """Watches one source.

    The methods that a `Connection` calls take the stream's lock themselves; all others want it held.

    Args:
        options: Checked.
        lock: The stream's lock.
        frames: Notified when a frame came, or none will come any more.
        news: Where changes of the state go.

    Attributes:
        served: When a frame was last taken, seconds of `time.monotonic`.
        error: Why the source failed.
        never_there: It could not be opened the first time, and nobody tries again.
    """

    def __init__(self, options: SourceOptions, lock: threading.RLock, frames: threading.Condition, news: News) -> None:
        self.served = 0.0
        self.error: BaseException | None = None
        self.never_there = False
        self._options = options
        self._lock = lock
        self._frames = frames
        self._room = threading.Condition(lock)
        self._news = news
        self._link = Link(options)
        self._tracked = Tracked(news)
        self._counters = Counters()
        self._intake = Intake(options, self._counters)
        self._numbering = Numbering()
        self._attempts = Attempts(options.backoff)
        self._detector = FrozenDetector(options.frozen_after)
        self._defects = Limited(log, logging.ERROR)
        self._failures = Limited(log, logging.INFO)
        self._working = 0
        self._incomplete: str | None = None
        self._size: tuple[int, int] | None = None
        self._no_more = False

    # What a connection tells.

    def opened(self, connection: Connection, opened: Opened) -> bool:
        with self._lock:
            if connection is not self._link.current:
                return False
            self._link.established(opened)
            self._intake.begin(opened.live)
            self._news.wake()
            return True

    def wait_for_room(self, connection: Connection) -> bool:
        with self._lock:
            if connection is self._link.current:
                self._link.calling = None
            while connection is self._link.current and self._intake.lossless and self._intake.full:
                self._room.wait()
            if connection is not self._link.current:
                return False
            self._link.calling = time.monotonic()
            return True

    def put(self, connection: Connection, frame: Frame, came: float, frozen: bool) -> None:
        with self._lock:
            if connection is not self._link.current:
                return
            height, width = frame.image.shape[:2]
            self._size = (width, height)
            own = frame.state if frame.state in ("live", "frozen") else "stale"
            state = worse(own, "frozen" if frozen else "live")
            self._intake.put(replace(self._numbering.next(frame, self._options.name), state=state), came)
            if frozen:
                self._to("frozen", f"the same picture for {self._options.frozen_after:g} s; the camera hangs")
            elif state == "frozen":
                self._to("frozen", "the source says that its picture hangs")
            elif state == "live":
                self._to("live")
            else:
                self._to("stale", f"its frames come {came - frame.captured:.1f} s late")
            self._frames.notify_all()

    def finished(self, connection: Connection, error: BaseException | None, incomplete: str | None) -> None:
        with self._lock:
            if connection is self._link.current:
                self._incomplete = incomplete
                if error is not None and not isinstance(error, MmedgeError):
                    self._defects(f"{self.name}: {error_words(error)}", error)
                self._lost(error)

    # What the supervisor does.

    @property
    def name(self) -> str:
        """As in results, passwords masked."""
        return self._link.name

    def start(self) -> None:
        """Open the source, for the first time or again."""
        self._numbering.restart()
        self._detector = detector = FrozenDetector(self._options.frozen_after, self._detector)
        try:
            self._link.connect(self, lambda frame, came: self._link.camera and detector.frozen(frame.image, came))
        except RuntimeError as error:
            # The system has no more threads.
            self._lost(error)

    def deadline(self) -> float:
        """When `tick` has something to do at the latest, seconds of `time.monotonic`."""
        link, options = self._link, self._options
        if link.retry_at is not None:
            return link.retry_at
        if link.current is None or link.calling is None:
            return time.monotonic() + link.patience(options.timeout)
        if link.opened_at is None:
            return link.calling + options.open_timeout + _OPEN_GRACE_S
        may_stale = link.camera and self._tracked.state in ("live", "frozen")
        seconds = min(options.stale_after, options.timeout) if may_stale else options.timeout
        return link.calling + link.patience(seconds)

    def tick(self, now: float) -> None:
        """Do what is due at `now`: open the source again, or say that it gives nothing, or give it up."""
        link = self._link
        if link.retry_at is not None:
            if now >= link.retry_at:
                reason = link.postponed(now)
                if reason is None:
                    self.start()
                else:
                    self._to(self._tracked.state, reason)
        elif link.current is not None and link.calling is not None:
            if link.opened_at is None:
                self._watch_opening(now - link.calling)
            else:
                self._watch_reading(now - link.calling)

    def _watch_opening(self, seconds: float) -> None:
        limit = self._options.open_timeout
        if seconds >= limit + _OPEN_GRACE_S:
            self._abandon(SourceOpenError(f"{self.name}: its driver did not open it within {limit:g} s; check it"))

    def _watch_reading(self, seconds: float) -> None:
        lost, stale = (self._link.patience(s) for s in (self._options.timeout, self._options.stale_after))
        if seconds >= lost:
            self._abandon(
                SourceLostError(f"{self.name} gave no new frame for {lost:.3g} s; check the camera, or raise timeout=")
            )
        elif seconds >= stale and self._link.camera and self._tracked.state in ("live", "frozen"):
            self._to("stale", f"no frame for {stale:.3g} s")

    def _abandon(self, error: SourceError) -> None:
        connection = self._link.current
        self._lost(error)
        if connection is not None:
            log.info("%s: a call into its driver does not return; its thread is left behind", self.name)
            connection.stop()

    def _lost(self, error: BaseException | None) -> None:
        """No more frames come from the present connection; `error` None: there are no more."""
        link, now = self._link, time.monotonic()
        link.part()
        if link.opened_at is not None:
            self._attempts.held(now - link.opened_at)
        wait = self._attempts.next() if error is not None and self._again(error) else None
        self._news.wake()
        self._room.notify_all()
        self._frames.notify_all()
        if error is not None and wait is not None:
            link.retry_at = now + wait
            if link.opened_at is None:
                self._failures(f"{error_words(error)}; tried again in {wait:.1f} s")
            self._to("connecting" if link.opened is None else "reconnecting", error_words(error))
            return
        self._no_more, self.error = True, error
        self.never_there = error is not None and link.opened is None
        if error is not None and link.camera and len(self._intake) + self._working:
            # What waits was taken before, and is no picture of what is there now.
            self._to("stale", error_words(error))
        self._end_when_done()

    def _again(self, error: BaseException) -> bool:
        """Whether to open the source again after `error`."""
        if self._link.given or self._options.reconnect == "never":
            return False
        if isinstance(error, (InputError, MissingDependencyError)) or not isinstance(error, Exception):
            return False
        return self._options.reconnect == "always" if self._link.opened is None else self._link.camera

    def _end_when_done(self) -> None:
        if self._no_more and not len(self._intake) and not self._working:
            if self.error is None:
                self._to("ended")
            else:
                self._to("failed", error_words(self.error))
            self._frames.notify_all()

    def close(self) -> list[Connection]:
        """Take no more frames, and drop those that wait; returns the connections to stop and to wait for."""
        self._no_more = True
        self._intake.close()
        self._room.notify_all()
        if not self.over:
            self._to("ended", "the stream was closed")
        return self._link.close()

    def _to(self, state: State, reason: str | None = None) -> None:
        self._tracked.to(state, self.name, reason)

    # What the consumer does.

    @property
    def over(self) -> bool:
        """Every frame became something, and no more will come."""
        return self._tracked.state in ("ended", "failed")

    def state_of(self, captured: float, now: float) -> State:
        """What may be said at `now` about a picture taken at `captured`."""
        limit = self._options.max_age
        if limit is not None and not self._intake.lossless and now - captured > limit:
            return "stale" if self._tracked.state == "live" else self._tracked.state
        return self._tracked.state

    def due_at(self) -> float | None:
        """When a frame may go to the model, seconds of `time.monotonic`; None where none waits."""
        return self._intake.due_at()

    def take(self, now: float) -> Frame | None:
        """The next frame; `done` must follow. None where all that waited was too old."""
        frame = self._intake.take(now)
        self._room.notify_all()
        if frame is None:
            self._end_when_done()
            return None
        self._working += 1
        self.served = now
        return frame

    def done(self, outcome: Outcome) -> None:
        """A frame that was taken became something."""
        self._working -= 1
        if outcome == "processed":
            self._counters.processed += 1
        elif outcome == "error":
            self._counters.errors += 1
        else:
            self._counters.dropped["closed"] += 1
        self._end_when_done()

    def report(self) -> SourceReport:
        """What there was so far."""
        link, counters = self._link, self._counters
        opened = link.opened
        return SourceReport(
            name=self.name,
            live=opened is not None and opened.live,
            fps=None if opened is None else opened.fps,
            state=self._tracked.state,
            state_s=time.monotonic() - self._tracked.since,
            reason=self._tracked.reason,
            size=self._size,
            read=counters.read,
            processed=counters.processed,
            dropped=dict(counters.dropped),
            errors=counters.errors,
            reconnects=link.reopened,
            incomplete=self._incomplete,
        )
