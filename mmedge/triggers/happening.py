"""One trigger on one source: the events that its scores make."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from mmedge.sinks.sink import Observation
from mmedge.triggers.event import Event, EventKind
from mmedge.triggers.machine import Machine
from mmedge.triggers.scores import score_of
from mmedge.triggers.settings import TriggerSettings, Zone

Size = tuple[int, int]


class Happening:
    """What goes on, or may begin, for a trigger on a source. It keeps one frame: the best.

    Args:
        source: Name of the source.
        settings: The trigger, with thresholds.
        zone: The zone that holds for it, or None.
        on, off: Its thresholds.
    """

    def __init__(self, source: str, settings: TriggerSettings, zone: Zone | None, on: float, off: float) -> None:
        self.settings = settings
        self._machine = Machine(settings, on, off)
        self._source = source
        self._zone = zone
        self._id = ""
        self._began: tuple[float, datetime] | None = None
        self._best: Observation | None = None
        self._score = 0.0

    @property
    def active(self) -> bool:
        """Whether a start was told, and no end."""
        return self._machine.active

    def observe(self, observation: Observation, prompts: Sequence[str] | None, size: Size | None) -> list[Event]:
        """Take a live result; its time is not before that of the last one, and `lose` was asked before."""
        result = observation.result
        score = score_of(self.settings, result, prompts, self._zone, size)
        if score is None:
            return []
        kind = self._machine.observe(result.captured, score)
        self._score = score
        if self._machine.since is None:
            self._forget()
        elif self._began is None:
            self._began = result.captured, result.captured_at
        if self._machine.improved:
            self._best = observation
        if kind == "start":
            self._id = uuid.uuid4().hex
        if kind == "end":
            return self.end(result.captured, result.captured_at, "below")
        return [] if kind is None else [self._event(kind, result.captured, result.captured_at, None)]

    def lose(self, at: float, at_utc: datetime, *, always: bool = False) -> list[Event]:
        """End what goes on where its last evidence is too old at that moment, or in any case with `always`."""
        return self.end(at, at_utc, "source") if always or self._machine.outdated(at) else []

    def end(self, at: float, at_utc: datetime, reason: str) -> list[Event]:
        """End what goes on, and forget what may have begun."""
        events = [self._event("end", at, at_utc, reason)] if self.active else []
        self._machine.drop(at)
        self._forget()
        return events

    def _forget(self) -> None:
        self._began = self._best = None

    def _event(self, kind: EventKind, at: float, at_utc: datetime, reason: str | None) -> Event:
        if self._began is None or self._best is None:
            raise RuntimeError("an event has a beginning and a best frame")
        return Event(
            id=self._id,
            kind=kind,
            trigger=self.settings.name,
            source=self._source,
            prompt=self.settings.prompt,
            at=at,
            at_utc=at_utc,
            started_utc=self._began[1],
            duration_s=max(at - self._began[0], 0.0),
            score=self._score,
            best_score=self._machine.best,
            best=self._best.frame,
            best_result=self._best.result,
            reason=reason,
        )
