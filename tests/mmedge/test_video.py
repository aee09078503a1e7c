from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.media import number_of, numbered

from mmedge.errors import VideoWriteError
from mmedge.sources import open_source
from mmedge.video import VideoWriter, letterbox


def frames_of(path: Path) -> list[np.ndarray]:
    source, frames = open_source(path), []
    while (frame := source.read()) is not None:
        frames.append(frame.image)
    return frames


@pytest.mark.parametrize(
    ("size", "stored"), [((64, 48), (64, 48)), ((63, 47), (62, 46)), ((33, 500), (32, 500)), ((1, 1), (2, 2))]
)
def test_sizes(size: tuple[int, int], stored: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, fps=29.97) as writer:
        for _ in range(5):
            writer.write(np.full((size[1], size[0], 3), 128, np.uint8))
    frames = frames_of(path)
    assert [frame.shape for frame in frames] == [(stored[1], stored[0], 3)] * 5
    assert open_source(path).fps == pytest.approx(29.97, rel=1e-3)


def test_frames_keep_their_order_and_content(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4") as writer:
        for index in range(30):
            writer.write(numbered(index))
    assert [number_of(frame) for frame in frames_of(tmp_path / "out.mp4")] == list(range(30))
    assert open_source(tmp_path / "out.mp4").fps == 25


def test_later_sizes_are_fitted_with_black_bars(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4") as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
        writer.write(np.full((96, 64, 3), 250, np.uint8))
    last = frames_of(tmp_path / "out.mp4")[1]
    assert last[:, 22:42].mean() > 240
    assert last[:, :16].mean() < 12
    assert last[:, 48:].mean() < 12


@pytest.mark.parametrize(
    ("shape", "size"), [((48, 64), (64, 48)), ((49, 65), (64, 48)), ((10, 500), (64, 48)), ((1, 1), (2, 2))]
)
def test_letterbox_gives_the_size_asked_for(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert letterbox(np.full((*shape, 3), 9, np.uint8), size).shape == (size[1], size[0], 3)


def test_nothing_appears_before_it_is_complete_and_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with VideoWriter(path) as writer:
        writer.write(numbered(1))
        assert path.read_bytes() == b"old"
    assert len(frames_of(path)) == 1
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_an_error_on_the_way_leaves_what_came_before(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / "out.mp4") as writer:
            writer.write(numbered(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert len(frames_of(tmp_path / "out.mp4")) == 1


def test_no_frames_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4"):
        pass
    assert os.listdir(tmp_path) == []


def test_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter("pipe:1.mp4") as writer:
        writer.write(numbered(1))
    assert os.listdir(tmp_path) == ["pipe:1.mp4"]


@pytest.mark.parametrize("name", ["out.avi", "out", "nowhere/out.mp4", "folder.mp4"])
def test_names_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(VideoWriteError, match=name):
        VideoWriter(tmp_path / name)


def test_encoder_that_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.VideoWriter, "fourcc", lambda *letters: 0x7A7A7A7A)
    with pytest.raises(VideoWriteError, match="64 x 48"), VideoWriter(tmp_path / "out.mp4") as writer:
        writer.write(numbered(1))


FULL_DISK = """
import resource, sys, numpy as np
from mmedge.video import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), np.uint8)
with VideoWriter(sys.argv[1]) as writer:
    for frame in noise:
        writer.write(frame)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the file size as Linux does")
def test_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(out)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert "VideoWriteError" in done.stderr
    assert "of 40 frames reached the disk; is it full?" in done.stderr
    assert os.listdir(tmp_path) == []
