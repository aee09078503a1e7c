"""Events posted to a URL."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import random
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from mmedge.errors import InputError, SinkError
from mmedge.sinks.jpeg import encode_jpeg
from mmedge.sinks.records import ItemType, classes_of, encode, record
from mmedge.sinks.sink import Item, SinkContext
from mmedge.triggers.event import Event, EventKind

_LONGEST_PICTURE = 1280
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
_MOST_ATTEMPTS = 20
_BUSY = (408, 425, 429)
_OWN_HEADERS = frozenset({"content-length", "host", "connection", "transfer-encoding"})


class Webhook:
    """Posts each item as JSON: its record as in `mmedge.sinks.jsonl`, and ``device``.

    An answer of 2xx is success. No answer, 408, 425, 429 and 5xx are tried again after 0.5, 1, 2, 4, 8, 8, … seconds,
    less a random part of up to half; any other answer, redirects too, is an error at once. Items wait meanwhile. The
    body of an answer is not read. Certificates are verified; proxies named by the environment are not used.

    Each request carries ``X-Mmedge-Delivery``, the same for all tries of one item, and with a secret also
    ``X-Mmedge-Timestamp``, seconds since 1970, and ``X-Mmedge-Signature``: ``sha256=`` and the HMAC-SHA256 in hex of
    the timestamp, a dot and the body.

    Args:
        url: ``https://…`` or ``http://…``; ``user:password@`` becomes basic authentication.
        device: Name of this device in each post.
        types: The types of items that are posted.
        kinds: The kinds of events that are.
        secret: For the signature.
        picture: Add the best frame of an event as ``picture``, a JPEG of up to 1280 pixels in base64, where there is
            one.
        headers: Further headers, such as ``Authorization``.
        timeout: Seconds that one try may take.
        attempts: Most tries of an item, 1 to 20.

    Raises:
        InputError: An argument cannot be used.
    """

    kind = "webhook"

    def __init__(
        self,
        url: str,
        *,
        device: str = "mmedge",
        types: Sequence[ItemType] = ("event",),
        kinds: Sequence[EventKind] = ("start", "end"),
        secret: str | None = None,
        picture: bool = False,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        attempts: int = 4,
    ) -> None:
        self._to = _Address(url)
        self.takes = classes_of(types)
        self.pixels = picture
        if not kinds or any(kind not in ("start", "update", "end") for kind in kinds):
            raise InputError(f"kinds must be a list of some of start, update, end, got {kinds!r:.60}")
        if secret is not None and not secret:
            raise InputError("secret must not be empty; leave it out for posts without a signature")
        if not 0 < timeout <= 60:
            raise InputError(f"timeout must be seconds above 0 and up to 60, got {timeout}")
        if not 1 <= attempts <= _MOST_ATTEMPTS:
            raise InputError(f"attempts must be 1 to {_MOST_ATTEMPTS}, got {attempts}")
        self._device = device
        self._kinds = tuple(kinds)
        self._secret = None if secret is None else secret.encode()
        self._headers = _checked(headers or {})
        self._timeout = timeout
        self._attempts = attempts
        self._tls = ssl.create_default_context() if self._to.secure else None
        self._cancelled = threading.Event()

    def write(self, item: Item) -> None:
        """Post an item, and try again where that may help.

        Raises:
            SinkError: It was not taken. The message names the host alone: paths may be secret.
        """
        if not isinstance(item, self.takes) or (isinstance(item, Event) and item.kind not in self._kinds):
            return
        value = {**record(item), "device": self._device}
        if self.pixels and isinstance(item, Event) and item.best is not None:
            jpeg = encode_jpeg(item.best.image, longest=_LONGEST_PICTURE)
            value["picture"] = {"format": "jpeg", "data": base64.b64encode(jpeg).decode("ascii")}
        body, delivery = encode(value), uuid.uuid4().hex
        for attempt in range(self._attempts):
            problem, again = self._try(body, delivery)
            if problem is None:
                return
            wait = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S) * random.uniform(0.5, 1)
            if not again or attempt == self._attempts - 1 or self._cancelled.wait(wait):
                tries = "" if attempt == 0 else f" after {attempt + 1} tries"
                raise SinkError(f"{self._to.shown} {problem}{tries}")

    def cancel(self) -> None:
        """Try each item that is left only once."""
        self._cancelled.set()

    def close(self) -> None:
        """Nothing is open between posts."""

    def _try(self, body: bytes, delivery: str) -> tuple[str | None, bool]:
        """Post once; returns what went wrong, None where nothing did, and whether it may help to try again."""
        try:
            status = self._post(body, delivery)
        except ssl.SSLCertVerificationError as error:
            return f"has no certificate that can be trusted ({error.verify_message})", False
        except TimeoutError:
            return f"did not answer within {self._timeout:g} s", True
        except http.client.HTTPException as error:
            return f"gave no HTTP answer ({type(error).__name__})", True
        except OSError as error:
            return f"cannot be reached ({error.strerror or error})", True
        if 200 <= status < 300:
            return None, False
        words = "; redirects are not followed" if 300 <= status < 400 else ""
        return f"answered {status}{words}", status in _BUSY or status >= 500

    def _post(self, body: bytes, delivery: str) -> int:
        connection = self._to.connect(self._timeout, self._tls)
        with contextlib.closing(connection), _deadline(connection, self._timeout):
            connection.request("POST", self._to.target, body, self._all_headers(body, delivery))
            return connection.getresponse().status

    def _all_headers(self, body: bytes, delivery: str) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "mmedge",
            "Connection": "close",
            **self._to.headers,
            **self._headers,
            "X-Mmedge-Delivery": delivery,
        }
        if self._secret is not None:
            stamp = str(int(time.time()))
            digest = hmac.new(self._secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers |= {"X-Mmedge-Timestamp": stamp, "X-Mmedge-Signature": f"sha256={digest}"}
        return headers


def open_webhook(
    context: SinkContext,
    *,
    url: str,
    types: list[ItemType] | None = None,
    kinds: list[EventKind] | None = None,
    secret: str | None = None,
    picture: bool = False,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,
    attempts: int = 4,
) -> Webhook:
    """As a device file asks for it."""
    return Webhook(
        url,
        device=context.device,
        types=types or ("event",),
        kinds=kinds or ("start", "end"),
        secret=secret,
        picture=picture and context.pixels,
        headers=headers,
        timeout=timeout,
        attempts=attempts,
    )


class _Address:
    """The parts of a URL."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            raise InputError("url must be https://HOST/… or http://HOST/…, got one that cannot be read") from None
        if parts.scheme not in ("http", "https") or not self._host or not url.isprintable() or " " in url:
            # Without the URL: its path may be a secret.
            raise InputError("url must be https://HOST/… or http://HOST/…, without spaces")
        self.secure = parts.scheme == "https"
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not self.target.isascii():
            raise InputError("url must be in ASCII; write other letters as %XX")
        self.shown = f"{parts.scheme}://{self._host}" + (f":{self._port}" if self._port else "")
        self.headers: dict[str, str] = {}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self.headers["Authorization"] = f"Basic {base64.b64encode(pair).decode('ascii')}"

    def connect(self, timeout: float, tls: ssl.SSLContext | None) -> http.client.HTTPConnection:
        if self.secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Break the connection off after so many seconds in all: the library's own limit begins anew with each byte."""
    over = threading.Event()

    def break_off() -> None:
        over.set()
        if connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, break_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    # The library takes headers that were broken off for whole ones.
    if over.is_set():
        raise TimeoutError


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that can be sent. Messages leave values out: they may be secret."""
    for name, value in headers.items():
        token = isinstance(name, str) and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if not token or name.lower() in _OWN_HEADERS:
            raise InputError(f"headers: {name!r:.60} is no header that can be set")
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            raise InputError(f"headers: the value of {name} must be printable ASCII")
    return dict(headers)
