"""What the server asks of a running device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

from mmedge.sinks.sink import Observation, Sink
from mmedge.triggers.event import Event


class ModelStatus(TypedDict):
    """A model: `Model.info` with its prompts, what its stages did, and its sources."""

    info: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    sources: list[str]
    error: str | None
    """Why the last change (prompts, bundle) was refused, or why it stands still; None: all well."""


class SinkStatus(TypedDict):
    """A sink and its counters."""

    kind: str
    written: int
    dropped: int
    errors: int
    last_error: str | None


class Status(TypedDict):
    """Everything there is to know, as JSON values without secrets."""

    device: str
    version: str
    started_at: str
    uptime_s: float
    pixels: bool
    models: dict[str, ModelStatus]
    sources: dict[str, dict[str, Any]]
    """`SourceReport.to_json` of each, with ``model``, ``age_ms``, ``latency_ms`` and ``rate`` of its last results."""
    sinks: dict[str, SinkStatus]
    triggers: dict[str, dict[str, Any]]
    """By name: ``prompt``, ``sources``, ``on``, ``off``, ``zone``, and ``active``, the sources on which it is on."""


class RunningDevice(Protocol):
    """A device as the server sees it. Any thread may call any method; none of them blocks for long."""

    def status(self) -> Status: ...

    @property
    def ready(self) -> bool:
        """Every model is loaded and at least one source gave a result that is not old."""
        ...

    def set_prompts(self, model: str, prompts: Sequence[str]) -> int:
        """See `mmedge.sinks.sink.Control`; takes as long as the text encoder."""
        ...

    def newest(self, source: str) -> Observation | None:
        """The newest result of a source, with its frame; None before the first.

        Raises:
            InputError: There is no such source.
        """
        ...

    def events(self, limit: int = 100) -> list[Event]:
        """The last happenings, newest first, each by its newest message; bounded in number and in pixels kept."""
        ...

    def attach(self, name: str, sink: Sink, capacity: int = 64) -> None:
        """Give everything from now on to one more sink, through a queue of its own."""
        ...

    def detach(self, name: str) -> None:
        """Take a sink away and close it. An unknown name is no error."""
        ...
