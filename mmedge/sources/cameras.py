"""Cameras of this machine, through V4L2 on Linux."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2

from mmedge.errors import SourceNotFoundError, SourceOpenError
from mmedge.sources.bounded import call_bounded
from mmedge.sources.capture import Capture, LiveSource, release
from mmedge.sources.quiet import quiet_opencv
from mmedge.sources.spec import options_of, rate_of, size_of

_FORMATS = {"mjpeg": "MJPG", "yuyv": "YUYV"}
_SAME_RATE = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CameraMode:
    """What a camera is asked to give; None: what it gives by itself.

    Attributes:
        size: Width and height in pixels.
        fps: Frames a second.
        format: ``mjpeg`` or ``yuyv``, the form in which pictures come over the cable.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None


def open_camera(spec: str, *, open_timeout: float, timeout: float) -> LiveSource:
    """A camera by number or device path, with options: ``0?size=1280x720&fps=30&format=mjpeg``.

    Args:
        open_timeout: Seconds within which the driver must answer.
        timeout: Seconds without a frame after which a read fails.

    Raises:
        SourceNotFoundError: There is no such camera; the message lists those that are there.
        SourceOpenError: It is there and gives no stream, or another size or format than it was asked for.
    """
    place, _, query = spec.partition("?")
    mode = _mode(spec, query)
    linux = sys.platform.startswith("linux")
    device = Path(place if place.startswith("/") else f"/dev/video{place}")
    if linux and not device.exists():
        found = ", ".join(list_cameras()) or "none"
        raise SourceNotFoundError(f"camera {spec}: there is no {device}; cameras found: {found}")
    if linux and not os.access(device, os.R_OK | os.W_OK):
        raise SourceOpenError(f"camera {spec}: no permission to use {device}; add the user to the group 'video'")
    target: int | str = int(place) if place.isdecimal() else place
    backend = cv2.CAP_V4L2 if linux else cv2.CAP_ANY
    try:
        with quiet_opencv():
            capture = call_bounded(
                lambda: _open(spec, cv2.VideoCapture(target, backend), mode),
                timeout=open_timeout,
                discard=release,
                name=f"open {place}",
            )
    except TimeoutError as error:
        raise SourceOpenError(f"camera {spec}: the driver did not answer within {open_timeout:g} s") from error
    return LiveSource(spec, Capture(capture), timeout=timeout)


def _mode(spec: str, query: str) -> CameraMode:
    options = options_of(spec, query, ("size", "fps", "format"))
    form = options.get("format")
    if form is not None and form.lower() not in _FORMATS:
        raise SourceOpenError(f"{spec}: format must be {' or '.join(_FORMATS)}, got {form!r}")
    return CameraMode(
        size=size_of(spec, options["size"]) if "size" in options else None,
        fps=rate_of(spec, options["fps"]) if "fps" in options else None,
        format=None if form is None else form.lower(),
    )


def _open(spec: str, capture: cv2.VideoCapture, mode: CameraMode) -> cv2.VideoCapture:
    try:
        if not capture.isOpened():
            raise SourceOpenError(f"camera {spec} cannot be opened: another program uses it, or it gives no pictures")
        _ask_for(capture, mode)
        _compare(spec, capture, mode)
    except BaseException:
        capture.release()
        raise
    return capture


def _ask_for(capture: cv2.VideoCapture, mode: CameraMode) -> None:
    """The format first, since sizes depend on it, and the rate last, since it depends on both."""
    if mode.format is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*_FORMATS[mode.format]))
    if mode.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, mode.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, mode.size[1])
    if mode.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, mode.fps)
    # One buffer in the driver: a longer queue there is lag that nobody sees.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)


def _compare(spec: str, capture: cv2.VideoCapture, mode: CameraMode) -> None:
    given = round(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(8, "little", signed=True)[:4].decode("ascii", "replace")
    if mode.format is not None and given != _FORMATS[mode.format]:
        raise SourceOpenError(
            f"camera {spec}: asked for {_FORMATS[mode.format]}, it gives {given!r}; see v4l2-ctl --list-formats-ext"
        )
    if mode.size is not None:
        # Some drivers say yes to any size: only a picture tells.
        found, picture = capture.read()
        if not found:
            raise SourceOpenError(f"camera {spec} gives no pictures when asked for {mode.size[0]}x{mode.size[1]}")
        height, width = picture.shape[:2]
        if (width, height) != mode.size:
            raise SourceOpenError(
                f"camera {spec}: asked for {mode.size[0]}x{mode.size[1]}, it gives {width}x{height}; take that, or see "
                "v4l2-ctl --list-formats-ext"
            )
    rate = capture.get(cv2.CAP_PROP_FPS)
    if mode.fps is not None and rate > 0 and abs(rate - mode.fps) > _SAME_RATE:
        log.warning("camera %s: asked for %g frames a second, it gives %g", spec, mode.fps, rate)


def list_cameras() -> list[str]:
    """The video devices of a Linux machine, in order of their numbers; empty elsewhere."""
    devices = [p for p in Path("/dev").glob("video*") if re.fullmatch(r"video\d+", p.name)]
    return [str(p) for p in sorted(devices, key=lambda p: int(p.name.removeprefix("video")))]
