"""Pictures: one file, a folder, a pattern."""

from __future__ import annotations

import glob
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from mmedge.errors import SourceNotFoundError, SourceOpenError
from mmedge.sources.frame import Frame
from mmedge.sources.quiet import quiet_opencv
from mmedge.sources.stamp import FrameMaker

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})

_LARGEST_FILE = 1 << 30

log = logging.getLogger(__name__)


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Decode a picture as the model has to see it.

    Orientation tags are applied, transparency is dropped without blending, grey becomes BGR, 16 bits become the upper
    8, and of an animation the first picture is taken: what Pillow's ``convert("RGB")`` gives, but for 16-bit grey,
    which Pillow clips.

    Returns:
        uint8 [H, W, 3], BGR.

    Raises:
        SourceOpenError: It cannot be read, is no picture, is cut off, or claims more pixels than OpenCV takes (2^30).
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise SourceOpenError(f"{path} has {path.stat().st_size} bytes; pictures up to {_LARGEST_FILE} are read")
        data = path.read_bytes()
    except OSError as error:
        raise SourceOpenError(f"{path} cannot be read: {error.strerror or error}") from error
    if not data:
        raise SourceOpenError(f"{path} is empty; expected a picture")
    try:
        # From memory and not by name: only so does OpenCV refuse a file that is cut off.
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise SourceOpenError(f"{path} cannot be decoded: {error.err or error}; is it damaged?") from error
    if image is None:
        raise SourceOpenError(f"{path} ({len(data)} bytes) cannot be decoded: no known picture format, or damaged")
    return np.asarray(image, np.uint8)


class PictureSource:
    """The pictures of a list, one frame each, in the order of the list.

    A picture of several that cannot be decoded is logged, counted as dropped and skipped. A frame's index is its place
    in the list and its source is the picture's own path.

    Args:
        name: How the pictures were asked for.
        paths: At least one.
    """

    live = False
    fps = None

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self.name = name
        self.frame_count = len(paths)
        self.incomplete: str | None = None
        self._paths = paths
        self._position = 0
        self._broken = 0
        self._frames = FrameMaker(name)
        self._closed = False

    def read(self) -> Frame | None:
        """The next picture that can be decoded; None after the last.

        Raises:
            SourceOpenError: None of the pictures can be decoded.
        """
        while not self._closed and self._position < len(self._paths):
            index, self._position = self._position, self._position + 1
            try:
                image = read_picture(self._paths[index])
            except SourceOpenError as error:
                self._skip(error)
                continue
            return self._frames.make(image, index=index, source=str(self._paths[index]))
        return None

    def _skip(self, error: SourceOpenError) -> None:
        self._broken += 1
        if self._broken == len(self._paths):
            if self._broken == 1:
                raise error
            raise SourceOpenError(f"{self.name}: none of the {self._broken} pictures can be read; the last: {error}")
        log.warning("skipped: %s", error)
        self.incomplete = f"{self._broken} of {len(self._paths)} pictures could not be read"

    def close(self) -> None:
        self._closed = True


def open_folder(name: str, folder: Path) -> PictureSource:
    """The pictures of a folder, sorted by name; folders inside it are not searched.

    Raises:
        SourceNotFoundError: There are none.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    except OSError as error:
        raise SourceOpenError(f"{name} cannot be listed: {error.strerror or error}") from error
    if not paths:
        raise SourceNotFoundError(f"{name} holds no pictures; expected files such as {', '.join(sorted(SUFFIXES))}")
    return PictureSource(name, paths)


def open_pattern(name: str, pattern: str) -> PictureSource:
    """The pictures that a pattern such as ``shots/*.jpg`` names, sorted; ``**`` searches folders inside folders.

    Raises:
        SourceNotFoundError: There are none.
    """
    paths = sorted(Path(p) for p in glob.glob(pattern, recursive=True))
    pictures = [p for p in paths if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not pictures:
        raise SourceNotFoundError(
            f"no picture matches {name!r} ({len(paths)} other files do); expected files such as "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return PictureSource(name, pictures)
