from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
from support.media import index_first, number_of, rotate_header, write_video

from mmedge.errors import SourceOpenError
from mmedge.sources import GRAMMAR, Frame, Source, open_source

CLIPS = {
    "bikes.mp4": (250, (272, 640, 3), 25.0),
    "bottle-detection.mp4": (1189, (360, 640, 3), 179 / 6),
    "carphone_pristine.mp4": (120, (144, 176, 3), 30000 / 1001),
    "one-by-one-person-detection.mp4": (1394, (432, 768, 3), 10.0),
}


def all_frames(source: Source) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    return frames


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_of_real_clips_comes_once(name: str, data_dir: Path) -> None:
    count, shape, fps = CLIPS[name]
    source = open_source(data_dir / "video" / name)
    assert source.frame_count == count
    assert source.fps == pytest.approx(fps)
    index, place = -1, -1.0
    while (frame := source.read()) is not None:
        assert frame.image.shape == shape
        assert frame.index == index + 1
        assert frame.media_time_s is not None
        assert frame.media_time_s > place
        index, place = frame.index, frame.media_time_s
    assert index + 1 == count
    assert place == pytest.approx((count - 1) / fps, abs=1 / fps)
    assert source.incomplete is None


@pytest.mark.parametrize("name", CLIPS)
def test_frame_counts_are_those_that_ffprobe_counts(name: str, data_dir: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed (apt-get install ffmpeg)")
    command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "csv=p=0"]
    command += ["-show_entries", "stream=nb_read_frames", str(data_dir / "video" / name)]
    counted = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert int(counted.strip().rstrip(",")) == CLIPS[name][0]


def test_frames_come_in_order_and_are_not_overwritten(tmp_path: Path) -> None:
    frames = all_frames(open_source(write_video(tmp_path / "clip.mp4", 40)))
    assert [number_of(frame.image) for frame in frames] == list(range(40))
    assert [frame.media_time_s for frame in frames] == pytest.approx([index / 25 for index in range(40)])
    assert {frame.source for frame in frames} == {str(tmp_path / "clip.mp4")}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_in_the_header_is_honoured(degrees: int, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 3, width=64, height=48)
    upright = all_frames(open_source(path))[1].image
    rotate_header(path, degrees)
    turned = all_frames(open_source(path))[1].image
    np.testing.assert_array_equal(turned, np.rot90(upright, -degrees // 90))


def test_cut_off_video_gives_its_frames_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = index_first(write_video(tmp_path / "whole.mp4", 100))
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    source = open_source(tmp_path / "cut.mp4")
    with caplog.at_level(logging.WARNING):
        frames = all_frames(source)
    assert source.frame_count == 100
    assert 30 < len(frames) < 95
    assert [number_of(frame.image) for frame in frames[:-1]] == list(range(len(frames) - 1))
    assert source.incomplete == f"its header promises 100 frames, {len(frames)} could be read: cut off or damaged"
    assert source.incomplete in caplog.text


def test_reading_on_after_the_end_stays_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", 4))
    assert len(all_frames(source)) == 4
    assert [source.read(), source.read()] == [None, None]
    assert not caplog.records


def sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))


def unindexed(path: Path) -> None:
    data = write_video(path, 50).read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.write_bytes(bytes(range(256)) * 300), "cannot be opened as a video"),
        (lambda path: path.write_text("not a video\n"), "cannot be opened as a video"),
        (sound, "cannot be opened as a video"),
        (unindexed, "cut off or damaged"),
    ],
    ids=["empty", "noise", "text", "sound-only", "index-missing"],
)
def test_what_is_no_video_is_refused_by_name(make: object, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    make(path)  # type: ignore[operator]
    with pytest.raises(SourceOpenError, match=cause) as caught:
        open_source(path)
    assert str(path) in str(caught.value)
    assert GRAMMAR not in str(caught.value)


def test_a_header_without_one_frame_is_an_error(tmp_path: Path) -> None:
    data = index_first(write_video(tmp_path / "whole.mp4", 50))
    path = tmp_path / "header.mp4"
    path.write_bytes(data[: data.find(b"mdat") + 8])
    with pytest.raises(SourceOpenError, match=r"header\.mp4"):
        all_frames(open_source(path))


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "clip.mp4", 3).rename(tmp_path / "concat:clip.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(all_frames(open_source("concat:clip.mp4"))) == 3


def test_closing_from_another_thread_ends_the_reading(data_dir: Path) -> None:
    source = open_source(data_dir / "video" / "one-by-one-person-detection.mp4")
    threading.Timer(0.05, source.close).start()
    frames = all_frames(source)
    assert len(frames) < 1394
    assert source.incomplete is None
