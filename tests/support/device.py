"""Parts for devices in tests: results, sources that hang, sinks that collect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.results import Classification, Grounding
from mmedge.sinks.sink import Item, Observation
from mmedge.sources.frame import Frame
from mmedge.triggers.event import Event


def frame_at(image: npt.NDArray[np.uint8], captured: float = 0.0, source: str = "front", index: int = 0) -> Frame:
    """A frame taken at `captured`, seconds of the monotonic clock."""
    return Frame(image, source, index, captured, datetime.fromtimestamp(1.7e9 + captured, timezone.utc))


def grounding(
    frame: Frame, prompts: Sequence[str], found: Sequence[tuple[str, float, Any]], **scores: float
) -> Grounding:
    """What a model found: prompt, score and box of each. `scores`: the best ones of prompts without a box, by place."""
    best = [max((score for label, score, _ in found if label == prompt), default=0.0) for prompt in prompts]
    for place, score in scores.items():
        best[int(place[1:])] = score
    return Grounding(
        source=frame.source,
        frame=frame.index,
        captured=frame.captured,
        captured_at=frame.captured_at,
        age_ms=1.0,
        latency_ms=1.0,
        prompt_version=1,
        labels=tuple(label for label, _, _ in found),
        scores=np.array([score for _, score, _ in found], np.float32),
        boxes=np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
        prompts=np.array([list(prompts).index(label) for label, _, _ in found], np.int64),
        all_scores=np.array(best, np.float32),
    )


def classification(frame: Frame, scores: dict[str, float]) -> Classification:
    """How well each prompt fits."""
    return Classification(
        source=frame.source,
        frame=frame.index,
        captured=frame.captured,
        captured_at=frame.captured_at,
        age_ms=1.0,
        latency_ms=1.0,
        prompt_version=1,
        labels=tuple(scores),
        scores=np.array(list(scores.values()), np.float32),
    )


class Collecting:
    """A sink that keeps what it is given."""

    kind = "collecting"

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.closed = False

    def write(self, item: Item) -> None:
        self.items.append(item)

    def close(self) -> None:
        self.closed = True

    def of(self, kind: type[Any]) -> list[Any]:
        """The items of a kind, in their order."""
        return [item for item in list(self.items) if isinstance(item, kind)]

    def pictures(self) -> list[npt.NDArray[np.uint8]]:
        """Every picture that came, in whatever item."""
        frames = [one.frame for one in self.of(Observation)] + [one.best for one in self.of(Event)]
        return [frame.image for frame in frames if frame is not None]


class HangingSink(Collecting):
    """A sink whose `write` does not come back before `release`."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def write(self, item: Item) -> None:
        self.release.wait()


class Camera:
    """A live source of pictures that a test paints.

    Args:
        paint: From the number of a frame to its picture.
        hang_at: Number of the frame at which `read` does not come back before `release`; None: never.
    """

    live = True
    fps = 50.0
    frame_count = None
    incomplete = None

    def __init__(self, paint: Callable[[int], npt.NDArray[np.uint8]], hang_at: int | None = None) -> None:
        self.name = "painted"
        self.release = threading.Event()
        self.closed = False
        self._paint = paint
        self._hang_at = hang_at
        self._index = 0

    def read(self) -> Frame | None:
        if self.closed:
            return None
        if self._index == self._hang_at:
            self.release.wait()
            return None
        time.sleep(1 / self.fps)
        frame = frame_at(self._paint(self._index), time.monotonic(), self.name, self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        self.closed = True
        if self._hang_at is not None:
            self.release.wait()


def wait_for(happened: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `happened` returns once that is true; AssertionError where it does not become so in time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = happened()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"did not happen within {seconds} s")
