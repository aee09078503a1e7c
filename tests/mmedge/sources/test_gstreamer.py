"""CSI cameras and pipelines. No OpenCV with GStreamer and no Jetson is there when tests run."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import cv2
import pytest
from support.media import numbered

from mmedge.errors import MissingDependencyError, SourceOpenError
from mmedge.sources import open_source
from mmedge.sources.gstreamer import csi_pipeline, has_gstreamer, own_pipeline

SYSTEM_PYTHON = "/usr/bin/python3"
NEEDS = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstApp', '1.0'); " + (
    "from gi.repository import Gst; Gst.init(None); "
    "assert all(map(Gst.ElementFactory.find, ('videotestsrc', 'videoconvert', 'appsink')))"
)


def test_pipeline_of_a_csi_camera() -> None:
    assert csi_pipeline("csi://1?size=1280x720&fps=30&flip=180") == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,framerate=30/1 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! videoconvert ! "
        "video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


def test_without_options_the_camera_decides() -> None:
    assert csi_pipeline("CSI://0/").startswith(
        "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv flip-method=0 ! "
    )


def test_rates_are_fractions() -> None:
    assert "framerate=29970/1000 " in csi_pipeline("csi://0?fps=29.97")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("csi://", "expected csi://SENSOR"),
        ("csi://front", "expected csi://SENSOR"),
        ("csi://0 ! filesink location=x", "expected csi://SENSOR"),
        ("csi://0?size=big", "size must be WIDTHxHEIGHT"),
        ("csi://0?fps=0", "fps must be a number above 0"),
        ("csi://0?flip=90", "flip must be one of none, counterclockwise, 180, clockwise, horizontal, vertical"),
        ("csi://0?format=mjpeg", "expected each of size, fps, flip at most once"),
        ("gst://", "expected gst://PIPELINE"),
        ("gst:// ", "expected gst://PIPELINE"),
    ],
)
def test_what_cannot_be_read(spec: str, message: str) -> None:
    with pytest.raises(SourceOpenError, match=message):
        open_source(spec)


def test_pipeline_of_ones_own() -> None:
    assert own_pipeline("gst://v4l2src ! jpegdec") == (
        "v4l2src ! jpegdec ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )
    assert own_pipeline("gst://v4l2src ! appsink drop=true") == "v4l2src ! appsink drop=true"


@pytest.mark.skipif(has_gstreamer(), reason="this OpenCV has GStreamer")
@pytest.mark.parametrize("spec", ["csi://0", "gst://videotestsrc", "fault+csi://0?drop=0.1"])
def test_opencv_without_gstreamer_says_what_to_do(spec: str) -> None:
    with pytest.raises(MissingDependencyError, match=r"needs OpenCV with GStreamer.*python3-opencv.*WITH_GSTREAMER=ON"):
        open_source(spec)


class FakeCapture:
    """A pipeline that starts, unless it names no element."""

    def __init__(self, pipeline: str, backend: int, parameters: list[int]) -> None:
        self.asked = (pipeline, backend, parameters)
        type(self).last = self  # type: ignore[attr-defined]

    def isOpened(self) -> bool:  # noqa: N802
        return "nothing" not in self.asked[0]

    def get(self, number: int) -> float:
        return 30.0 if number == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, Any]:
        return True, numbered(3)

    def release(self) -> None:
        pass


@pytest.fixture
def gstreamer(monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    """An OpenCV with GStreamer."""
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr("mmedge.sources.gstreamer.has_gstreamer", lambda: True)
    return FakeCapture


def test_opened_with_time_limits(gstreamer: Any) -> None:
    source = open_source("csi://0?size=1280x720", timeout=3, open_timeout=7)
    assert (source.name, source.live, source.fps) == ("csi://0?size=1280x720", True, 30)
    frame = source.read()
    assert frame is not None
    assert frame.image.shape == (48, 64, 3)
    pipeline, backend, parameters = gstreamer.last.asked
    assert pipeline == csi_pipeline("csi://0?size=1280x720")
    assert backend == cv2.CAP_GSTREAMER
    assert parameters == [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 7000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 3000]


def test_pipeline_that_does_not_start(gstreamer: Any) -> None:
    with pytest.raises(SourceOpenError, match=r"try it with gst-launch-1\.0: nothing") as caught:
        open_source('gst://nothing location=rtsp://me:hunter2@cam/x user-pw="hunter 2"')
    assert "hunter" not in str(caught.value)


def test_pipeline_in_a_real_gstreamer() -> None:
    """With stand-ins for the two elements and the memory that only a Jetson has."""
    try:
        probe = subprocess.run([SYSTEM_PYTHON, "-c", NEEDS], capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip(f"no GStreamer: there is no {SYSTEM_PYTHON}")
    if probe.returncode:
        pytest.skip("no GStreamer: needs python3-gi, gir1.2-gst-plugins-base-1.0 and gstreamer1.0-plugins-base")
    pipeline = csi_pipeline("csi://0?size=320x240&fps=12.5")
    pipeline = pipeline.replace("nvarguscamerasrc sensor-id=0", "videotestsrc").replace("(memory:NVMM)", "")
    pipeline = re.sub(r"nvvidconv flip-method=\d", "videoconvert", pipeline)
    script = Path(__file__).parents[2] / "support" / "gst_pipeline.py"
    done = subprocess.run([SYSTEM_PYTHON, str(script), pipeline], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    expected = {"format": "BGR", "width": 320, "height": 240, "framerate": [25, 2]}
    assert json.loads(done.stdout) == expected | {"drop": True, "max-buffers": 1, "sync": False}
