from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.media import Script, number_of, numbered, write_video

from mmedge.errors import SourceLostError
from mmedge.sources import FaultSource, Frame, open_source
from mmedge.sources.fault import faults_of


def faulty(options: str, inner: Script | None = None) -> FaultSource:
    return FaultSource("faulty", inner or Script(20, live=False, fps=30), faults_of("faulty", options))


def read_all(source: FaultSource) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    return frames


def test_without_a_strike_the_frames_are_those_of_the_source() -> None:
    source = faulty("drop=5@100")
    frames = read_all(source)
    assert [frame.index for frame in frames] == list(range(20))
    assert all(np.array_equal(frame.image, numbered(frame.index)) for frame in frames)
    assert {(frame.source, frame.dropped, frame.state) for frame in frames} == {("faulty", 0, "live")}
    assert (source.live, source.fps, source.frame_count, source.incomplete) == (False, 30, None, None)
    assert source.read() is None


def test_dropped_frames_keep_their_numbers_and_are_counted() -> None:
    frames = read_all(faulty("drop=3@4&drop=1@9"))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 7, 8, *range(10, 20)]
    assert [frame.dropped for frame in frames[:8]] == [0, 0, 0, 0, 3, 0, 1, 0]


def test_the_same_seed_gives_the_same_faults() -> None:
    options = "drop=0.2&corrupt=0.3&resize=32x24*2@0.1&seed="
    runs = [[(f.index, f.image.tobytes()) for f in read_all(faulty(options + seed))] for seed in ("7", "7", "8")]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_frozen_camera_gives_the_same_picture_in_new_frames() -> None:
    frames = read_all(faulty("freeze=4@6"))
    assert [number_of(frame.image) for frame in frames] == [*range(6), 5, 5, 5, 5, *range(10, 20)]
    assert [frame.index for frame in frames] == list(range(20))
    frames[6].image[:] = 0
    assert number_of(frames[7].image) == 5


def test_frozen_from_the_first_frame_on() -> None:
    assert {number_of(frame.image) for frame in read_all(faulty("freeze=100@0"))} == {0}


def test_another_size_from_a_frame_on_and_in_turns() -> None:
    sizes = [frame.image.shape[:2] for frame in read_all(faulty("resize=32x24@5"))]
    assert sizes == [(48, 64)] * 5 + [(24, 32)] * 15
    sizes = [frame.image.shape[:2] for frame in read_all(faulty("resize=32x24@1/2"))]
    assert sizes == [(48, 64), (24, 32)] * 10


def test_corrupt_pictures_are_whole_arrays_with_a_damaged_end() -> None:
    damaged = 0
    for frame in read_all(faulty("corrupt=5@10")):
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        wrong = np.flatnonzero((frame.image != numbered(frame.index)).any(axis=(1, 2)))
        assert (wrong.size > 0) == (10 <= frame.index < 15)
        if wrong.size:
            damaged += 1
            assert wrong[-1] == 47
            assert np.array_equal(wrong, np.arange(wrong[0], 48))
    assert damaged == 5


def test_disconnected_after_some_frames_and_again_once_opened_again() -> None:
    for _ in range(2):
        source = open_source("fault+tabletop://?width=64&height=48&live=0?disconnect=3")
        assert [frame.index for frame in (source.read(), source.read(), source.read()) if frame] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(SourceLostError, match=r"fault\+tabletop.*disconnected at frame 3"):
                source.read()
        source.close()
        assert source.read() is None


def test_times_are_places_in_the_recording(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 30, fps=10)
    source = open_source(f"fault+{clip}?drop=500ms@1s")
    indices = []
    while (frame := source.read()) is not None:
        indices.append(frame.index)
    assert indices == [*range(10), *range(15, 30)]


def test_delayed_frames_of_a_camera_are_late_and_complete() -> None:
    source = faulty("delay=200ms", Script(20, interval=0.02, fps=50))
    ages, arrivals = [], []
    while (frame := source.read()) is not None:
        ages.append(time.monotonic() - frame.captured)
        arrivals.append(time.monotonic())
    assert len(ages) == 20
    assert min(ages) >= 0.19
    # Reading one after the other with a pause of 0.2 s each would take 4 s.
    assert arrivals[-1] - arrivals[0] < 2


def test_frames_that_come_over_a_second_late_say_so() -> None:
    source = faulty("delay=1100ms@1", Script(3, fps=50))
    assert [frame.state for frame in read_all(source)] == ["live", "stale", "stale"]


def test_a_delay_holds_a_bounded_number_of_frames() -> None:
    inner = Script(10**6, fps=50)
    source = faulty("delay=500ms", inner)
    assert source.read() is not None
    assert inner.reads <= 256


def test_closing_ends_a_delay_at_once() -> None:
    source = faulty("delay=30s", Script(10**6, interval=0.01, fps=50))
    threading.Timer(0.1, source.close).start()
    began = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - began < 2


def test_frames_before_a_loss_come_first() -> None:
    source = faulty("delay=50ms", Script(3, then=SourceLostError("unplugged"), fps=50))
    assert [frame.index for frame in (source.read(), source.read(), source.read()) if frame] == [0, 1, 2]
    with pytest.raises(SourceLostError, match="unplugged"):
        source.read()


def test_closing_does_not_end_a_hang_and_no_frame_comes_of_it() -> None:
    source = faulty("hang=400ms@2")
    assert [frame.index for frame in (source.read(), source.read()) if frame] == [0, 1]
    threading.Timer(0.05, source.close).start()
    began = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - began >= 0.4


def test_pictures_keep_their_own_paths(tmp_path: Path) -> None:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), numbered(index))
    source = open_source(f"fault+{tmp_path}?drop=1@1")
    frames = [source.read(), source.read()]
    assert [Path(frame.source).name for frame in frames if frame] == ["0.png", "2.png"]
    assert source.read() is None


def test_the_name_of_the_frames_is_that_of_the_faulty_source() -> None:
    spec = "fault+tabletop://?width=64&height=48&live=0&frames=2?drop=1@1"
    source = open_source(spec)
    frame = source.read()
    assert frame is not None
    assert frame.source == source.name == spec
