"""Network cameras."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import cv2

from mmedge.errors import SourceOpenError
from mmedge.sources.bounded import call_bounded
from mmedge.sources.capture import Capture, LiveSource, release
from mmedge.sources.quiet import quiet_opencv
from mmedge.sources.spec import mask_passwords
from mmedge.sources.transport import ffmpeg_transport

RTSP_SCHEMES = {"rtsp": None, "rtsp+tcp": "tcp", "rtsp+udp": "udp", "rtsps": None}
"""The transport that each scheme asks for; None: TCP, or what the camera offers."""

_PORTS = {"rtsps": 322}
_PORT = 554
_GRACE_S = 0.5
"""FFmpeg gives up by itself at the timeout and cleans up; only after this much more is it left behind."""


def open_rtsp(spec: str, *, open_timeout: float, timeout: float) -> LiveSource:
    """A network camera.

    Args:
        spec: ``rtsp://``, ``rtsps://``, ``rtsp+tcp://`` or ``rtsp+udp://``, with user and password where needed.
        open_timeout: Seconds for finding the host, connecting and recognising the stream.
        timeout: Seconds without data after which a read fails.

    Raises:
        SourceOpenError: It is not there in time; the message names the cause, and no password.
    """
    name = mask_passwords(spec)
    began = time.monotonic()
    scheme, rest = spec.split("://", 1)
    transport = RTSP_SCHEMES[scheme.lower()]
    url = f"{scheme.lower().partition('+')[0]}://{rest}"
    host, port = _address(url, name)

    def left() -> float:
        return max(open_timeout - (time.monotonic() - began), 0.1)

    def connect() -> cv2.VideoCapture:
        # FFmpeg does not tell why it failed; a connection of our own does.
        socket.create_connection((host, port), timeout=open_timeout).close()
        with ExitStack() as stack:
            try:
                stack.enter_context(ffmpeg_transport(transport, timeout=left()))
            except TimeoutError as error:
                raise SourceOpenError(f"{name}: {error}; raise open_timeout=, or use one transport for all") from error
            return _ffmpeg(url, left(), timeout)

    try:
        with quiet_opencv():
            capture = call_bounded(connect, timeout=open_timeout + _GRACE_S, discard=release, name=f"open {host}")
    except TimeoutError as error:
        raise SourceOpenError(f"{name}: no answer within {open_timeout:g} s; check address and network") from error
    except OSError as error:
        raise SourceOpenError(
            f"{name}: {error.strerror or error}; check the address, and that the camera is on"
        ) from error
    if not capture.isOpened():
        waited = time.monotonic() - began
        cause = f"gave no picture within {open_timeout:g} s" if waited >= open_timeout else "refused the stream"
        check = "path, user and password"
        if transport is not None:
            check += f", and whether {transport.upper()} is offered and let through"
        raise SourceOpenError(f"{name}: {host} took the connection and {cause}; check {check}")
    return LiveSource(name, Capture(capture), timeout=timeout, backlog=True)


def _address(url: str, name: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, _PORT)
        named = bool(host and host.encode("idna"))
    except ValueError:
        named = False
    # What is no character of an address is dropped or misread by one library or another.
    if not named or not host or any(character.isspace() or not character.isprintable() for character in url):
        raise SourceOpenError(
            f"{name}: expected rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH; write '@', '/', '#' and ':' inside a user name "
            "or password as %40, %2F, %23 and %3A"
        )
    return host, port


def _ffmpeg(url: str, open_timeout: float, timeout: float) -> cv2.VideoCapture:
    parameters = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(open_timeout * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(timeout * 1000),
        # Each further thread of the decoder holds one more frame back.
        cv2.CAP_PROP_N_THREADS,
        1,
    ]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, parameters)
