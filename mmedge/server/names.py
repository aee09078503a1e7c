"""By which names the server may be called: against other sites in the browser, and against DNS rebinding."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from mmedge.server.settings import ServerSettings, is_loopback


class Names:
    """The hosts and origins that belong to this server."""

    def __init__(self, settings: ServerSettings) -> None:
        self._loopback = is_loopback(settings.host)
        self._origins = frozenset(settings.origins)
        names = {"localhost", settings.host.lower()}
        names.update(urlsplit(origin).hostname or "" for origin in settings.origins)
        if not self._loopback:
            own = socket.gethostname().lower()
            names.update((own, f"{own}.local"))
        self._names = frozenset(names - {""})

    def host(self, header: str) -> bool:
        """Whether ``Host:`` is one of ours.

        An address is one: only names can be made to point here by someone else. On the loopback interface it has to be
        a loopback address.
        """
        name = _host_name(header)
        if name is None:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return address.is_loopback or not self._loopback or name in self._names

    def origin(self, header: str, scheme: str, host: str) -> bool:
        """Whether ``Origin:`` is the page of this server, called as `scheme` and `host`, or one that was allowed."""
        origin = header.lower()
        return origin == f"{scheme}://{host.lower()}" or origin in self._origins


def _host_name(header: str) -> str | None:
    """The name or address in ``name:port`` or ``[address]:port``; None where it is neither."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return None if parts.hostname is None else parts.hostname.rstrip(".").lower()
