"""Items for sinks, made without a model."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np

from mmedge.results import Classification, Grounding, Result
from mmedge.sinks.sink import Observation
from mmedge.sources.frame import Frame
from mmedge.streaming.states import State, StateChange
from mmedge.triggers.event import Event, EventKind

_numbers = itertools.count()


def make_frame(source: str = "front", size: tuple[int, int] = (64, 48), seed: int = 0) -> Frame:
    width, height = size
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(image, source, next(_numbers), time.monotonic(), datetime.now(timezone.utc))


def boxes_observation(
    labels: Sequence[str] = (),
    *,
    source: str = "front",
    prompts: Sequence[str] = ("a person", "a parcel"),
    at: float | None = None,
    state: State = "live",
    tracks: Sequence[int] | None = None,
    seed: int = 0,
) -> Observation:
    """Detections of `labels`, with random boxes and scores."""
    random = np.random.default_rng(seed)
    frame = make_frame(source, seed=seed)
    count = len(labels)
    corners = random.uniform(0, 20, (count, 2)).astype(np.float32)
    result = Grounding(
        source=source,
        frame=frame.index,
        captured=frame.captured if at is None else at,
        captured_at=frame.captured_at,
        age_ms=12.5,
        state=state,
        prompt_version=1,
        latency_ms=8.25,
        labels=tuple(labels),
        scores=np.sort(random.uniform(0.2, 1, count).astype(np.float32))[::-1].copy(),
        boxes=np.concatenate([corners, corners + random.uniform(1, 20, (count, 2)).astype(np.float32)], axis=1),
        prompts=np.array([list(prompts).index(label) for label in labels], np.int64),
        all_scores=random.uniform(0, 1, len(prompts)).astype(np.float32),
        track_ids=None if tracks is None else np.array(tracks, np.int64),
    )
    return Observation(frame, result)


def scores_observation(
    scores: dict[str, float], *, source: str = "front", at: float | None = None, state: State = "live"
) -> Observation:
    frame = make_frame(source)
    result = Classification(
        source=source,
        frame=frame.index,
        captured=frame.captured if at is None else at,
        captured_at=frame.captured_at,
        age_ms=12.5,
        state=state,
        prompt_version=1,
        latency_ms=8.25,
        labels=tuple(scores),
        scores=np.array(list(scores.values()), np.float32),
    )
    return Observation(frame, result)


def event_of(kind: EventKind, result: Result, *, prompt: str = "a person", id: str = "e1") -> Event:
    now = datetime.now(timezone.utc)
    return Event(
        id=id,
        kind=kind,
        trigger="visitor",
        source=result.source,
        prompt=prompt,
        at=result.captured,
        at_utc=now,
        started_utc=now,
        duration_s=1.5,
        score=0.75,
        best_score=0.875,
        best=None,
        best_result=result,
        reason="below" if kind == "end" else None,
    )


def state_change(state: State, *, source: str = "front", previous: State = "connecting") -> StateChange:
    return StateChange(source, previous, state, time.monotonic(), datetime.now(timezone.utc))
