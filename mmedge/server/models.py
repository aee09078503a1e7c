"""What the interface takes and gives, for its OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mmedge.streaming.states import State
from mmedge.triggers.event import EventKind

Name = Annotated[str, Field(description="As in the device file.")]


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class Token(BaseModel):
    """The token of the server's settings."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=1024)]


class PromptsBody(BaseModel):
    """What to look for, in the order of the scores."""

    model_config = ConfigDict(extra="forbid")

    prompts: Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(min_length=1, max_length=256)]


class Prompts(BaseModel):
    """The prompts in force."""

    model: Name
    prompts: list[str]
    version: Annotated[int, Field(description="The `prompt_version` of the results that answer them.")]


class SourceStatus(BaseModel):
    """A source: its state, counters, and what its last results were like."""

    model_config = ConfigDict(extra="allow")

    name: Name
    model: Annotated[str, Field(description="The model that watches it.")]
    live: Annotated[bool, Field(description="Its frames come by themselves: a camera, not a file.")]
    state: State
    state_s: Annotated[float, Field(description="Seconds since it came into that state.")]
    reason: str | None
    fps: Annotated[float | None, Field(description="Nominal frames a second.")]
    size: Annotated[list[int] | None, Field(description="Width and height in pixels.")]
    read: int
    processed: int
    dropped: Annotated[dict[str, int], Field(description="Frames that became no result, by reason.")]
    errors: int
    reconnects: int
    incomplete: str | None
    age_ms: Annotated[float | None, Field(description="Age of the newest result's frame, now.")]
    latency_ms: Annotated[float | None, Field(description="Time in the model.")]
    rate: Annotated[float | None, Field(description="Results a second.")]


class StageStatus(BaseModel):
    """A stage of a model, and what it did since it was loaded."""

    model_config = ConfigDict(extra="allow")

    label: list[str]
    engine: str
    provider: str
    fallbacks: list[str] | None
    runs: int
    cache_hits: int
    total_ms: float
    mean_ms: float
    last_ms: float


class ModelStatus(BaseModel):
    """A model: what was loaded, on what it runs, and its sources."""

    info: Annotated[dict[str, Any], Field(description="`Model.info`, with `prompts` and `prompt_version`.")]
    stages: dict[str, StageStatus]
    sources: list[str]
    error: Annotated[str | None, Field(description="Why the last change was refused, or why it stands still.")]


class SinkStatus(BaseModel):
    """A place where results go, and its counters."""

    kind: str
    written: int
    dropped: int
    errors: int
    last_error: str | None


class TriggerStatus(BaseModel):
    """A trigger, and the sources on which it is on."""

    model_config = ConfigDict(extra="allow")

    prompt: str
    sources: list[str]
    active: list[str]


class DeviceStatus(BaseModel):
    """Everything there is to know."""

    device: str
    version: str
    started_at: str
    uptime_s: float
    pixels: Annotated[bool, Field(description="False: no picture ever leaves the process.")]
    models: dict[str, ModelStatus]
    sources: dict[str, SourceStatus]
    sinks: dict[str, SinkStatus]
    triggers: dict[str, TriggerStatus]


class EventMessage(BaseModel):
    """A happening, by its newest message."""

    id: str
    kind: EventKind
    trigger: str
    source: str
    prompt: str
    at: Annotated[str, Field(description="When this was told, UTC.")]
    started: Annotated[str, Field(description="When it began, UTC.")]
    duration_s: float
    score: float
    best_score: float
    best_frame: Annotated[int, Field(description="Index of the frame with the highest score.")]
    reason: Annotated[str | None, Field(description="Why it ended.")] = None
    picture: Annotated[bool, Field(description="events/{id}/frame.jpg has that frame.")]


class Health(BaseModel):
    """The process is alive."""

    status: str


class Readiness(BaseModel):
    """Every model is loaded, and at least one source gives results."""

    ready: bool
