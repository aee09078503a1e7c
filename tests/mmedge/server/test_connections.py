"""What clients do that do not keep to the rules, over real connections."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from support.device_stand_in import DeviceStandIn
from support.serving import UPGRADE, Serve, alive, counted, raw, rest_of, upgraded, websocket_frame

from mmedge.server.running import Server
from mmedge.server.settings import ServerSettings

WATCH = json.dumps({"type": "watch", "width": None, "rate": 120}).encode()


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """One server for the tests after which it has to be as before."""
    device = DeviceStandIn()
    device.step()
    with Server(device, ServerSettings(port=0, request_timeout=0.5)) as server:
        yield server


def test_two_hundred_sockets(serve: Serve) -> None:
    """The first 32 are served, the others are refused, and the rest of the server goes on."""
    server = serve(max_connections=400)
    connections = []
    try:
        for _ in range(200):
            connections.append(raw(server, UPGRADE))
        codes = [connection.recv(64).split(b" ")[1] for connection in connections]
        assert codes.count(b"101") == 32
        assert codes.count(b"503") == 168
        assert alive(server)
    finally:
        for connection in connections:
            connection.close()
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        with raw(server, UPGRADE) as again:
            if again.recv(64).split(b" ")[1] == b"101":
                break
        time.sleep(0.05)
    else:
        pytest.fail("the places of sockets that are gone were not given back")


def test_more_connections_than_allowed_are_closed_and_one_address_gets_three_quarters(serve: Serve) -> None:
    server = serve(max_connections=20)
    connections = [raw(server) for _ in range(30)]
    try:
        time.sleep(0.3)
        closed = 0
        for connection in connections:
            connection.setblocking(False)
            try:
                closed += connection.recv(1) == b""
            except BlockingIOError:
                pass
            except ConnectionError:
                closed += 1
        assert closed == 15
    finally:
        for connection in connections:
            connection.close()
    time.sleep(0.2)
    assert alive(server)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET / HT",
        b"PUT /api/v1/models/squares/prompts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
        b"PUT /api/v1/models/squares/prompts HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
    ids=["silent", "head", "second-head", "body", "chunk"],
)
def test_a_request_that_does_not_come_to_an_end_is_cut(serve: Serve, start: bytes) -> None:
    server = serve(request_timeout=0.4)
    with raw(server, start) as connection:
        began = time.monotonic()
        rest_of(connection)
        assert time.monotonic() - began < 3
    assert alive(server)


def test_an_answer_that_is_not_read_is_cut(serve: Serve) -> None:
    device = DeviceStandIn(size=(1920, 1080))
    device.step()
    server = serve(on=device, request_timeout=0.5)
    one = b"GET /api/v1/sources/door/frame.jpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with raw(server, one * 60, small=True) as connection:
        time.sleep(1.5)
        assert len(rest_of(connection)) < 60 * 20_000
    assert alive(server)


def test_a_head_that_is_too_large_is_refused(serve: Serve) -> None:
    server = serve()
    with raw(server, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: " + b"y" * 100_000) as connection:
        assert rest_of(connection)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
    assert alive(server)


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_an_oversized_body_is_refused_before_it_is_read(serve: Serve, chunked: bool) -> None:
    server = serve()
    size = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 100000000"
    head = b"PUT /api/v1/models/squares/prompts HTTP/1.1\r\nHost: 127.0.0.1\r\n" + size + b"\r\n\r\n"
    body = b"186a0\r\n" + b"x" * 100_000 if chunked else b"x" * 1000
    with raw(server, head + body) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")
    assert alive(server)


def test_a_socket_that_is_not_read_is_dropped_and_the_others_go_on(serve: Serve, device: DeviceStandIn) -> None:
    server = serve(send_timeout=0.5)
    device.run(fps=100)
    arrivals: list[float] = []

    def read(connection: socket.socket) -> None:
        with suppress(ConnectionError):
            while connection.recv(65536):
                arrivals.append(time.monotonic())

    watch = websocket_frame(1, WATCH)
    with upgraded(server, watch, small=True), upgraded(server, watch) as quick:
        reader = threading.Thread(target=read, args=(quick,), daemon=True)
        reader.start()
        ends = time.monotonic() + 15
        while counted(server, "mmedge_server_sockets") != 1 and time.monotonic() < ends:
            time.sleep(0.1)
        left = counted(server, "mmedge_server_sockets")
        dropped = time.monotonic()
        time.sleep(0.5)
        quick.shutdown(socket.SHUT_RDWR)
        reader.join(5)
    assert left == 1, "the slow one is still there"
    assert arrivals[-1] > dropped, "the quick one goes on"
    assert max(later - earlier for earlier, later in pairwise(arrivals)) < 1.5


@pytest.mark.parametrize(
    "data",
    [
        websocket_frame(3, b"x"),
        websocket_frame(11, b""),
        websocket_frame(1, b"x", mask=False),
        websocket_frame(1, b"x", reserved=0x40),
        websocket_frame(1, b"\xff\xfe"),
        websocket_frame(0, b"x"),
        websocket_frame(9, b"x" * 126),
        websocket_frame(8, b"\x03"),
        websocket_frame(1, b"x" * 20_000),
        websocket_frame(1, b"x", length=2**62),
        websocket_frame(2, b"", length=2**63 + 5),
        b"\x01\x80\0\0\0\0" * 2,
        bytes(range(256)) * 8,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["opcode-3", "opcode-11", "unmasked", "reserved", "no-utf8", "orphan", "long-ping", "short-close", "too-large",
         "huge", "negative", "fragments", "noise", "http"],
)  # fmt: skip
def test_a_malformed_frame_closes_its_connection_and_no_other(shared: Server, data: bytes) -> None:
    with upgraded(shared) as bystander:
        with upgraded(shared, data) as connection:
            connection.shutdown(socket.SHUT_WR)
            rest_of(connection)
        ends = time.monotonic() + 5
        while counted(shared, "mmedge_server_sockets") != 1 and time.monotonic() < ends:
            time.sleep(0.02)
        assert counted(shared, "mmedge_server_sockets") == 1
        bystander.sendall(websocket_frame(9, b"still there?"))
        seen = b""
        while b"still there?" not in seen:
            seen += bystander.recv(65536)


@pytest.mark.parametrize(
    "request_head",
    [
        UPGRADE.replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        UPGRADE.replace(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", b""),
        UPGRADE.replace(b"AAAAAAAAAAAAAAAAAAAAAA==", b"not base64"),
        UPGRADE.replace(b"/live", b"/elsewhere"),
        UPGRADE.replace(b"Host: 127.0.0.1", b"Host: evil.example"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 5000 + b"\r\n\r\n",
    ],
    ids=["version", "no-key", "key", "path", "host", "tls", "zeros"],
)
def test_a_wrong_handshake_is_no_socket(shared: Server, request_head: bytes) -> None:
    with raw(shared, request_head) as connection:
        assert b" 101 " not in rest_of(connection)[:20]
    assert alive(shared)
