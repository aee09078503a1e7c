"""Writing frames, such as those with results drawn on them, to an .mp4 file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from mmedge.errors import VideoWriteError
from mmedge.sources.quiet import quiet_opencv

Picture = npt.NDArray[np.uint8]

_DEFAULT_FPS = 25.0


class VideoWriter:
    """An .mp4 file (MPEG-4 part 2) that appears under its name when it is closed and complete, or not at all.

    The first frame sets the size (even numbers: the codec takes no others); later ones of another size are scaled into
    it with black bars.

    Args:
        path: The file; one that is there is replaced at the end.
        fps: Frames a second; None means 25.

    Raises:
        VideoWriteError: `path` is no .mp4, or its folder cannot be written to.
    """

    def __init__(self, path: Path | str, fps: float | None = None) -> None:
        self.path = Path(path)
        self.frames = 0
        self.fps = fps or _DEFAULT_FPS
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part.mp4")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        if self.path.suffix.lower() != ".mp4":
            raise VideoWriteError(f"{self.path}: expected a name that ends in .mp4")
        folder = self.path.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK) or self.path.is_dir():
            raise VideoWriteError(f"{self.path} cannot be written: {folder} is no folder in which files can be made")

    def write(self, image: Picture) -> None:
        """Append a frame, uint8 [H, W, 3], BGR.

        Raises:
            VideoWriteError: The file cannot be made.
        """
        if self._writer is None:
            self._writer = self._open(image.shape[1], image.shape[0])
        with quiet_opencv():
            self._writer.write(letterbox(image, self._size))
        self.frames += 1

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        self._size = max(width & ~1, 2), max(height & ~1, 2)
        with quiet_opencv():
            # Named by the absolute path, so that no part of a name is taken for a protocol.
            name = str(self._part.resolve())
            writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), self.fps, self._size)
        if not writer.isOpened():
            raise VideoWriteError(
                f"{self.path} cannot be written at {self._size[0]} x {self._size[1]} pixels and {self.fps:g} frames a "
                "second: no room, or no encoder"
            )
        return writer

    def close(self) -> None:
        """Finish the file and put it in place. Without a frame there is no file.

        Raises:
            VideoWriteError: What was written cannot be read back whole: the disk is full, for one.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            # The encoder reports no errors: only reading back shows whether everything reached the disk.
            found = _count_frames(self._part)
            if found < self.frames:
                raise VideoWriteError(
                    f"{self.path} was not written: {found} of {self.frames} frames reached the disk; is it full?"
                )
            self._part.replace(self.path)
        except OSError as error:
            raise VideoWriteError(f"{self.path} was not written: {error.strerror or error}") from error
        finally:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove_leftovers(path: Path) -> None:
    """Delete the unfinished files that killed processes left beside the .mp4 `path` and its numbered successors."""
    part = re.compile(rf"\.{re.escape(path.stem)}(?:-\d+)?\.(\d{{1,9}})\.part\.mp4")
    for name in os.listdir(path.parent):
        if (match := part.fullmatch(name)) and not _runs(int(match[1])):
            path.with_name(name).unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether there is such a process, as far as can be told: elsewhere than on POSIX asking could end it."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def letterbox(image: Picture, size: tuple[int, int]) -> Picture:
    """`image` scaled into `size` (width, height) with black bars, its proportions kept.

    A difference of one pixel, from rounding to even numbers, is cut off instead of scaled.
    """
    width, height = size
    rows, columns = image.shape[:2]
    if 0 <= columns - width <= 1 and 0 <= rows - height <= 1:
        return np.ascontiguousarray(image[:height, :width])
    scale = min(width / columns, height / rows)
    inner = max(round(columns * scale), 1), max(round(rows * scale), 1)
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas: Picture = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = scaled
    return canvas


def _count_frames(path: Path) -> int:
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    try:
        return round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()
