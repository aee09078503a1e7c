"""What a trigger tells: something began, goes on, or is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from mmedge.results import Result
from mmedge.sources.frame import Frame
from mmedge.streaming.states import utc_text

EventKind = Literal["start", "update", "end"]


@dataclass(frozen=True, eq=False)
class Event:
    """One message about one happening; all messages about it share the `id`.

    Attributes:
        id: Unique among the events of this process and, in practice, of all.
        kind: ``start``, ``update`` (its best frame became better, or time went by), or ``end``.
        trigger: Name of the trigger.
        source: Name of the source.
        prompt: What was looked for.
        at: When this was told, seconds of `time.monotonic`: the capture time of the frame that caused it.
        at_utc: The same moment in UTC.
        started_utc: When the happening began.
        duration_s: Seconds from its beginning to this message.
        score: Score of the frame that caused the message, as the trigger sees it.
        best_score: The highest one so far.
        best: The frame with that score and its result, privacy applied; None where no pixels are kept.
        best_result: The result of that frame.
        reason: Why it ended: ``below``, ``source`` (the source is not live any more), ``prompt`` (it is not looked for
            any more) or ``stopped``; None for the other kinds.
    """

    id: str
    kind: EventKind
    trigger: str
    source: str
    prompt: str
    at: float
    at_utc: datetime
    started_utc: datetime
    duration_s: float
    score: float
    best_score: float
    best: Frame | None
    best_result: Result
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The event as JSON values, without pixels."""
        value = {
            "id": self.id,
            "kind": self.kind,
            "trigger": self.trigger,
            "source": self.source,
            "prompt": self.prompt,
            "at": utc_text(self.at_utc),
            "started": utc_text(self.started_utc),
            "duration_s": round(self.duration_s, 3),
            "score": round(self.score, 5),
            "best_score": round(self.best_score, 5),
            "best_frame": self.best_result.frame,
        }
        return value if self.reason is None else {**value, "reason": self.reason}
