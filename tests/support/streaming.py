"""Models, cameras and listeners for tests of streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmedge.errors import FrameInputError
from mmedge.results import Result
from mmedge.sources import Frame, Source
from mmedge.streaming import StateChange
from support.media import Script


def result_of(frame: Frame, latency_s: float = 0.0, **fields: Any) -> Result:
    """A bare result about `frame`, made now."""
    return Result(
        source=frame.source,
        frame=frame.index,
        captured=frame.captured,
        captured_at=frame.captured_at,
        age_ms=(time.monotonic() - frame.captured) * 1e3,
        dropped=frame.dropped,
        state=frame.state,
        latency_ms=latency_s * 1e3,
        **fields,
    )


class Slow:
    """A model that takes `seconds` a frame, and refuses the frames for which `refuses` is true."""

    def __init__(self, seconds: float = 0.0, refuses: Callable[[Frame], bool] = lambda frame: False) -> None:
        self.seconds = seconds
        self._refuses = refuses

    def __call__(self, frame: Frame, /) -> Result:
        if self._refuses(frame):
            raise FrameInputError("not this one")
        time.sleep(self.seconds)
        return result_of(frame, self.seconds)


class Batching(Slow):
    """The same for several frames at once, in the time of one; remembers what came together."""

    def __init__(self, seconds: float = 0.0, max_batch: int = 4, **options: Any) -> None:
        super().__init__(seconds, **options)
        self.max_batch = max_batch
        self.calls: list[list[tuple[str, int]]] = []

    def run_batch(self, frames: Sequence[Frame]) -> list[Result]:
        self.calls.append([(frame.source, frame.index) for frame in frames])
        if any(self._refuses(frame) for frame in frames):
            raise FrameInputError("not all of them")
        time.sleep(self.seconds)
        return [result_of(frame, self.seconds) for frame in frames]

    def __call__(self, frame: Frame, /) -> Result:
        self.calls.append([(frame.source, frame.index)])
        return super().__call__(frame)


class Still(Script):
    """A camera whose picture stays that of frame `first` until frame `last`."""

    def __init__(self, first: int, last: int = 10**9, **options: Any) -> None:
        super().__init__(**options)
        self._first, self._last = first, last
        self._picture: Any = None

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None or not self._first <= frame.index < self._last:
            return frame
        if self._picture is None:
            self._picture = frame.image
        # Another array with the same pixels: nobody may tell a frozen picture by its place in memory.
        return replace(frame, image=self._picture.copy())


class Noisy(Script):
    """A camera of fresh noise, `width` pixels wide."""

    def __init__(self, width: int = 64, **options: Any) -> None:
        super().__init__(**options)
        self._random = np.random.default_rng(5)
        self._width = width

    def read(self) -> Frame | None:
        frame = super().read()
        noise = self._random.integers(256, size=(48, self._width, 3), dtype=np.uint8)
        return None if frame is None else replace(frame, image=noise)


class Outlet:
    """Stands in for `open_source`: gives one after the other, and the last one again and again.

    Args:
        made: Sources, errors to raise, or functions that give or raise these.
    """

    def __init__(self, *made: Source | Exception | Callable[[], Source]) -> None:
        self._made = list(made)
        self.opened: list[float] = []

    def __call__(self, spec: str, **options: float) -> Source:
        self.opened.append(time.monotonic())
        thing = self._made.pop(0) if len(self._made) > 1 else self._made[0]
        if isinstance(thing, Exception):
            raise thing
        return thing() if callable(thing) else thing


class Listener:
    """Remembers changes of states."""

    def __init__(self) -> None:
        self.changes: list[StateChange] = []

    def __call__(self, change: StateChange) -> None:
        self.changes.append(change)

    def states(self, source: str | None = None) -> list[str]:
        """Every state of a source after the first, in their order."""
        return [change.state for change in self.changes if source in (None, change.source)]

    def at(self, state: str) -> float:
        """When it was first told, seconds of `time.monotonic`."""
        return next(change.at for change in self.changes if change.state == state)


def threads(*names: str) -> list[str]:
    """The running threads of streams whose names begin so."""
    known = names or ("read ", "close ", "watch sources", "run model")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(known)]
