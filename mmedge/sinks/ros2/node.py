"""Topics of a DDS domain as ROS 2 names and configures them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from mmedge.errors import MissingDependencyError, SinkError
from mmedge.sinks.ros2 import messages as ros

try:
    from cyclonedds.core import DDSException, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.pub import DataWriter
    from cyclonedds.qos import Policy, Qos
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
    from cyclonedds.util import duration
except ImportError as error:
    raise MissingDependencyError(f'the ROS 2 sink needs cyclonedds ({error}); pip install "mmedge[ros2]"') from error

Profile = Literal["default", "sensor", "latched"]
"""``default``: reliable, the last 10; ``sensor``: best effort, the last 5; ``latched``: reliable, and the last one also
goes to those who come later."""

_LOOK_S = 0.2
# Of a reliable writer whose reader does not keep up.
_MOST_WAIT_MS = 20


class Node:
    """What a ROS 2 node is on the wire: a participant with writers and readers.

    Args:
        domain: The ``ROS_DOMAIN_ID`` of those who shall see it.

    Raises:
        SinkError: There is no network interface for it.
    """

    def __init__(self, domain: int) -> None:
        try:
            self._participant = DomainParticipant(domain)
        except DDSException as error:
            raise SinkError(
                f"no DDS participant in domain {domain} ({error}); is there a network interface that is up, and if "
                "CYCLONEDDS_URI is set, is it right?"
            ) from error
        self._writers: dict[str, Any] = {}
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()

    def advertise(self, topic: str, kind: type, profile: Profile = "default") -> None:
        """Have a writer, so that readers find it before the first message."""
        if topic not in self._writers:
            self._writers[topic] = DataWriter(
                self._participant, Topic(self._participant, f"rt/{topic}", kind), qos=_qos(profile)
            )

    def publish(self, topic: str, message: Any, profile: Profile = "default") -> None:
        """Send a message; its topic is advertised, if it was not.

        Raises:
            SinkError: It could not be sent.
        """
        if self._closed.is_set():
            raise SinkError(f"ros2 topic /{topic}: closed")
        try:
            self.advertise(topic, type(message), profile)
            self._writers[topic].write(message)
        except DDSException as error:
            raise SinkError(f"ros2 topic /{topic}: {error}") from error

    def subscribe(self, topic: str, heard: Callable[[str], None]) -> None:
        """Call `heard` with each string on a topic, in a thread of its own."""
        reader = DataReader(self._participant, Topic(self._participant, f"rt/{topic}", ros.String), qos=_qos("default"))
        thread = threading.Thread(target=self._read, args=(reader, heard), name=f"mmedge ros2 {topic}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Leave the domain."""
        self._closed.set()
        for thread in self._threads:
            thread.join(2 * _LOOK_S)
        self._writers.clear()
        del self._participant

    def _read(self, reader: Any, heard: Callable[[str], None]) -> None:
        waiting = WaitSet(self._participant)
        waiting.attach(ReadCondition(reader, SampleState.Any | ViewState.Any | InstanceState.Any))
        while not self._closed.is_set():
            if waiting.wait(duration(seconds=_LOOK_S)):
                for sample in reader.take(10):
                    if isinstance(sample, ros.String):
                        heard(sample.data)


def _qos(profile: Profile) -> Any:
    reliable = Policy.Reliability.Reliable(max_blocking_time=duration(milliseconds=_MOST_WAIT_MS))
    depth = {"default": 10, "sensor": 5, "latched": 1}[profile]
    return Qos(
        Policy.Reliability.BestEffort if profile == "sensor" else reliable,
        Policy.Durability.TransientLocal if profile == "latched" else Policy.Durability.Volatile,
        Policy.History.KeepLast(depth),
        # The encoding that ROS 2 uses; the other one of DDS came later.
        Policy.DataRepresentation(use_cdrv0_representation=True),
    )
