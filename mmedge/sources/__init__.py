"""Where frames come from: cameras, network streams, videos, pictures, and the built-in synthetic table."""

from __future__ import annotations

from mmedge.sources.cameras import list_cameras
from mmedge.sources.fault import FaultSource
from mmedge.sources.frame import Frame
from mmedge.sources.opening import open_source
from mmedge.sources.paced import PacedSource
from mmedge.sources.pictures import read_picture
from mmedge.sources.source import Source, SourceLike
from mmedge.sources.spec import GRAMMAR, mask_passwords
from mmedge.sources.tabletop import TabletopSource

__all__ = [
    "GRAMMAR",
    "FaultSource",
    "Frame",
    "PacedSource",
    "Source",
    "SourceLike",
    "TabletopSource",
    "list_cameras",
    "mask_passwords",
    "open_source",
    "read_picture",
]
