"""Who may call: the token, sessions of the page, and limits on how often."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict

COOKIE = "mmedge_session"

_MOST_SESSIONS = 64
_SESSION_S = 24 * 3600.0
_MOST_CLIENTS = 1024
_FAILURES = 5.0
_FAILURES_PER_SECOND = 0.1


class Buckets:
    """A token bucket for each client. The clients that were not seen for longest are forgotten first.

    Args:
        rate: Allowed a second in the long run.
        burst: Allowed at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Take one; 0.0 where it was allowed, else the seconds after which the next one will be."""
        with self._lock:
            level = self._level(client)
            wait = 0.0 if level >= 1 else (1 - level) / self._rate
            self._levels[client] = (level - 1 if wait == 0.0 else level, time.monotonic())
        return wait

    def wait(self, client: str) -> float:
        """What `take` would say, without taking."""
        with self._lock:
            level = self._level(client)
        return 0.0 if level >= 1 else (1 - level) / self._rate

    def _level(self, client: str) -> float:
        now = time.monotonic()
        level, then = self._levels.get(client, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        self._levels[client] = (level, now)
        self._levels.move_to_end(client)
        while len(self._levels) > _MOST_CLIENTS:
            self._levels.popitem(last=False)
        return level


class Access:
    """Checks the token, and keeps the sessions that were opened with it.

    Args:
        token: None: everyone may call, and there are no sessions.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else _digest(token)
        self._failures = Buckets(_FAILURES_PER_SECOND, _FAILURES)
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, float] = OrderedDict()

    @property
    def open(self) -> bool:
        """No token is needed."""
        return self._token is None

    def locked_s(self, client: str) -> float:
        """Seconds for which no token of this client is looked at, after too many wrong ones; 0.0: none."""
        return self._failures.wait(client)

    def knows(self, client: str, token: str) -> bool:
        """Whether this is the token. A wrong one counts against the client."""
        if self._token is None or hmac.compare_digest(_digest(token), self._token):
            return True
        self._failures.take(client)
        return False

    def begin(self) -> str:
        """A new session: the value of its cookie. The oldest ones end when there are too many."""
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_digest(value).hex()] = time.monotonic() + _SESSION_S
            while len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return value

    def holds(self, cookie: str) -> bool:
        """Whether this is the cookie of a session. Using it keeps it alive."""
        name = _digest(cookie).hex()
        with self._lock:
            ends = self._sessions.pop(name, None)
            if ends is None or ends < time.monotonic():
                return False
            self._sessions[name] = time.monotonic() + _SESSION_S
        return True

    def end(self, cookie: str) -> None:
        """End a session; an unknown one is no error."""
        with self._lock:
            self._sessions.pop(_digest(cookie).hex(), None)


def client_of(address: str | None) -> str:
    """One name for all addresses that one client has at will: of IPv6 the network of 64 bits."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return address or "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
    return str(ip)


def _digest(text: str) -> bytes:
    # Equal lengths, so that the time of the comparison tells nothing about that of the token.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
