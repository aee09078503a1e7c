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
                if transport is not None:
                    os.environ[VARIABLE] = with_transport(_before, transport)
            _inside += 1
        finally:
            _waiting.remove(turn)
            _changed.notify_all()


def _leave() -> None:
    global _inside
    with _changed:
        _inside -= 1
        if _inside == 0 and _transport is not None:
            if _before is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = _before
        _changed.notify_all()


def with_transport(options: str | None, transport: str) -> str:
    """FFmpeg's `options` as OpenCV takes them (``name;value|name;value``), with this transport and no other."""
    kept = [option for option in (options or "").split("|") if option and option.partition(";")[0] not in _OURS]
    return "|".join([*kept, f"rtsp_transport;{transport}"])
