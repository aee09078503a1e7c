"""The triggers of one source."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime

from mmedge.errors import InputError
from mmedge.sinks.sink import Observation, PromptsChange
from mmedge.triggers.event import Event
from mmedge.triggers.happening import Happening, Size
from mmedge.triggers.settings import TriggerSettings, Zone

_MOST_VERSIONS = 8
"""Prompt lists that are remembered: results of the one before may still be on their way."""


class Watch:
    """What goes on on one source.

    Args:
        source: Its name.
        triggers: Of all triggers, with thresholds; those that do not look at this source are left out here.
        zones: By name.
    """

    def __init__(self, source: str, triggers: Sequence[TriggerSettings], zones: Mapping[str, Zone]) -> None:
        self._happenings = []
        for trigger in triggers:
            zone = None if trigger.zone is None else zones[trigger.zone]
            drawn = zone is None or zone.sources is None or source in zone.sources
            if trigger.watches(source) and drawn:
                self._happenings.append(Happening(source, trigger, zone, *both_thresholds(trigger)))
        self._prompts: OrderedDict[int, tuple[str, ...]] = OrderedDict()
        self._last: tuple[float, datetime] | None = None

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the triggers whose event goes on."""
        return tuple(happening.settings.name for happening in self._happenings if happening.active)

    def observe(self, observation: Observation, size: Size | None) -> list[Event]:
        """What a result begins, continues and ends; nothing where it is older than the one before."""
        result = observation.result
        if self._last is not None and result.captured < self._last[0]:
            return []
        self._last = result.captured, result.captured_at
        asked = self._prompts.get(result.prompt_version)
        understood = result.state == "live" and (asked is not None or not self._prompts)
        events = []
        for happening in self._happenings:
            events += happening.lose(*self._last)
            if understood and self._is_asked(happening.settings):
                events += happening.observe(observation, asked, size)
        return events

    def lose(self, at: float, at_utc: datetime, *, always: bool) -> list[Event]:
        """See `Happening.lose`."""
        return [event for happening in self._happenings for event in happening.lose(at, at_utc, always=always)]

    def change_prompts(self, change: PromptsChange) -> list[Event]:
        """End the events of triggers whose prompts are not all asked for any more."""
        self._prompts[change.version] = change.prompts
        self._prompts.move_to_end(change.version)
        while len(self._prompts) > _MOST_VERSIONS:
            self._prompts.popitem(last=False)
        gone = [happening for happening in self._happenings if not self._is_asked(happening.settings)]
        return self._end(gone, "prompt")

    def stop(self, reason: str) -> list[Event]:
        """End everything as of the last frame."""
        return self._end(self._happenings, reason)

    def _end(self, happenings: Sequence[Happening], reason: str) -> list[Event]:
        if self._last is None:
            return []
        return [event for happening in happenings for event in happening.end(*self._last, reason)]

    def _is_asked(self, trigger: TriggerSettings) -> bool:
        """Whether the newest list has all prompts of a trigger: a late result of an older one must not start it."""
        if not self._prompts:
            return True
        newest = self._prompts[next(reversed(self._prompts))]
        return all(prompt in newest for prompt in (trigger.prompt, *(trigger.negatives or ())))


def both_thresholds(trigger: TriggerSettings) -> tuple[float, float]:
    """Both thresholds of a trigger.

    Raises:
        InputError: It has none.
    """
    if trigger.on is None:
        raise InputError(
            f"trigger {trigger.name!r}: on must be a score, or come from a calibration (`mmedge calibrate`); neither "
            "was given"
        )
    return trigger.on, trigger.on if trigger.off is None else trigger.off
