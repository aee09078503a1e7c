"""A stream that is started again when it breaks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from mmedge.errors import InputError, MissingDependencyError, MmedgeError, SourceError
from mmedge.results import Result
from mmedge.sources.frame import Frame
from mmedge.sources.spec import error_words
from mmedge.streaming import SourceOptions, SourceReport, StateChange, Stream, stream
from mmedge.streaming.stream import FrameModel

_log = logging.getLogger("mmedge")

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_STEADY_S = 60.0
"""A stream that broke after so long starts again at once."""


class Run:
    """The thread that goes through the results of a stream, and starts it again when it breaks.

    Args:
        model: Its name, for messages.
        runs: The model.
        sources: What it watches.
        on_result, on_state: Called with what comes, from threads of its own.
        split: Called, from its thread, where one source of several broke it; that is its end. None: further sources may
            not be added, and it starts again whatever broke it.

    Attributes:
        sources: What it watches.
        broken: Why it stands still; None: it does not.
    """

    def __init__(
        self,
        model: str,
        runs: FrameModel,
        sources: Mapping[str, SourceOptions],
        on_result: Callable[[Frame, Result], None],
        on_state: Callable[[StateChange], None],
        split: Callable[[Run], None] | None = None,
    ) -> None:
        self.sources = dict(sources)
        self.broken: str | None = None
        self._name = model
        self._model = runs
        self._on_result = on_result
        self._on_state = on_state
        self._split = split
        self._stopping = threading.Event()
        self._closing: threading.Thread | None = None
        self._stream = self._opened()
        self._thread = threading.Thread(target=self._work, name=f"mmedge model {model}", daemon=True)
        self._thread.start()

    @property
    def shared(self) -> bool:
        """Further sources may be added."""
        return self._split is not None

    @property
    def reports(self) -> tuple[SourceReport, ...]:
        """One for each source."""
        return self._stream.reports

    @property
    def alive(self) -> bool:
        """It goes on, or is about to."""
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """It was asked to end."""
        return self._stopping.is_set()

    def add(self, sources: Mapping[str, SourceOptions]) -> bool:
        """Watch further sources; False where it has ended."""
        if not self.alive or not self._stream.add(sources):
            return False
        self.sources.update(sources)
        return True

    def remove(self, name: str) -> None:
        """Let go of one source of several."""
        del self.sources[name]
        self._stream.remove(name)

    def ask_to_stop(self) -> None:
        """Let it end; returns at once."""
        self._stopping.set()
        if self._closing is None:
            # A camera that hangs makes closing wait.
            self._closing = threading.Thread(target=self._stream.close, name="mmedge close", daemon=True)
            self._closing.start()

    def stop(self, deadline: float) -> None:
        """End it, by `deadline` on the monotonic clock."""
        self.ask_to_stop()
        for thread in (self._thread, self._closing):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _opened(self) -> Stream:
        return stream(self._model, dict(self.sources), on_state=self._state)

    def _state(self, change: StateChange) -> None:
        if not self.stopping:
            self._on_state(change)

    def _work(self) -> None:
        wait = _FIRST_WAIT_S
        while not self.stopping:
            began = time.monotonic()
            try:
                self._go_through()
                return
            except Exception as error:
                wait = _FIRST_WAIT_S if time.monotonic() - began > _STEADY_S else min(2 * wait, _LONGEST_WAIT_S)
                self._broke(error, wait)
                of_source = isinstance(error, (SourceError, InputError, MissingDependencyError))
            if self._stopping.wait(wait):
                return
            if of_source and self._split is not None and len(self.sources) > 1:
                self._split(self)
                return
            self._stream = self._opened()
            if self.stopping:
                self._stream.close()

    def _go_through(self) -> None:
        with self._stream:
            for frame, result in self._stream.with_frames():
                if self.stopping:
                    return
                self.broken = None
                self._on_result(frame, result)

    def _broke(self, error: Exception, wait: float) -> None:
        known = isinstance(error, MmedgeError)
        self.broken = f"{error_words(error)}; tried again in {wait:.3g} s"
        _log.warning("model %s: %s", self._name, self.broken, exc_info=not known)
