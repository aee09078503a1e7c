"""DDS on this machine alone."""

from __future__ import annotations

import os

import pytest

_LOOPBACK = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo' multicast='true'/></Interfaces>"
    "</General></Domain></CycloneDDS>"
)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A domain that no other test run on this machine is likely to be in."""
    monkeypatch.setenv("CYCLONEDDS_URI", _LOOPBACK)
    return 20 + os.getpid() % 200
