"""Cameras, through a stand-in for OpenCV's VideoCapture: no device is there when tests run."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmedge.errors import SourceLostError, SourceNotFoundError, SourceOpenError
from mmedge.sources import cameras, list_cameras, open_source


class FakeCapture:
    """A camera of `frames` frames that may be busy, or hang. It takes any setting but those in `fixed`."""

    frames = 3
    fixed: dict[int, float] = {}  # noqa: RUF012 - each test has a class of its own
    picture: tuple[int, int] | None = None
    opened = True
    hang: threading.Event | None = None

    def __init__(self, target: int | str, backend: int) -> None:
        self.target, self.backend = target, backend
        self.settings: dict[int, float] = {}
        self.released = threading.Event()
        self.given = 0
        if self.hang is not None and self.frames == 0:
            self.hang.wait(10)
        type(self).last = self  # type: ignore[attr-defined]

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def get(self, number: int) -> float:
        return ({cv2.CAP_PROP_FPS: 30.0} | self.settings | self.fixed).get(number, 0.0)

    def set(self, number: int, value: float) -> bool:
        self.settings[number] = value
        return True

    def read(self) -> tuple[bool, Any]:
        if self.given == self.frames:
            if self.hang is not None:
                self.hang.wait(10)
            return False, None
        self.given += 1
        width = self.get(cv2.CAP_PROP_FRAME_WIDTH) or 6
        height = self.get(cv2.CAP_PROP_FRAME_HEIGHT) or 4
        size = self.picture or (int(width), int(height))
        return True, np.full((size[1], size[0], 3), self.given, np.uint8)

    def release(self) -> None:
        self.released.set()


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeCapture]:
    """A device that exists and may be opened."""

    class Camera(FakeCapture):
        pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    return Camera


@pytest.mark.parametrize(("spec", "target"), [("0", 0), (2, 2), ("/dev/video1", "/dev/video1")])
def test_camera_is_opened_by_number_or_device(spec: str | int, target: int | str, camera: Any) -> None:
    source = open_source(spec)
    assert (source.live, source.name, source.fps, source.frame_count) == (True, str(spec), 30.0, None)
    assert camera.last.target == target
    assert camera.last.settings[cv2.CAP_PROP_BUFFERSIZE] == 1


def test_camera_is_asked_for_format_then_size_then_rate(camera: Any) -> None:
    source = open_source("0?fps=15&size=1280x720&format=MJPEG")
    assert source.name == "0?fps=15&size=1280x720&format=MJPEG"
    assert source.fps == 15
    frame = source.read()
    assert frame is not None
    assert frame.image.shape == (720, 1280, 3)
    assert list(camera.last.settings.items()) == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 15),
        (cv2.CAP_PROP_BUFFERSIZE, 1),
    ]
    assert camera.last.target == 0


def test_device_with_options(camera: Any) -> None:
    open_source("/dev/video3?format=yuyv")
    assert camera.last.target == "/dev/video3"
    assert camera.last.settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"YUYV")


def test_camera_that_gives_another_size(camera: Any) -> None:
    # The driver repeats the size that it was told; the picture tells the truth.
    camera.picture = (640, 480)
    with pytest.raises(SourceOpenError, match="asked for 1280x720, it gives 640x480"):
        open_source("0?size=1280x720")
    assert camera.last.released.is_set()


def test_camera_that_gives_another_format(camera: Any) -> None:
    camera.fixed = {cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"YUYV"))}
    with pytest.raises(SourceOpenError, match="asked for MJPG, it gives 'YUYV'"):
        open_source("0?format=mjpeg")
    assert camera.last.released.is_set()


@pytest.mark.parametrize("given", [-1.0, 0.0, 4294967295.0])
def test_driver_that_does_not_know_its_format(given: float, camera: Any) -> None:
    camera.fixed = {cv2.CAP_PROP_FOURCC: given}
    with pytest.raises(SourceOpenError, match="asked for MJPG, it gives"):
        open_source("0?format=mjpeg")


def test_camera_that_gives_another_rate_says_so(camera: Any, caplog: pytest.LogCaptureFixture) -> None:
    camera.fixed = {cv2.CAP_PROP_FPS: 10.0}
    assert open_source("0?fps=30").fps == 10
    assert "asked for 30 frames a second, it gives 10" in caplog.text


def test_camera_without_a_picture_of_the_size(camera: Any) -> None:
    camera.frames = 0
    with pytest.raises(SourceOpenError, match="gives no pictures when asked for 1280x720"):
        open_source("0?size=1280x720")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=1280", "size must be WIDTHxHEIGHT"),
        ("size=0x720", "size must be WIDTHxHEIGHT"),
        ("size=1280x99999", "each up to 7680"),
        ("fps=0", "fps must be a number above 0"),
        ("fps=fast", "fps must be a number above 0"),
        ("fps=1001", "up to 1000"),
        ("format=h264", "format must be mjpeg or yuyv, got 'h264'"),
        ("sise=1280x720", "expected each of size, fps, format at most once, got 'sise'"),
        ("fps=30&fps=15", "at most once, got 'fps'"),
    ],
)
def test_options_of_cameras_are_checked(options: str, message: str, camera: Any) -> None:
    with pytest.raises(SourceOpenError, match=message):
        open_source(f"0?{options}")
    assert not hasattr(camera, "last")


def test_camera_that_stops_is_lost(camera: Any) -> None:
    source = open_source("0")
    frames = [source.read() for _ in range(3)]
    assert [frame.index for frame in frames if frame] == [0, 1, 2]
    with pytest.raises(SourceLostError, match="0 gave 3 frames and then no more"):
        source.read()


def test_camera_in_use_by_another_program(camera: Any) -> None:
    camera.opened = False
    with pytest.raises(SourceOpenError, match="another program uses it"):
        open_source("0")


def test_camera_driver_that_hangs_while_opening(camera: Any) -> None:
    camera.frames, camera.hang = 0, threading.Event()
    began = time.monotonic()
    with pytest.raises(SourceOpenError, match=r"did not answer within 0\.2 s"):
        open_source("0", open_timeout=0.2)
    assert time.monotonic() - began < 1
    camera.hang.set()


def test_a_capture_that_opens_too_late_is_released(camera: Any) -> None:
    camera.frames, camera.hang = 0, threading.Event()
    with pytest.raises(SourceOpenError):
        open_source("0", open_timeout=0.1)
    camera.hang.set()
    for _ in range(200):
        if hasattr(camera, "last") and camera.last.released.is_set():
            return
        time.sleep(0.01)
    pytest.fail("the late capture was not released")


def test_closing_while_the_driver_hangs_leaves_the_release_to_the_reading_thread(camera: Any) -> None:
    camera.frames, camera.hang = 0, None
    source = open_source("0")
    camera.hang = threading.Event()
    reading = threading.Thread(target=source.read)
    reading.start()
    time.sleep(0.05)
    source.close()
    assert not camera.last.released.is_set()
    camera.hang.set()
    reading.join(2)
    assert camera.last.released.is_set()
    assert source.read() is None


def test_missing_camera_lists_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "list_cameras", lambda: ["/dev/video7", "/dev/video9"])
    with pytest.raises(SourceNotFoundError, match=r"there is no /dev/video97; cameras found: /dev/video7, /dev/video9"):
        open_source("97")


def test_camera_without_permission(camera: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SourceOpenError, match="group 'video'"):
        open_source("/dev/video0")


def test_cameras_are_listed_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["/dev/video10", "/dev/video2", "/dev/video-x", "/dev/video0"]
    monkeypatch.setattr(Path, "glob", lambda path, pattern: map(Path, found))
    assert list_cameras() == ["/dev/video0", "/dev/video2", "/dev/video10"]
