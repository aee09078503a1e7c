"""From the words that name a source to the open source."""

from __future__ import annotations

import os
from pathlib import Path

from mmedge.errors import InputError, SourceNotFoundError
from mmedge.sources.cameras import open_camera
from mmedge.sources.fault import FaultSource, faults_of, split_faults
from mmedge.sources.gstreamer import open_gstreamer
from mmedge.sources.pictures import SUFFIXES, PictureSource, open_folder, open_pattern
from mmedge.sources.rtsp import RTSP_SCHEMES, open_rtsp
from mmedge.sources.source import Source
from mmedge.sources.spec import FAULT_PREFIX, GRAMMAR, checked_seconds, mask_passwords, scheme_of, spec_of
from mmedge.sources.tabletop import open_tabletop
from mmedge.sources.videos import open_video


def open_source(spec: str | int | os.PathLike[str], *, timeout: float = 5.0, open_timeout: float = 10.0) -> Source:
    """Open a source by its name.

    Args:
        spec: ``0``, ``/dev/video0``, ``rtsp://HOST/PATH``, ``csi://0``, ``gst://PIPELINE``, a video or picture file, a
            folder, a pattern such as ``*.jpg``, ``tabletop://?seed=3``, or ``fault+SOURCE?drop=0.1``; docs/sources.md
            has their options.
        timeout: Seconds without a frame after which a camera or network stream counts as lost.
        open_timeout: Seconds within which a camera or network stream must answer.

    Returns:
        The open source. Its `read` waits for frames in their order; `mmedge.streaming` adds policies and time limits.

    Raises:
        InputError: `spec` is no name, number or path, or a time is out of range.
        SourceNotFoundError: No such file, folder, device or scheme.
        SourceOpenError: It is there and cannot be opened.
        MissingDependencyError: OpenCV was built without what it needs.
    """
    text = spec_of(spec)
    if text is None:
        raise InputError(f"{GRAMMAR}; got {type(spec).__name__}")
    timeout = checked_seconds("timeout", timeout)
    open_timeout = checked_seconds("open_timeout", open_timeout)
    if text.lower().startswith(FAULT_PREFIX):
        return _open_fault(text, timeout=timeout, open_timeout=open_timeout)
    scheme = scheme_of(text)
    if scheme == "tabletop":
        return open_tabletop(text)
    if scheme in RTSP_SCHEMES:
        return open_rtsp(text, open_timeout=open_timeout, timeout=timeout)
    if scheme in ("csi", "gst"):
        return open_gstreamer(text, open_timeout=open_timeout, timeout=timeout)
    if scheme is not None:
        raise SourceNotFoundError(f"{mask_passwords(text)}: unknown scheme {scheme!r}; {GRAMMAR}")
    if text.partition("?")[0].isdecimal() or text.startswith("/dev/"):
        return open_camera(text, open_timeout=open_timeout, timeout=timeout)
    return _open_path(text)


def _open_fault(text: str, *, timeout: float, open_timeout: float) -> FaultSource:
    spec, options = split_faults(text)
    faults = faults_of(text, options)
    inner = open_source(spec, timeout=timeout, open_timeout=open_timeout)
    return FaultSource(mask_passwords(text), inner, faults)


def _open_path(text: str) -> Source:
    path = Path(text).expanduser()
    if not text:
        raise SourceNotFoundError(f"the name of the source is empty; {GRAMMAR}")
    if path.is_dir():
        return open_folder(text, path)
    if path.is_file():
        return PictureSource(text, [path]) if path.suffix.lower() in SUFFIXES else open_video(text, path)
    name = mask_passwords(text)
    if any(mark in text for mark in "*?["):
        return open_pattern(name, str(path))
    if path.exists():
        raise SourceNotFoundError(f"{name} is neither a file nor a folder; {GRAMMAR}")
    raise SourceNotFoundError(f"there is no {name!r}; {GRAMMAR}")
