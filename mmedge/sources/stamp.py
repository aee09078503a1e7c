"""Numbers and capture times of the frames of one source."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt

from mmedge.sources.frame import Frame

_TICK = timedelta(microseconds=1)


class CaptureClock:
    """UTC times that follow the monotonic clock from the moment of creation.

    A wall clock that is set while a stream runs therefore moves no capture time, and the times strictly increase.
    """

    def __init__(self) -> None:
        self._anchor = time.monotonic()
        self._anchor_utc = datetime.now(timezone.utc)
        self._last = self._anchor_utc - _TICK

    def now(self) -> tuple[float, datetime]:
        """Seconds of `time.monotonic`, and the same moment in UTC."""
        captured = time.monotonic()
        moment = self._anchor_utc + timedelta(seconds=captured - self._anchor)
        self._last = max(moment, self._last + _TICK)
        return captured, self._last


class FrameMaker:
    """Makes the frames of one source, numbered and stamped with the time of the call."""

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
    ) -> Frame:
        """The frame of `image`; an `index` beyond the next one counts the skipped ones as dropped."""
        number = self.next_index if index is None else index
        dropped = number - self.next_index
        self.next_index = number + 1
        captured, captured_at = self._clock.now()
        return Frame(
            image, source or self._source, number, captured, captured_at, dropped=dropped, media_time_s=media_time_s
        )
