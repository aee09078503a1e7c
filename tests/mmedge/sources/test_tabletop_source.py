from __future__ import annotations

import time
from datetime import datetime, timezone

import numpy as np
import pytest
from support.media import Script

from mmedge.errors import SourceOpenError
from mmedge.sources import PacedSource, TabletopSource, open_source
from mmedge.tabletop import Tabletop


def test_live_by_default_and_paced_at_its_rate() -> None:
    source = open_source("tabletop://?width=64&height=48&fps=50")
    assert (source.live, source.fps, source.frame_count) == (True, 50.0, None)
    first = source.read()
    assert first is not None
    captured = [frame.captured - first.captured for _ in range(15) if (frame := source.read()) is not None]
    assert captured == pytest.approx([index / 50 for index in range(1, 16)], abs=0.05)


def test_a_paced_frame_is_taken_when_it_is_due() -> None:
    """The recording behind it may have had the frame long before."""
    source = PacedSource(Script(3, live=False, fps=10.0))
    began = time.monotonic()
    frames = [frame for _ in range(3) if (frame := source.read()) is not None]
    for frame in frames:
        assert frame.captured >= began + frame.index / 10
        assert (
            abs((datetime.now(timezone.utc) - frame.captured_at).total_seconds() - (time.monotonic() - frame.captured))
            < 0.02
        )


def test_as_fast_as_asked() -> None:
    source = open_source("tabletop://?width=64&height=48&fps=1&live=0&frames=4")
    assert (source.live, source.frame_count) == (False, 4)
    began = time.monotonic()
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    assert time.monotonic() - began < 1
    assert [(frame.index, frame.media_time_s) for frame in frames] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


def test_frames_are_those_of_the_seed_and_their_truth_is_known() -> None:
    source = open_source("tabletop://?seed=3&width=96&height=72&live=0")
    assert isinstance(source, TabletopSource)
    camera = Tabletop(seed=3, size=(96, 72))
    for index in range(3):
        frame = source.read()
        assert frame is not None
        image, truth = camera.frame(index)
        np.testing.assert_array_equal(frame.image, image)
        assert source.truth(index) == truth
    assert source.truth(3) is None


def test_truths_are_kept_for_as_many_frames_as_a_queue_holds() -> None:
    source = open_source("tabletop://?width=32&height=24&live=0")
    assert isinstance(source, TabletopSource)
    for _ in range(131):
        source.read()
    assert [source.truth(index) is None for index in (2, 3, 130)] == [True, False, False]


def test_closing_interrupts_the_wait_for_a_frame() -> None:
    source = open_source("tabletop://?width=64&height=48&fps=0.1")
    assert isinstance(source, PacedSource)
    assert source.read() is not None
    source.close()
    began = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("sed=3", "expected each of seed"),
        ("seed=1.5", "seed must be a whole number"),
        ("seed=-1", "seed must be 0 or more"),
        ("width=3", "at least 32 x 24"),
        ("width=1e9", "width must be a whole number up to 7680"),
        ("width=nan", "width must be"),
        ("fps=0", "above 0"),
        ("fps=inf", "up to 1000"),
        ("fps=nan", "up to 1000"),
        ("live=2", "live must be 0 or 1"),
        ("frames=-1", "frames a whole number"),
        ("frames=2.5", "frames a whole number"),
    ],
)
def test_options_are_checked(options: str, message: str) -> None:
    with pytest.raises(SourceOpenError, match=message):
        open_source(f"tabletop://?{options}")
