"""An .mp4 of the frames with their results drawn on them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from mmedge.drawing import draw
from mmedge.errors import InputError
from mmedge.sinks.files import Family, check_ending
from mmedge.sinks.sink import Item, Observation, SinkContext
from mmedge.sources.frame import Frame
from mmedge.triggers.settings import Zone
from mmedge.video import VideoWriter, remove_leftovers

_log = logging.getLogger("mmedge")

_FIRST_PICTURES = 8
_SLOWEST, _FASTEST = 1.0, 1000.0


class AnnotatedVideo:
    """Writes one picture a result.

    The first eight pictures are held back, and set the frame rate of the video: their places in the file where the
    source is one, else the times at which they were taken. An observation without a frame is passed over.

    An .mp4 can be played once it is closed: a killed process loses the file that it was writing. `segment_s` bounds
    that loss.

    Args:
        path: The .mp4. Without segments, one that is there is replaced at the end; segments are never replaced, but
            numbered, ``PATH-1.mp4``, also over several runs.
        source: Name of the source that is written; None: all that come.
        segment_s: Begin a new file after so many seconds; None: one file.
        keep: How many segments there may be; the oldest are deleted. None: all.
        zones: To be drawn, too.

    Raises:
        InputError: An argument is out of range.
        SinkError: `path` is no .mp4, or its folder cannot be written to.
    """

    kind = "video"
    takes = (Observation,)

    def __init__(
        self,
        path: str | Path,
        *,
        source: str | None = None,
        segment_s: float | None = None,
        keep: int | None = None,
        zones: Sequence[Zone] = (),
    ) -> None:
        if segment_s is not None and not segment_s > 0:
            raise InputError(f"segment_s must be seconds above 0, or None for one file, got {segment_s}")
        if keep is not None and segment_s is None:
            raise InputError("keep counts segments: give segment_s, too")
        self._family = Family(path, ".mp4", keep)
        self._source = source
        self._segment_s = segment_s
        self._zones = zones
        self._held: list[tuple[Frame, npt.NDArray[np.uint8]]] = []
        self._began = 0.0
        self._said = False
        remove_leftovers(self._family.path)
        self._writer: VideoWriter | None = VideoWriter(self._family.path) if segment_s is None else None

    def write(self, item: Item) -> None:
        """Append the picture of a result.

        Raises:
            VideoWriteError: The file cannot be made, or the segment before could not be finished.
        """
        if not isinstance(item, Observation) or self._source not in (None, item.result.source):
            return
        if item.frame is None:
            self._say_once()
            return
        if self._segment_s is not None and self._began and item.frame.captured - self._began >= self._segment_s:
            self._finish()
        self._began = self._began or item.frame.captured
        picture = draw(item.result, item.frame.image, self._zones)
        if self._writer is not None and self._writer.frames:
            self._writer.write(picture)
            return
        self._held.append((item.frame, picture))
        if len(self._held) >= _FIRST_PICTURES:
            self._start()

    def _say_once(self) -> None:
        if not self._said:
            self._said = True
            _log.warning("%s: no pixels come here, so nothing is written", self._family.path)

    def _start(self) -> None:
        held, self._held = self._held, []
        if self._writer is None:
            self._writer = VideoWriter(self._family.path if self._segment_s is None else self._family.next())
        self._writer.fps = frame_rate([frame for frame, _ in held]) or self._writer.fps
        for _, picture in held:
            self._writer.write(picture)

    def _finish(self) -> None:
        try:
            if self._held:
                self._start()
            if self._writer is not None:
                self._writer.close()
        finally:
            self._writer, self._held, self._began = None, [], 0.0
            self._family.prune()

    def close(self) -> None:
        """Finish the file.

        Raises:
            VideoWriteError: What was written cannot be read back whole: the disk is full, for one.
        """
        self._finish()


def open_video(
    context: SinkContext,
    *,
    path: str,
    source: str | None = None,
    segment_s: float | None = None,
    keep: int | None = None,
) -> AnnotatedVideo:
    """As a device file asks for it: of the only source there is, or of the one that is named."""
    names = [watched.name for watched in context.sources]
    if source is None and len(names) > 1:
        raise InputError(f"video: a video holds one source; source must be one of {', '.join(names)}")
    if source is not None and names and source not in names:
        raise InputError(f"video: source must be one of {', '.join(names)}, got {source!r}")
    if not context.pixels:
        raise InputError("video: no pixels may be stored on this device, so there is nothing to write")
    check_ending("video", path, ".mp4")
    return AnnotatedVideo(path, source=source, segment_s=segment_s, keep=keep)


def frame_rate(frames: Sequence[Frame]) -> float | None:
    """Frames a second of frames that follow each other; None where they do not tell."""
    if len(frames) < 2:
        return None
    places = [frame.media_time_s for frame in frames]
    first, last = places[0], places[-1]
    if first is not None and last is not None:
        step = (last - first) / (len(frames) - 1)
    else:
        step = median(later.captured - earlier.captured for earlier, later in pairwise(frames))
    return None if step <= 0 else min(max(round(1 / step, 2), _SLOWEST), _FASTEST)
