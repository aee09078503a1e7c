"""The window of a session."""

from __future__ import annotations

import os
import sys
from types import TracebackType

import cv2
import typer

from mmedge.results import Result
from mmedge.sources import Frame
from mmedge.stream import Stream

_TITLE = "mmedge (q ends)"
_KEYS_TO_END = (ord("q"), 27)


class Window:
    """Shows each frame with its result; ``q`` or Escape ends `stream`.

    Raises:
        typer.BadParameter: There is no display.
    """

    def __init__(self, stream: Stream) -> None:
        # Without a display the library behind OpenCV's windows ends the whole process.
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise typer.BadParameter("--show needs a display and finds none; --save out.mp4 writes a video instead")
        self._stream = stream

    def __call__(self, frame: Frame, result: Result) -> None:
        try:
            cv2.imshow(_TITLE, result.plot(frame))
            key = cv2.waitKey(1) & 0xFF
        except cv2.error as error:
            raise typer.BadParameter(f"--show: this OpenCV has no windows ({error.err}); use opencv-python") from error
        if key in _KEYS_TO_END:
            self._stream.close()

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cv2.destroyAllWindows()
