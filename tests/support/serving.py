"""What the tests of the server share."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

from starlette.testclient import TestClient

from mmedge.server.running import Server

TOKEN = "correct-horse-battery"

Client = Callable[..., TestClient]
Serve = Callable[..., Server]

UPGRADE = (
    b"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def raw(server: Server, data: bytes = b"", *, small: bool = False) -> socket.socket:
    """A connection to the server on which `data` was sent; `small`: with a receive buffer that is soon full."""
    host, port = server.address.split("//")[1].rsplit(":", 1)
    connection = socket.socket()
    if small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(5)
    connection.connect((host, int(port)))
    if data:
        connection.sendall(data)
    return connection


def upgraded(server: Server, data: bytes = b"", *, small: bool = False) -> socket.socket:
    """A live socket, after the server's half of the handshake, on which `data` was sent."""
    connection = raw(server, UPGRADE, small=small)
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    assert b" 101 " in head, head
    if data:
        connection.sendall(data)
    return connection


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def websocket_frame(
    opcode: int, payload: bytes, *, mask: bool = True, reserved: int = 0, length: int | None = None
) -> bytes:
    """One frame of a client, right or wrong; `length` is what it says of itself."""
    size = len(payload) if length is None else length
    head = bytes([0x80 | reserved | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    return head + (b"\0\0\0\0" if mask else b"") + payload


def unpacked(message: str | bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON and the picture of a live message."""
    if isinstance(message, str):
        return json.loads(message), b""
    (length,) = struct.unpack(">I", message[:4])
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def counted(server: Server, name: str) -> float:
    """The value of a metric without labels."""
    with urlopen(f"{server.address}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def alive(server: Server) -> bool:
    """Whether it still answers."""
    with urlopen(f"{server.address}/healthz", timeout=5) as answer:
        return bool(answer.status == 200)
