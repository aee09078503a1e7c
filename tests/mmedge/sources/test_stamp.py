from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import pairwise

import numpy as np
import pytest

from mmedge.sources import stamp
from mmedge.sources.stamp import CaptureClock, FrameMaker

PICTURE = np.zeros((2, 3, 3), np.uint8)


def test_capture_times_strictly_increase_even_within_one_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = CaptureClock()
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    moments = [clock.ago()[1] for _ in range(1000)]
    assert all(later > earlier for earlier, later in pairwise(moments))


def test_capture_time_is_now_in_utc() -> None:
    captured, at = CaptureClock().ago()
    assert at.tzinfo == timezone.utc
    assert abs((datetime.now(timezone.utc) - at).total_seconds()) < 0.5
    assert abs(time.monotonic() - captured) < 0.5


def test_a_wall_clock_that_jumps_moves_no_capture_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = CaptureClock()
    before = clock.ago()[1]

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Jumped:
            return cls.fromtimestamp(before.timestamp() - 3600, tz)

    monkeypatch.setattr(stamp, "datetime", Jumped)
    after = clock.ago()[1]
    assert timedelta(0) < after - before < timedelta(seconds=1)


def test_frames_are_numbered_and_skipped_numbers_count_as_dropped() -> None:
    frames = FrameMaker("cam")
    made = [frames.make(PICTURE), frames.make(PICTURE, index=4), frames.make(PICTURE, source="other")]
    assert [(f.index, f.dropped, f.source) for f in made] == [(0, 0, "cam"), (4, 3, "cam"), (5, 0, "other")]


def test_a_moment_in_the_past_is_not_before_the_one_given_last() -> None:
    clock = CaptureClock()
    first, first_at = clock.ago(0.5)
    assert time.monotonic() - first >= 0.5
    second, second_at = clock.ago(5.0)
    assert second == first
    assert timedelta(0) < second_at - first_at < timedelta(milliseconds=1)
    assert clock.ago()[0] > first + 0.4


def test_frames_that_come_late_are_stale() -> None:
    frames = FrameMaker("cam")
    assert [frames.make(PICTURE, lag=lag).state for lag in (0.0, 1.0, 1.01, 0.2)] == ["live", "live", "stale", "live"]
