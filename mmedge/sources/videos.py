"""Video files."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from mmedge.errors import SourceOpenError
from mmedge.sources.capture import Capture, VideoSource
from mmedge.sources.quiet import quiet_opencv


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
