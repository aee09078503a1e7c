"""The ROS 2 sink, and another process in its domain."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.domain import DomainParticipant
from cyclonedds.qos import Policy
from support.items import boxes_observation, event_of, state_change

from mmedge.errors import InputError, MissingDependencyError, TextInputError
from mmedge.sinks.opening import open_sink
from mmedge.sinks.ros2 import Ros2
from mmedge.sinks.ros2 import messages as ros
from mmedge.sinks.ros2.node import Node
from mmedge.sinks.sink import SinkContext, Watched

PEER = Path(__file__).parents[3] / "support" / "ros2_peer.py"
PROMPTS = ("a person", "a parcel")


class Prompts:
    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []

    def set_prompts(self, model: str, prompts: Sequence[str]) -> int:
        self.calls.append((model, list(prompts)))
        if "refuse" in prompts:
            raise TextInputError("these prompts cannot be used")
        return len(self.calls) + 1


def context(control: Prompts | None = None, **more: Any) -> SinkContext:
    return SinkContext("robot", (Watched("front", "door", PROMPTS, boxes=True),), control, **more)


@pytest.fixture
def control() -> Prompts:
    return Prompts()


@pytest.fixture
def sink(domain: int, control: Prompts) -> Iterator[Ros2]:
    sink = Ros2(namespace="robot1", domain=domain, image_rate=1000, context=context(control))
    yield sink
    sink.close()


def test_another_process_hears_everything_and_changes_the_prompts(sink: Ros2, domain: int, control: Prompts) -> None:
    peer = subprocess.Popen(
        [sys.executable, str(PEER), str(domain), "robot1", '["a cat", "a dog"]'], stdout=subprocess.PIPE, text=True
    )
    sink.write(state_change("live"))
    sent = {}
    while peer.poll() is None:
        observation = boxes_observation(["a parcel", "a person"], tracks=[1, 2])
        sent[observation.result.frame] = observation
        sink.write(observation)
        sink.write(event_of("start", observation.result))
        time.sleep(0.02)
    assert peer.stdout is not None
    heard = {name: list(map(bytes.fromhex, samples)) for name, samples in json.loads(peer.stdout.read()).items()}

    assert control.calls == [("door", ["a cat", "a dog"])]
    prompts = [json.loads(ros.String.deserialize(sample).data) for sample in heard["door/prompts"]]
    assert prompts == [list(PROMPTS), ["a cat", "a dog"]]
    (state,) = (json.loads(ros.String.deserialize(sample).data) for sample in heard["front/state"])
    assert state["state"] == "live"
    assert json.loads(ros.String.deserialize(heard["front/events"][0]).data)["kind"] == "start"
    found = ros.Detection2DArray.deserialize(heard["front/detections"][0])
    assert [one.results[0].hypothesis.class_id for one in found.detections] == ["a parcel", "a person"]
    assert [one.id for one in found.detections] == ["1", "2"]
    assert found.header.frame_id == "front"
    picture = ros.CompressedImage.deserialize(heard["front/image/compressed"][0])
    image = cv2.imdecode(np.array(picture.data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (48, 64, 3)


def test_topics_types_and_qos_are_as_ros_has_them(sink: Ros2, domain: int) -> None:
    participant = DomainParticipant(domain)
    reader = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
    seen: dict[str, Any] = {}
    for _ in range(200):
        seen |= {one.topic_name: one for one in reader.take(100) if one.topic_name}
        if len(seen) >= 6:
            break
        time.sleep(0.02)
    assert {name: one.type_name for name, one in seen.items()} == {
        "rt/robot1/front/detections": "vision_msgs::msg::dds_::Detection2DArray_",
        "rt/robot1/front/image/compressed": "sensor_msgs::msg::dds_::CompressedImage_",
        "rt/robot1/front/events": "std_msgs::msg::dds_::String_",
        "rt/robot1/front/state": "std_msgs::msg::dds_::String_",
        "rt/robot1/door/prompts": "std_msgs::msg::dds_::String_",
        "rt/robot1/door/prompts_error": "std_msgs::msg::dds_::String_",
    }
    for name, one in seen.items():
        reliable = isinstance(one.qos[Policy.Reliability], Policy.Reliability.Reliable)
        latched = one.qos[Policy.Durability] == Policy.Durability.TransientLocal
        assert reliable != name.endswith("compressed"), name
        assert latched == name.endswith(("/state", "/prompts")), name


@pytest.mark.parametrize(
    ("command", "says"),
    [('["refuse"]', "these prompts cannot be used"), ("[", "expected a JSON list"), ("", "got none")],
    ids=["refused", "no-json", "empty"],
)
def test_a_command_that_cannot_be_used_is_answered(sink: Ros2, domain: int, command: str, says: str) -> None:
    answers: queue.Queue[str] = queue.Queue()
    peer = Node(domain)
    peer.subscribe("robot1/door/prompts_error", answers.put)
    # Until both have found each other, nobody hears.
    for _ in range(50):
        peer.publish("robot1/door/set_prompts", ros.String(command))
        with contextlib.suppress(queue.Empty):
            assert says in answers.get(timeout=0.2)
            break
    else:
        raise AssertionError("no answer")
    peer.close()
    assert sink._shown == {"door": PROMPTS}


def test_closing_ends_its_threads(domain: int) -> None:
    before = threading.active_count()
    sink = Ros2(domain=domain, context=context(Prompts()))
    assert threading.active_count() > before
    started = time.monotonic()
    sink.close()
    assert time.monotonic() - started < 2
    assert threading.active_count() == before


def test_a_sink_without_pixels_has_no_picture_topic(domain: int) -> None:
    sink = Ros2(domain=domain, context=context(pixels=False))
    assert sink.pixels is False
    sink.write(boxes_observation(["a person"]))
    assert not [topic for topic in sink._node._writers if "image" in topic]
    sink.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"domain": 233}, "domain must be a whole number from 0 to 232, got 233"),
        ({"namespace": "/robot"}, "namespace must be names of letters"),
        ({"namespace": "a__b"}, "namespace must be names of letters"),
        ({"image_rate": -1.0}, "image_rate must be 0 to 1000"),
        ({"image_quality": 101}, "quality must be 1 to 100"),
        ({"domian": 1}, "did you mean domain?"),
        ({"domain": "0"}, "domain must be a whole number"),
    ],
    ids=["domain", "slash", "underscores", "rate", "quality", "typo", "text"],
)
def test_wrong_options_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        open_sink("ros2", options, SinkContext())
    assert says in str(caught.value)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("mmedge.sinks.ros2")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cyclonedds", None)
    for module in [name for name in sys.modules if name.startswith("cyclonedds.")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r'pip install "mmedge\[ros2\]"'):
        open_sink("ros2", {}, SinkContext())
