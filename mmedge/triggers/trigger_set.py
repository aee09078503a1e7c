"""All triggers of a device: observations in, events out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from mmedge.errors import InputError
from mmedge.sinks.sink import Observation, PromptsChange
from mmedge.streaming.states import StateChange
from mmedge.triggers.event import Event
from mmedge.triggers.settings import TriggerSettings, Zone
from mmedge.triggers.watch import Watch, both_thresholds

_MOST_SOURCES = 256
"""Sources that are remembered. A folder of pictures names each picture a source of its own."""


class TriggerSet:
    """Triggers over any number of sources, each source by itself. Any thread may call any method.

    Frames must come in the order in which they were taken; one that was taken before the last one of its source is
    passed over. Of a happening the best frame is kept, and no other.

    Args:
        settings: The triggers; each with thresholds of its own or from a calibration.
        zones: Those that the triggers name, and others.

    Raises:
        InputError: Two have the same name, a trigger names a zone that is not there or is drawn on none of its
            sources, or it has no thresholds.
    """

    def __init__(self, settings: Sequence[TriggerSettings], zones: Sequence[Zone] = ()) -> None:
        _check_names("trigger", [trigger.name for trigger in settings])
        _check_names("zone", [zone.name for zone in zones])
        self._zones = {zone.name: zone for zone in zones}
        for trigger in settings:
            both_thresholds(trigger)
            _check_zone(trigger, self._zones)
        self.settings = tuple(settings)
        self._watches: OrderedDict[str, Watch] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def active(self) -> Mapping[str, tuple[str, ...]]:
        """By name of the trigger, the sources on which its event goes on."""
        with self._lock:
            on = {source: watch.active for source, watch in self._watches.items()}
        return MappingProxyType(
            {t.name: tuple(source for source, names in on.items() if t.name in names) for t in self.settings}
        )

    def observe(self, observation: Observation, size: tuple[int, int] | None = None) -> list[Event]:
        """What a result begins, continues and ends.

        Args:
            observation: The result and its frame.
            size: Width and height of the frame in pixels, for zones; None where `observation` has the frame.

        Raises:
            InputError: The result is of a task that gives no scores by prompt; or a trigger has a zone, and the result
                no boxes or nobody tells the size of the frame.
        """
        if size is None and observation.frame is not None:
            height, width = observation.frame.image.shape[:2]
            size = width, height
        with self._lock:
            watch, forgotten = self._watch(observation.result.source)
            return forgotten + watch.observe(observation, size)

    def source_state(self, change: StateChange) -> list[Event]:
        """Ends what goes on on a source that has ended or failed, or gave no live frame for `lost_after`."""
        with self._lock:
            watch = self._watches.get(change.source)
            if watch is None:
                return []
            return watch.lose(change.at, change.at_utc, always=change.state in ("ended", "failed"))

    def tick(self, at: float, at_utc: datetime) -> list[Event]:
        """Ends what goes on on every source that gave no live frame for `lost_after`.

        To be called now and then, once a second say: of a source that fell silent nothing else may come.

        Args:
            at: Now, seconds of `time.monotonic`.
            at_utc: The same moment in UTC.
        """
        with self._lock:
            return [event for watch in self._watches.values() for event in watch.lose(at, at_utc, always=False)]

    def prompts_changed(self, change: PromptsChange) -> list[Event]:
        """Ends the events of prompts that are not asked for any more, or without one of their negatives.

        The sets of prompts also tell which score of a result belongs to which prompt: call this before the first
        `observe`, and at each change. Results of a version that was not told are passed over.
        """
        events = []
        with self._lock:
            for source in change.sources:
                watch, forgotten = self._watch(source)
                events += forgotten + watch.change_prompts(change)
        return events

    def stop(self) -> list[Event]:
        """Ends everything as of the last frame of each source, and forgets the sources."""
        with self._lock:
            events = [event for watch in self._watches.values() for event in watch.stop("stopped")]
            self._watches.clear()
        return events

    def _watch(self, source: str) -> tuple[Watch, list[Event]]:
        """What is known of a source, and the ends of another one that is forgotten for it."""
        if source not in self._watches:
            self._watches[source] = Watch(source, self.settings, self._zones)
        self._watches.move_to_end(source)
        if len(self._watches) <= _MOST_SOURCES:
            return self._watches[source], []
        _, oldest = self._watches.popitem(last=False)
        return self._watches[source], oldest.stop("source")


def _check_names(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{what} names must differ from each other, got {', '.join(map(repr, twice))} more than once")


def _check_zone(trigger: TriggerSettings, zones: Mapping[str, Zone]) -> None:
    if trigger.zone is None:
        return
    where = f"trigger {trigger.name!r}: zone"
    if trigger.zone not in zones:
        known = ", ".join(map(repr, zones)) or "there are none"
        raise InputError(f"{where} must be the name of a zone ({known}), got {trigger.zone!r}")
    drawn = zones[trigger.zone].sources
    if drawn is not None and trigger.sources is not None and not set(drawn) & set(trigger.sources):
        raise InputError(
            f"{where} {trigger.zone!r} is drawn on {', '.join(drawn)}, and the trigger watches "
            f"{', '.join(trigger.sources)}: expected one in common"
        )
