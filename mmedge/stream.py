"""One model over one or several cameras."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from mmedge.errors import InputError
from mmedge.results import Result
from mmedge.sources import Feed, Frame, SourceLike

__all__ = ["FrameModel", "SourceLike", "SourceReport", "Stream", "stream"]


class FrameModel(Protocol):
    """Whatever turns a frame into a result, such as `mmedge.Model`."""

    def __call__(self, frame: Frame, /) -> Result: ...


@dataclass(frozen=True)
class SourceReport:
    """What a stream had of one source so far.

    Attributes:
        name: Of the source.
        fps: Its nominal frames a second; None where there is no such rate.
        frames: Frames that went to the model.
        dropped: Frames that were passed over between them.
        incomplete: Why a file gave less than it promised; None where nothing is missing.
    """

    name: str
    fps: float | None
    frames: int
    dropped: int
    incomplete: str | None


class Stream(Iterator[Result]):
    """The results of a stream, one by one.

    Nothing is opened before the first result is asked for. Leaving the loop, an exception and `close` all stop the
    reading threads and close the sources; a ``with`` statement does so at a known moment.
    """

    # The generator does not refer to this object: dropping the stream then ends it at once, without the collector.
    def __init__(self, feed: Feed, pairs: Generator[tuple[Frame, Result], None, None]) -> None:
        self._feed = feed
        self._pairs = pairs

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Result:
        return next(self._pairs)[1]

    def with_frames(self) -> Iterator[tuple[Frame, Result]]:
        """The same stream with the frame of each result: for drawing, saving, or comparing with what is known."""
        return self._pairs

    @property
    def reports(self) -> tuple[SourceReport, ...]:
        """One for each source, in their order; empty before the first result."""
        return tuple(
            SourceReport(r.source.name, r.source.fps, r.delivered, r.dropped, r.source.incomplete)
            for r in self._feed.readers
        )

    def close(self) -> None:
        """Stop. Called from another thread, it lets the loop end after the frame that it is working on."""
        self._feed.stop()
        # Only the thread that runs a generator can close it; where it runs, that thread has just been told.
        if inspect.getgeneratorstate(self._pairs) != inspect.GEN_RUNNING:
            self._pairs.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def stream(
    model: FrameModel,
    source: SourceLike | Sequence[SourceLike],
    *,
    policy: str = "auto",
    max_frames: int | None = None,
    timeout: float = 5.0,
    open_timeout: float = 10.0,
) -> Stream:
    """Run `model` over the frames of one source, or of several that take turns.

    Args:
        model: Turns a frame into a result.
        source: As for `mmedge.sources.open_source`, an open `Source`, or a list of them. Each keeps its own numbering.
        policy: ``freshest``: the newest frame, passing over those that came meanwhile; a file then plays in real time.
            ``every``: each frame; a live source then waits in a queue of 64 and drops the oldest beyond it.
            ``auto``: freshest for live sources, every frame of files.
        max_frames: End after so many results, of all sources together.
        timeout: Seconds without a frame after which a source counts as lost.
        open_timeout: Seconds within which a camera or network stream must answer.

    Returns:
        An iterator of results that opens the sources when the first one is asked for.

    Raises:
        InputError: An argument is out of range.
        SourceNotFoundError, SourceOpenError: From the iterator: a source cannot be opened.
        SourceLostError: From the iterator: a source stopped giving frames.
    """
    if max_frames is not None and max_frames < 0:
        raise InputError(f"max_frames must be 0 or more, or None, got {max_frames}")
    sources = [source] if isinstance(source, (str, int, Path)) or not isinstance(source, Sequence) else list(source)
    feed = Feed(sources, policy=policy, timeout=timeout, open_timeout=open_timeout)
    return Stream(feed, _pairs(model, feed, max_frames))


def _pairs(model: FrameModel, feed: Feed, max_frames: int | None) -> Generator[tuple[Frame, Result], None, None]:
    given = 0
    with feed:
        while given != max_frames:
            frame = feed.next()
            if frame is None:
                return
            yield frame, model(frame)
            given += 1
