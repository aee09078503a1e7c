from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support.bundles import write_bundle
from support.media import Script, encoded, number_of, settled, write_video

from mmedge.errors import InputError, SourceLostError, SourceNotFoundError
from mmedge.model import Model, load
from mmedge.results import Classification, Result
from mmedge.sources import Frame
from mmedge.streaming import stream


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    """A real bundle that tells red, green and blue frames apart."""
    with load(write_bundle(tmp_path / "colour.mmedge")) as loaded:
        loaded.set_text(["red", "green"])
        yield loaded


class Slow:
    """A model that takes `seconds` a frame."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, frame: Frame, /) -> Result:
        time.sleep(self._seconds)
        return Result(
            source=frame.source,
            frame=frame.index,
            captured=frame.captured,
            captured_at=frame.captured_at,
            age_ms=(time.monotonic() - frame.captured) * 1e3,
            dropped=frame.dropped,
            latency_ms=self._seconds * 1e3,
        )


def quiet() -> bool:
    return not any(thread.name.startswith("read ") for thread in threading.enumerate())


def test_results_of_a_file_in_order(model: Model, tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "clip.mp4", 20))
    results = list(model.stream(path))
    assert [result.frame for result in results] == list(range(20))
    assert {result.source for result in results} == {path}
    assert all(isinstance(result, Classification) and result.prompt_version == 1 for result in results)
    moments = [result.captured_at for result in results]
    assert moments == sorted(set(moments))
    assert all(result.age_ms >= 0 and result.dropped == 0 for result in results)


def test_frames_belong_to_their_results(model: Model, tmp_path: Path) -> None:
    with stream(model, str(write_video(tmp_path / "clip.mp4", 9))) as results:
        pairs = [(number_of(frame.image), frame.index, result.frame) for frame, result in results.with_frames()]
    assert pairs == [(index, index, index) for index in range(9)]


def test_live_source_and_slow_model_drop_frames_instead_of_falling_behind() -> None:
    with stream(Slow(0.05), Script(100, interval=0.005)) as results:
        found = list(results)
        report = results.reports[0]
    assert sum(result.dropped for result in found) == found[-1].frame + 1 - len(found) == report.dropped["newer"]
    assert report.processed == len(found)
    assert max(result.age_ms for result in found[1:]) < 250


def test_new_prompts_take_effect_within_the_stream(model: Model) -> None:
    versions = []
    for result in model.stream(Script(6, live=False)):
        versions.append((result.prompt_version, result.to_json()["labels"]))
        if result.frame == 2:
            model.set_text(["blue"])
    assert versions == [(1, ["red", "green"])] * 3 + [(2, ["blue"])] * 3


def test_several_cameras_share_a_model_and_keep_their_numbers(model: Model) -> None:
    cameras = [Script(5, live=False, name=name) for name in ("left", "right")]
    results = list(model.stream(cameras))
    for name in ("left", "right"):
        assert [result.frame for result in results if result.source == name] == list(range(5))


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_max_frames(limit: int, model: Model) -> None:
    sources = [Script(live=False, name=name) for name in "ab"]
    assert len(list(stream(model, sources, max_frames=limit))) == limit
    assert quiet()


def test_leaving_the_loop_stops_the_readers(model: Model) -> None:
    source = Script(interval=0.001)
    gc.disable()
    try:
        for _ in stream(model, source):
            break
        assert source.closed.is_set()
        assert quiet()
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [ValueError("in the loop"), KeyboardInterrupt()])
def test_an_exception_in_the_loop_stops_the_readers(error: BaseException, model: Model) -> None:
    source = Script(interval=0.001)

    def loop() -> None:
        for _ in stream(model, source):
            raise error

    with pytest.raises(type(error)):
        loop()
    assert source.closed.is_set()
    assert quiet()


def test_an_exception_in_the_model_stops_the_readers() -> None:
    source = Script(interval=0.001)

    def broken(frame: Frame, /) -> Result:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(stream(broken, source))
    assert source.closed.is_set()
    assert quiet()


def test_close_from_another_thread_ends_the_loop() -> None:
    results = stream(Slow(0.01), Script(interval=0.001))
    threading.Timer(0.1, results.close).start()
    began = time.monotonic()
    assert len(list(results)) > 2
    assert time.monotonic() - began < 1
    assert settled(quiet)


def test_close_ends_a_wait_for_frames() -> None:
    source = Script(0, then="hang")
    results = stream(Slow(0), source)
    threading.Timer(0.1, results.close).start()
    threading.Timer(0.2, source.release.set).start()
    assert list(results) == []


class Driver(Script):
    """A camera whose read cannot be interrupted."""

    def read(self) -> Frame | None:
        time.sleep(0.033)
        return None if self.closed.is_set() else super().read()


def test_close_at_any_moment_of_the_loop() -> None:
    for attempt in range(12):
        source = Driver()
        results = stream(Slow(0.005), source)
        closing = threading.Timer(0.08 + 0.004 * attempt, results.close)
        closing.start()
        for _ in results:
            time.sleep(0.02)
        assert source.closed.is_set()
        assert quiet()
        closing.join()


def test_close_releases_the_sources_although_nobody_asks_for_another_result() -> None:
    source = Driver()
    results = stream(Slow(0.2), source)
    asking = threading.Thread(target=next, args=(results,))
    asking.start()
    assert settled(lambda: source.reads > 1)
    results.close()
    assert source.closed.is_set()
    assert quiet()
    asking.join()


def test_the_loop_ends_after_everything_is_closed() -> None:
    source = Driver()
    results = stream(Slow(0), source)
    threading.Timer(0.1, results.close).start()
    for _ in results:
        pass
    assert quiet()


def test_two_threads_share_a_stream() -> None:
    results = stream(Slow(0.002), Script(60, live=False))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.extend(r.frame for r in results)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(found) == list(range(60))


def test_max_frames_counts_what_all_threads_got() -> None:
    results = stream(Slow(0.002), Script(live=False), max_frames=21)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.extend(f.index for f, _ in results.with_frames())) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(found) == list(range(21))


def test_after_an_error_there_is_nothing_more() -> None:
    results = stream(Slow(0), "nowhere.mp4")
    with pytest.raises(SourceNotFoundError):
        next(results)
    assert list(results) == []


def test_closing_twice_and_before_the_start(model: Model) -> None:
    source = Script()
    results = stream(model, source)
    results.close()
    results.close()
    assert list(results) == []
    assert source.reads == 0
    assert [(report.state, report.read) for report in results.reports] == [("ended", 0)]


def test_lost_source_ends_the_stream_with_its_name(model: Model) -> None:
    results = stream(model, Script(3, then=SourceLostError("unplugged"), live=False))
    assert [next(results).frame for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SourceLostError, match="unplugged"):
        next(results)
    assert quiet()


def test_a_damaged_file_is_reported(model: Model, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"broken" if name == "a.png" else encoded(Image.new("RGB", (8, 8))))
    with stream(model, str(tmp_path / "*.png")) as results:
        assert len(list(results)) == 1
    assert results.reports[0].incomplete == "1 of 2 pictures could not be read"


def test_missing_source_is_an_error_of_the_first_step(model: Model) -> None:
    results = stream(model, "nowhere.mp4")
    with pytest.raises(SourceNotFoundError):
        next(results)


def test_arguments_are_checked_at_once(model: Model) -> None:
    with pytest.raises(InputError, match="max_frames must be a whole number of 0 or more"):
        stream(model, "0", max_frames=-1)
    with pytest.raises(InputError, match="policy must be one of"):
        stream(model, "0", policy="latest")
    with pytest.raises(InputError, match="at least one source"):
        stream(model, [])


@pytest.mark.parametrize("limit", [2.5, "3", True, float("nan")])
def test_max_frames_is_a_whole_number(limit: Any, model: Model) -> None:
    with pytest.raises(InputError, match="max_frames must be a whole number of 0 or more, or None, got"):
        stream(model, "0", max_frames=limit)


@pytest.mark.parametrize(
    "source",
    [
        None,
        b"0",
        {"0"},
        (frame for frame in ()),
        np.zeros((4, 4, 3), np.uint8),
        cv2.VideoCapture(),
        [True],
        ["0", None],
    ],
    ids=["none", "bytes", "set", "generator", "array", "capture", "bool", "list"],
)
def test_what_is_no_source_is_refused_at_once(source: Any, model: Model) -> None:
    with pytest.raises(InputError, match="a source is a camera number"):
        stream(model, source)


def test_numbers_of_numpy(model: Model) -> None:
    assert len(list(stream(model, Script(live=False), max_frames=np.int64(3), timeout=np.float32(2)))) == 3
    with pytest.raises(SourceNotFoundError, match="/dev/video97"):
        next(stream(model, np.int64(97)))


def test_real_clip_through_a_real_bundle(model: Model, data_dir: Path) -> None:
    assert sum(1 for _ in model.stream(str(data_dir / "video" / "bikes.mp4"))) == 250
