"""What became of the frames of one source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

Reason = Literal["source", "newer", "age", "rate", "closed"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass
class Counters:
    """Counts every frame once, see `mmedge.streaming.report.SourceReport`. For use with the stream's lock held."""

    read: int = 0
    processed: int = 0
    errors: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
