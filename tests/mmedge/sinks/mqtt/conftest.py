"""A mosquitto for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.mqtt_broker import PROGRAM, Mosquitto


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Starts brokers: ``start_broker(*lines of their configuration)``."""
    if PROGRAM is None:
        pytest.skip("mosquitto is not installed; apt install mosquitto")
    started: list[Mosquitto] = []

    def start(*lines: str) -> Mosquitto:
        started.append(Mosquitto(tmp_path, lines or ("allow_anonymous true",)))
        return started[-1]

    yield start
    for broker in started:
        broker.stop()


@pytest.fixture
def broker(start_broker: Callable[..., Mosquitto]) -> Mosquitto:
    """A broker that lets everyone in, and holds nothing yet."""
    return start_broker()
