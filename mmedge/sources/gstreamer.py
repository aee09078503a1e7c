"""Cameras behind GStreamer: those on a Jetson's CSI connectors, and pipelines of one's own."""

from __future__ import annotations

import re

import cv2

from mmedge.errors import MissingDependencyError, SourceOpenError
from mmedge.sources.bounded import call_bounded
from mmedge.sources.capture import Capture, LiveSource, release
from mmedge.sources.quiet import quiet_opencv
from mmedge.sources.spec import mask_passwords, options_of, rate_of, size_of

_FLIPS = {
    "none": 0,
    "counterclockwise": 1,
    "180": 2,
    "clockwise": 3,
    "horizontal": 4,
    "vertical": 6,
}
"""The numbers of nvvidconv, which are not those of GStreamer's own videoflip."""

_SINK = "video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
_RATE_PARTS = 1000
_GRACE_S = 0.5


def csi_pipeline(spec: str) -> str:
    """GStreamer's pipeline for ``csi://SENSOR?size=1280x720&fps=30&flip=180``: a camera of a Jetson as BGR pictures.

    Without `size` and `fps` the camera decides. `flip` is ``none``, ``clockwise``, ``180``, ``counterclockwise``,
    ``horizontal`` or ``vertical``. The newest picture is kept, older ones are dropped.

    Raises:
        SourceOpenError: The sensor is no number, or an option is unknown or out of range.
    """
    sensor, _, query = spec.partition("://")[2].partition("?")
    if not re.fullmatch(r"\d{1,3}/?", sensor):
        raise SourceOpenError(f"{mask_passwords(spec)}: expected csi://SENSOR, a number such as 0")
    options = options_of(spec, query, ("size", "fps", "flip"))
    caps = "video/x-raw(memory:NVMM),format=NV12"
    if "size" in options:
        width, height = size_of(spec, options["size"])
        caps += f",width={width},height={height}"
    if "fps" in options:
        caps += f",framerate={_fraction(rate_of(spec, options['fps']))}"
    flip = options.get("flip", "none")
    if flip not in _FLIPS:
        raise SourceOpenError(f"{mask_passwords(spec)}: flip must be one of {', '.join(_FLIPS)}, got {flip!r}")
    return (
        f"nvarguscamerasrc sensor-id={int(sensor.rstrip('/'))} ! {caps} ! nvvidconv flip-method={_FLIPS[flip]} ! "
        f"video/x-raw,format=BGRx ! videoconvert ! {_SINK}"
    )


def _fraction(rate: float) -> str:
    return f"{round(rate)}/1" if float(rate).is_integer() else f"{round(rate * _RATE_PARTS)}/{_RATE_PARTS}"


def own_pipeline(spec: str) -> str:
    """GStreamer's pipeline for ``gst://PIPELINE``: a source that ends in raw video, or in an appsink of its own.

    Raises:
        SourceOpenError: There is none.
    """
    pipeline = spec.partition("://")[2].strip()
    if not pipeline:
        raise SourceOpenError(f"{spec}: expected gst://PIPELINE, such as 'gst://v4l2src device=/dev/video0'")
    return pipeline if re.search(r"(^|\s|!)appsink\b", pipeline) else f"{pipeline} ! videoconvert ! {_SINK}"


def open_gstreamer(spec: str, *, open_timeout: float, timeout: float) -> LiveSource:
    """A ``csi://`` or ``gst://`` source; `open_timeout` and `timeout` as for network cameras.

    Raises:
        SourceOpenError: The words cannot be read, or GStreamer does not start the pipeline.
        MissingDependencyError: OpenCV was built without GStreamer.
    """
    name = mask_passwords(spec)
    pipeline = csi_pipeline(spec) if spec.lower().startswith("csi://") else own_pipeline(spec)
    if not has_gstreamer():
        raise MissingDependencyError(
            f"{name} needs OpenCV with GStreamer, and this one (opencv-python {cv2.__version__}) was built without; on "
            "a Jetson use JetPack's own OpenCV (apt-get install python3-opencv, and an environment that sees it: "
            "python3 -m venv --system-site-packages), elsewhere build OpenCV with -D WITH_GSTREAMER=ON"
        )
    parameters = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(open_timeout * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(timeout * 1000),
    ]
    try:
        with quiet_opencv():
            capture = call_bounded(
                lambda: cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, parameters),
                timeout=open_timeout + _GRACE_S,
                discard=release,
                name="open gstreamer",
            )
    except TimeoutError as error:
        raise SourceOpenError(f"{name}: the pipeline did not start within {open_timeout:g} s") from error
    if not capture.isOpened():
        shown = mask_passwords(f"gst://{pipeline}").removeprefix("gst://")
        raise SourceOpenError(f"{name}: GStreamer does not start the pipeline; try it with gst-launch-1.0: {shown}")
    return LiveSource(name, Capture(capture), timeout=timeout)


def has_gstreamer() -> bool:
    """Whether OpenCV can use GStreamer here."""
    with quiet_opencv():
        return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))
