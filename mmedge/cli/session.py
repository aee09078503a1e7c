"""Running a model over sources from the command line, until they end, are counted out or are interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mmedge.cli.tally import Tally
from mmedge.errors import SinkError

if TYPE_CHECKING:
    from mmedge.model import Model
    from mmedge.results import Result
    from mmedge.sinks.sink import Sink
    from mmedge.sources import Frame, SourceLike
    from mmedge.streaming import Stream

    Report = Callable[[Frame, Result, Tally], None]


@dataclass(frozen=True)
class Session:
    """What to do with the frames.

    Attributes:
        frames: End after so many results; None: no such end.
        options: How sources are watched, fields of `mmedge.streaming.SourceOptions`.
        seconds: End so long after the first result; None: no such end.
        save: The .mp4 file for the frames with their results; None: no file.
        show: Show them in a window, too.
    """

    frames: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    save: Path | None = None
    show: bool = False

    def run(self, model: Model, sources: Sequence[SourceLike], report: Report, tally: Tally) -> None:
        """Give each result to `report`, the video and the window, and count it in `tally`.

        An interrupt ends the session like the end of the sources; `tally.interrupted` tells.

        Raises:
            MmedgeError: A source, the model or the video failed. The video of what came before is completed.
        """
        from mmedge.sinks.sink import Observation
        from mmedge.streaming import stream

        with ExitStack() as stack:
            results = stream(model, list(sources), on_state=tally.changed, max_frames=self.frames, **self.options)
            sinks = self._sinks(stack, results)
            stack.enter_context(results)
            try:
                for frame, result in results.with_frames():
                    tally.add(result, results.reports)
                    report(frame, result, tally)
                    for sink in sinks:
                        sink.write(Observation(frame, result))
                    if self.seconds is not None and tally.elapsed >= self.seconds:
                        break
            except KeyboardInterrupt:
                tally.interrupted = True
            finally:
                tally.reports = results.reports

    def _sinks(self, stack: ExitStack, results: Stream) -> list[Sink]:
        sinks: list[Sink] = []
        if self.save is not None:
            from mmedge.sinks.video import AnnotatedVideo

            sinks.append(AnnotatedVideo(self.save))
            stack.callback(sinks[-1].close)
        if self.show:
            from mmedge.sinks.window import Window

            try:
                sinks.append(Window(results.stop))
            except SinkError as error:
                raise typer.BadParameter(f"--show: {error}; --save out.mp4 writes a video instead") from error
            stack.callback(sinks[-1].close)
        return sinks
