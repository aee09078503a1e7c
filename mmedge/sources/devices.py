"""Opening cameras, network streams and video files, within a bounded time and with the cause when it fails."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import cv2

from mmedge.errors import SourceNotFoundError, SourceOpenError
from mmedge.sources.bounded import call_bounded
from mmedge.sources.capture import Capture, LiveSource, VideoSource
from mmedge.sources.quiet import quiet_opencv
from mmedge.sources.spec import mask_passwords

_RTSP_PORT = 554
_GRACE_S = 0.5
"""FFmpeg gives up by itself at the timeout and cleans up; only after this much more is it left behind."""


def open_video(name: str, path: Path) -> VideoSource:
    """A video file.

    Raises:
        SourceOpenError: FFmpeg cannot open it.
    """
    if not os.access(path, os.R_OK):
        raise SourceOpenError(f"{name} cannot be read: permission denied")
    size = path.stat().st_size
    if size == 0:
        raise SourceOpenError(f"{name} is empty; expected a video")
    with quiet_opencv():
        # The absolute path, so that a name such as "concat:a" is never taken for a protocol.
        capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise SourceOpenError(
            f"{name} ({size} bytes) cannot be opened as a video: no format that FFmpeg knows, no picture track, cut "
            "off or damaged"
        )
    return VideoSource(name, Capture(capture))


def open_rtsp(url: str, *, open_timeout: float, timeout: float) -> LiveSource:
    """A network camera.

    Args:
        url: With user and password where needed.
        open_timeout: Seconds for finding the host, connecting and recognising the stream.
        timeout: Seconds without data after which a read fails.

    Raises:
        SourceOpenError: It is not there in time; the message names the cause, and no password.
    """
    name = mask_passwords(url)
    began = time.monotonic()
    host, port = _address(url, name)

    def connect() -> cv2.VideoCapture:
        # FFmpeg does not tell why it failed; a connection of our own does.
        socket.create_connection((host, port), timeout=open_timeout).close()
        left = max(open_timeout - (time.monotonic() - began), 0.1)
        return _ffmpeg(url, left, timeout)

    try:
        with quiet_opencv():
            capture = call_bounded(connect, timeout=open_timeout + _GRACE_S, discard=_release, name=f"open {host}")
    except TimeoutError as error:
        raise SourceOpenError(f"{name}: no answer within {open_timeout:g} s; check address and network") from error
    except OSError as error:
        raise SourceOpenError(
            f"{name}: {error.strerror or error}; check the address, and that the camera is on"
        ) from error
    if not capture.isOpened():
        waited = time.monotonic() - began
        cause = f"gave no picture within {open_timeout:g} s" if waited >= open_timeout else "refused the stream"
        raise SourceOpenError(f"{name}: {host} took the connection and {cause}; check path, user and password")
    return LiveSource(name, Capture(capture), timeout=timeout, backlog=True)


def _address(url: str, name: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _RTSP_PORT
    except ValueError:
        host, port = None, 0
    if not host:
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


def open_camera(spec: str, *, open_timeout: float, timeout: float) -> LiveSource:
    """A camera by number or device path; `open_timeout` and `timeout` as for `open_rtsp`.

    Raises:
        SourceNotFoundError: There is no such camera; the message lists those that are there.
        SourceOpenError: It is there and gives no stream.
    """
    linux = sys.platform.startswith("linux")
    device = Path(spec if spec.startswith("/") else f"/dev/video{spec}")
    if linux and not device.exists():
        found = ", ".join(list_cameras()) or "none"
        raise SourceNotFoundError(f"camera {spec}: there is no {device}; cameras found: {found}")
    if linux and not os.access(device, os.R_OK | os.W_OK):
        raise SourceOpenError(f"camera {spec}: no permission to use {device}; add the user to the group 'video'")
    target: int | str = int(spec) if spec.isdecimal() else spec
    backend = cv2.CAP_V4L2 if linux else cv2.CAP_ANY
    try:
        with quiet_opencv():
            capture = call_bounded(
                lambda: cv2.VideoCapture(target, backend), timeout=open_timeout, discard=_release, name=f"open {spec}"
            )
    except TimeoutError as error:
        raise SourceOpenError(f"camera {spec}: the driver did not answer within {open_timeout:g} s") from error
    if not capture.isOpened():
        raise SourceOpenError(f"camera {spec} cannot be opened: another program uses it, or it gives no pictures")
    # One buffer in the driver: a longer queue there is lag that nobody sees.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return LiveSource(spec, Capture(capture), timeout=timeout)


def list_cameras() -> list[str]:
    """The video devices of a Linux machine, in order of their numbers; empty elsewhere."""
    devices = [p for p in Path("/dev").glob("video*") if re.fullmatch(r"video\d+", p.name)]
    return [str(p) for p in sorted(devices, key=lambda p: int(p.name.removeprefix("video")))]


def _release(capture: cv2.VideoCapture) -> None:
    capture.release()
