"""Keeping OpenCV's own log lines out of the way where an error of ours says the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2

_SILENT = 0

_lock = threading.Lock()
_inside = 0
_level = 0


def _log() -> Any:
    """Where the switch is: OpenCV 5 moved it."""
    return getattr(cv2.utils, "logging", cv2)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's log while inside; the level is as before when the last of all threads has left."""
    global _inside, _level
    with _lock:
        if _inside == 0:
            _level = _log().getLogLevel()
            _log().setLogLevel(_SILENT)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _log().setLogLevel(_level)
