from __future__ import annotations

import logging
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest
from support.device_stand_in import DeviceStandIn
from support.serving import TOKEN, UPGRADE, Serve, raw, upgraded, websocket_frame

from mmedge.errors import SinkError
from mmedge.server.running import Server
from mmedge.server.settings import ServerSettings


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(certificate), str(key)


def test_a_port_that_is_taken_is_said(serve: Serve, device: DeviceStandIn) -> None:
    port = int(serve().address.rsplit(":", 1)[1])
    with pytest.raises(SinkError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
        Server(device, ServerSettings(port=port)).start()


def test_an_address_that_is_not_ours_is_said(device: DeviceStandIn) -> None:
    with pytest.raises(SinkError, match=r"192\.0\.2\.1:0"):
        Server(device, ServerSettings(host="192.0.2.1", port=0, token=TOKEN)).start()
    with pytest.raises(SinkError, match=r"no-such-host\.invalid"):
        Server(device, ServerSettings(host="no-such-host.invalid", port=0, token=TOKEN)).start()


def test_it_stops_within_two_seconds_with_sockets_that_are_read_and_that_are_not(device: DeviceStandIn) -> None:
    device.run(fps=60)
    threads = threading.active_count()
    server = Server(device, ServerSettings(port=0))
    server.start()
    server.start()
    watch = websocket_frame(1, b'{"type": "watch", "width": null, "rate": 120}')
    connections = [upgraded(server, watch, small=True) for _ in range(4)]
    connections.append(raw(server, b"GET / HT"))
    time.sleep(1)
    began = time.monotonic()
    server.stop()
    took = time.monotonic() - began
    server.stop()
    for connection in connections:
        connection.close()
    assert took < 2
    assert not any(thread.name == "mmedge-server" for thread in threading.enumerate())
    assert device.status()["sinks"].keys() == {"log"}
    ends = time.monotonic() + 3
    while threading.active_count() > threads and time.monotonic() < ends:
        time.sleep(0.05)
    assert threading.active_count() <= threads
    with socket.create_server(("127.0.0.1", int(server.address.rsplit(":", 1)[1]))):
        pass


def test_it_can_be_started_again(device: DeviceStandIn) -> None:
    server = Server(device, ServerSettings(port=0))
    for _ in range(2):
        with server:
            assert httpx.get(f"{server.address}/healthz").status_code == 200


def test_tls(serve: Serve, pair: tuple[str, str]) -> None:
    server = serve(certificate=pair[0], key=pair[1], token=TOKEN)
    assert server.address.startswith("https://")
    with httpx.Client(base_url=server.address, verify=ssl.create_default_context(cafile=pair[0])) as app:
        begun = app.post("/api/v1/session", json={"token": TOKEN})
        assert begun.status_code == 204
        assert "secure" in begun.headers["set-cookie"].lower()
        assert app.get("/api/v1/status", headers={"origin": server.address}).status_code == 200
        insecure = server.address.replace("https", "http")
        assert app.get("/api/v1/status", headers={"origin": insecure}).status_code == 403


def test_a_certificate_that_is_none_is_said(device: DeviceStandIn, pair: tuple[str, str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n")
    with pytest.raises(SinkError, match="cannot be used together") as caught:
        Server(device, ServerSettings(port=0, certificate=pair[0], key=str(wrong))).start()
    assert "hunter2" not in str(caught.value)


def test_nothing_is_logged_about_requests(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "uvicorn")
    server = serve(token=TOKEN)
    httpx.get(f"{server.address}/api/v1/status?token={TOKEN}", headers={"authorization": f"Bearer {TOKEN}"})
    httpx.get(f"{server.address}/api/v1/live?token={TOKEN}")
    with raw(server, UPGRADE) as connection:
        connection.recv(10)
    assert TOKEN not in caplog.text


def test_a_device_that_fails_is_a_500_without_details(
    serve: Serve, device: DeviceStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setattr(device, "events", lambda _: 1 / 0)
    answer = httpx.get(f"{server.address}/api/v1/events")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "a defect in the server; its log says more"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{server.address}/healthz").status_code == 200
