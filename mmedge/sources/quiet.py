"""Keeping OpenCV's own log lines out of the way where an error of ours says the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_lock = threading.Lock()
_inside = 0
_level = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's log while inside; the level is as before when the last of all threads has left."""
    global _inside, _level
    with _lock:
        if _inside == 0:
            _level = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                cv2.utils.logging.setLogLevel(_level)
