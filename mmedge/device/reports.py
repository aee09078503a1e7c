"""The parts of a device's status."""

from __future__ import annotations

from typing import Any

from mmedge.device.config import DeviceConfig, SourceConfig
from mmedge.device.rates import Pace
from mmedge.device.status import ModelStatus
from mmedge.device.watch import Watch
from mmedge.errors import EngineError
from mmedge.sinks.sink import Observation
from mmedge.streaming import SourceOptions, SourceReport
from mmedge.triggers.settings import TriggerSettings


def model_status(watch: Watch, config: DeviceConfig, refused: str | None) -> ModelStatus:
    """A model. `refused`: why a new configuration was not taken."""
    sources = list(config.watched_by(watch.name))
    try:
        info, stages = watch.model.info(), watch.model.stats()
    except EngineError as error:
        # Closed: the device is being stopped.
        return {"info": {}, "stages": {}, "sources": sources, "error": str(error)}
    return {"info": info, "stages": stages, "sources": sources, "error": watch.broken or watch.refused or refused}


def source_status(
    name: str, source: SourceConfig, watch: Watch | None, newest: Observation | None, pace: Pace | None
) -> dict[str, Any]:
    """A source, with what its last results were like."""
    report = None if watch is None else watch.reports.get(name)
    if report is None:
        report = SourceReport(name, True, None, "connecting", 0.0, None, None, 0, 0, {}, 0, 0, None)
    return {
        **report.to_json(),
        "model": source.model,
        "age_ms": None if newest is None else round(newest.result.age_now_ms(), 1),
        "latency_ms": None if newest is None else round(newest.result.latency_ms, 2),
        "rate": 0.0 if pace is None else round(pace.rate(), 2),
    }


def trigger_status(trigger: TriggerSettings, config: DeviceConfig, active: list[str]) -> dict[str, Any]:
    """A trigger. `active`: the sources on which it is on."""
    return {
        "prompt": trigger.prompt,
        "sources": [source for source in config.sources if trigger.watches(source)],
        "on": trigger.on,
        "off": trigger.off,
        "zone": trigger.zone,
        "active": active,
    }


def is_fresh(newest: Observation | None, options: SourceOptions) -> bool:
    """Whether a result says what is there now, as far as its source may be asked that often."""
    if newest is None or newest.result.state != "live":
        return False
    between = 2 / options.max_rate if options.max_rate else 0.0
    return newest.result.age_now_ms() <= 1000 * (options.stale_after + between) + newest.result.latency_ms
