"""A device stand-in, the application in process, and real servers on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from starlette.testclient import TestClient
from support.device_stand_in import DeviceStandIn
from support.serving import Client, Serve

from mmedge.server.app import create_app
from mmedge.server.running import Server
from mmedge.server.settings import ServerSettings


@pytest.fixture
def device() -> Iterator[DeviceStandIn]:
    stand_in = DeviceStandIn()
    stand_in.step()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def client(device: DeviceStandIn) -> Iterator[Client]:
    """``client(**settings)``: the application in this process, called from a loopback address."""
    with ExitStack() as stack:

        def opened(base_url: str = "http://127.0.0.1", on: DeviceStandIn = device, **settings: object) -> TestClient:
            app = create_app(on, ServerSettings(**settings))  # type: ignore[arg-type]
            return stack.enter_context(TestClient(app, base_url=base_url, client=("127.0.0.1", 50000)))

        yield opened


@pytest.fixture
def serve(device: DeviceStandIn) -> Iterator[Serve]:
    """``serve(**settings)``: a real server on a free port."""
    with ExitStack() as stack:

        def started(on: DeviceStandIn = device, **settings: object) -> Server:
            return stack.enter_context(Server(on, ServerSettings(port=0, **settings)))  # type: ignore[arg-type]

        yield started
