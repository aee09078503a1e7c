"""A frame on its way from a camera to the model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture and where it came from.

    Attributes:
        image: uint8 [H, W, 3], BGR. Whoever holds the frame owns the array: no source writes to it afterwards.
        source: Name of the source, such as ``0``, ``clip.mp4`` or ``tabletop://?seed=3``; passwords are masked.
        index: Counts the frames that the source gave, from 0; frames that were dropped are counted too.
        captured: When it was taken off the source, seconds of the monotonic clock.
        captured_at: The same moment in UTC, never earlier than that of the frame before.
        dropped: Frames of this source that were dropped since the frame before.
        state: ``live`` for a frame that is what it seems.
        media_time_s: Place in the file in seconds; None for a live source.
    """

    image: npt.NDArray[np.uint8]
    source: str
    index: int
    captured: float
    captured_at: datetime
    dropped: int = 0
    state: str = "live"
    media_time_s: float | None = None
