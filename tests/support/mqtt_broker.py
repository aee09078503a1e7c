"""A real mosquitto for tests, and someone who listens to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


class Mosquitto:
    """A broker of its own on a free port of this machine, without persistence: what is retained is gone when it ends.

    Args:
        folder: For its configuration.
        lines: Of the configuration, beside the listener.
    """

    def __init__(self, folder: Path, lines: Sequence[str] = ("allow_anonymous true",)) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._config = folder / f"mosquitto-{self.port}.conf"
        head = (f"listener {self.port} 127.0.0.1", "persistence false")
        # Started by root, mosquitto changes to another user, who cannot read the files of the tests.
        user = ("user root",) if os.getuid() == 0 else ()
        self._config.write_text("\n".join((*head, *user, *lines)) + "\n")
        self.start()

    def start(self) -> None:
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("mosquitto does not listen")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """It keeps its connections, and does nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    retained: bool


class Listener:
    """Hears everything on a broker, what is retained there first."""

    def __init__(self, broker: Mosquitto, topics: str = "#") -> None:
        self.messages: list[Message] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_message = self._heard
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self._client.subscribe([(topics, 1)] + ([] if topics == "#" else [("mark/#", 1)]))
        assert self._subscribed.wait(10)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def wait(self, wanted: Callable[[Message], Any], timeout: float = 10.0) -> Message:
        """The first message that is `wanted`, of those that came and that will come."""
        ends = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for message in self.messages[seen:]:
                    if wanted(message):
                        return message
                seen = len(self.messages)
                left = ends - time.monotonic()
                if left <= 0:
                    heard = sorted({message.topic for message in self.messages})
                    raise AssertionError(f"no such message in {timeout} s; topics heard: {heard}")
                self._changed.wait(left)

    def topic(self, topic: str, payload: bytes | None = None) -> Message:
        """A message on `topic`, with `payload` if that is given."""
        return self.wait(lambda one: one.topic == topic and payload in (None, one.payload))

    def settle(self) -> None:
        """Until all that was published before, by anyone, has come."""
        mark = f"mark/{time.monotonic_ns()}"
        self.publish(mark, b"x")
        self.topic(mark)

    def forget(self) -> None:
        with self._changed:
            self.messages.clear()

    def _heard(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.messages.append(Message(message.topic, bytes(message.payload), message.retain))
            self._changed.notify_all()


def retained(broker: Mosquitto, topics: str = "#") -> dict[str, bytes]:
    """What the broker holds."""
    with Listener(broker, topics) as listener:
        listener.settle()
        return {message.topic: message.payload for message in listener.messages if message.retained}
