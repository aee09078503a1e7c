"""The MQTT sink."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

from mmedge.errors import SinkError
from mmedge.sinks.commands import Commands
from mmedge.sinks.jpeg import encode_jpeg
from mmedge.sinks.mqtt.broker import OFFLINE, ONLINE, Broker, Handler
from mmedge.sinks.mqtt.discovery import Config, Discovery
from mmedge.sinks.mqtt.entities import Sensors
from mmedge.sinks.mqtt.settings import MqttSettings
from mmedge.sinks.mqtt.topics import Topics
from mmedge.sinks.naming import slug
from mmedge.sinks.prompts import prompts_line
from mmedge.sinks.records import encode
from mmedge.sinks.sink import Item, Observation, PromptsChange, SinkContext
from mmedge.streaming.states import StateChange, utc_text
from mmedge.triggers.event import Event

_FIRST_CONNECT_S = 1.0
_BIRTHS_S = 1.0
_MOST_PACED = 1024


class Mqtt:
    """Publishes what happens on an MQTT broker (MQTT 5), and takes prompts from there. See ``docs/mqtt.md``.

    It connects by itself, again and again. While there is no connection, results, pictures and events are lost, and
    `write` says so; states and prompts are told when it is back.

    Args:
        host, port: Of the broker.
        context: The device, its sources, and who carries out commands. Without sources Home Assistant is told of none.
        options: The other fields of `MqttSettings`.

    Raises:
        InputError: An option cannot be used.
        MissingDependencyError: paho-mqtt is not installed.
    """

    kind = "mqtt"

    def __init__(self, host: str, port: int = 1883, *, context: SinkContext | None = None, **options: Any) -> None:
        self._open(MqttSettings(host, port, **options), context or SinkContext())

    @classmethod
    def of(cls, settings: MqttSettings, context: SinkContext) -> Mqtt:
        """The sink of whole settings."""
        sink = cls.__new__(cls)
        sink._open(settings, context)
        return sink

    def _open(self, settings: MqttSettings, context: SinkContext) -> None:
        device = slug(context.device)
        self._settings = settings
        self._topics = Topics(settings.base_topic or f"mmedge/{device}")
        self._sensors = {one.name: Sensors(one, settings.off_delay) for one in context.sources}
        self._models = {one.model: one.prompts for one in context.sources}
        self._versions: dict[str, int] = {}
        self._frames = settings.frames if context.pixels else None
        self.pixels = self._frames is not None
        self._pace = _Pace()
        self._lock = threading.Lock()
        self._waited = False
        self._discovery: Discovery | None = None
        if settings.discovery is not None:
            self._discovery = Discovery(settings.discovery, context.device, self._topics)
        self._takes_commands = context.control is not None
        self._commands: Commands | None = None
        self._broker = Broker(
            settings,
            client_id=settings.client_id or f"mmedge-{device}",
            availability=self._topics.availability,
            swept=[*self._topics.retained, *([self._discovery.filter] if self._discovery else [])],
            handlers=self._handlers(),
        )
        if context.control is not None:
            self._commands = Commands(context.control, self._prompts_set, self._prompts_refused)
        self._announce()
        self._broker.open()

    def write(self, item: Item) -> None:
        """Publish one item.

        Raises:
            SinkError: There is no connection, or it is too slow; the item, or part of it, is lost.
        """
        if not self._waited:
            # The first connection is on its way: what comes first is worth a moment.
            self._waited = True
            self._broker.wait(_FIRST_CONNECT_S)
        if isinstance(item, Observation):
            self._observation(item)
        elif isinstance(item, Event):
            self._event(item)
        elif isinstance(item, StateChange):
            self._state(item)
        elif isinstance(item, PromptsChange):
            self._prompts(item.model, item.prompts, item.version, item.at_utc, told=True)

    def close(self) -> None:
        """Say ``offline`` and leave the broker."""
        if self._commands is not None:
            self._commands.close()
        self._broker.close()

    def _observation(self, item: Observation) -> None:
        result = item.result
        with self._lock:
            if (sensors := self._sensors.get(result.source)) is not None:
                sensors.result(result)
                self._show(sensors)
        self._broker.check()
        if self._pace.due(("result", result.source), self._settings.results_rate, result.captured):
            self._broker.tell(self._topics.result(result.source), encode(result.to_json()))
        frames = self._frames
        if frames is None or item.frame is None:
            return
        if self._pace.due(("image", result.source), frames.rate, result.captured):
            picture = result.plot(item.frame) if frames.annotated else item.frame.image
            payload = encode_jpeg(picture, frames.quality, int(frames.size))
            self._broker.tell(self._topics.image(result.source), payload)

    def _event(self, event: Event) -> None:
        with self._lock:
            if (sensors := self._sensors.get(event.source)) is not None:
                sensors.event(event)
                self._show(sensors)
        self._broker.tell(self._topics.event(event.source), encode(event.to_json()), self._settings.qos)

    def _state(self, change: StateChange) -> None:
        with self._lock:
            sensors = self._sensors.get(change.source)
            if sensors is None:
                # What is kept must not grow with names that nobody announced.
                self._broker.tell(self._topics.state(change.source), encode(change.to_json()))
                return
            live = change.state == "live"
            if not live:
                sensors.lost()
                self._show(sensors)
            self._broker.keep(self._topics.state(change.source), encode(change.to_json()))
            self._broker.keep(self._topics.source_availability(change.source), ONLINE if live else OFFLINE)

    def _prompts(self, model: str, prompts: tuple[str, ...], version: int, at: datetime, told: bool) -> None:
        """Other prompts are in force.

        A command and the change that follows from it may come in any order. What is `told` counts: the device may add
        prompts to those that were asked for. Where nobody tells, the command is all there is.
        """
        with self._lock:
            known = self._versions.get(model, 0)
            if model not in self._models or version < known or (version == known and not told):
                return
            self._versions[model] = version
            self._models[model] = prompts
            for sensors in self._sensors.values():
                if sensors.watched.model == model:
                    self._change(sensors, prompts)
            self._show_prompts(model, version, at)

    def _change(self, sensors: Sensors, prompts: tuple[str, ...]) -> None:
        topics, configs = self._prompt_topics(sensors), self._configs(sensors)
        sensors.set_prompts(prompts)
        for topic in configs.keys() - self._configs(sensors).keys():
            self._broker.forget(topic)
        for topic in topics - self._prompt_topics(sensors):
            self._broker.forget(topic)
        self._announce_source(sensors)

    def _announce(self) -> None:
        """Tell all that is known before the first item."""
        if self._discovery is not None:
            self._keep_configs(self._discovery.of_device())
            for model in self._models if self._takes_commands else ():
                name = "Prompts" if len(self._models) == 1 else f"Prompts of {model}"
                self._keep_configs(self._discovery.of_model(model, name))
        for sensors in self._sensors.values():
            source = sensors.watched.name
            self._broker.keep(self._topics.source_availability(source), OFFLINE)
            self._broker.keep(self._topics.state(source), encode({"source": source, "state": "connecting"}))
            self._announce_source(sensors)
        for model in self._models:
            self._show_prompts(model, None, datetime.now(timezone.utc))

    def _announce_source(self, sensors: Sensors) -> None:
        self._keep_configs(self._configs(sensors))
        self._show(sensors)

    def _keep_configs(self, configs: Mapping[str, Config]) -> None:
        for topic, config in configs.items():
            self._broker.keep(topic, encode(config))

    def _configs(self, sensors: Sensors) -> dict[str, Config]:
        return {} if self._discovery is None else self._discovery.of_source(sensors, self.pixels)

    def _prompt_topics(self, sensors: Sensors) -> set[str]:
        return {self._topics.prompt(sensors.watched.name, prompt) for prompt in sensors.prompts}

    def _show(self, sensors: Sensors) -> None:
        for prompt, shown in sensors.shown().items():
            self._broker.keep(self._topics.prompt(sensors.watched.name, prompt), shown)

    def _show_prompts(self, model: str, version: int | None, at: datetime) -> None:
        prompts = self._models[model]
        value = {"model": model, "prompts": list(prompts), "version": version, "at": utc_text(at)}
        self._broker.keep(self._topics.prompts(model), encode(value))
        self._broker.keep(self._topics.prompts_text(model), prompts_line(prompts).encode())

    def _handlers(self) -> dict[str, Handler]:
        handlers: dict[str, Handler] = {}
        if self._discovery is not None:
            handlers[self._discovery.birth] = self._born
        for model in self._models if self._takes_commands else ():
            handlers[self._topics.set_prompts(model)] = partial(self._command, model)
        return handlers

    def _born(self, _topic: str, payload: bytes, retained: bool) -> None:
        # What was retained was said before this connect, which has just told everything.
        if payload == ONLINE and not retained and self._pace.due(("born", ""), _BIRTHS_S, time.monotonic()):
            self._broker.repeat()

    def _command(self, model: str, _topic: str, payload: bytes, retained: bool) -> None:
        if self._commands is not None:
            self._commands.put(model, payload, retained)

    def _prompts_set(self, model: str, prompts: tuple[str, ...], version: int) -> None:
        self._prompts(model, prompts, version, datetime.now(timezone.utc), told=False)

    def _prompts_refused(self, model: str, reason: str) -> None:
        answer = encode({"model": model, "error": reason, "at": utc_text(datetime.now(timezone.utc))})
        # Who asked has lost the connection to the same broker, or will ask again.
        with contextlib.suppress(SinkError):
            self._broker.tell(self._topics.prompts_error(model), answer, self._settings.qos)


class _Pace:
    """Lets so many a second through, for each of the newest few keys."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, str], float] = {}

    def due(self, key: tuple[str, str], rate: float, now: float) -> bool:
        if rate <= 0 or now < self._next.get(key, -math.inf):
            return False
        self._next.pop(key, None)
        self._next[key] = now + 1 / rate
        while len(self._next) > _MOST_PACED:
            del self._next[next(iter(self._next))]
        return True
