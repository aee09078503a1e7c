"""The state of a source, and what is told when it changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, get_args

State = Literal["connecting", "live", "stale", "frozen", "reconnecting", "ended", "failed"]
"""State of a source:

- ``connecting``: being opened for the first time.
- ``live``: frames come, in time, and they differ.
- ``stale``: it is open and gives no frame, or only old ones.
- ``frozen``: frames come and are all the same: the camera hangs, and shows what was there once.
- ``reconnecting``: it was lost, and is being opened again.
- ``ended``: it gave all it had.
- ``failed``: it cannot be opened, or not again, and nobody tries any more.
"""

STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class StateChange:
    """A source went from one state to another.

    Attributes:
        source: Its name, passwords masked.
        previous, state: Before and now.
        at: When, seconds of `time.monotonic`.
        at_utc: The same moment in UTC.
        reason: Why, in words without secrets; None where the state says it all.
    """

    source: str
    previous: State
    state: State
    at: float
    at_utc: datetime
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The change as JSON values."""
        return {
            "source": self.source,
            "previous": self.previous,
            "state": self.state,
            "at": utc_text(self.at_utc),
            "reason": self.reason,
        }


def utc_text(moment: datetime) -> str:
    """A moment as results write it: ``2026-01-31T12:00:00.000000Z``."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
