"""One model over one or several cameras."""

from __future__ import annotations

import numbers
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, cast

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
        live: Its frames come by themselves, and one that is not taken in time is gone.
        fps: Its nominal frames a second; None where there is no such rate.
        frames: Frames that went to the model.
        dropped: Frames that were passed over between them.
        incomplete: Why a file gave less than it promised; None where nothing is missing.
    """

    name: str
    live: bool
    fps: float | None
    frames: int
    dropped: int
    incomplete: str | None


class Stream(Iterator[Result]):
    """The results of a stream, one by one.

    Nothing is opened before the first result is asked for. The end, an exception, `close` and dropping the stream, as
    leaving a loop over it does, all stop the reading threads and close the sources; a ``with`` statement does so at a
    known moment. Threads that ask for results at the same time wait for each other.
    """

    def __init__(self, model: FrameModel, feed: Feed, max_frames: int | None) -> None:
        self._model = model
        self._feed = feed
        self._left = max_frames
        self._opened = False
        self._stepping = threading.Lock()
        weakref.finalize(self, feed.close)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Result:
        pair = self._step()
        if pair is None:
            raise StopIteration
        return pair[1]

    def with_frames(self) -> Iterator[tuple[Frame, Result]]:
        """The same stream with the frame of each result: for drawing, saving, or comparing with what is known."""
        return iter(self._step, None)

    def _step(self) -> tuple[Frame, Result] | None:
        with self._stepping:
            try:
                pair = None if self._left == 0 else self._run()
            except BaseException:
                self.close()
                raise
            if pair is None:
                self.close()
            elif self._left is not None:
                self._left -= 1
            return pair

    def _run(self) -> tuple[Frame, Result] | None:
        if not self._opened:
            self._opened = True
            self._feed.open()
        frame = self._feed.next()
        return None if frame is None else (frame, self._model(frame))

    @property
    def reports(self) -> tuple[SourceReport, ...]:
        """One for each source, in their order; empty before the first result."""
        return tuple(
            SourceReport(r.source.name, r.source.live, r.source.fps, r.delivered, r.dropped, r.source.incomplete)
            for r in self._feed.readers
        )

    def close(self) -> None:
        """Close the sources. Called from another thread, it lets the loop end after the frame that it is working on."""
        self._feed.close()

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

    A source that is lost ends the stream of all of them with SourceLostError; nothing is opened again by itself. Where
    the other cameras have to go on, give each a stream of its own.

    Args:
        model: Turns a frame into a result.
        source: As for `mmedge.sources.open_source`, an open `Source`, or a list of them. Each keeps its own numbering.
        policy: ``freshest``: the newest frame, passing over those that came meanwhile; a file then plays in real time.
            ``every``: each frame; a live source then waits in a queue of 64 and drops the oldest beyond it.
            ``auto``: freshest for live sources, every frame of files.
        max_frames: End after so many results, of all sources together.
        timeout: Seconds without a frame after which a source counts as lost, up to 1e6.
        open_timeout: Seconds within which a camera or network stream must answer, up to 1e6.

    Returns:
        An iterator of results that opens the sources when the first one is asked for.

    Raises:
        InputError: An argument is out of range, or `source` is nothing that can be opened.
        SourceNotFoundError, SourceOpenError: From the iterator: a source cannot be opened.
        SourceLostError: From the iterator: a source stopped giving frames.
    """
    if max_frames is not None and (
        not isinstance(max_frames, numbers.Integral) or isinstance(max_frames, bool) or max_frames < 0
    ):
        raise InputError(f"max_frames must be a whole number of 0 or more, or None, got {max_frames!r}")
    several = isinstance(source, Sequence) and not isinstance(source, (str, bytes, bytearray))
    feed = Feed(
        cast(Sequence[SourceLike], source if several else [source]),
        policy=policy,
        timeout=timeout,
        open_timeout=open_timeout,
    )
    return Stream(model, feed, max_frames)
