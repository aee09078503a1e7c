"""Results as ROS 2 messages."""

from __future__ import annotations

from datetime import datetime, timezone

from mmedge.results import Classification, Grounding, Result
from mmedge.sinks.ros2 import messages as ros

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def header(result: Result) -> ros.Header:
    """Capture time in UTC, and the source as ``frame_id``: images and results of one frame have equal ones."""
    since = result.captured_at - _EPOCH
    seconds = since.days * 86400 + since.seconds
    return ros.Header(ros.Time(seconds, since.microseconds * 1000), result.source)


def detections(result: Grounding) -> ros.Detection2DArray:
    """Boxes in pixels of the frame, best first; the score of a detection is that of its only hypothesis."""
    head = header(result)
    tracks = [""] * len(result.labels) if result.track_ids is None else map(str, result.track_ids.tolist())
    found = zip(result.labels, result.scores.tolist(), result.boxes.tolist(), tracks, strict=True)
    return ros.Detection2DArray(head, [_detection(head, *one) for one in found])


def classification(result: Classification) -> ros.Classification:
    """A hypothesis for each prompt, in the order of the prompts."""
    scores = zip(result.labels, result.scores.tolist(), strict=True)
    return ros.Classification(header(result), [ros.ObjectHypothesis(label, score) for label, score in scores])


def _detection(head: ros.Header, label: str, score: float, box: list[float], track: str) -> ros.Detection2D:
    x0, y0, x1, y1 = box
    center = ros.Pose2D(ros.Point2D((x0 + x1) / 2, (y0 + y1) / 2), 0.0)
    hypothesis = ros.ObjectHypothesisWithPose(ros.ObjectHypothesis(label, score))
    return ros.Detection2D(head, [hypothesis], ros.BoundingBox2D(center, x1 - x0, y1 - y0), track)
