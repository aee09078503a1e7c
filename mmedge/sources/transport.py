"""How FFmpeg fetches a network stream.

OpenCV takes FFmpeg's options from an environment variable, which it reads each time a stream is opened, and in no other
way. The environment is one for the whole process: streams that need different options are therefore opened one after
the other, and only those that need the same are opened side by side.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"

_OURS = ("rtsp_transport", "rtsp_flags")
_AS_OPENCV_DOES = "rtsp_flags;prefer_tcp"
"""OpenCV's own choice, which it makes only where the variable says nothing at all."""

_FEW_FRAMES = "fpsprobesize;3"
"""FFmpeg looks at 20 frames for the frame rate before it gives the first: at 10 frames a second, a camera that was lost
would be back 2 seconds later for it."""

_changed = threading.Condition()
_waiting: deque[object] = deque()
_inside = 0
_transport: str | None = None
_before: str | None = None


@contextmanager
def ffmpeg_transport(transport: str | None, *, timeout: float) -> Iterator[None]:
    """While inside, OpenCV opens RTSP streams over `transport`, and nobody opens one over another.

    Args:
        transport: ``tcp``, ``udp``, or None: as OpenCV does by itself.
        timeout: Seconds to wait until streams over another transport are open.

    Raises:
        TimeoutError: They still are being opened.
    """
    _enter(transport, time.monotonic() + timeout)
    try:
        yield
    finally:
        _leave()


def _enter(transport: str | None, deadline: float) -> None:
    global _inside, _transport, _before
    turn = object()
    with _changed:
        # One after the other, so that those of one transport cannot keep the others waiting for ever.
        _waiting.append(turn)
        try:
            free = _changed.wait_for(
                lambda: _waiting[0] is turn and (_inside == 0 or _transport == transport),
                timeout=max(deadline - time.monotonic(), 0.0),
            )
            if not free:
                raise TimeoutError("streams over another transport are still being opened")
            if _inside == 0:
                _transport, _before = transport, os.environ.get(VARIABLE)
                os.environ[VARIABLE] = with_transport(_before, transport)
            _inside += 1
        finally:
            _waiting.remove(turn)
            _changed.notify_all()


def _leave() -> None:
    global _inside
    with _changed:
        _inside -= 1
        if _inside == 0:
            if _before is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = _before
        _changed.notify_all()


def with_transport(options: str | None, transport: str | None) -> str:
    """FFmpeg's `options` as OpenCV takes them (``name;value|name;value``), for an RTSP stream that opens soon.

    Args:
        options: The user's; they stay in force.
        transport: ``tcp`` or ``udp``, and no other; None: what the user's options or else OpenCV choose.
    """
    given = [option for option in (options or "").split("|") if option]
    names = [option.partition(";")[0] for option in given]
    probing = [] if "fpsprobesize" in names else [_FEW_FRAMES]
    if transport is not None:
        given = [option for option, name in zip(given, names, strict=True) if name not in _OURS]
        return "|".join([*given, *probing, f"rtsp_transport;{transport}"])
    return "|".join([*given, *probing, *([] if given else [_AS_OPENCV_DOES])])
