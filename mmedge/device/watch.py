"""One model of a device: its prompts, and the stream of its sources, which is started again when it breaks."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from mmedge.errors import MmedgeError
from mmedge.results import Result
from mmedge.sinks.sink import PromptsChange
from mmedge.sources.frame import Frame
from mmedge.sources.spec import mask_passwords
from mmedge.streaming import SourceOptions, SourceReport, StateChange, Stream, stream

if TYPE_CHECKING:
    from mmedge.model import Model

_log = logging.getLogger("mmedge")

STOP_S = 2.0
"""How long letting go of a source waits for its camera and for the model."""

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_STEADY_S = 60.0
"""A stream that broke after so long starts again at once."""

_MOST_VERSIONS = 16


class Receiver(Protocol):
    """What a watch tells; see `mmedge.device.device.Device`."""

    def prompts_changed(self, change: PromptsChange) -> None:
        """Before the first result that answers them."""
        ...

    def result(self, watch: Watch, frame: Frame, result: Result) -> None: ...

    def state_changed(self, change: StateChange) -> None: ...


class Watch:
    """A model and its sources. Any thread may call any method.

    Args:
        name: Of the model.
        model: Loaded; whoever made the watch closes it.
        names: Of the sources that it will watch.
        receiver: Is told what happens, from threads of the watch.
        lock: Held while `Receiver.prompts_changed` is called.

    Attributes:
        refused: Why the last change of prompts was refused; None: it was not.
        current: The prompts in force, once there are any.
        setting: Held while prompts or the bundle are changed.
    """

    def __init__(
        self, name: str, model: Model, names: tuple[str, ...], receiver: Receiver, lock: threading.RLock
    ) -> None:
        self.name = name
        self.model = model
        self.refused: str | None = None
        self.current: PromptsChange | None = None
        self.setting = threading.RLock()
        self._names = names
        self._sources: dict[str, SourceOptions] = {}
        self._receiver = receiver
        self._lock = lock
        self._pending: PromptsChange | None = None
        self._versions: deque[tuple[int, tuple[str, ...]]] = deque(maxlen=_MOST_VERSIONS)
        self._runs: list[_Run] = []
        self._splitting = threading.RLock()
        self._ended = False

    @property
    def takes_text(self) -> bool:
        return "text" in self.model.info()["inputs"].values()

    @property
    def task(self) -> str:
        """``ground``, ``classify``, …"""
        return str(self.model.info()["task"]["kind"])

    def prompts_of(self, version: int) -> tuple[str, ...] | None:
        """The prompts that results of a version answer; None where nobody knows any more. Call with the lock held."""
        return next((prompts for known, prompts in self._versions if known == version), None)

    def set_prompts(self, prompts: Sequence[str]) -> int:
        """Put prompts in force and tell so; returns their version.

        Raises:
            InputError, PromptGrammarError, EngineError: As `Model.set_text`; the old ones stay.
        """
        return self._changed(tuple(prompts), lambda: self.model.set_text(prompts))

    def swap(self, change: Callable[[], None]) -> int:
        """Call `change`, which swaps the bundle, and tell the version that the prompts have then."""
        return self._changed(self.model.prompts, change)

    def announce(self, version: int | None = None) -> None:
        """Tell of prompts that came into force, if that was not done. Call with the lock held.

        Args:
            version: Of a result; None: they are in force.
        """
        change = self._pending
        if change is not None and version in (None, change.version):
            self._pending, self.current = None, change
            self._versions.append((change.version, change.prompts))
            self._receiver.prompts_changed(change)

    def _changed(self, prompts: tuple[str, ...], change: Callable[[], None]) -> int:
        with self.setting:
            version = self.model.prompt_version + 1
            with self._lock:
                now = datetime.now(timezone.utc)
                # A frame may be answered before `change` returns: its result tells, too.
                self._pending = PromptsChange(self.name, self._names, prompts, version, now)
            try:
                change()
            except BaseException:
                with self._lock:
                    self._pending = None
                raise
            with self._lock:
                self.announce()
            return version

    def leave(self, sources: Mapping[str, SourceOptions]) -> None:
        """Let go of the sources that are not among `sources`, or not watched in the same way."""
        ending = []
        with self._splitting:
            for name in [name for name, options in self._sources.items() if sources.get(name) != options]:
                del self._sources[name]
                run = next((run for run in self._runs if name in run.sources), None)
                if run is not None and len(run.sources) > 1:
                    run.remove(name)
                elif run is not None:
                    self._runs.remove(run)
                    ending.append(run)
        deadline = time.monotonic() + STOP_S
        for run in ending:
            run.ask_to_stop()
        for run in ending:
            run.stop(deadline)

    def watch(self, sources: Mapping[str, SourceOptions]) -> None:
        """Watch these sources from now on. Those that are watched in the same way already are not opened again.

        Sources that are tried again and again share a stream, so that frames that are due together run as one batch. A
        source that may end with an error gets one of its own: its end is not that of the others.
        """
        self.leave(sources)
        new = {name: options for name, options in sources.items() if name not in self._sources}
        self._sources.update(new)
        shared = {name: options for name, options in new.items() if options.reconnect == "always"}
        with self._splitting:
            if shared and not any(run.shared and run.add(shared) for run in self._runs):
                self._runs.append(_Run(self, self._receiver, shared, shared=True))
            for name in new.keys() - shared.keys():
                self._runs.append(_Run(self, self._receiver, {name: new[name]}, shared=False))
        if tuple(sources) != self._names:
            with self._lock:
                self._names = tuple(sources)
                if self.current is not None:
                    self.current = replace(self.current, sources=self._names)
                    self._receiver.prompts_changed(self.current)

    def split(self, run: _Run) -> None:
        """Give each source of a stream that broke one of its own: whichever broke it, the others go on."""
        with self._splitting:
            if run not in self._runs or run.stopping or self._ended:
                return
            self._runs.remove(run)
            self._runs += [
                _Run(self, self._receiver, {name: options}, shared=False) for name, options in run.sources.items()
            ]

    @property
    def reports(self) -> dict[str, SourceReport]:
        """By the names of the sources; those that are not watched yet have none."""
        return {report.name: report for run in list(self._runs) for report in run.reports}

    @property
    def broken(self) -> str | None:
        """Why a stream stands still; None: none does."""
        return next((run.broken for run in list(self._runs) if run.broken is not None), None)

    def ask_to_stop(self) -> None:
        """Let the streams end, for good; returns at once."""
        with self._splitting:
            self._ended = True
        for run in list(self._runs):
            run.ask_to_stop()

    def stop(self, deadline: float) -> None:
        """End the streams, by `deadline` on the monotonic clock."""
        self.ask_to_stop()
        for run in list(self._runs):
            run.stop(deadline)


class _Run:
    """The thread that goes through the results of a stream, and starts it again when it breaks.

    Attributes:
        sources: What it watches.
        shared: Further sources may be added.
        broken: Why it stands still; None: it does not.
    """

    def __init__(self, watch: Watch, receiver: Receiver, sources: Mapping[str, SourceOptions], *, shared: bool) -> None:
        self.sources = dict(sources)
        self.shared = shared
        self.broken: str | None = None
        self._watch = watch
        self._receiver = receiver
        self._stopping = threading.Event()
        self._closing: threading.Thread | None = None
        self._stream = self._opened()
        self._thread = threading.Thread(target=self._work, name=f"mmedge model {watch.name}", daemon=True)
        self._thread.start()

    @property
    def reports(self) -> tuple[SourceReport, ...]:
        return self._stream.reports

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
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
        self._stopping.set()
        if self._closing is None:
            # A camera that hangs makes closing wait.
            self._closing = threading.Thread(target=self._stream.close, name="mmedge close", daemon=True)
            self._closing.start()

    def stop(self, deadline: float) -> None:
        self.ask_to_stop()
        for thread in (self._thread, self._closing):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _opened(self) -> Stream:
        return stream(self._watch.model, self.sources, on_state=self._state)

    def _state(self, change: StateChange) -> None:
        if not self.stopping:
            self._receiver.state_changed(change)

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
            if self._stopping.wait(wait):
                return
            if len(self.sources) > 1:
                self._watch.split(self)
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
                self._receiver.result(self._watch, frame, result)

    def _broke(self, error: Exception, wait: float) -> None:
        known = isinstance(error, MmedgeError)
        words = mask_passwords(str(error) if known else f"{type(error).__name__}: {error}")
        self.broken = f"{words}; tried again in {wait:.3g} s"
        _log.warning("model %s: %s", self._watch.name, self.broken, exc_info=not known)
