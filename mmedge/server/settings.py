"""How the server is reached, and what it allows."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import Any

from mmedge.errors import InputError

_SHORTEST_TOKEN = 16
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_WHOLE = ("max_body", "max_sockets", "max_connections")
_NUMBERS = ("requests_per_second", "request_timeout", "send_timeout")


@dataclass(frozen=True)
class ServerSettings:
    """Where the server listens, who may talk to it, and how much. Checked when it is made.

    Attributes:
        host: Address to listen on. Any that is not this machine's own loopback needs a `token`.
        port: 0 for any that is free.
        token: At least 16 characters that callers have to know; None: anyone who reaches the address may call.
        certificate, key: PEM files for TLS; both or none.
        origins: ``https://robot.example:8443``: names under which the page is reached beside those of the machine,
            such as those of a proxy.
        max_body: Longest body of a request in bytes.
        requests_per_second: Of one client, averaged over some seconds.
        max_sockets: WebSockets open at a time.
        max_connections: Connections open at a time, WebSockets included; one address gets three quarters of them.
        request_timeout: Seconds in which a request has to come, be answered, and its answer be read.
        send_timeout: Seconds that a WebSocket may leave a message unread before it is dropped.

    Raises:
        InputError: One of them cannot be used; the message names it.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = field(default=None, repr=False)
    certificate: str | None = None
    key: str | None = None
    origins: tuple[str, ...] = ()
    max_body: int = 64 * 1024
    requests_per_second: float = 50.0
    max_sockets: int = 32
    max_connections: int = 128
    request_timeout: float = 20.0
    send_timeout: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not self.host.strip():
            raise InputError(f"host must be an address to listen on, such as 127.0.0.1 or 0.0.0.0, got {self.host!r}")
        if not _whole(self.port) or not 0 <= self.port <= 65535:
            raise InputError(f"port must be a whole number from 0 to 65535, got {self.port!r}")
        self._check_token()
        self._check_tls()
        origins = self.origins if isinstance(self.origins, (tuple, list)) else (self.origins,)
        for origin in origins:
            if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
                raise InputError(f"origins must look like https://robot.example:8443, without a path, got {origin!r}")
        object.__setattr__(self, "origins", tuple(origin.lower() for origin in origins))
        for name in _WHOLE:
            if not _whole(getattr(self, name)) or getattr(self, name) < 1:
                raise InputError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1e6:
                raise InputError(f"{name} must be a number above 0 and up to 1e6, got {value!r}")

    @property
    def scheme(self) -> str:
        """``https`` or ``http``."""
        return "http" if self.certificate is None else "https"

    def _check_token(self) -> None:
        token = self.token
        if token is None:
            if not is_loopback(self.host):
                raise InputError(
                    f"host {self.host} can be reached from other machines, so a token of at least {_SHORTEST_TOKEN} "
                    "characters is needed: set `token`, or listen on 127.0.0.1"
                )
            return
        # Neither the value nor its length: this message may end up in a log.
        if not isinstance(token, str) or len(token) < _SHORTEST_TOKEN:
            raise InputError(f"token must be a text of at least {_SHORTEST_TOKEN} characters, got a shorter one")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise InputError("token must consist of printable ASCII characters without spaces, got others")

    def _check_tls(self) -> None:
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise InputError(f"certificate and key go together; {missing} is missing")
        for name in ("certificate", "key"):
            path = getattr(self, name)
            if path is not None and not os.path.isfile(path):
                raise InputError(f"{name} must be a PEM file, got {os.fspath(path)!r}, which is none")


def is_loopback(host: str) -> bool:
    """Whether `host` is an address of this machine that no other one reaches."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
