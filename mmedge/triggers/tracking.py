"""The same number for the same thing in successive frames."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmedge.errors import InputError
from mmedge.results import Floats, Grounding
from mmedge.triggers.scores import overlaps

_MOST_SOURCES = 256
_MOST_TRACKS = 1024
_VELOCITY_WEIGHT = 0.5
"""Share of the newest step in the velocity of a track."""


@dataclass
class _Track:
    """One thing that is followed: its last box [4], pixels a second of its corners' movement [2], and when."""

    number: int
    label: str
    box: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64]
    seen: float

    def at(self, time: float) -> npt.NDArray[np.float64]:
        """Where it is expected, [4]: it moves on as it did."""
        return self.box + np.tile(self.velocity * (time - self.seen), 2)

    def move(self, box: npt.NDArray[np.float64], time: float) -> None:
        if time > self.seen:
            step = ((box - self.box)[:2] + (box - self.box)[2:]) / 2 / (time - self.seen)
            self.velocity = _VELOCITY_WEIGHT * step + (1 - _VELOCITY_WEIGHT) * self.velocity
        self.box, self.seen = box, time


class Tracker:
    """Numbers the detections of each source, each prompt by itself. Any thread may call it.

    A detection belongs to the track of its prompt whose expected box it overlaps most, pairs of the largest overlap
    first; a track that nothing fits stays for `max_age` and moves on as it did. Numbers are not used again.

    Args:
        min_overlap: Smallest intersection over union of a detection and its track's expected box, above 0 and up to 1.
        max_age: Seconds for which a thing may be out of sight, from 0 to 3600.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(self, min_overlap: float = 0.1, max_age: float = 1.0) -> None:
        if not 0 < min_overlap <= 1:
            raise InputError(f"min_overlap must be above 0 and up to 1, got {min_overlap!r}")
        if not 0 <= max_age <= 3600:
            raise InputError(f"max_age must be a number of seconds from 0 to 3600, got {max_age!r}")
        self._min_overlap = min_overlap
        self._max_age = max_age
        self._sources: OrderedDict[str, _Numbered] = OrderedDict()
        self._lock = threading.Lock()

    def update(self, result: Grounding) -> Grounding:
        """`result` with `track_ids`. Results of a source come in the order in which the frames were taken."""
        with self._lock:
            numbered = self._sources.setdefault(result.source, _Numbered())
            self._sources.move_to_end(result.source)
            if len(self._sources) > _MOST_SOURCES:
                self._sources.popitem(last=False)
            return replace(result, track_ids=numbered.follow(result, self._min_overlap, self._max_age))


class _Numbered:
    """The tracks of one source."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 1

    def follow(self, result: Grounding, min_overlap: float, max_age: float) -> npt.NDArray[np.int64]:
        """The number of each detection, int64 [k]."""
        time = result.captured
        self._tracks = [track for track in self._tracks if time - track.seen <= max_age]
        found: dict[int, _Track] = {}
        for label in dict.fromkeys(result.labels):
            tracks = [track for track in self._tracks if track.label == label]
            detections = [i for i, other in enumerate(result.labels) if other == label]
            found.update(_pairs(tracks, detections, result.boxes, time, min_overlap))
        for i, label in enumerate(result.labels):
            box = result.boxes[i].astype(np.float64)
            if i in found:
                found[i].move(box, time)
            else:
                found[i] = _Track(self._next, label, box, np.zeros(2), time)
                self._tracks.append(found[i])
                self._next += 1
        del self._tracks[:-_MOST_TRACKS]
        return np.array([found[i].number for i in range(len(result.labels))], np.int64)


def _pairs(
    tracks: list[_Track], detections: list[int], boxes: Floats, time: float, min_overlap: float
) -> dict[int, _Track]:
    """Which detection goes on which track: those of the largest overlap first."""
    if not tracks:
        return {}
    shared = overlaps(boxes[detections], np.array([track.at(time) for track in tracks], np.float32))
    taken: dict[int, _Track] = {}
    while True:
        row, column = np.unravel_index(int(shared.argmax()), shared.shape)
        if shared[row, column] < min_overlap:
            return taken
        taken[detections[int(row)]] = tracks[int(column)]
        shared[row, :] = shared[:, column] = -1.0
