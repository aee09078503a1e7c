"""What Home Assistant is told so that it finds the device by itself.

One configuration a topic, as its MQTT integration documents them: ``PREFIX/COMPONENT/NODE/OBJECT/config``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mmedge
from mmedge.sinks.mqtt.entities import OFF, ON, Sensors
from mmedge.sinks.mqtt.topics import Topics
from mmedge.sinks.naming import slug
from mmedge.sinks.prompts import MOST_TEXT
from mmedge.streaming.states import STATES

Config = dict[str, Any]

_LONGEST_NAME = 80


class Discovery:
    """The configurations of one device.

    Args:
        prefix: Where Home Assistant looks, ``homeassistant`` unless it was told otherwise.
        device: Name of the device.
        topics: Its topics.
    """

    def __init__(self, prefix: str, device: str, topics: Topics) -> None:
        self._prefix = prefix
        self._device = device
        self._topics = topics
        self._node = f"mmedge_{slug(device)}"

    @property
    def filter(self) -> str:
        """Of all topics of this device."""
        return f"{self._prefix}/+/{self._node}/+/config"

    @property
    def birth(self) -> str:
        """Where Home Assistant says that it is there again."""
        return f"{self._prefix}/status"

    def of_device(self) -> dict[str, Config]:
        """Whether the device is connected. Home Assistant hangs the sources below it, so it comes before them."""
        config = {
            "name": "Connected",
            "state_topic": self._topics.availability,
            "payload_on": "online",
            "payload_off": "offline",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
        }
        return dict([self._entry("binary_sensor", "connected", config, self._device_block())])

    def of_model(self, model: str, name: str) -> dict[str, Config]:
        """A field in which the prompts of a model are edited, called `name`."""
        config = {
            "name": name,
            "command_topic": self._topics.set_prompts(model),
            "state_topic": self._topics.prompts_text(model),
            "min": 0,
            "max": MOST_TEXT,
            "mode": "text",
            "entity_category": "config",
            **self._available(),
        }
        return dict([self._entry("text", f"model_{slug(model)}_prompts", config, self._device_block())])

    def of_source(self, sensors: Sensors, pictures: bool) -> dict[str, Config]:
        """A source: a sensor for each prompt, one for its state, and a picture if there are `pictures`."""
        source = sensors.watched.name
        block = self._source_block(source, sensors.watched.model)
        entries = [self._state(source, block)]
        if pictures:
            entries.append(self._image(source, block))
        entries += (self._prompt(sensors, prompt, block) for prompt in sensors.prompts)
        return dict(entries)

    def _prompt(self, sensors: Sensors, prompt: str, block: Config) -> tuple[str, Config]:
        source = sensors.watched.name
        config: Config = {
            "name": _shortened(prompt),
            "state_topic": self._topics.prompt(source, prompt),
            **self._available(source),
        }
        score = sensors.kind(prompt) == "score"
        if score:
            config |= {"state_class": "measurement", "suggested_display_precision": 3}
        else:
            config |= {"payload_on": ON.decode(), "payload_off": OFF.decode()}
        component = "sensor" if score else "binary_sensor"
        return self._entry(component, f"source_{slug(source)}_prompt_{slug(prompt)}", config, block)

    def _state(self, source: str, block: Config) -> tuple[str, Config]:
        topic = self._topics.state(source)
        config = {
            "name": "State",
            "state_topic": topic,
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": topic,
            "device_class": "enum",
            "options": list(STATES),
            "entity_category": "diagnostic",
            # Without the source's own: its state is of most use while it is away.
            **self._available(),
        }
        return self._entry("sensor", f"source_{slug(source)}_state", config, block)

    def _image(self, source: str, block: Config) -> tuple[str, Config]:
        config = {
            "name": "Image",
            "image_topic": self._topics.image(source),
            "content_type": "image/jpeg",
            **self._available(source),
        }
        return self._entry("image", f"source_{slug(source)}_image", config, block)

    def _entry(self, component: str, thing: str, config: Config, block: Config) -> tuple[str, Config]:
        return f"{self._prefix}/{component}/{self._node}/{thing}/config", {
            **config,
            "unique_id": f"{self._node}_{thing}",
            "device": block,
            "origin": {"name": "mmedge", "sw_version": mmedge.__version__},
        }

    def _available(self, *sources: str) -> Config:
        topics: Iterable[str] = (
            self._topics.availability,
            *(self._topics.source_availability(source) for source in sources),
        )
        return {"availability": [{"topic": topic} for topic in topics], "availability_mode": "all"}

    def _device_block(self) -> Config:
        return {
            "identifiers": [self._node],
            "name": self._device,
            "manufacturer": "mmedge",
            "sw_version": mmedge.__version__,
        }

    def _source_block(self, source: str, model: str) -> Config:
        return {
            "identifiers": [f"{self._node}_source_{slug(source)}"],
            "name": _shortened(source),
            "manufacturer": "mmedge",
            "model": model,
            "sw_version": mmedge.__version__,
            "via_device": self._node,
        }


def _shortened(text: str) -> str:
    """`text` as a name of an entity, of which an identifier of at most 255 characters is made."""
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
