"""When something came: one moment on the clock that measures ages, and in UTC."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from mmedge.errors import FrameInputError
from mmedge.inputs.image import FrameArray
from mmedge.sources.frame import Frame

_TICK_S = 0.02
"""The coarsest step of `time.monotonic` on any system that mmedge runs on (Windows: 15.6 ms), rounded up."""


@dataclass(frozen=True)
class Moment:
    """Seconds of `time.monotonic`, and the same moment in UTC."""

    captured: float
    captured_at: datetime

    @staticmethod
    def now() -> Moment:
        return Moment(time.monotonic(), datetime.now(timezone.utc))


def age_ms(captured: float, now: float) -> float:
    """Time from one moment of `time.monotonic` to another, in ms; 0 for one that is a tick ahead."""
    return max(0.0, (now - captured) * 1e3)


def frame_now(picture: FrameArray, source: str, index: int) -> Frame:
    """A frame that nobody else stamped, as if taken at this moment."""
    now = Moment.now()
    return Frame(picture, source, index, now.captured, now.captured_at)


def check_times(frame: Frame) -> None:
    """Refuse a frame whose age could not be told, or would be a lie.

    Raises:
        FrameInputError: `captured` is no moment of `time.monotonic` up to now, or `captured_at` has no time zone.
    """
    captured, moment = frame.captured, frame.captured_at
    if isinstance(captured, bool) or not isinstance(captured, (int, float)) or not math.isfinite(captured):
        raise FrameInputError(f"Frame.captured must be seconds of time.monotonic(), got {captured!r:.60}")
    ahead = captured - time.monotonic()
    if ahead > _TICK_S:
        raise FrameInputError(
            f"Frame.captured must be seconds of time.monotonic(), which is not time.time(): got {captured!r}, "
            f"{ahead:.3g} s in the future"
        )
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise FrameInputError(
            f"Frame.captured_at must be a datetime with a time zone, got {moment!r:.60}; "
            "take datetime.now(timezone.utc)"
        )
