"""What a stream had of one source so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmedge.streaming.states import State


@dataclass(frozen=True)
class SourceReport:
    """The state and the counters of one source, consistent with each other.

    ``read = processed + dropped + errors + what waits or is being worked on``, where `dropped` leaves out ``source``:
    frames that the source itself left out were never read.

    Attributes:
        name: Of the source, passwords masked.
        live: Its frames come by themselves, and one that is not taken in time is gone.
        fps: Its nominal frames a second; None where there is no such rate, or it was never open.
        state: See `mmedge.streaming.states.State`.
        state_s: Seconds since it came into that state.
        reason: Why it is in that state, in words; None where the state says it all.
        size: Width and height of its newest frame in pixels; None before the first.
        read: Frames that came off the source.
        processed: Frames that became results.
        dropped: Frames that became none, by reason: ``source`` (numbered and never handed out by the source), ``newer``
            (a newer one came before its turn), ``age`` (older than `max_age`), ``rate`` (above `max_rate`),
            ``closed`` (still waiting at the end).
        errors: Frames that the model refused.
        reconnects: How often it was opened again.
        incomplete: Why a file gave less than it promised; None where nothing is missing.
    """

    name: str
    live: bool
    fps: float | None
    state: State
    state_s: float
    reason: str | None
    size: tuple[int, int] | None
    read: int
    processed: int
    dropped: Mapping[str, int]
    errors: int
    reconnects: int
    incomplete: str | None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "name": self.name,
            "live": self.live,
            "fps": self.fps,
            "state": self.state,
            "state_s": round(self.state_s, 3),
            "reason": self.reason,
            "size": None if self.size is None else list(self.size),
            "read": self.read,
            "processed": self.processed,
            "dropped": dict(self.dropped),
            "errors": self.errors,
            "reconnects": self.reconnects,
            "incomplete": self.incomplete,
        }
