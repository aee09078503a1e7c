"""How one source is watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mmedge.sources.source import SourceLike

Policy = Literal["auto", "freshest", "every"]
Reconnect = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a source is opened again.

    Attempt n waits ``first * 2**n`` seconds, at most `longest`, less a random part of up to half of it: cameras that
    were lost together do not come back together.

    Attributes:
        first, longest: Seconds.
        attempts: Give up after so many in a row; None: never.
    """

    first: float = 0.25
    longest: float = 1.0
    attempts: int | None = None


@dataclass(frozen=True)
class SourceOptions:
    """One source and how it is watched.

    Attributes:
        source: As for `mmedge.sources.open_source`, or an open `Source`, which is not opened again when it is lost.
        name: Name in results; None: the source's own.
        policy: ``freshest``: the newest frame, passing over those that came meanwhile; a file then plays in real time.
            ``every``: each frame; a live source then waits in a queue of 64 and drops the oldest beyond it.
            ``auto``: freshest for live sources, every frame of files.
        max_age: Seconds; a frame of a live source that is older when its turn comes is dropped, and a result that is
            older when it is made is ``stale``. None: no such limit.
        max_rate: Most frames a second that go to the model; None: all.
        stale_after: Seconds without a frame after which an open live source is ``stale``.
        frozen_after: Seconds of equal frames after which a live source is ``frozen``; None: never.
        timeout: Seconds without a frame after which a source counts as lost, up to 1e6.
        open_timeout: Seconds within which a camera or network stream must answer, up to 1e6.
        reconnect: ``auto``: a live source that was lost is opened again, one that cannot be opened the first time is an
            error. ``always``: the first time, too, it is tried until it is there. ``never``: lost is an error.
        backoff: How long to wait in between.
    """

    source: SourceLike
    name: str | None = None
    policy: Policy = "auto"
    max_age: float | None = None
    max_rate: float | None = None
    stale_after: float = 1.0
    frozen_after: float | None = 5.0
    timeout: float = 5.0
    open_timeout: float = 10.0
    reconnect: Reconnect = "auto"
    backoff: Backoff = field(default_factory=Backoff)
