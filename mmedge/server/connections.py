"""Connections: how many, and for how long.

uvicorn bounds the size of a request's head, the time between two requests of a connection and the WebSocket messages
that come in. It bounds neither connections nor the time that a head, a body or the reading of an answer takes.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# What the kernel and we hold for a client that reads slowly. With the usual megabytes it would see old frames.
_SEND_BUFFER = 128 * 1024


def bounded_protocol(most: int, timeout: float) -> type[asyncio.Protocol]:
    """A class for uvicorn's ``http``: H11 with at most `most` connections, each request over within `timeout` seconds.

    The transport is in the ASGI scope as ``scope["state"]["transport"]``, for whoever has to cut a connection.
    """

    class BoundedProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            same = sum(_address(other.transport) == _address(transport) for other in self.connections)
            # One address cannot shut out all others.
            if len(self.connections) >= most or same >= max(1, most * 3 // 4):
                transport.abort()
                return
            super().connection_made(transport)
            limit_buffer(transport)
            self.app_state = {**self.app_state, "transport": transport}
            self._arm()

        def data_received(self, data: bytes) -> None:
            if self.transport is not None:
                super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            if self.transport is not None:
                super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._arm()

        def handle_websocket_upgrade(self, event: Any) -> None:
            # From here on the time-outs of the live socket hold.
            self._disarm()
            super().handle_websocket_upgrade(event)

        def _arm(self) -> None:
            self._disarm()
            self._deadline = self.loop.call_later(timeout, self.transport.abort)

        def _disarm(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return BoundedProtocol


def _address(transport: asyncio.Transport) -> str:
    return str((transport.get_extra_info("peername") or ("",))[0])


def limit_buffer(transport: asyncio.Transport) -> None:
    """Keep what waits for a slow reader small."""
    transport.set_write_buffer_limits(high=_SEND_BUFFER)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
