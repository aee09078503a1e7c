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
        source: Name of the source, such as ``0``, ``clip.mp4`` or ``tabletop://?seed=3``; passwords are masked. For
            folders and patterns, the path of the picture itself.
        index: Counts the frames of the source from 0; frames that were dropped are counted too.
        captured: When it was taken, seconds of `time.monotonic`; never earlier than for the frame before. That is when
            it came off the source, less what the time stamps of a camera or network stream show it to have waited.
        captured_at: The same moment in UTC, always later than that of the frame before.
        dropped: Frames of this source between this one and the one handed out before it.
        state: ``live`` for a frame that is what it seems; ``stale`` for one that was over a second old when it came;
            ``frozen`` for one that a camera which hangs gives again and again.
        media_time_s: Place in the file in seconds; None where the source has no such thing.
    """

    image: npt.NDArray[np.uint8]
    source: str
    index: int
    captured: float
    captured_at: datetime
    dropped: int = 0
    state: str = "live"
    media_time_s: float | None = None
