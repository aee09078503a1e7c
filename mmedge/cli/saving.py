"""The video of a session."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import median
from types import TracebackType

import numpy as np
import numpy.typing as npt

from mmedge.results import Result
from mmedge.sources import Frame
from mmedge.stream import Stream
from mmedge.video import VideoWriter

_FIRST_RESULTS = 8
_SLOWEST = 1.0


class Saver:
    """Writes one picture a result.

    A file keeps its frame rate. Of a live source nobody knows how many frames the model will take: the first eight
    pictures are held back, and the rate at which they were taken is that of the video.

    Args:
        path: The .mp4.
        stream: Its first source is the one that is written.
    """

    def __init__(self, path: Path, stream: Stream) -> None:
        self._writer = VideoWriter(path)
        self._stream = stream
        self._held: list[tuple[float, npt.NDArray[np.uint8]]] = []

    def __call__(self, frame: Frame, result: Result) -> None:
        picture = result.plot(frame)
        if self._writer.frames:
            self._writer.write(picture)
            return
        self._held.append((frame.captured, picture))
        if len(self._held) == _FIRST_RESULTS or not self._stream.reports[0].live:
            self._start()

    def _start(self) -> None:
        held, self._held = self._held, []
        self._writer.fps = self._rate([captured for captured, _ in held]) or self._writer.fps
        for _, picture in held:
            self._writer.write(picture)

    def _rate(self, captured: list[float]) -> float | None:
        report = self._stream.reports[0]
        step = median([later - earlier for earlier, later in pairwise(captured)] or [0.0])
        if not report.live or step <= 0:
            return report.fps
        return max(round(min(1 / step, report.fps or np.inf), 2), _SLOWEST)

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held:
            self._start()
        self._writer.close()
