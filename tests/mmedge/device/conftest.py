from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundles import write_bundle

from mmedge.device.config import DeviceConfig
from mmedge.device.device import Device
from mmedge.device.reading import parse_config


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colour model: it classifies, and knows red, green and blue."""
    return write_bundle(tmp_path_factory.mktemp("device") / "colors.mmedge")


@pytest.fixture
def folder(tmp_path: Path, bundle: Path) -> Path:
    """A folder with ``colors.mmedge``."""
    (tmp_path / "colors.mmedge").write_bytes(bundle.read_bytes())
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[Any]:
    """Starts the device of a text; all are stopped at the end."""
    devices: list[Device] = []

    def start(text: str | DeviceConfig) -> Device:
        device = Device(text if isinstance(text, DeviceConfig) else parse_config(text, folder))
        devices.append(device)
        device.start()
        return device

    yield start
    for device in devices:
        device.stop()
