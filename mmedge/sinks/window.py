"""A window that shows frames with their results."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import cv2

from mmedge.drawing import draw
from mmedge.errors import SinkError
from mmedge.sinks.sink import Item, Observation

_TITLE = "mmedge (q ends)"
_KEYS_TO_END = (ord("q"), 27)


class Window:
    """Shows each frame with its result; ``q`` or Escape ends.

    Some systems allow windows in the main thread alone, so this sink belongs there and not behind a queue:
    ``mmedge run --show`` writes to it directly.

    Args:
        on_quit: Called when the user wants to end.

    Raises:
        SinkError: There is no display.
    """

    kind = "window"

    def __init__(self, on_quit: Callable[[], None]) -> None:
        # Without a display the library behind OpenCV's windows ends the whole process.
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise SinkError("a window needs a display and finds none")
        self._on_quit = on_quit

    def write(self, item: Item) -> None:
        """Show an observation that has a frame.

        Raises:
            SinkError: This OpenCV has no windows.
        """
        if not isinstance(item, Observation) or item.frame is None:
            return
        try:
            cv2.imshow(_TITLE, draw(item.result, item.frame.image))
            key = cv2.waitKey(1) & 0xFF
        except cv2.error as error:
            raise SinkError(f"this OpenCV has no windows ({error.err}); use opencv-python") from error
        if key in _KEYS_TO_END:
            self._on_quit()

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
