"""When a fault is there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Place:
    """Where a source is: the number of its frame, and that frame's time since the source's first in seconds."""

    index: int
    seconds: float


@dataclass(frozen=True)
class Span:
    """A number of frames, or of seconds where it is `timed`."""

    value: float
    timed: bool

    def place(self, place: Place) -> float:
        """`place` in the same unit."""
        return place.seconds if self.timed else place.index


@dataclass(frozen=True)
class When:
    """What starts a fault: a place, a place and each `period` after it, or chance at each frame.

    Exactly one of `start` and `chance` is there; `period` has the unit of `start`.
    """

    start: Span | None = None
    period: float | None = None
    chance: float | None = None


class Schedule:
    """Whether a fault is there, asked once for each frame in their order.

    Args:
        when: What starts it.
        length: For how long from the frame at which it started; None: to the end.
        seed: Numbers that make chance repeatable: whether it strikes depends on them and on the frame's number alone.
    """

    def __init__(self, when: When, length: Span | None, seed: tuple[int, ...]) -> None:
        self._when = when
        self._length = length
        self._seed = seed
        self._begun: Place | None = None
        self._strikes = 0

    def active(self, place: Place) -> bool:
        """Whether the frame at `place` is struck."""
        if self._lasts(place):
            return True
        self._begun = place if self._strikes_at(place) else None
        return self._begun is not None

    def _lasts(self, place: Place) -> bool:
        if self._begun is None:
            return False
        if self._length is None:
            return True
        return self._length.place(place) < self._length.place(self._begun) + self._length.value

    def _strikes_at(self, place: Place) -> bool:
        if self._when.chance is not None:
            return bool(np.random.default_rng((*self._seed, place.index)).random() < self._when.chance)
        due = self._due(place)
        struck = due > self._strikes
        self._strikes = max(due, self._strikes)
        return struck

    def _due(self, place: Place) -> int:
        """How many starts lie at or before `place`."""
        start = self._when.start
        if start is None or start.place(place) < start.value:
            return 0
        if self._when.period is None:
            return 1
        return math.floor((start.place(place) - start.value) / self._when.period) + 1
