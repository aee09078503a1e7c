"""The bytes of our messages, read by a library that has nothing to do with ours."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from support.items import boxes_observation, scores_observation

from mmedge.sinks.ros2 import messages as ros
from mmedge.sinks.ros2.convert import classification, detections, header

# vision_msgs 4: the fields of its .msg files, in their order.
VISION = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "Classification": "std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results",
}


@pytest.fixture(scope="module", params=[Stores.ROS2_HUMBLE, Stores.ROS2_JAZZY], ids=["humble", "jazzy"])
def store(request: pytest.FixtureRequest) -> Any:
    store = get_typestore(request.param)
    for name, fields in VISION.items():
        store.register(get_types_from_msg(fields, f"vision_msgs/msg/{name}"))
    return store


def fields(message: Any) -> Any:
    """A message of either library as plain values."""
    if isinstance(message, (str, int, float)):
        return message
    if isinstance(message, (bytes, list, np.ndarray)):
        return [fields(one) for one in (message.tolist() if isinstance(message, np.ndarray) else message)]
    return {name: fields(getattr(message, name)) for name in message.__dataclass_fields__ if not name.startswith("__")}


def same(store: Any, message: Any, kind: str) -> None:
    ours = message.serialize()
    theirs = store.deserialize_cdr(ours, kind)
    assert fields(theirs) == fields(message)
    # The second pair of bytes of the head says how many bytes are padding at the end, which readers need not look at.
    again = bytes(store.serialize_cdr(theirs, kind))
    assert again[4:] == ours[4 : len(again)]
    assert set(ours[len(again) :]) <= {0}


@pytest.mark.parametrize("labels", [(), ("a parcel",), ("a person", "ein Kätzchen", "a person")], ids=len)
def test_detections_are_what_ros_reads(store: Any, labels: tuple[str, ...]) -> None:
    tracks = list(range(7, 7 + len(labels)))
    observation = boxes_observation(labels, prompts=("a person", "ein Kätzchen", "a parcel"), tracks=tracks, seed=5)
    message = detections(observation.result)
    same(store, message, "vision_msgs/msg/Detection2DArray")
    boxes = observation.result.boxes.astype(np.float64)
    for index, found in enumerate(message.detections):
        assert found.id == str(tracks[index])
        (hypothesis,) = found.results
        assert hypothesis.hypothesis.class_id == labels[index]
        assert hypothesis.hypothesis.score == observation.result.scores[index]
        center, half = found.bbox.center.position, (found.bbox.size_x / 2, found.bbox.size_y / 2)
        corners = [center.x - half[0], center.y - half[1], center.x + half[0], center.y + half[1]]
        np.testing.assert_allclose(corners, boxes[index], rtol=1e-12)
        assert found.header == message.header


def test_scores_are_what_ros_reads(store: Any) -> None:
    observation = scores_observation({"a person": 0.75, "a parcel": -0.25})
    message = classification(observation.result)
    same(store, message, "vision_msgs/msg/Classification")
    assert [(one.class_id, one.score) for one in message.results] == [("a person", 0.75), ("a parcel", -0.25)]


def test_pictures_and_strings_are_what_ros_reads(store: Any) -> None:
    result = scores_observation({"a person": 0.5}).result
    data = np.random.default_rng(3).bytes(1001)
    same(store, ros.CompressedImage(header(result), "jpeg", data), "sensor_msgs/msg/CompressedImage")
    same(store, ros.String('["a person", "ein Kätzchen"]'), "std_msgs/msg/String")
    same(store, ros.String(""), "std_msgs/msg/String")


def test_the_stamp_is_the_capture_time_in_utc() -> None:
    result = scores_observation({"a person": 0.5}, source="front").result
    object.__setattr__(result, "captured_at", datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=timezone.utc))
    assert header(result) == ros.Header(ros.Time(1769860800, 123456000), "front")
