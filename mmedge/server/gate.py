"""What every request passes before the application sees it."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmedge.server.access import COOKIE, Access, Buckets, client_of
from mmedge.server.names import Names
from mmedge.server.settings import ServerSettings

API = "/api/v1"
LIVE = f"{API}/live"
SESSION = f"{API}/session"

# Without a token: the page, which holds no data, whether the process is there, and where the token is given.
_OPEN = frozenset({("GET", "/"), ("HEAD", "/"), ("GET", "/healthz"), ("GET", "/readyz"), ("POST", SESSION)})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class RefusedError(Exception):
    """A request that goes no further: status, words, and headers."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class Gate:
    """ASGI middleware: host, rate, origin, token, size and time of the body, and headers of the answer.

    Args:
        answers: Counts the answers of each status; refused WebSockets, too.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, access: Access, answers: Counter[int]) -> None:
        self._app = app
        self._settings = settings
        self._access = access
        self._names = Names(settings)
        self._rates = Buckets(settings.requests_per_second, 4 * settings.requests_per_second)
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        websocket = scope["type"] == "websocket"
        guarded = _Answer(send, self._answers)
        try:
            self._check(scope)
            if not websocket:
                receive = await self._body(scope, receive)
        except RefusedError as refusal:
            await (refuse_socket if websocket else _refuse)(refusal, scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except Exception:
            # Whoever runs the application logs it; the client learns that it was not the client's fault.
            if not websocket and not guarded.started:
                await _refuse(RefusedError(500, "a defect in the server; its log says more"), scope, receive, guarded)
            raise

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        client = client_of(scope["client"][0] if scope.get("client") else None)
        wait = self._rates.take(client)
        if wait:
            raise _later("too many requests from this address", wait)
        host = headers.get("host", "")
        if not self._names.host(host):
            raise RefusedError(403, "this server is not called by that name; see `origins` in its settings")
        self._check_site(scope, headers, host)
        if (scope.get("method", "GET"), scope["path"]) not in _OPEN or scope["type"] == "websocket":
            self._check_token(headers, client)
        elif scope["path"] == SESSION and not self._access.open:
            self._check_lock(client)

    def _check_site(self, scope: Scope, headers: Headers, host: str) -> None:
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        origin = headers.get("origin")
        if origin is not None and not self._names.origin(origin, scheme, host):
            raise RefusedError(403, "requests from pages of other sites are refused; see `origins` in the settings")
        # Browsers leave Origin out of plain GETs, so a picture on a foreign page shows itself by this one only.
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and origin is None
        if foreign and not (scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"):
            raise RefusedError(403, "requests from pages of other sites are refused")

    def _check_token(self, headers: Headers, client: str) -> None:
        if self._access.open:
            return
        cookie = session_cookie(headers)
        if cookie is not None and self._access.holds(cookie):
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise RefusedError(401, "a token is needed: Authorization: Bearer TOKEN", **{"www-authenticate": "Bearer"})
        self._check_lock(client)
        if not self._access.knows(client, token.strip()):
            raise RefusedError(401, "that is not the token", **{"www-authenticate": 'Bearer error="invalid_token"'})

    def _check_lock(self, client: str) -> None:
        # Also for the right token, or the answers would tell which guess was right.
        wait = self._access.locked_s(client)
        if wait:
            raise _later("too many wrong tokens from this address", wait)

    async def _body(self, scope: Scope, receive: Receive) -> Receive:
        """The whole body, read within the limits; the application gets it in one piece."""
        headers = Headers(scope=scope)
        most = self._settings.max_body
        length = headers.get("content-length", "0")
        # As text first: Python refuses to read numbers of thousands of digits.
        if not length.isdecimal() or len(length) > 18 or int(length) > most:
            raise _too_large(most)
        if length == "0" and "transfer-encoding" not in headers:
            return receive
        try:
            body = await asyncio.wait_for(_read(receive, most), self._settings.request_timeout)
        except asyncio.TimeoutError:
            raise RefusedError(408, "the request did not come in time", connection="close") from None
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return replay


class _Answer:
    """Sends, and adds what every answer has."""

    def __init__(self, send: Send, answers: Counter[int]) -> None:
        self._send = send
        self._answers = answers
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.started = True
            self._answers[message["status"]] += 1
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def session_cookie(headers: Headers) -> str | None:
    """The cookie of the page's session; None where there is none."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


async def refuse_socket(refusal: RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a WebSocket's first request with a status instead of a socket."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.detail})
        return
    body = _detail(refusal)
    start = {"type": "websocket.http.response.start", "status": refusal.status, "headers": _lines(refusal, body)}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})


async def _refuse(refusal: RefusedError, _: Scope, __: Receive, send: Send) -> None:
    body = _detail(refusal)
    await send({"type": "http.response.start", "status": refusal.status, "headers": _lines(refusal, body)})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise RefusedError(400, "the request broke off")
        size += len(message.get("body", b""))
        if size > most:
            raise _too_large(most)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"the body may have {most} bytes", connection="close")


def _later(detail: str, wait: float) -> RefusedError:
    return RefusedError(429, detail, **{"retry-after": str(math.ceil(wait))})


def _detail(refusal: RefusedError) -> bytes:
    return json.dumps({"detail": refusal.detail}).encode()


def _lines(refusal: RefusedError, body: bytes) -> Iterable[tuple[bytes, bytes]]:
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    return [(name.encode(), value.encode()) for name, value in headers.items()]
