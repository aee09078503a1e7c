"""Checks discovery messages with Home Assistant's own validators. Run by a Python that has Home Assistant.

Reads ``{topic: configuration}`` as JSON from standard input and writes ``{"version", "problems"}``.
"""

import asyncio
import importlib
import json
import logging
import sys
import tempfile
from typing import Any

from homeassistant.components.mqtt import discovery
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant

try:
    from homeassistant.components.mqtt.schemas import MQTT_ORIGIN_INFO_SCHEMA
except ImportError:
    MQTT_ORIGIN_INFO_SCHEMA = discovery.MQTT_ORIGIN_INFO_SCHEMA

# Keys that came after the oldest version this is run with. Home Assistant passes over those that it does not know.
NEWER = {"sensor": {"options"}}


def problems_of(topic: str, config: dict[str, Any]) -> list[str]:
    match = discovery.TOPIC_MATCHER.match(topic.removeprefix("homeassistant/"))
    if match is None:
        return [f"{topic} is no discovery topic"]
    component = match.group("component")
    if component not in discovery.SUPPORTED_COMPONENTS:
        return [f"{topic}: no component {component}"]
    platform = importlib.import_module(f"homeassistant.components.mqtt.{component}")
    try:
        MQTT_ORIGIN_INFO_SCHEMA(config["origin"])
        checked = platform.DISCOVERY_SCHEMA({**config, "platform": "mqtt"})
    except Exception as error:
        return [f"{topic}: {error}"]
    unknown = config.keys() - checked.keys() - NEWER.get(component, set())
    return [f"{topic}: {key} is not known" for key in sorted(unknown)]


async def main() -> None:
    """In an event loop that has a Home Assistant, where templates can be looked at."""
    home = HomeAssistant(tempfile.gettempdir())
    configs = json.load(sys.stdin)
    problems = [problem for topic, config in configs.items() for problem in problems_of(topic, config)]
    await home.async_stop(force=True)
    json.dump({"version": __version__, "problems": problems, "checked": len(configs)}, sys.stdout)


logging.disable()
asyncio.run(main())
