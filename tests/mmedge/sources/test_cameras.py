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
from mmedge.sources import devices, list_cameras, open_source


class FakeCapture:
    """A camera of `frames` frames that may be busy, or hang."""

    frames = 3
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
        return {cv2.CAP_PROP_FPS: 30.0}.get(number, 0.0)

    def set(self, number: int, value: float) -> bool:
        self.settings[number] = value
        return True

    def read(self) -> tuple[bool, Any]:
        if self.given == self.frames:
            if self.hang is not None:
                self.hang.wait(10)
            return False, None
        self.given += 1
        return True, np.full((4, 6, 3), self.given, np.uint8)

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
    monkeypatch.setattr(devices, "list_cameras", lambda: ["/dev/video7", "/dev/video9"])
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
