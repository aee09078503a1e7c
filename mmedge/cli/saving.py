"""The video of a session."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from mmedge.results import Result
from mmedge.sources import Frame
from mmedge.stream import Stream
from mmedge.video import VideoWriter


class Saver:
    """Writes each frame with its result, at the frame rate of the first source of `stream`."""

    def __init__(self, path: Path, stream: Stream) -> None:
        self._writer = VideoWriter(path)
        self._stream = stream

    def __call__(self, frame: Frame, result: Result) -> None:
        if self._writer.frames == 0:
            self._writer.fps = self._stream.reports[0].fps or self._writer.fps
        picture = result.plot(frame)
        # Once for each frame that passed: what was dropped is a standstill, not a jump in time.
        for _ in range(1 + result.dropped):
            self._writer.write(picture)

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
