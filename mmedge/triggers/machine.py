"""One trigger on one source: from scores at times to the beginning and the end of happenings."""

from __future__ import annotations

from mmedge.triggers.event import EventKind
from mmedge.triggers.settings import TriggerSettings


class Machine:
    """Hysteresis, durations and cool-down. It knows numbers only, and a handful of them.

    A single frame below `off` takes a beginning back, whatever came before it: what flickers at the start is no event.
    A frame between `off` and `on` neither confirms it nor takes it back. Once begun, an event outlives frames below
    `off` that last less than `end_after`.

    Args:
        settings: Its durations.
        on, off: Its thresholds.

    Attributes:
        since: When the evidence for what goes on, or may begin, began; None where there is none.
        active: Whether a start was told, and no end.
        best: The highest score since `since`.
        improved: Whether the last frame gave it.
    """

    def __init__(self, settings: TriggerSettings, on: float, off: float) -> None:
        self._settings = settings
        self._on, self._off = on, off
        self.since: float | None = None
        self.active = False
        self.best = 0.0
        self.improved = False
        self._live = self._above = self._told = 0.0
        self._ready = float("-inf")

    def outdated(self, time: float) -> bool:
        """Whether the last live frame is so long ago at `time` that what was seen until then does not count."""
        return self.since is not None and time - self._live > self._settings.lost_after

    def observe(self, time: float, score: float) -> EventKind | None:
        """Take the score of a live frame, and say what is to be told. Times never go backwards."""
        self._live = time
        self.improved = False
        if self.active:
            return self._go_on(time, score)
        if score < self._off or time < self._ready:
            self.since = None
            return None
        return self._begin(time, score)

    def drop(self, time: float) -> None:
        """What went on is over at `time`; what may have begun did not."""
        if self.active:
            self._ready = time + self._settings.cool_down
        self.active, self.since, self.improved = False, None, False

    def _begin(self, time: float, score: float) -> EventKind | None:
        if self.since is None:
            if score < self._on:
                return None
            self.since, self.best, self.improved = time, score, True
        self._improve(score)
        if score < self._on or time - self.since < self._settings.min_duration:
            return None
        self.active, self._above, self._told = True, time, time
        return "start"

    def _go_on(self, time: float, score: float) -> EventKind | None:
        self._improve(score)
        if score >= self._off:
            self._above = time
        elif time - self._above >= self._settings.end_after:
            return "end"
        every = self._settings.update_every
        if every is None or time - self._told < every:
            return None
        self._told = time
        return "update"

    def _improve(self, score: float) -> None:
        if score > self.best:
            self.best, self.improved = score, True
