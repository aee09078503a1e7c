"""Observations of chosen scores, at chosen times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np

from mmedge.results import Classification, Grounding
from mmedge.sinks.sink import Observation, PromptsChange
from mmedge.sources.frame import Frame

EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
Box = tuple[float, float, float, float]


def utc(at: float) -> datetime:
    """The moment in UTC of a monotonic time."""
    return EPOCH + timedelta(seconds=at)


def grounding(
    at: float,
    found: Sequence[tuple[str, float, Box]] = (),
    all_scores: Sequence[float] = (),
    *,
    prompts: Sequence[str] = (),
    source: str = "hall",
    state: str = "live",
    version: int = 1,
    frame: int = 0,
) -> Grounding:
    """A result with detections (prompt, score, box)."""
    return Grounding(
        source=source,
        frame=frame,
        captured=at,
        captured_at=utc(at),
        age_ms=1.0,
        latency_ms=1.0,
        state=state,
        prompt_version=version,
        labels=tuple(label for label, _, _ in found),
        scores=np.array([score for _, score, _ in found], np.float32),
        boxes=np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
        prompts=np.array([prompts.index(label) if label in prompts else 0 for label, _, _ in found], np.int64),
        all_scores=np.array(all_scores, np.float32),
    )


def classification(
    at: float,
    scores: dict[str, float],
    *,
    source: str = "hall",
    state: str = "live",
    version: int = 1,
    frame: int = 0,
    media_time_s: float | None = None,
) -> Classification:
    """A result with scores by prompt."""
    return Classification(
        source=source,
        frame=frame,
        captured=at,
        captured_at=utc(at),
        age_ms=1.0,
        latency_ms=1.0,
        state=state,
        media_time_s=media_time_s,
        prompt_version=version,
        labels=tuple(scores),
        scores=np.array(list(scores.values()), np.float32),
    )


def observed(result: Classification | Grounding, size: tuple[int, int] = (64, 48)) -> Observation:
    """The result with a black frame of its own, `size` (width, height)."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    return Observation(Frame(image, result.source, result.frame, result.captured, result.captured_at), result)


def asked(version: int, *prompts: str, sources: tuple[str, ...] = ("hall",)) -> PromptsChange:
    """The prompts of a version."""
    return PromptsChange("model", sources, prompts, version, EPOCH)
