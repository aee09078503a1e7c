"""Numbered items for sinks, at fixed times: frame n was taken n steps after `START`."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from mmedge.results import Classification, Grounding
from mmedge.sinks.sink import Observation, PromptsChange
from mmedge.sources.frame import Frame
from mmedge.streaming.states import State, StateChange
from mmedge.triggers.event import Event, EventKind

START = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=timezone.utc)


def observation(
    index: int = 0,
    source: str = "door",
    *,
    boxes: int = 2,
    size: tuple[int, int] | None = (64, 48),
    step: float = 0.04,
    media_time_s: float | None = None,
    **fields: Any,
) -> Observation:
    """A grounding of a frame of random tiles, `step` seconds after the one before; `size` None: without a frame."""
    random = np.random.default_rng([index, boxes])
    captured, moment = 1000 + index * step, START + timedelta(seconds=index * step)
    frame = None
    if size is not None:
        blocks = random.integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)
        picture = np.ascontiguousarray(blocks.repeat(8, 0).repeat(8, 1)[: size[1], : size[0]])
        frame = Frame(picture, source, index, captured, moment, media_time_s=media_time_s)
    corners = np.sort(random.uniform(0, 48, (boxes, 2, 2)), axis=1).reshape(boxes, 4)
    result = Grounding(
        source=source,
        frame=index,
        captured=captured,
        captured_at=moment,
        age_ms=12.5,
        latency_ms=8.25,
        prompt_version=1,
        labels=tuple(f"label {n % 2}" for n in range(boxes)),
        scores=np.sort(random.uniform(0.3, 1, boxes).astype(np.float32))[::-1],
        boxes=corners.astype(np.float32),
        prompts=np.arange(boxes, dtype=np.int64) % 2,
        all_scores=np.array([0.9, 0.4], np.float32),
        **fields,
    )
    return Observation(frame, result)


def classification(index: int = 0, source: str = "door", **fields: Any) -> Observation:
    """Scores of two prompts, without a frame."""
    moment = START + timedelta(seconds=index * 0.04)
    scores = fields.pop("scores", np.array([0.25, 0.75], np.float32))
    shared: dict[str, Any] = {"age_ms": 12.5, "latency_ms": 8.25, "prompt_version": 1, **fields}
    return Observation(
        None,
        Classification(
            source=source,
            frame=index,
            captured=1000.0,
            captured_at=moment,
            labels=("a person", "a parcel"),
            scores=scores,
            **shared,
        ),
    )


def event(number: int = 0, kind: EventKind = "start", source: str = "door", *, pixels: bool = True) -> Event:
    seen = observation(number, source, size=(64, 48) if pixels else None)
    return Event(
        id=f"e{number}",
        kind=kind,
        trigger="visitor",
        source=source,
        prompt="a person",
        at=time.monotonic(),
        at_utc=seen.result.captured_at,
        started_utc=START,
        duration_s=1.5,
        score=0.7,
        best_score=0.8,
        best=seen.frame,
        best_result=seen.result,
        reason="below" if kind == "end" else None,
    )


def state(
    state: State = "frozen", previous: State = "live", source: str = "door", reason: str | None = None
) -> StateChange:
    return StateChange(source, previous, state, time.monotonic(), START, reason)


def prompts(version: int = 2, *words: str) -> PromptsChange:
    return PromptsChange("model", ("door",), words or ("a person", "a parcel"), version, START)
