"""Another process in a DDS domain: takes what comes on some topics, sends one command, and prints what it had as JSON.

python ros2_peer.py DOMAIN NAMESPACE COMMAND
"""

import json
import sys
import time
from typing import Any

from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from mmedge.sinks.ros2 import messages as ros

domain, namespace, command = sys.argv[1:]
participant = DomainParticipant(int(domain))
# What a ROS 2 subscription asks for by default, and for latched topics.
DEFAULT = Qos(Policy.Reliability.Reliable(duration(milliseconds=100)), Policy.History.KeepLast(10))
LATCHED = Qos(*DEFAULT, Policy.Durability.TransientLocal)
SENSOR = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(5))
topics: dict[str, tuple[Any, Any]] = {
    "front/detections": (ros.Detection2DArray, DEFAULT),
    "front/image/compressed": (ros.CompressedImage, SENSOR),
    "front/state": (ros.String, LATCHED),
    "front/events": (ros.String, DEFAULT),
    "door/prompts": (ros.String, LATCHED),
}
readers = {
    name: DataReader(participant, Topic(participant, f"rt/{namespace}/{name}", kind), qos=qos)
    for name, (kind, qos) in topics.items()
}
writer = DataWriter(participant, Topic(participant, f"rt/{namespace}/door/set_prompts", ros.String), qos=DEFAULT)
heard: dict[str, list[str]] = {name: [] for name in topics}
sent = False
ends = time.monotonic() + 15
while time.monotonic() < ends:
    for name, reader in readers.items():
        samples = [sample.serialize().hex() for sample in reader.take(100) if not hasattr(sample, "key")]
        # Few of them: whoever started this reads what it prints when it has ended.
        heard[name] = (heard[name] + samples)[:3]
    if not sent and heard["door/prompts"] and writer.get_matched_subscriptions():
        writer.write(ros.String(command))
        sent = True
    if all(heard.values()) and len(heard["door/prompts"]) >= 2:
        break
    time.sleep(0.01)
print(json.dumps(heard))
