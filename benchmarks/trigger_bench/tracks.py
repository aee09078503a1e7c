"""Numbers of tracks against the things that they are about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from mmedge.results import Grounding
from mmedge.tabletop import Truth
from mmedge.tabletop.grammar import parse_prompt
from mmedge.triggers.scores import overlaps
from mmedge.triggers.tracking import Tracker


@dataclass
class TrackCounts:
    """Sums over clips.

    Attributes:
        minutes: Time for which things were detected: one minute of one thing, found for one prompt.
        switches: A thing has another number than the last time it was detected for that prompt.
        resumed: Of these, those after more than a second out of sight: the tracker had let go of it, as it should.
        taken: A number went over to another thing.
    """

    minutes: float = 0.0
    switches: int = 0
    resumed: int = 0
    taken: int = 0

    def __add__(self, other: TrackCounts) -> TrackCounts:
        return TrackCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def to_json(self) -> dict[str, float]:
        return {
            "object_minutes": round(self.minutes, 2),
            "switches": self.switches,
            "switches_per_minute": round((self.switches - self.resumed) / max(self.minutes, 1e-9), 3),
            "resumed": self.resumed,
            "taken": self.taken,
            "taken_per_minute": round(self.taken / max(self.minutes, 1e-9), 3),
        }


def follow(
    tracker: Tracker, frames: Iterable[tuple[float, Grounding, Truth, Sequence[str]]], step_s: float
) -> TrackCounts:
    """Number the detections of a clip: time, result, truth and the name of each object of it, frame by frame."""
    counts = TrackCounts()
    number_of: dict[tuple[str, str], tuple[int, float]] = {}
    thing_of: dict[int, str] = {}
    for time, result, truth, names in frames:
        numbered = tracker.update(result)
        boxes = np.array([thing.box for thing in truth.objects], np.float32).reshape(-1, 4)
        shared = overlaps(numbered.boxes, boxes)
        for i, label in enumerate(numbered.labels):
            target = parse_prompt(label).target
            for j, thing in enumerate(truth.objects):
                if not target.fits(thing):
                    shared[i, j] = 0
            if shared.shape[1] == 0 or shared[i].max() < 0.5:
                continue
            name, number = names[int(shared[i].argmax())], int(numbered.track_ids[i])  # type: ignore[index]
            counts.minutes += step_s / 60
            before = number_of.get((label, name))
            if before is not None and before[0] != number:
                counts.switches += 1
                counts.resumed += time - before[1] > 1.0
            number_of[label, name] = number, time
            counts.taken += thing_of.setdefault(number, name) != name
            thing_of[number] = name
    return counts
