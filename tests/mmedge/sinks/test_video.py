from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sink_items import event, observation, prompts, state

from mmedge.errors import InputError, SinkError, VideoWriteError
from mmedge.sinks.opening import open_sink
from mmedge.sinks.sink import SinkContext, Watched
from mmedge.sinks.video import AnnotatedVideo, frame_rate
from mmedge.sources import open_source
from mmedge.triggers.settings import Zone


def video(path: Path) -> tuple[int, float]:
    """Frames, and frames a second."""
    source = open_source(path)
    count, fps = source.frame_count, source.fps
    source.close()
    assert count is not None
    assert fps is not None
    return count, fps


@pytest.mark.parametrize("count", [1, 3, 8, 30])
def test_one_picture_a_result_at_the_pace_of_its_source(count: int, tmp_path: Path) -> None:
    sink = AnnotatedVideo(tmp_path / "out.mp4")
    for n in range(count):
        sink.write(observation(n, step=0.08))
        for other in (state(), event(n), prompts()):
            sink.write(other)
    sink.close()
    assert video(tmp_path / "out.mp4") == (count, 12.5 if count > 1 else 25)


def test_a_place_in_the_file_counts_more_than_the_time_it_took() -> None:
    frames = [observation(n, step=0.5, media_time_s=n / 29.97).frame for n in range(8)]
    assert frame_rate([frame for frame in frames if frame]) == 29.97


@pytest.mark.parametrize(("step", "rate"), [(0.04, 25), (30.0, 1), (1e-6, 1000), (0.0, None)])
def test_rates(step: float, rate: float | None) -> None:
    frames = [frame for n in range(8) if (frame := observation(n, step=step).frame)]
    assert frame_rate(frames) == rate
    assert frame_rate(frames[:1]) is None


def test_one_late_frame_does_not_set_the_rate() -> None:
    frames = [frame for n in (0, 50, 51, 52, 53, 54, 55, 56) if (frame := observation(n).frame)]
    assert frame_rate(frames) == 25


def test_boxes_and_zones_are_drawn(tmp_path: Path) -> None:
    zone = Zone("step", ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
    pictures = []
    for name, boxes, zones in (("plain", 0, []), ("boxes", 2, []), ("zones", 0, [zone])):
        sink = AnnotatedVideo(tmp_path / f"{name}.mp4", zones=zones)
        sink.write(observation(1, boxes=boxes, size=(320, 240)))
        sink.close()
        frame = open_source(tmp_path / f"{name}.mp4").read()
        assert frame is not None
        pictures.append(frame.image.astype(int))
    for picture in pictures[1:]:
        assert np.abs(picture - pictures[0]).max() > 60


def test_other_sources_are_passed_over(tmp_path: Path) -> None:
    sink = AnnotatedVideo(tmp_path / "out.mp4", source="door")
    for n in range(10):
        sink.write(observation(n, "door" if n % 2 else "yard"))
    sink.close()
    assert video(tmp_path / "out.mp4")[0] == 5


def test_without_pixels_nothing_is_written_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = AnnotatedVideo(tmp_path / "out.mp4")
    with caplog.at_level(logging.WARNING):
        for n in range(5):
            sink.write(observation(n, size=None))
    sink.close()
    assert os.listdir(tmp_path) == []
    assert [entry.getMessage() for entry in caplog.records] == [
        f"{tmp_path / 'out.mp4'}: no pixels come here, so nothing is written"
    ]


def test_segments_follow_each_other_over_runs_and_the_oldest_go(tmp_path: Path) -> None:
    for _ in range(2):
        sink = AnnotatedVideo(tmp_path / "out.mp4", segment_s=1.0, keep=3)
        for n in range(63):
            sink.write(observation(n))
        sink.close()
    names = sorted(os.listdir(tmp_path))
    assert names == ["out-3.mp4", "out-4.mp4", "out-5.mp4"]
    assert [video(tmp_path / name) for name in names] == [(25, 25), (25, 25), (13, 25)]


KILLED = """
import os, sys
from support.sink_items import observation
from mmedge.sinks.video import AnnotatedVideo
sink = AnnotatedVideo(sys.argv[1], segment_s=1.0)
for n in range(63):
    sink.write(observation(n))
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks for processes as POSIX does")
def test_a_killed_process_loses_its_last_segment_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    path = tmp_path / "out.mp4"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment, timeout=60)
    assert done.returncode == -9
    assert [video(tmp_path / name)[0] for name in ("out.mp4", "out-1.mp4")] == [25, 25]
    assert len(os.listdir(tmp_path)) == 3
    (tmp_path / f".out.{os.getpid()}.part.mp4").touch()
    (tmp_path / ".outer.999999999.part.mp4").touch()
    AnnotatedVideo(path, segment_s=1.0).close()
    assert sorted(os.listdir(tmp_path)) == [
        f".out.{os.getpid()}.part.mp4", ".outer.999999999.part.mp4", "out-1.mp4", "out.mp4",
    ]  # fmt: skip


def test_a_segment_that_cannot_be_finished_does_not_end_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = AnnotatedVideo(tmp_path / "out.mp4", segment_s=1.0)
    for n in range(25):
        sink.write(observation(n))
    with monkeypatch.context() as patch:
        patch.setattr("mmedge.video._count_frames", lambda path: 3)
        with pytest.raises(VideoWriteError, match="3 of 25 frames reached the disk"):
            sink.write(observation(25))
    for n in range(26, 40):
        sink.write(observation(n))
    sink.close()
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert video(tmp_path / "out.mp4")[0] == 14


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"path": "out.avi"}, SinkError, "ends in .mp4"),
        ({"path": "nowhere/out.mp4"}, SinkError, "nowhere"),
        ({"path": "out.mp4", "segment_s": 0.0}, InputError, "segment_s must be seconds above 0"),
        ({"path": "out.mp4", "keep": 3}, InputError, "give segment_s, too"),
        ({"path": "out.mp4", "keep": 0, "segment_s": 5.0}, InputError, "keep must be 1 or more"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path) -> None:
    path = tmp_path / options.pop("path")
    with pytest.raises(error, match=words):
        AnnotatedVideo(path, **options)


def test_a_device_file_names_one_source(tmp_path: Path) -> None:
    both = SinkContext(sources=(Watched("door", "m", ()), Watched("yard", "m", ())))
    options = {"path": str(tmp_path / "out.mp4")}
    with pytest.raises(InputError, match="source must be one of door, yard"):
        open_sink("video", options, both)
    with pytest.raises(InputError, match="source must be one of door, yard, got 'roof'"):
        open_sink("video", {**options, "source": "roof"}, both)
    with pytest.raises(InputError, match="no pixels may be stored"):
        open_sink("video", {**options, "source": "door"}, SinkContext(pixels=False))
    sink = open_sink("video", {**options, "source": "door", "segment_s": 60}, both)
    assert sink.kind == "video"
    sink.close()
