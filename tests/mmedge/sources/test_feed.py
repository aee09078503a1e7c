from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.media import Script, number_of, settled, write_video

from mmedge.errors import InputError, SourceLostError, SourceNotFoundError
from mmedge.sources import Feed, Frame, Source, SourceLike


def feed_of(*sources: SourceLike, policy: str = "auto", timeout: float = 2.0) -> Feed:
    return Feed(sources, policy=policy, timeout=timeout, open_timeout=2.0)


def drain(feed: Feed, work: float = 0.0) -> list[Frame]:
    frames = []
    with feed:
        while (frame := feed.next()) is not None:
            frames.append(frame)
            time.sleep(work)
    return frames


def read_on(feed: Feed, work: float = 0.0) -> None:
    while feed.next() is not None:
        time.sleep(work)


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read ")]


def assert_accounted(frames: list[Frame]) -> None:
    """Every frame of the source was handed out, or counted as dropped just once."""
    index = -1
    for frame in frames:
        assert frame.dropped == frame.index - index - 1
        index = frame.index


def test_file_gives_every_frame_to_a_slow_consumer(tmp_path: Path) -> None:
    frames = drain(feed_of(str(write_video(tmp_path / "clip.mp4", 30))), work=0.005)
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert not any(frame.dropped for frame in frames)


def test_live_source_gives_a_slow_consumer_the_newest_frame() -> None:
    frames = drain(feed_of(Script(80, interval=0.005)), work=0.05)
    assert_accounted(frames)
    assert len(frames) < 20
    assert max(frame.dropped for frame in frames) >= 4
    assert frames[-1].index == 79
    assert [number_of(frame.image) for frame in frames] == [frame.index for frame in frames]


def test_a_slow_consumer_does_not_fall_behind() -> None:
    with feed_of(Script(interval=0.02)) as feed:
        for _ in range(10):
            time.sleep(0.07)
            frame = feed.next()
            assert frame is not None
            assert time.monotonic() - frame.captured < 0.1


def test_every_frame_of_a_live_source_comes_in_order_until_the_queue_is_full() -> None:
    source = Script(150)
    with feed_of(source, policy="every") as feed:
        assert settled(source.closed.is_set)
        frames = []
        while (frame := feed.next()) is not None:
            frames.append(frame)
    # 150 frames came before anybody took one: the last 64 are there, and the first says how many are not.
    assert [frame.index for frame in frames] == list(range(86, 150))
    assert [frame.dropped for frame in frames] == [86] + [0] * 63


class Numbered(Script):
    """A robot's own driver, with a numbering and perhaps a count of drops of its own."""

    def __init__(self, numbers: list[tuple[int, int]], **options: Any) -> None:
        super().__init__(len(numbers), **options)
        self._numbers = iter(numbers)

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            return None
        index, dropped = next(self._numbers)
        return replace(frame, index=index, dropped=dropped)


@pytest.mark.parametrize(
    ("numbers", "dropped", "warnings"),
    [
        ([(100000, 0), (100001, 0), (100004, 0)], [0, 0, 2], 0),
        ([(100000, 0), (100001, 0), (0, 0), (1, 0), (0, 0)], [0, 0, 0, 0, 0], 1),
        ([(7, 3), (8, 0), (9, 5), (12, 2)], [3, 0, 5, 2], 0),
        ([(5, -4), (5, -9)], [0, 0], 1),
    ],
    ids=["starts-high", "starts-again", "counts-itself", "negative"],
)
def test_foreign_numbers_never_give_wrong_drops(
    numbers: list[tuple[int, int]], dropped: list[int], warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    feed = feed_of(Numbered(numbers, live=False))
    frames = drain(feed)
    assert [frame.index for frame in frames] == [index for index, _ in numbers]
    assert [frame.dropped for frame in frames] == dropped
    assert feed.readers[0].dropped == sum(dropped)
    assert caplog.text.count("its drops are not counted where its numbers go back") == warnings


def test_frames_passed_over_add_to_the_drops_of_the_source() -> None:
    source = Numbered([(10 * n, 0) for n in range(100)])
    with feed_of(source) as feed:
        assert settled(source.closed.is_set)
        frame = feed.next()
    assert frame is not None
    assert (frame.index, frame.dropped) == (990, 99 + 99 * 9)


def test_a_source_may_close_its_own_feed() -> None:
    pressed = threading.Event()

    class Button(Script):
        def read(self) -> Frame | None:
            if self.reads == 3:
                feed.close()
                pressed.set()
            return super().read()

    with feed_of(Button(live=False)) as feed:
        began = time.monotonic()
        read_on(feed)
        assert pressed.wait(1)
        assert time.monotonic() - began < 1
    assert settled(lambda: reading_threads() == [])


@pytest.mark.parametrize("names", [["0"], ["0", "1"]], ids=["one", "two"])
def test_closing_while_a_source_is_opened_leaves_nothing_open(
    names: list[SourceLike], monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, closed = threading.Event(), threading.Event()
    source = Script()
    asked = []

    def slow(spec: str, **options: float) -> Source:
        asked.append(spec)
        opening.set()
        closed.wait(5)
        return source

    monkeypatch.setattr("mmedge.sources.feed.open_source", slow)
    feed = feed_of(*names)

    def close() -> None:
        opening.wait(5)
        feed.close()
        closed.set()

    closing = threading.Thread(target=close)
    closing.start()
    with feed:
        assert feed.next() is None
    closing.join()
    assert source.closed.is_set()
    assert (asked, source.reads, feed.readers) == (["0"], 0, ())


def test_file_in_real_time_drops_what_a_slow_consumer_misses(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 25, fps=50)
    began = time.monotonic()
    frames = drain(feed_of(str(path), policy="freshest"), work=0.1)
    assert 0.45 < time.monotonic() - began < 1.5
    assert_accounted(frames)
    assert len(frames) < 12


def test_reading_ahead_of_a_file_is_bounded() -> None:
    source = Script(live=False)
    with feed_of(source) as feed:
        assert feed.next() is not None
        time.sleep(0.1)
        assert source.reads <= 5


def test_several_sources_take_turns() -> None:
    sources = [Script(20, live=False, name=name) for name in "abc"]
    frames = []
    with feed_of(*sources) as feed:
        assert settled(lambda: all(source.reads >= 3 for source in sources))
        while (frame := feed.next()) is not None:
            frames.append(frame)
            time.sleep(0.005)
    assert "".join(frame.source for frame in frames[:9]) == "abcabcabc"
    for name in "abc":
        assert [frame.index for frame in frames if frame.source == name] == list(range(20))


def test_a_fast_camera_does_not_starve_a_slow_one() -> None:
    fast, slow = Script(interval=0.001, name="fast"), Script(interval=0.05, name="slow")
    counts = {"fast": 0, "slow": 0}
    with feed_of(fast, slow) as feed:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            frame = feed.next()
            assert frame is not None
            counts[frame.source] += 1
            time.sleep(0.01)
    assert counts["slow"] >= 14
    assert counts["fast"] >= 30


def test_sources_that_end_leave_the_others_alone() -> None:
    frames = drain(feed_of(Script(2, live=False, name="short"), Script(9, live=False, name="long")))
    assert sum(frame.source == "long" for frame in frames) == 9
    assert len(frames) == 11


@pytest.mark.parametrize("policy", ["freshest", "every"])
def test_source_that_falls_silent_is_lost_in_time(policy: str) -> None:
    source = Script(3, then="hang")
    with feed_of(source, policy=policy, timeout=0.3) as feed:
        assert feed.next() is not None
        began = time.monotonic()
        with pytest.raises(SourceLostError, match=r"script gave no new frame for 0\.3 s"):
            read_on(feed)
        assert time.monotonic() - began < 0.6
        source.release.set()


def test_a_frame_that_waited_too_long_is_not_handed_out_as_new() -> None:
    source = Script(3, then="hang")
    with feed_of(source, timeout=0.2) as feed:
        assert feed.next() is not None
        assert settled(lambda: source.reads == 4)
        time.sleep(0.3)
        with pytest.raises(SourceLostError):
            feed.next()
        source.release.set()


def test_a_silent_camera_is_noticed_beside_one_that_never_waits() -> None:
    silent = Script(1, then="hang", name="silent")
    with feed_of(Script(live=False, name="file"), silent, timeout=0.3) as feed:
        began = time.monotonic()
        with pytest.raises(SourceLostError, match="silent"):
            read_on(feed, work=0.005)
        assert time.monotonic() - began < 1
        silent.release.set()


def test_slow_work_between_frames_is_not_the_source_s_fault() -> None:
    with feed_of(Script(6, live=False), timeout=0.1) as feed:
        count = 0
        while feed.next() is not None:
            count += 1
            time.sleep(0.15)
    assert count == 6


def test_slow_cameras_have_the_time_of_one_frame_more() -> None:
    frames = drain(feed_of(Script(3, interval=0.3, fps=1 / 0.3), timeout=0.1))
    assert len(frames) == 3


def test_error_of_a_source_comes_after_the_frames_before_it() -> None:
    source = Script(4, live=False, then=SourceLostError("unplugged"))
    with feed_of(source) as feed:
        assert [feed.next() is not None for _ in range(4)] == [True] * 4
        with pytest.raises(SourceLostError, match="unplugged"):
            feed.next()


def test_unexpected_error_of_a_source_is_not_swallowed() -> None:
    with feed_of(Script(0, then=ZeroDivisionError("defect"))) as feed, pytest.raises(ZeroDivisionError):
        feed.next()


def test_leaving_closes_sources_and_ends_threads() -> None:
    sources = [Script(interval=0.01, name=f"camera {n}") for n in range(3)]
    with feed_of(*sources) as feed:
        assert feed.next() is not None
        began = time.monotonic()
    assert time.monotonic() - began < 0.5
    assert all(source.closed.is_set() for source in sources)
    assert reading_threads() == []


def test_leaving_while_a_reader_waits_for_room_ends_it() -> None:
    source = Script(live=False)
    with feed_of(source):
        assert settled(lambda: source.reads >= 3)
    assert reading_threads() == []


def test_closing_beside_a_driver_that_hangs_is_bounded_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    sources = [Script(0, then="hang", name=f"camera {n}") for n in range(3)]
    with feed_of(*sources) as feed:
        began = time.monotonic()
    assert 1.8 < time.monotonic() - began < 2.5
    assert caplog.text.count("its thread is left behind") == 3
    feed.close()
    assert time.monotonic() - began < 3, "closing again waits again"
    for source in sources:
        source.release.set()
    assert settled(lambda: reading_threads() == [])


def test_paced_file_stops_at_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mp4", 5, fps=1)
    with feed_of(str(path), policy="freshest") as feed:
        assert feed.next() is not None
        began = time.monotonic()
    assert time.monotonic() - began < 0.3


def test_stop_from_another_thread_ends_the_waiting() -> None:
    source = Script(0, then="hang")
    with feed_of(source) as feed:
        threading.Timer(0.1, feed.close).start()
        began = time.monotonic()
        assert feed.next() is None
        assert time.monotonic() - began < 0.5
        source.release.set()


def test_a_source_that_cannot_be_opened_closes_those_before_it() -> None:
    first = Script()
    with pytest.raises(SourceNotFoundError), feed_of(first, "nowhere.mp4"):
        pass
    assert first.closed.is_set()
    assert reading_threads() == []


def test_any_object_with_the_right_methods_is_a_source() -> None:
    source: Source = Script(2)
    assert len(drain(feed_of(source, policy="every"))) == 2


def test_pictures_cannot_play_in_real_time() -> None:
    source = Script(2, live=False)
    with pytest.raises(InputError, match="no frame rate"), feed_of(source, policy="freshest"):
        pass
    assert source.closed.is_set()


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([], {}, "at least one source"),
        (["0"], {"policy": "newest"}, "policy must be one of auto, freshest, every, got 'newest'"),
        ([None], {}, "got NoneType, which has no name, live"),
        ([b"0"], {}, "a source is a camera number .* got bytes"),
        ([True], {}, "got bool"),
        ([1.5], {}, "got float"),
        ([{"0"}], {}, "got set"),
        ([np.zeros((4, 4, 3), np.uint8)], {}, "got ndarray"),
        ([iter(())], {}, "got tuple_iterator"),
        ([cv2.VideoCapture()], {}, "got VideoCapture, which has no name, live, fps, frame_count, incomplete, close"),
        (["0"], {"timeout": "5"}, "timeout must be a number of seconds above 0 and up to 1,000,000, got '5'"),
        (["0"], {"timeout": True}, "a number of seconds"),
        (["0"], {"timeout": float("inf")}, "a number of seconds"),
        (["0"], {"open_timeout": 1e11}, "open_timeout must be a number of seconds"),
        (["0"], {"timeout": 0}, "a number of seconds above 0"),
        (["0"], {"timeout": float("nan")}, "a number of seconds above 0"),
        (["0"], {"open_timeout": -1}, "a number of seconds above 0"),
    ],
)
def test_arguments_are_checked(sources: list[SourceLike], options: dict[str, float | str], message: str) -> None:
    arguments = {"policy": "auto", "timeout": 1.0, "open_timeout": 1.0, **options}
    with pytest.raises(InputError, match=message):
        Feed(sources, **arguments)  # type: ignore[arg-type]
