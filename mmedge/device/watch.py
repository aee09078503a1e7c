"""One model of a device: its prompts, and the stream of its sources, which is started again when it breaks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from mmedge.device.run import Run
from mmedge.results import Result
from mmedge.sinks.sink import PromptsChange
from mmedge.sources.frame import Frame
from mmedge.streaming import SourceOptions, SourceReport, StateChange

if TYPE_CHECKING:
    from mmedge.model import Model

STOP_S = 2.0
"""How long letting go of a source waits for its camera and for the model."""

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
        self._runs: list[Run] = []
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
                self._runs.append(self._run(shared, shared=True))
            for name in new.keys() - shared.keys():
                self._runs.append(self._run({name: new[name]}, shared=False))
        if tuple(sources) != self._names:
            with self._lock:
                self._names = tuple(sources)
                if self.current is not None:
                    self.current = replace(self.current, sources=self._names)
                    self._receiver.prompts_changed(self.current)

    def _run(self, sources: Mapping[str, SourceOptions], *, shared: bool) -> Run:
        return Run(
            self.name,
            self.model,
            sources,
            lambda frame, result: self._receiver.result(self, frame, result),
            self._receiver.state_changed,
            self._split if shared else None,
        )

    def _split(self, run: Run) -> None:
        """Give each source of a stream that broke one of its own: whichever broke it, the others go on."""
        with self._splitting:
            if run not in self._runs or run.stopping or self._ended:
                return
            self._runs.remove(run)
            self._runs += [self._run({name: options}, shared=False) for name, options in run.sources.items()]

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
