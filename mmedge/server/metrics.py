"""Prometheus' text format, version 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from mmedge.server.hub import Hub
from mmedge.server.models import DeviceStatus
from mmedge.streaming.states import STATES

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Sample = tuple[Labels, float | None]
Family = tuple[str, Literal["counter", "gauge"], str, Sequence[Sample]]


def exposition(status: DeviceStatus, hub: Hub, answers: Mapping[int, int]) -> str:
    """Everything that the device and the server count. Values that are not known are left out."""
    families = [*_device(status), *_sources(status), *_models(status), *_sinks(status), *_server(hub, answers)]
    return "".join(line for family in families for line in _lines(*family))


def _device(status: DeviceStatus) -> Iterator[Family]:
    info = {"device": status.device, "version": status.version}
    yield "mmedge_info", "gauge", "The device and the version of mmedge.", [(info, 1)]
    yield "mmedge_uptime_seconds", "gauge", "Time since the device started.", [({}, status.uptime_s)]
    active = [
        ({"trigger": name, "source": source}, float(source in trigger.active))
        for name, trigger in status.triggers.items()
        for source in trigger.sources
    ]
    yield "mmedge_trigger_active", "gauge", "1 where the trigger is on.", active


def _sources(status: DeviceStatus) -> Iterator[Family]:
    each = [({"source": name, "model": source.model}, source) for name, source in status.sources.items()]
    prefix = "mmedge_source"
    yield f"{prefix}_read_total", "counter", "Frames off the source.", [(to, s.read) for to, s in each]
    yield f"{prefix}_processed_total", "counter", "Frames that became results.", [(to, s.processed) for to, s in each]
    dropped = [({**to, "reason": reason}, count) for to, s in each for reason, count in s.dropped.items()]
    yield f"{prefix}_dropped_total", "counter", "Frames that became no result, by reason.", dropped
    yield f"{prefix}_errors_total", "counter", "Frames that the model refused.", [(to, s.errors) for to, s in each]
    yield f"{prefix}_reconnects_total", "counter", "Times it was opened again.", [(to, s.reconnects) for to, s in each]
    states = [({**to, "state": state}, float(state == s.state)) for to, s in each for state in STATES]
    yield f"{prefix}_state", "gauge", "1 for the state that it is in.", states
    yield f"{prefix}_results_per_second", "gauge", "Rate of its results.", [(to, s.rate) for to, s in each]
    ages = [(to, _seconds(s.age_ms)) for to, s in each]
    yield f"{prefix}_age_seconds", "gauge", "Age of the newest result's frame.", ages
    latencies = [(to, _seconds(s.latency_ms)) for to, s in each]
    yield f"{prefix}_latency_seconds", "gauge", "Time of the newest result in the model.", latencies


def _models(status: DeviceStatus) -> Iterator[Family]:
    versions = [({"model": name}, model.info.get("prompt_version", 0)) for name, model in status.models.items()]
    yield "mmedge_model_prompt_version", "gauge", "Counts the changes of prompts.", versions
    failed = [({"model": name}, float(model.error is not None)) for name, model in status.models.items()]
    yield "mmedge_model_error", "gauge", "1 where the last change was refused, or the model stands still.", failed
    each = [
        ({"model": name, "stage": stage, "engine": stats.engine}, stats)
        for name, model in status.models.items()
        for stage, stats in model.stages.items()
    ]
    yield "mmedge_stage_runs_total", "counter", "Runs of the stage.", [(to, s.runs) for to, s in each]
    hits = [(to, s.cache_hits) for to, s in each]
    yield "mmedge_stage_cache_hits_total", "counter", "Times its outputs were at hand.", hits
    times = [(to, _seconds(s.total_ms)) for to, s in each]
    yield "mmedge_stage_seconds_total", "counter", "Time in the engine.", times


def _sinks(status: DeviceStatus) -> Iterator[Family]:
    each = [({"sink": name, "kind": sink.kind}, sink) for name, sink in status.sinks.items()]
    yield "mmedge_sink_written_total", "counter", "Items that the sink took.", [(to, s.written) for to, s in each]
    yield "mmedge_sink_dropped_total", "counter", "Items that found it full.", [(to, s.dropped) for to, s in each]
    yield "mmedge_sink_errors_total", "counter", "Items at which it failed.", [(to, s.errors) for to, s in each]


def _server(hub: Hub, answers: Mapping[int, int]) -> Iterator[Family]:
    counted: list[Sample] = [({"code": str(code)}, count) for code, count in sorted(answers.items())]
    yield "mmedge_server_answers_total", "counter", "Answers to requests, by status.", counted
    yield "mmedge_server_sockets", "gauge", "Live sockets that are open.", [({}, hub.sockets)]
    skipped = "State changes, events and prompts that a socket did not take in time."
    yield "mmedge_server_skipped_total", "counter", skipped, [({}, hub.skipped)]
    yield "mmedge_server_pictures_total", "counter", "JPEG pictures that were made.", [({}, hub.pictures.encoded)]


def _lines(name: str, kind: str, words: str, samples: Sequence[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {words}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        if value is not None and math.isfinite(value):
            pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{name}{{{pairs}}} {value}\n" if pairs else f"{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
