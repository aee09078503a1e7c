"""Numbers and capture times of the frames of one source."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt

from mmedge.sources.frame import Frame

STALE_S = 1.0
"""A frame that is older than this when it comes is no picture of what is there now."""

_TICK = timedelta(microseconds=1)


class CaptureClock:
    """UTC times that follow the monotonic clock from the moment of creation.

    A wall clock that is set while a stream runs therefore moves no capture time, and the times strictly increase.
    """

    def __init__(self) -> None:
        self._anchor = time.monotonic()
        self._anchor_utc = datetime.now(timezone.utc)
        self._captured = -math.inf
        self._captured_at = datetime.min.replace(tzinfo=timezone.utc)

    def ago(self, lag: float = 0.0) -> tuple[float, datetime]:
        """The moment `lag` seconds ago, but none before the last one given: `time.monotonic` seconds, and UTC."""
        self._captured = max(time.monotonic() - lag, self._captured)
        moment = self._anchor_utc + timedelta(seconds=self._captured - self._anchor)
        self._captured_at = max(moment, self._captured_at + _TICK)
        return self._captured, self._captured_at


class FrameMaker:
    """Makes the frames of one source, numbered and stamped with the time of the call, less their lag."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._clock = CaptureClock()
        self.next_index = 0

    def make(
        self,
        image: npt.NDArray[np.uint8],
        *,
        index: int | None = None,
        source: str | None = None,
        media_time_s: float | None = None,
        lag: float = 0.0,
    ) -> Frame:
        """The frame of `image`, taken `lag` seconds ago: stale, where that is more than one.

        An `index` beyond the next one counts the skipped ones as dropped.
        """
        number = self.next_index if index is None else index
        dropped = number - self.next_index
        self.next_index = number + 1
        captured, captured_at = self._clock.ago(lag)
        return Frame(
            image,
            source or self._source,
            number,
            captured,
            captured_at,
            dropped=dropped,
            state="stale" if lag > STALE_S else "live",
            media_time_s=media_time_s,
        )
