"""Events that were told against events that happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

Span = tuple[float, float]
"""Begin and end in seconds."""

SHORTEST_S = 1.0
"""What is in view for less is neither an event nor, where it is told as one, a false one."""


@dataclass
class Counts:
    """Sums over clips.

    Attributes:
        events: That happened.
        found: Of these, those for which something was told.
        told: Events that were told, without those about things in view for less than `SHORTEST_S`.
        false: Told while nothing was there.
        repeated: Told again for an event that was told already.
        seconds: Length of the clips.
    """

    events: int = 0
    found: int = 0
    told: int = 0
    false: int = 0
    repeated: int = 0
    seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def precision(self) -> float:
        """Share of what was told that is the first about an event; 1 where nothing was told."""
        return 1 - (self.false + self.repeated) / self.told if self.told else 1.0

    @property
    def recall(self) -> float:
        """Share of the events that were told; 1 where there were none."""
        return self.found / self.events if self.events else 1.0

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    @property
    def false_per_hour(self) -> float:
        return self.false / self.seconds * 3600

    def to_json(self) -> dict[str, float]:
        return {
            "events": self.events,
            "found": self.found,
            "told": self.told,
            "false": self.false,
            "repeated": self.repeated,
            "hours": round(self.seconds / 3600, 4),
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "false_per_hour": round(self.false_per_hour, 2),
        }


def spans(times: Sequence[float], flags: Sequence[bool], bridge: float = 0.0) -> list[Span]:
    """The times between which `flags` hold; breaks of up to `bridge` seconds do not part them."""
    found: list[Span] = []
    for time, flag in zip(times, flags, strict=True):
        if not flag:
            continue
        previous = times[times.index(time) - 1] if time != times[0] else time
        if found and (found[-1][1] == previous or time - found[-1][1] <= bridge):
            found[-1] = found[-1][0], time
        else:
            found.append((time, time))
    return found


def compare(told: Sequence[Span], happened: Sequence[Span], seconds: float) -> Counts:
    """Match what was told with what happened, by overlap in time."""
    counts = Counts(seconds=seconds)
    events = [span for span in happened if span[1] - span[0] >= SHORTEST_S]
    counts.events = len(events)
    seen: set[Span] = set()
    for span in told:
        over = [event for event in happened if event[0] <= span[1] and span[0] <= event[1]]
        long = [event for event in over if event in events]
        if over and not long:
            continue
        counts.told += 1
        counts.false += not over
        counts.repeated += bool(long) and seen.issuperset(long)
        seen.update(long)
    counts.found = len(seen)
    return counts
