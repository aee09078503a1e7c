"""A connection to an MQTT broker that mends itself and never makes anyone wait."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from mmedge.errors import MissingDependencyError, SinkError
from mmedge.sinks.mqtt.settings import MqttSettings

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage, MQTTMessageInfo

_log = logging.getLogger("mmedge")

ONLINE, OFFLINE = b"online", b"offline"

# A broker that is gone without a word is noticed after one and a half of these.
_KEEPALIVE_S = 15
_CONNECT_S = 5.0
_RETRY_S = (1, 15)
_LOG_EVERY_S = 60.0
# Of messages that wait to be sent: beyond them, newer ones are refused.
_MOST_BYTES = 8 * 2**20
_MOST_MESSAGES = 1000
# Of a message from the broker. The broker keeps back larger ones: this is the reason for MQTT 5.
_MOST_RECEIVED = 65536

Handler = Callable[[str, bytes, bool], None]
"""Takes topic, payload, and whether the message was kept from before; is called in the connection's thread."""


class Broker:
    """Publishes what comes, and keeps topics on the broker as they should be.

    There are two kinds of messages. What is *told* goes to the broker now or not at all. What is *kept* is retained:
    the broker holds the last value of each such topic, it is sent anew after every connect, and whatever else the
    broker holds below `swept`, from an earlier run, is cleared.

    Args:
        settings: Where, and as whom.
        client_id: Of this device. An id that changes would leave the last will of a killed process to overtake the
            ``online`` of the next one.
        availability: The topic that says whether this client is there.
        swept: Filters of topics on which only what is kept may be.
        handlers: What to do with messages, by topic.

    Raises:
        InputError: A file of `settings.tls` cannot be used.
        MissingDependencyError: paho-mqtt is not installed.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        availability: str,
        swept: Sequence[str],
        handlers: dict[str, Handler],
    ) -> None:
        self._paho = paho = _paho()
        self._name = f"{settings.host}:{settings.port}"
        self._availability = availability
        self._swept = tuple(swept)
        self._handlers = dict(handlers)
        self._kept: dict[str, bytes] = {}
        self._behind: dict[str, bytes] = {}
        self._waiting: deque[tuple[MQTTMessageInfo, int]] = deque()
        # paho holds none of its locks while it calls back, so that this one may be held while paho is called.
        self._lock = threading.RLock()
        self._ready, self._subscribed = threading.Event(), threading.Event()
        self._closed = False
        self._problem = "not connected yet"
        self._next_log = 0.0

        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            client.tls_set_context(settings.tls.context())
        client.will_set(availability, OFFLINE, qos=1, retain=True)
        client.connect_timeout = _CONNECT_S
        client.reconnect_delay_set(*_RETRY_S)
        client.max_queued_messages_set(_MOST_MESSAGES)
        # An error in a callback would end paho's thread for good; it goes to the log instead.
        client.suppress_exceptions = True
        client.on_log = self._on_log
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = self._on_message
        self._client = client
        self._settings = settings

    def open(self) -> None:
        """Connect, from now on and by itself."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = cast(Any, Properties)(PacketTypes.CONNECT)
        properties.MaximumPacketSize = _MOST_RECEIVED
        host, port = self._settings.host, self._settings.port
        self._client.connect_async(host, port, _KEEPALIVE_S, clean_start=True, properties=properties)
        self._client.loop_start()

    @property
    def connected(self) -> bool:
        """The broker has accepted this client, and the connection was not seen to break."""
        return self._ready.is_set()

    def wait(self, timeout: float) -> None:
        """Until there is a connection and the broker has all that is kept, or for `timeout` seconds."""
        self._subscribed.wait(timeout)

    def check(self) -> None:
        """Raises SinkError where there is no connection."""
        if not self.connected:
            raise SinkError(f"mqtt broker {self._name}: {self._problem}")

    def tell(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """Publish a message that nobody holds on to.

        Raises:
            SinkError: There is no connection, or it is too slow for what there is to send.
        """
        with self._lock:
            self.check()
            self._catch_up()
            self._send(topic, payload, qos, retain=False)

    def keep(self, topic: str, payload: bytes) -> None:
        """Put `payload` on a topic for good; without a connection, as soon as there is one."""
        with self._lock:
            if self._kept.get(topic) != payload:
                self._kept[topic] = self._behind[topic] = payload
            self._catch_up()

    def forget(self, topic: str) -> None:
        """Clear a topic that was kept."""
        with self._lock:
            if self._kept.pop(topic, None) is not None:
                self._behind[topic] = b""
            self._catch_up()

    def repeat(self) -> None:
        """Publish all that is kept once more: for someone who has lost it."""
        with self._lock:
            self._behind.update(self._kept)
            self._catch_up()

    def close(self, timeout: float = 0.8) -> None:
        """Say that this client leaves, and leave; within `timeout` seconds, whatever the broker does."""
        with self._lock:
            last = None
            if self.connected and not self._closed:
                last = self._client.publish(self._availability, OFFLINE, qos=1, retain=True)
            self._closed = True
        if last is not None and last.rc == self._paho.MQTT_ERR_SUCCESS:
            last.wait_for_publish(timeout / 2)
        self._client.disconnect()
        # paho waits for its thread without a limit, and that may hang in a name server.
        stopping = threading.Thread(target=self._client.loop_stop, name="mmedge mqtt stop", daemon=True)
        stopping.start()
        stopping.join(timeout / 2)

    def _catch_up(self) -> None:
        """Send what the broker does not have yet of what is kept, as far as it goes."""
        if not self.connected:
            # The next connect sends all that is kept, and clears what is not.
            self._behind.clear()
        with contextlib.suppress(SinkError):
            while self._behind:
                topic = next(iter(self._behind))
                # At most once: what is lost with a connection is sent anew with the next one, whereas a message that
                # paho repeats there would come late, and undo what has happened since.
                self._send(topic, self._behind[topic], 0, retain=True)
                del self._behind[topic]

    def _send(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        while self._waiting and self._waiting[0][0].is_published():
            self._waiting.popleft()
        waiting = sum(size for _, size in self._waiting)
        if len(self._waiting) >= _MOST_MESSAGES or waiting + len(payload) > _MOST_BYTES:
            raise SinkError(
                f"mqtt broker {self._name} is too slow: {len(self._waiting)} messages, {waiting:,} bytes, wait already"
            )
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc != self._paho.MQTT_ERR_SUCCESS:
            raise SinkError(f"mqtt broker {self._name}: {self._paho.error_string(info.rc)}")
        self._waiting.append((info, len(payload)))

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._failed(f"refused this client: {reason}")
            return
        with self._lock:
            if self._closed:
                return
            self._waiting.clear()
            self._ready.set()
            client.publish(self._availability, ONLINE, qos=1, retain=True)
            self.repeat()
            filters = [self._availability, *self._swept, *self._handlers]
            client.subscribe([(one, self._paho.SubscribeOptions(qos=1)) for one in filters])

    def _on_connect_fail(self, _client: Any, _data: Any) -> None:
        self._failed("cannot be reached")

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        # A refused client is disconnected too, and the refusal says more.
        if self.connected:
            self._failed(f"connection lost: {reason}")

    def _failed(self, problem: str) -> None:
        self._problem = problem
        self._ready.clear()
        if not self._closed and time.monotonic() >= self._next_log:
            self._next_log = time.monotonic() + _LOG_EVERY_S
            _log.warning("mqtt broker %s: %s", self._name, problem)

    def _on_log(self, _client: Any, _data: Any, _level: int, text: str) -> None:
        if text.startswith("Caught exception"):
            _log.error("mqtt broker %s: %s", self._name, text)

    def _on_message(self, client: Any, _data: Any, message: MQTTMessage) -> None:
        topic, payload = message.topic, bytes(message.payload)
        if (handler := self._handlers.get(topic)) is not None:
            handler(topic, payload, message.retain)
            return
        with self._lock:
            if topic == self._availability:
                # The last will of a connection before this one.
                if payload == OFFLINE and not self._closed:
                    client.publish(topic, ONLINE, qos=1, retain=True)
            elif message.retain and payload and topic not in self._kept:
                client.publish(topic, b"", qos=0, retain=True)


def _paho() -> Any:
    try:
        from paho.mqtt import client
    except ImportError as error:
        raise MissingDependencyError(f'the MQTT sink needs paho-mqtt ({error}); pip install "mmedge[mqtt]"') from error
    if not hasattr(client, "CallbackAPIVersion"):
        raise MissingDependencyError('the MQTT sink needs paho-mqtt 2.1 or later; pip install "mmedge[mqtt]"')
    return client
