"""Running a model over sources from the command line, until they end, are counted out or are interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmedge.cli.tally import Tally

if TYPE_CHECKING:
    from mmedge.model import Model
    from mmedge.results import Result
    from mmedge.sources import Frame, SourceLike
    from mmedge.stream import Stream

    Report = Callable[[Frame, Result, Tally], None]


@dataclass(frozen=True)
class Session:
    """What to do with the frames.

    Attributes:
        policy, frames, timeout: As `policy`, `max_frames` and `timeout` of `mmedge.stream.stream`.
        seconds: End so long after the first result; None: no such end.
        save: The .mp4 file for the frames with their results; None: no file.
        show: Show them in a window, too.
    """

    policy: str = "auto"
    frames: int | None = None
    timeout: float = 5.0
    seconds: float | None = None
    save: Path | None = None
    show: bool = False

    def run(self, model: Model, sources: Sequence[SourceLike], report: Report, tally: Tally) -> None:
        """Give each result to `report`, the video and the window, and count it in `tally`.

        An interrupt ends the session like the end of the sources; `tally.interrupted` tells.

        Raises:
            MmedgeError: A source, the model or the video failed. The video of what came before is completed.
        """
        from mmedge.stream import stream

        with ExitStack() as stack:
            results = stream(model, list(sources), policy=self.policy, max_frames=self.frames, timeout=self.timeout)
            sinks = self._sinks(stack, results)
            stack.enter_context(results)
            try:
                for frame, result in results.with_frames():
                    tally.add(result, results.reports)
                    report(frame, result, tally)
                    for sink in sinks:
                        sink(frame, result)
                    if self.seconds is not None and tally.elapsed >= self.seconds:
                        break
            except KeyboardInterrupt:
                tally.interrupted = True
            finally:
                tally.reports = results.reports

    def _sinks(self, stack: ExitStack, results: Stream) -> list[Callable[[Frame, Result], None]]:
        sinks: list[Callable[[Frame, Result], None]] = []
        if self.save is not None:
            from mmedge.cli.saving import Saver

            sinks.append(stack.enter_context(Saver(self.save, results)))
        if self.show:
            from mmedge.cli.window import Window

            sinks.append(stack.enter_context(Window(results)))
        return sinks
