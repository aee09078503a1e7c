"""Frames that waited in a decoder or socket, on a clock that only the stand-in for OpenCV's VideoCapture moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest

from mmedge.errors import SourceLostError
from mmedge.sources import Frame
from mmedge.sources.capture import Capture, LiveSource
from mmedge.sources.lag import Lag


class Decoder:
    """A stream of `fps` frames a second that began `begun` seconds ago; decoding a frame takes `work` seconds.

    Its time stamps start at 0, where it has any (`stamped`).
    """

    def __init__(self, *, fps: float, work: float, begun: float = 0.0, stamped: bool = True) -> None:
        self.now = 1000.0
        self.fps, self.work, self.stamped = fps, work, stamped
        self.started = self.now - begun
        self.given = 0

    def get(self, number: int) -> float:
        stamp = 1000 * self.given / self.fps if self.stamped else 0.0
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_POS_MSEC: stamp}.get(number, 0.0)

    def read(self) -> tuple[bool, Any]:
        self.given += 1
        self.now = max(self.now + self.work, self.started + self.given / self.fps)
        return True, np.zeros((2, 2, 3), np.uint8)

    def release(self) -> None:
        pass

    def age_of(self, frame: Frame) -> float:
        """What the frame says."""
        return self.now - frame.captured

    @property
    def age(self) -> float:
        """How old the picture really is."""
        return self.now - self.started - self.given / self.fps


Open = Callable[..., tuple[LiveSource, Decoder]]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Open:
    def make(*, backlog: bool = False, timeout: float = 5.0, **options: Any) -> tuple[LiveSource, Decoder]:
        decoder = Decoder(**options)
        monkeypatch.setattr(time, "monotonic", lambda: decoder.now)
        return LiveSource("cam", Capture(decoder), timeout=timeout, backlog=backlog), decoder  # type: ignore[arg-type]

    return make


def frames_of(source: LiveSource, count: int) -> list[Frame]:
    return [frame for _ in range(count) if (frame := source.read()) is not None]


def test_a_decoder_that_falls_behind_shows_in_the_age(live: Open) -> None:
    source, decoder = live(fps=30, work=0.05)
    ages = []
    for _ in range(120):
        frame = frames_of(source, 1)[0]
        # The first frame's own decoding cannot be told from the way to us.
        assert decoder.age_of(frame) == pytest.approx(decoder.age, abs=0.02)
        assert frame.state == ("stale" if decoder.age_of(frame) > 1 else "live")
        ages.append(decoder.age)
    assert ages[0] < 0.1
    assert ages[-1] > 1.9


def test_capture_times_increase_while_the_lag_goes_up_and_down(live: Open) -> None:
    source, decoder = live(fps=30, work=0.0)
    frames = []
    for step in range(200):
        decoder.work = 0.4 if step % 50 == 20 else 0.01
        frames += frames_of(source, 1)
    assert all(before.captured < after.captured for before, after in pairwise(frames))
    assert all(before.captured_at < after.captured_at for before, after in pairwise(frames))
    shifts = [(frame.captured_at - frames[0].captured_at).total_seconds() for frame in frames]
    assert shifts == pytest.approx([frame.captured - frames[0].captured for frame in frames], abs=1e-5)


def test_a_decoder_that_catches_up_is_live_again(live: Open) -> None:
    source, decoder = live(fps=30, work=0.01)
    frames_of(source, 3)
    decoder.now += 2.0
    assert [frame.state for frame in frames_of(source, 2)] == ["stale", "stale"]
    assert frames_of(source, 150)[-1].state == "live"
    assert decoder.age_of(frames_of(source, 1)[0]) < 0.01


@pytest.mark.parametrize(("begun", "work"), [(1.5, 0.001), (1.5, 0.02), (0.0, 0.001)])
def test_backlog_is_thrown_away_to_the_last_frame(begun: float, work: float, live: Open) -> None:
    source, decoder = live(fps=30, work=work, begun=begun, backlog=True)
    frame = frames_of(source, 1)[0]
    assert decoder.age < work + 0.001
    assert decoder.age_of(frame) < 0.001
    assert frame.index == 0


def test_backlog_without_time_stamps(live: Open) -> None:
    source, decoder = live(fps=30, work=0.001, begun=1.5, backlog=True, stamped=False)
    frame = frames_of(source, 1)[0]
    assert decoder.age < 0.01
    assert (frame.state, decoder.age_of(frame)) == ("live", 0.0)


def test_backlog_without_end_is_an_error_and_no_new_frame(live: Open) -> None:
    source, _ = live(fps=30, work=0.012, begun=30, backlog=True)
    with pytest.raises(SourceLostError, match="throwing old frames away there still are more"):
        source.read()


def test_frames_that_piled_up_between_opening_and_reading_count_as_lag(live: Open) -> None:
    """A decoder slower than the stream never gets through them, and no frame shows what no lag would be."""
    source, decoder = live(fps=30, work=0.05, backlog=True)
    decoder.now += 4
    frame = frames_of(source, 1)[0]
    assert frame.state == "stale"
    assert decoder.age_of(frame) == pytest.approx(decoder.age, abs=0.05)
    assert decoder.age > 4


def test_a_frame_that_comes_after_the_timeout_is_not_a_new_one(live: Open) -> None:
    source, decoder = live(fps=30, work=0.0, timeout=0.5)
    frames_of(source, 2)
    decoder.now += 10
    decoder.work = 0.5
    with pytest.raises(SourceLostError, match="cam gave 2 frames and then no more"):
        source.read()


def test_sources_without_time_stamps_have_no_lag() -> None:
    assert [Lag().of(0.0, now) for now in (5.0, 6.0)] == [0.0, 0.0]
    lag = Lag()
    assert [lag.of(7.0, now) for now in (5.0, 6.0, 60.0)] == [0.0, 0.0, 0.0]


def test_stamps_that_start_anywhere() -> None:
    lag = Lag()
    assert [lag.of(1e6 + step, 10 + 2 * step) for step in range(4)] == pytest.approx([0, 1, 2, 3], abs=1e-3)


def test_a_clock_that_is_set_back_keeps_the_lag() -> None:
    lag = Lag()
    lag.of(100.0, 10.0)
    assert lag.of(101.0, 13.0) == pytest.approx(2.0, abs=1e-3)
    assert lag.of(1.0, 13.1) == pytest.approx(2.0, abs=1e-3)
    assert lag.of(2.0, 14.1) == pytest.approx(2.0, abs=1e-3)


def test_frames_out_of_order_keep_the_lag() -> None:
    lag = Lag()
    lag.of(1.0, 10.0)
    lag.of(2.0, 13.0)
    found = [lag.of(place, now) for place, now in [(1.9, 13.1), (2.2, 13.2), (2.1, 13.3), (0.0, 13.3), (2.3, 13.3)]]
    assert found == pytest.approx([2.0] * 5, abs=1e-3)


def test_a_camera_whose_clock_is_slow_is_not_late_after_a_day() -> None:
    lag = Lag()
    found = [lag.of(5 + now * (1 - 5e-5), now) for now in range(1, 86400)]
    assert max(found) < 0.001
