"""What happens to a result between the model and the sinks: privacy, tracking, triggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mmedge.device.config import DeviceConfig
from mmedge.device.privacy import Privacy
from mmedge.results import Grounding, Result
from mmedge.sinks.sink import Observation, PromptsChange
from mmedge.sources.frame import Frame
from mmedge.streaming.states import StateChange
from mmedge.triggers.event import Event
from mmedge.triggers.settings import TriggerSettings, Zone
from mmedge.triggers.tracking import Tracker
from mmedge.triggers.trigger_set import TriggerSet


@dataclass(frozen=True)
class _Trigger:
    """One trigger with its zone, so that one that is left as it is goes on over a reload."""

    settings: TriggerSettings
    zone: Zone | None
    running: TriggerSet


class Pipeline:
    """The way of the results of one configuration.

    `shown` is called by the thread of the source's stream; everything else with the device's lock held.

    Args:
        config: The device.
        before: What went before; what is the same in both is taken over and goes on.

    Attributes:
        left_out: Triggers of `before` that do not go on; whoever puts this in force stops them.
    """

    def __init__(self, config: DeviceConfig, before: Pipeline | None = None) -> None:
        self.config = config
        keep = before is not None and before.hides_like(config)
        self._privacy: dict[str, Privacy] = {}
        self._trackers: dict[str, Tracker] = {}
        for name, source in config.sources.items():
            kept = before._privacy.get(name) if before is not None and keep else None
            self._privacy[name] = kept or Privacy(config.privacy, source.blur)
            self._trackers[name] = (before._trackers.get(name) if before is not None else None) or Tracker()
        old = {} if before is None or not keep else before._triggers
        self._triggers: dict[str, _Trigger] = {}
        for name, settings in config.triggers.items():
            zone = None if settings.zone is None else config.zones[settings.zone]
            same = old.get(name)
            if same is None or (same.settings, same.zone) != (settings, zone):
                same = _Trigger(settings, zone, TriggerSet([settings], [] if zone is None else [zone]))
            self._triggers[name] = same
        mine = [id(trigger) for trigger in self._triggers.values()]
        earlier = [] if before is None else list(before._triggers.values())
        self.left_out = [trigger.running for trigger in earlier if id(trigger) not in mine]

    def hides_like(self, config: DeviceConfig) -> bool:
        """Whether the same is private under `config`, on the sources that both have."""
        both = self.config.sources.keys() & config.sources.keys()
        return self.config.privacy == config.privacy and all(
            self.config.sources[name].blur == config.sources[name].blur for name in both
        )

    def shown(self, frame: Frame, result: Result, prompts: Sequence[str] | None) -> Observation:
        """The result with what may be seen of its frame, and with numbers for the things in it."""
        privacy = self._privacy.get(result.source)
        seen = None if privacy is None else privacy.apply(frame, result, prompts)
        tracker = self._trackers.get(result.source)
        if isinstance(result, Grounding) and tracker is not None:
            result = tracker.update(result)
        return Observation(seen, result)

    def observe(self, observation: Observation, size: tuple[int, int]) -> list[Event]:
        """What a result begins, continues and ends. `size`: width and height of its frame."""
        return [event for one in self._running() for event in one.observe(observation, size)]

    def source_state(self, change: StateChange) -> list[Event]:
        """What the new state of a source ends."""
        return [event for one in self._running() for event in one.source_state(change)]

    def prompts_changed(self, change: PromptsChange) -> list[Event]:
        """What other prompts end."""
        return [event for one in self._running() for event in one.prompts_changed(change)]

    def tick(self, at: float, at_utc: datetime) -> list[Event]:
        """What ended because nothing was heard of a source."""
        return [event for one in self._running() for event in one.tick(at, at_utc)]

    def stop(self) -> list[Event]:
        """End everything that goes on."""
        return [event for one in self._running() for event in one.stop()]

    def active(self, name: str) -> tuple[str, ...]:
        """The sources on which a trigger is on."""
        return self._triggers[name].running.active[name]

    def _running(self) -> list[TriggerSet]:
        return [trigger.running for trigger in self._triggers.values()]
