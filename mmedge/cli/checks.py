"""What `mmedge doctor` looks at. Nothing heavy is imported: optional libraries are looked up, not loaded."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmedge.errors import MmedgeError

_RUNTIME = ("numpy", "cv2", "onnxruntime", "tokenizers")

_EXTRAS = (
    ("torch", "torch", "training and export", "export"),
    ("onnx", "onnx", "export", "export"),
    ("transformers", "transformers", "export of Hugging Face models", "export"),
    ("triton", "triton", "GPU kernels in training, and their compilation", "kernels"),
    ("openvino", "openvino", "the engine openvino", "openvino"),
    ("pycuda", "pycuda", "compiled GPU kernels on a device", "gpu"),
    ("fastapi", "fastapi", "mmedge serve", "serve"),
    ("uvicorn", "uvicorn", "mmedge serve", "serve"),
    ("websockets", "websockets", "mmedge serve", "serve"),
    ("paho", "paho-mqtt", "results over MQTT", "mqtt"),
    ("mcap", "mcap", "results in an MCAP file", "mcap"),
    ("rerun", "rerun-sdk", "results in Rerun", "rerun"),
    ("cyclonedds", "cyclonedds", "results as ROS 2 topics", "ros2"),
)
"""Module, distribution, what it is for, and the extra of mmedge that brings it."""

_LITTLE_DISK = 1 << 30

_CAMERA_NAMES = Path("/sys/class/video4linux")


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        state: ``ok``; ``absent``: an option that is not there; ``warning``: it works, but not as well as it might;
            ``broken``: the runtime does not work without it.
        found: What is there.
        advice: What to do; empty where nothing is to be done.
    """

    name: str
    state: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def run_checks() -> list[Check]:
    """Every check, in a fixed order."""
    checks = [_python(), _machine(), *map(_library, _RUNTIME)]
    checks += [_guarded(name, check) for name, check in _GUARDED]
    return checks + [_extra(*extra) for extra in _EXTRAS]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that needs the runtime itself: where that cannot be imported, this is the finding."""
    try:
        return check()
    except (ImportError, MmedgeError) as error:
        return Check(name, "broken", str(error), "pip install --force-reinstall mmedge")


def _python() -> Check:
    fits = sys.version_info >= (3, 10)
    found = f"{platform.python_version()} at {sys.executable}"
    return Check("python", "ok" if fits else "broken", found, "" if fits else "install Python 3.10 or newer")


def _machine() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check("machine", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}, {cores} cores")


def _library(name: str) -> Check:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        # A wheel that is there and cannot be loaded lacks a library of the system, as OpenCV does without a desktop.
        system = "apt-get install libgl1 libglib2.0-0" if ".so" in str(error) else ""
        return Check(name, "broken", str(error), system or "pip install --force-reinstall mmedge")
    return Check(name, "ok", str(module.__version__))


def _mmedge() -> Check:
    import mmedge

    return Check("mmedge", "ok", f"{mmedge.__version__} at {Path(mmedge.__file__).parent}")


def _providers() -> Check:
    import onnxruntime

    return Check("onnxruntime providers", "ok", ", ".join(onnxruntime.get_available_providers()))


def _frame_library() -> Check:
    from mmedge_kernels.frame import native_status

    native, found = native_status()
    if native:
        return Check("native frame library", "ok", found)
    return Check("native frame library", "warning", found, "frames are prepared more slowly; reinstall mmedge")


def _built_in() -> Check:
    from mmedge.loading import built_in_bundle
    from mmedge.verification import verify

    found = verify(built_in_bundle())
    if found.passed:
        return Check("built-in model", "ok", f"{found.bundle}, {found.precision}: PASS on {found.samples} samples")
    return Check("built-in model", "broken", f"{found.bundle}: FAIL; {'; '.join(found.reasons)}", "reinstall mmedge")


def _cameras() -> Check:
    from mmedge.sources import list_cameras

    if not sys.platform.startswith("linux"):
        return Check("cameras", "ok", "not listed on this system; try --source 0")
    found = list_cameras()
    if not found:
        return Check("cameras", "absent", "no /dev/video*", "plug one in, or use rtsp://…, a file or tabletop://")
    named = [f"{device} ({name})" if (name := _camera_name(device)) else device for device in found]
    closed = [device for device in found if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        return Check(
            "cameras", "warning", f"no permission for {', '.join(closed)}", "add the user to the group 'video'"
        )
    return Check("cameras", "ok", ", ".join(named))


def _camera_name(device: str) -> str:
    """What the driver calls it; empty where that is not known."""
    try:
        return (_CAMERA_NAMES / Path(device).name / "name").read_text(errors="replace").strip()
    except OSError:
        return ""


def _gstreamer() -> Check:
    from mmedge.sources.gstreamer import has_gstreamer

    if has_gstreamer():
        return Check("gstreamer", "ok", "in OpenCV, for csi:// and gst://")
    return Check("gstreamer", "absent", "not in this OpenCV, for csi:// and gst://", "see docs/sources.md")


def _display() -> Check:
    if not sys.platform.startswith("linux"):
        return Check("display", "ok", "of the system")
    found = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if found:
        return Check("display", "ok", found)
    return Check("display", "absent", "none", "--show does not work; --save out.mp4 does")


def _disk() -> Check:
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:,.1f} GB free in {folder}"
    return Check(
        "disk", "ok" if free >= _LITTLE_DISK else "warning", found, "" if free >= _LITTLE_DISK else "make room"
    )


def _extra(module: str, distribution: str, purpose: str, extra: str) -> Check:
    if importlib.util.find_spec(module) is None:
        return Check(distribution, "absent", f"for {purpose}", f'pip install "mmedge[{extra}]"')
    try:
        found = version(distribution)
    except PackageNotFoundError:
        found = "of unknown version"
    return Check(distribution, "ok", f"{found}, for {purpose}")


_GUARDED = (
    ("mmedge", _mmedge),
    ("onnxruntime providers", _providers),
    ("native frame library", _frame_library),
    ("built-in model", _built_in),
    ("cameras", _cameras),
    ("gstreamer", _gstreamer),
    ("display", _display),
    ("disk", _disk),
)
