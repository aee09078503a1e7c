"""Which frames go to the model."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.media import Script, number_of, settled, write_video
from support.streaming import Slow

from mmedge.results import Result
from mmedge.sources import Frame
from mmedge.streaming import Stream, stream


def drain(results: Stream, work: float = 0.0) -> list[tuple[Frame, Result]]:
    pairs = []
    with results:
        for pair in results.with_frames():
            pairs.append(pair)
            time.sleep(work)
    return pairs


def assert_accounted(results: Stream, pairs: list[tuple[Frame, Result]]) -> None:
    """Every frame of the source became a result, or was counted as dropped just once."""
    index = -1
    for _, result in pairs:
        assert result.dropped == result.frame - index - 1
        index = result.frame
    report = results.reports[0]
    assert report.processed == len(pairs)
    assert report.read == report.processed + sum(report.dropped.values()) - report.dropped["source"]


def test_a_file_gives_every_frame_to_a_slow_model(tmp_path: Path) -> None:
    pairs = drain(results := stream(Slow(0.005), str(write_video(tmp_path / "clip.mp4", 30))))
    assert [number_of(frame.image) for frame, _ in pairs] == list(range(30))
    assert_accounted(results, pairs)
    assert not any(results.reports[0].dropped.values())


def test_a_live_source_gives_a_slow_model_the_newest_frame() -> None:
    pairs = drain(results := stream(Slow(0.05), Script(80, interval=0.005)))
    assert_accounted(results, pairs)
    assert len(pairs) < 20
    assert max(result.dropped for _, result in pairs) >= 4
    assert pairs[-1][1].frame == 79
    assert [number_of(frame.image) for frame, _ in pairs] == [result.frame for _, result in pairs]
    assert results.reports[0].dropped["newer"] == 80 - len(pairs)


def test_every_frame_of_a_live_source_until_the_queue_is_full() -> None:
    source = Script(150)
    results = stream(Slow(), source, policy="every")
    first = next(results)
    assert settled(source.closed.is_set)
    rest = list(results)
    # While nobody asked, the oldest of more than 64 went.
    assert len(rest) == 64
    assert [result.frame for result in rest] == list(range(86, 150))
    assert rest[0].dropped == 85 - first.frame
    assert not any(result.dropped for result in rest[1:])


def test_a_file_in_real_time_drops_what_a_slow_model_misses(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 25, fps=50)
    began = time.monotonic()
    pairs = drain(results := stream(Slow(0.1), str(path), policy="freshest"))
    assert 0.45 < time.monotonic() - began < 2
    assert_accounted(results, pairs)
    assert len(pairs) < 12


def test_reading_ahead_of_a_file_is_bounded() -> None:
    source = Script(live=False)
    with stream(Slow(), source) as results:
        next(results)
        time.sleep(0.1)
        assert source.reads <= 5


@pytest.mark.parametrize("policy", ["freshest", "every"])
def test_no_more_frames_a_second_of_a_camera_than_max_rate(policy: str) -> None:
    moments = []
    with stream(Slow(), Script(200, interval=0.005), policy=policy, max_rate=20) as results:
        pairs = []
        for pair in results.with_frames():
            moments.append(time.monotonic())
            pairs.append(pair)
    # 200 frames of 5 ms are a second or more; a loaded machine makes it longer.
    seconds = moments[-1] - moments[0]
    assert 8 <= len(pairs) <= 20 * seconds + 2
    assert_accounted(results, pairs)
    dropped = results.reports[0].dropped
    assert dropped["rate"] > 0.9 * sum(dropped.values())
    assert max(pair[1].age_ms for pair in pairs) < 500


def test_a_file_is_slowed_down_to_max_rate_and_loses_nothing() -> None:
    began = time.monotonic()
    with stream(Slow(), Script(11, live=False), max_rate=50) as results:
        assert [result.frame for result in results] == list(range(11))
    assert time.monotonic() - began > 0.18


class Old(Script):
    """A camera whose frames of odd numbers come half a second late."""

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None or frame.index % 2 == 0:
            return frame
        return replace(frame, captured=frame.captured - 0.5, captured_at=frame.captured_at)


class Ticking(Script):
    """Numbers of frames and drops of its own."""

    def __init__(self, numbers: list[tuple[int, int]], **options: Any) -> None:
        super().__init__(len(numbers), **options)
        self._numbers = iter(numbers)

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            return None
        index, dropped = next(self._numbers)
        return replace(frame, index=index, dropped=dropped)


class Aged(Script):
    """A camera whose first frames were on their way for half a second."""

    def read(self) -> Frame | None:
        frame = super().read()
        return replace(frame, captured=frame.captured - 0.5) if frame is not None and frame.index < 5 else frame


def test_frames_that_are_too_old_when_their_turn_comes_are_dropped() -> None:
    pairs = drain(results := stream(Slow(), Aged(12, interval=0.02), policy="every", max_age=0.3))
    assert [result.frame for _, result in pairs] == list(range(5, 12))
    assert pairs[0][1].dropped == 5
    assert results.reports[0].dropped["age"] == 5
    assert_accounted(results, pairs)


def test_a_result_that_is_too_old_when_it_is_made_is_stale() -> None:
    with stream(Slow(0.15), Script(30, interval=0.02), max_age=0.1) as results:
        assert {result.state for result in results} == {"stale"}
    with stream(Slow(0.15), Script(2, live=False), max_age=0.1) as results:
        assert {result.state for result in results} == {"live"}


@pytest.mark.parametrize(
    ("numbers", "indices", "dropped", "warnings"),
    [
        ([(100000, 0), (100001, 0), (100004, 0)], [100000, 100001, 100004], [0, 0, 2], 0),
        ([(1000, 0), (1001, 0), (0, 0), (1, 0), (0, 0)], [1000, 1001, 1002, 1003, 1004], [0, 0, 0, 0, 0], 1),
        ([(7, 3), (8, 0), (9, 5), (12, 2)], [7, 8, 9, 12], [3, 0, 5, 2], 0),
        ([(5, -4), (5, -9)], [5, 6], [0, 0], 1),
    ],
    ids=["starts-high", "starts-again", "counts-itself", "negative"],
)
def test_numbers_of_a_driver_of_ones_own(
    numbers: list[tuple[int, int]],
    indices: list[int],
    dropped: list[int],
    warnings: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pairs = drain(results := stream(Slow(), Ticking(numbers, live=False)))
    assert [result.frame for _, result in pairs] == indices
    assert [result.dropped for _, result in pairs] == dropped
    assert results.reports[0].dropped["source"] == sum(dropped)
    assert caplog.text.count("its drops are not counted where its numbers go back") == warnings


def test_frames_passed_over_add_to_the_drops_of_the_source() -> None:
    source = Ticking([(10 * n, 0) for n in range(100)])
    results = stream(Slow(), source)
    first = next(results)
    assert settled(source.closed.is_set)
    last = next(results)
    assert last.frame == 990
    assert first.dropped + last.dropped == 990 - 1


def test_times_of_a_source_never_go_back() -> None:
    pairs = drain(stream(Slow(), Old(20, live=False)))
    assert all(later.captured >= earlier.captured for (_, earlier), (_, later) in pairwise(pairs))
    assert all(later.captured_at > earlier.captured_at for (_, earlier), (_, later) in pairwise(pairs))
    assert all(result.age_ms < 400 for _, result in pairs[2:])


def test_slow_work_between_frames_is_not_the_file_s_fault() -> None:
    with stream(Slow(0.15), Script(5, live=False), timeout=0.1) as results:
        assert len(list(results)) == 5


def test_slow_cameras_have_the_time_of_one_frame_more() -> None:
    with stream(Slow(), Script(3, interval=0.3, fps=1 / 0.3), timeout=0.15, stale_after=0.1) as results:
        assert [result.state for result in results] == ["live"] * 3
