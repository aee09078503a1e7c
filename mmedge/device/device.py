"""A whole device that runs: cameras, models, triggers and sinks, from its configuration."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from types import TracebackType

import mmedge
from mmedge.device.config import DeviceConfig
from mmedge.device.history import History
from mmedge.device.models import Models, stop
from mmedge.device.outlets import Outlets, close_all
from mmedge.device.parts import context_key, context_of, with_activations
from mmedge.device.pipeline import Pipeline
from mmedge.device.rates import Pace
from mmedge.device.reports import is_fresh, model_status, source_status, trigger_status
from mmedge.device.schema import nearest
from mmedge.device.status import Status
from mmedge.device.watch import Watch
from mmedge.errors import InputError, MmedgeError
from mmedge.results import Result
from mmedge.sinks.queued import Queued
from mmedge.sinks.sink import Observation, PromptsChange, Sink
from mmedge.sources.frame import Frame
from mmedge.streaming.states import StateChange, utc_text
from mmedge.triggers.event import Event

_log = logging.getLogger("mmedge")

STOP_S = 2.0
"""How long stopping may take in all: a third of it waits for cameras and models, the rest is for sinks to write what
waits."""

_MARGIN_S = 0.2
_TICK_S = 0.5


class Device:
    """Runs what a `DeviceConfig` describes; implements `mmedge.device.status.RunningDevice`.

    Any thread may call any method. `start` and `stop` belong together; a ``with`` statement does both. A device that
    was stopped is not started again.

    Args:
        config: What to run.
    """

    def __init__(self, config: DeviceConfig) -> None:
        self._config = config
        # Taken by the threads of streams for a moment at each result; never held while a model, a camera or a sink
        # works.
        self._lock = threading.RLock()
        # One start or reload at a time.
        self._changing = threading.RLock()
        self._models = Models(config, self, self._lock)
        self._outlets = Outlets()
        self._attached: dict[str, Queued] = {}
        self._history = History()
        self._pipeline = Pipeline(config)
        self._newest: dict[str, Observation] = {}
        self._paces = {name: Pace() for name in config.sources}
        self._refused: str | None = None
        self._started: tuple[float, datetime] | None = None
        self._stopped = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="mmedge device", daemon=True)

    @property
    def config(self) -> DeviceConfig:
        """What runs now."""
        return self._config

    def start(self) -> None:
        """Load the models, open the sinks and watch the sources. Cameras that are not there are tried again and again.

        Raises:
            MmedgeError: A model cannot be loaded, does not take its prompts, or cannot give what privacy or a trigger
                needs; or a sink can never be opened. Nothing is left open.
        """
        with self._changing:
            if self._started is not None or self._stopped.is_set():
                raise InputError("a device is started once; make another one")
            self._change(self._config, first=True)
            self._started = time.monotonic(), datetime.now(timezone.utc)
            self._ticker.start()

    def reload(self, config: DeviceConfig) -> None:
        """Go over to another configuration. What is the same in both goes on: its cameras are not opened again.

        Prompts that were set meanwhile stay, unless the new configuration has others than the old one. What is
        changed about the server needs a new start.

        Raises:
            MmedgeError: As in `start`. The old configuration goes on as a whole, and the status says why.
        """
        with self._changing:
            if self._started is None or self._stopped.is_set():
                raise InputError("the device does not run; start it first")
            try:
                self._change(config)
            except MmedgeError as error:
                self.refuse(str(error))
                raise
            self._refused = None
            _log.info("%s goes on with the new configuration", config.name)

    def refuse(self, reason: str) -> None:
        """Say in the log and the status why a new configuration was not taken."""
        self._refused = self._config.secrets.hide(f"the new configuration was refused: {reason}")
        _log.error("%s", self._refused)

    def stop(self) -> None:
        """End everything, within 2 s whatever hangs. Safe to call twice."""
        deadline = time.monotonic() + STOP_S - _MARGIN_S
        self._stopped.set()
        watches = list(self._models.watches.values())
        for watch in watches:
            watch.ask_to_stop()
        # A change that is under way may load a model; nobody waits for that.
        alone = self._changing.acquire(timeout=STOP_S / 4)
        try:
            stop(watches, time.monotonic() + STOP_S / 3)
            with self._lock:
                self._tell_events(self._pipeline.stop())
            self._outlets.close(max(deadline - time.monotonic(), STOP_S / 4))
            if self._ticker.ident is not None and self._ticker is not threading.current_thread():
                self._ticker.join(_MARGIN_S)
        finally:
            if alone:
                self._changing.release()

    def __enter__(self) -> Device:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What the server and sinks ask.

    def status(self) -> Status:
        """See `RunningDevice`."""
        with self._lock:
            config, newest, paces = self._config, self._newest, self._paces
            active = {name: list(self._pipeline.active(name)) for name in config.triggers}
        started = self._started or (time.monotonic(), datetime.now(timezone.utc))
        watches = self._models.watches
        value: Status = {
            "device": config.name,
            "version": mmedge.__version__,
            "started_at": utc_text(started[1]),
            "uptime_s": round(time.monotonic() - started[0], 3),
            "pixels": config.privacy.pixels,
            "models": {name: model_status(watch, config, self._refused) for name, watch in watches.items()},
            "sources": {
                name: source_status(name, source, watches.get(source.model), newest.get(name), paces.get(name))
                for name, source in config.sources.items()
            },
            "sinks": self._outlets.status(config.secrets),
            "triggers": {
                name: trigger_status(trigger, config, active[name]) for name, trigger in config.triggers.items()
            },
        }
        hidden: Status = config.secrets.hidden(value)
        return hidden

    @property
    def ready(self) -> bool:
        """Every model is loaded and at least one source gave a result that is not old."""
        started = self._started is not None and not self._stopped.is_set()
        return started and any(
            is_fresh(self._newest.get(name), source.options) for name, source in self._config.sources.items()
        )

    def set_prompts(self, model: str, prompts: Sequence[str]) -> int:
        """See `mmedge.sinks.sink.Control`. What triggers compare them with and what is private is asked for, too."""
        return self._models.set_prompts(model, prompts)

    def newest(self, source: str) -> Observation | None:
        """See `RunningDevice`."""
        if source not in self._config.sources:
            raise InputError(f"there is no source {source!r}; {nearest(str(source), self._config.sources)}")
        return self._newest.get(source)

    def events(self, limit: int = 100) -> list[Event]:
        """See `RunningDevice`; 200 are kept, and 32 MiB of best frames, which are JPEGs once the event is over."""
        return self._history.newest(limit)

    def attach(self, name: str, sink: Sink, capacity: int = 64) -> None:
        """See `RunningDevice`."""
        if name in self._config.sinks:
            raise InputError(f"a sink of the device has the name {name!r}; take another one")
        queued = Queued(sink, capacity, name)
        before = self._outlets.add(name, queued)
        self._attached[name] = queued
        if before is not None:
            _close_beside(before)

    def detach(self, name: str) -> None:
        """See `RunningDevice`."""
        if self._attached.pop(name, None) is not None and (queued := self._outlets.remove(name)) is not None:
            _close_beside(queued)

    # What the watches tell.

    def prompts_changed(self, change: PromptsChange) -> None:
        """See `Receiver`."""
        with self._lock:
            self._tell_events(self._pipeline.prompts_changed(change))
            self._outlets.put(change)

    def result(self, watch: Watch, frame: Frame, result: Result) -> None:
        """See `Receiver`."""
        with self._lock:
            watch.announce(result.prompt_version)
            prompts = watch.prompts_of(result.prompt_version)
            pipeline = self._pipeline
        observation = pipeline.shown(frame, result, prompts)
        height, width = frame.image.shape[:2]
        with self._lock:
            if pipeline is not self._pipeline:
                # Something else may be private by now.
                observation = Observation(None, observation.result)
            if result.source not in self._config.sources or self._stopped.is_set():
                return
            self._newest[result.source] = observation
            self._paces[result.source].add(time.monotonic())
            self._outlets.put(observation)
            self._tell_events(self._pipeline.observe(observation, (width, height)))

    def state_changed(self, change: StateChange) -> None:
        """See `Receiver`."""
        if change.reason is not None:
            change = replace(change, reason=self._config.secrets.hide(change.reason))
        with self._lock:
            self._outlets.put(change)
            self._tell_events(self._pipeline.source_state(change))

    def _change(self, config: DeviceConfig, *, first: bool = False) -> None:
        before = self._config
        with ExitStack() as undo:
            self._models.prepare(config, undo)
            self._check_running()
            pipeline = Pipeline(with_activations(config, self._models.watches), self._pipeline)
            again = first or context_key(config, self._models.watches) != context_key(before, self._models.watches)
            self._outlets.change(
                {} if first else before.sinks,
                config.sinks,
                lambda: context_of(config, self._models.watches, self),
                undo,
                again=again,
            )
            self._check_running()
            undo.pop_all()
        with self._lock:
            self._put_in_force(config, pipeline)
        self._models.settle(config)

    def _put_in_force(self, config: DeviceConfig, pipeline: Pipeline) -> None:
        hidden = self._pipeline.hides_like(config)
        for left in pipeline.left_out:
            self._tell_events([event if hidden else replace(event, best=None) for event in left.stop()])
        self._config, self._pipeline = config, pipeline
        self._newest = {name: one for name, one in self._newest.items() if name in config.sources}
        self._paces = {name: self._paces.get(name) or Pace() for name in config.sources}
        if not hidden:
            # What was fit to be seen until now may not be any more.
            self._history.forget_pixels()
            self._newest = {name: Observation(None, one.result) for name, one in self._newest.items()}
            for one in self._newest.values():
                for queued in self._attached.values():
                    queued.put(one)
        for watch in self._models.watches.values():
            if watch.current is not None:
                self._tell_events(pipeline.prompts_changed(watch.current))
                self._outlets.put(watch.current)

    def _check_running(self) -> None:
        if self._stopped.is_set():
            raise InputError("the device is being stopped")

    def _tell_events(self, events: Sequence[Event]) -> None:
        for event in events:
            self._history.add(event)
            self._outlets.put(event)

    def _tick(self) -> None:
        while not self._stopped.wait(_TICK_S):
            with self._lock:
                self._tell_events(self._pipeline.tick(time.monotonic(), datetime.now(timezone.utc)))
            self._history.pack()


def _close_beside(queued: Queued) -> None:
    threading.Thread(target=close_all, args=([queued], STOP_S), name="mmedge close", daemon=True).start()
