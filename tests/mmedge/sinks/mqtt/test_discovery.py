"""What Home Assistant is told, by Home Assistant's own rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mmedge.sinks.mqtt.discovery import Discovery
from mmedge.sinks.mqtt.entities import Sensors
from mmedge.sinks.mqtt.topics import Topics
from mmedge.sinks.sink import Watched

SCRIPT = Path(__file__).with_name("home_assistant.py")
ODD = ("a person", "ein Kätzchen; müde", "", "x" * 400, "line\nbreak", "a/b+c#", "\N{SMILING FACE WITH OPEN MOUTH}")


def everything() -> dict[str, Any]:
    """Each kind of configuration, with odd names."""
    discovery = Discovery("homeassistant", "my porch / 1", Topics("mmedge/porch"))
    configs = discovery.of_device() | discovery.of_model("door", "Prompts")
    for name, boxes in (("front", True), ("rtsp://me:***@host/1", False)):
        sensors = Sensors(Watched(name, "door", ODD, ("a person",), boxes), off_delay=2.0)
        configs |= discovery.of_source(sensors, pictures=True)
    return configs


def check(configs: dict[str, Any]) -> Any:
    """What Home Assistant's validators say."""
    default = Path(__file__).resolve().parents[4] / ".venv" / "home-assistant" / "bin" / "python"
    python = Path(os.environ.get("MMEDGE_HOME_ASSISTANT_PYTHON", default))
    if not python.exists():
        pytest.skip("Home Assistant is not installed; `make home-assistant` installs it")
    done = subprocess.run(
        [str(python), str(SCRIPT)], input=json.dumps(configs), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_home_assistant_takes_every_message() -> None:
    configs = everything()
    said = check(configs)
    assert said["problems"] == []
    assert said["checked"] == len(configs) == 2 + 2 * (2 + len(ODD))


def test_home_assistant_would_not_take_wrong_ones() -> None:
    topics = {topic.split("/")[1]: topic for topic in everything()}
    wrong = everything()
    wrong[topics["binary_sensor"]]["device_class"] = "door bell"
    wrong[topics["image"]].pop("image_topic")
    wrong[topics["sensor"]]["entity_category"] = "diagnosis"
    wrong[topics["text"]]["max"] = 256
    wrong[topics["text"].replace("/mmedge_", "/mm edge_")] = {}
    topic = next(iter(wrong))
    wrong[topic]["payload_of"] = "OFF"
    said = " ".join(check(wrong)["problems"])
    for expected in ("device_class", "image_topic", "entity_category", "max text length", "no discovery topic", topic):
        assert expected in said


def test_topics_and_identifiers_are_of_allowed_characters_and_unique() -> None:
    configs = everything()
    identifiers = [config["unique_id"] for config in configs.values()]
    assert len(set(identifiers)) == len(identifiers)
    for topic in configs:
        assert re.fullmatch(r"homeassistant/\w+/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/config", topic)


def test_the_same_device_is_announced_in_the_same_way() -> None:
    # The hash of a prompt is part of what Home Assistant remembers a sensor by.
    assert everything() == everything()
    assert "homeassistant/binary_sensor/mmedge_my_porch_1_474a841c/connected/config" in everything()
