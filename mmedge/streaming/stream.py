"""One model over one or several cameras."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from mmedge.errors import InputError
from mmedge.results import Result
from mmedge.sources.frame import Frame
from mmedge.sources.spec import checked_seconds
from mmedge.streaming.arguments import Sources, checked_count, checked_sources
from mmedge.streaming.newest import Newest
from mmedge.streaming.report import SourceReport
from mmedge.streaming.runner import FrameModel, Pair, Runner
from mmedge.streaming.states import StateChange
from mmedge.streaming.supervisor import CLOSE_S, Supervisor

__all__ = ["FrameModel", "Stream", "stream"]

log = logging.getLogger(__name__)

OnResult = Callable[[Frame, Result], object]
OnError = Callable[[BaseException], object]


class Stream(Iterator[Result]):
    """The results of a stream: one by one as an iterator, by `get` where a program asks for the newest, or by `start`
    as calls of a function.

    Nothing is opened before the first result is asked for. The end, an exception, `close` and dropping the stream, as
    leaving a loop over it does, all stop its threads and close the sources; a ``with`` statement does so at a known
    moment. An iterator runs the model in the thread that asks; threads that ask at the same time wait for each other.
    """

    def __init__(self, runner: Runner, supervisor: Supervisor) -> None:
        self._runner = runner
        self._supervisor = supervisor
        self._starting = threading.Lock()
        self._worker: threading.Thread | None = None
        self._newest: Newest | None = None
        weakref.finalize(self, supervisor.close)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Result:
        pair = self._runner.step()
        if pair is None:
            raise StopIteration
        return pair[1]

    def with_frames(self) -> Iterator[Pair]:
        """The same stream with the frame of each result: for drawing, saving, or comparing with what is known."""
        return iter(self._step, None)

    def _step(self) -> Pair | None:
        return self._runner.step()

    def get(self, timeout: float) -> Result | None:
        """The newest result that was not asked for yet, for a control loop; the model runs in a thread of its own.

        Of several sources, the newest result of the one that has waited longest. What a program does not ask for in
        time is replaced by what is newer. Ask the result for its `state` and `age_now_ms` before acting on it.

        Args:
            timeout: Seconds to wait for one, above 0.

        Returns:
            The result; None where none comes in time, and at once after the end: see `ended`.

        Raises:
            InputError: `timeout` is no such time, or `start` runs the stream.
            Exception: What ended the stream, once.
        """
        timeout = checked_seconds("timeout", timeout)
        with self._starting:
            if self._newest is None:
                newest = Newest()
                # The thread must not keep the stream: a program that drops it ends it.
                self._begin(_work, self._runner, newest.add, newest.end)
                self._newest = newest
            newest = self._newest
        return newest.get(timeout)

    def start(self, on_result: OnResult, on_error: OnError | None = None) -> None:
        """Run the stream in a thread of its own, until its end or `stop`.

        Args:
            on_result: Called with each frame and its result, from that thread. What it raises ends the stream.
            on_error: Called with what ended the stream before its time; None: it is logged.

        Raises:
            InputError: The stream is run by `start` or `get` already, or a function is none.
        """
        if not callable(on_result) or not (on_error is None or callable(on_error)):
            raise InputError(f"on_result and on_error must be functions, got {on_result!r:.60} and {on_error!r:.60}")

        def end(error: BaseException | None) -> None:
            if error is None:
                return
            if on_error is None:
                log.error("the stream ended: %s", error, exc_info=error)
            else:
                on_error(error)

        with self._starting:
            self._begin(self._work, on_result, end)

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        if self._worker is not None:
            raise InputError("the stream runs in a thread of its own already; make another stream")
        self._worker = threading.Thread(target=work, args=arguments, name="run model", daemon=True)
        self._worker.start()

    def _work(self, on_result: OnResult, end: Callable[[BaseException | None], None]) -> None:
        _work(self._runner, on_result, end)

    def stop(self) -> None:
        """Ask the stream to end after the frame that it is working on; returns at once. `join` waits."""
        self._supervisor.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait `timeout` seconds (None: without end) for what `start` began; returns whether it is over."""
        worker = self._worker
        if worker is None:
            return True
        worker.join(timeout)
        return not worker.is_alive()

    def add(self, source: Sources, **options: Any) -> bool:
        """Watch further sources beside the present ones, which notice nothing; arguments as for `stream`.

        Returns:
            Whether they are watched; False where the stream has ended.

        Raises:
            InputError: As `stream`, or a name is in use.
        """
        added = checked_sources(source, options)
        names = {report.name for report in self.reports}
        taken = [o.name for o in added if o.name is not None and o.name in names]
        if taken:
            raise InputError(f"there is a source named {taken[0]!r} already")
        return self._supervisor.add(added)

    def remove(self, name: str) -> bool:
        """Let go of a source; its report goes, too. Returns at once whether there was one of that name.

        The stream ends after its last source was taken away.
        """
        return self._supervisor.remove(name)

    @property
    def ended(self) -> bool:
        """No more results come."""
        return self._supervisor.stopped

    @property
    def reports(self) -> tuple[SourceReport, ...]:
        """One for each source, in their order, all of the same moment."""
        return self._supervisor.reports()

    def close(self) -> None:
        """Close the sources and end all threads of the stream, within 2 seconds.

        Called from another thread, it lets a loop end after the frame that it is working on.
        """
        deadline = time.monotonic() + CLOSE_S
        self._supervisor.close(deadline)
        worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join(max(deadline - time.monotonic(), 0.0))

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _work(runner: Runner, on_result: OnResult, end: Callable[[BaseException | None], None]) -> None:
    """Everything that `runner` gives to `on_result`, and how it ended to `end`."""
    error: BaseException | None = None
    try:
        while (pair := runner.step()) is not None:
            on_result(*pair)
    except BaseException as caught:
        error = caught
        runner.close()
    end(error)


def stream(
    model: FrameModel,
    source: Sources,
    *,
    on_state: Callable[[StateChange], None] | None = None,
    max_frames: int | None = None,
    max_batch: int = 4,
    **options: Any,
) -> Stream:
    """Run `model` over the frames of one source, or of several.

    Whenever the model is free it takes one frame of each source that has one due, up to `max_batch` in one call where
    the model has `run_batch`; the sources that were served longest ago come first, and no frame waits for another
    source. So a source is served at the latest every ``ceil(sources / batch)``-th call, and with the policy `freshest`
    the age of a result is at most the time between two frames plus one call of the model, however many sources there
    are.

    A source that is lost is opened again (`SourceOptions.reconnect`), and one that ends or fails leaves the others
    alone. A frame that the model refuses (FrameInputError) is counted and passed over; any other error of the model
    ends the stream.

    Args:
        model: Turns a frame into a result.
        source: As for `mmedge.sources.open_source`, an open `Source`, one of these with `SourceOptions`, a list of
            such, or a mapping from the names that they shall have in results. Each keeps its own numbering.
        on_state: Is told each change of a source's state, from a thread of the stream; it must not block.
        max_frames: End after so many results, of all sources together.
        max_batch: Most frames in one call of the model.
        options: Fields of `SourceOptions` for the sources that come without, such as ``policy="every"``.

    Returns:
        An iterator of results, and more: see `Stream`. It opens the sources when the first result is asked for.

    Raises:
        InputError: An argument is out of range, or `source` is nothing that can be opened.
        SourceNotFoundError, SourceOpenError: From the iterator, at once: a source cannot be opened the first time.
        SourceError: From the iterator, after the last result of the others: a source failed.
        FrameInputError: From the iterator, at the end: the model refused every frame.
    """
    if max_frames is not None:
        max_frames = checked_count("max_frames", max_frames, 0)
    if on_state is not None and not callable(on_state):
        raise InputError(f"on_state must be a function, got {on_state!r:.60}")
    supervisor = Supervisor(checked_sources(source, options), on_state)
    return Stream(Runner(model, supervisor, max_frames, checked_count("max_batch", max_batch, 1)), supervisor)
