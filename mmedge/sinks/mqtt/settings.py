"""What the MQTT sink can be told."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass, field

from mmedge.errors import InputError
from mmedge.sinks.jpeg import check_quality


@dataclass(frozen=True)
class Tls:
    """An encrypted connection. The broker's certificate and host name are always checked.

    Attributes:
        ca: PEM file of the authority that signed the broker's certificate; None: those that the system trusts.
        cert, key: PEM files of a client certificate and its key, for brokers that ask for one.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise InputError("mqtt: tls.key needs tls.cert, the certificate that it belongs to")

    def context(self) -> ssl.SSLContext:
        """What the connection is made with.

        Raises:
            InputError: A file cannot be read, or is no PEM file.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(file for file in (self.ca, self.cert, self.key) if file)
            raise InputError(f"mqtt: tls needs PEM files, got {files}: {error.strerror or error}") from error
        return context


@dataclass(frozen=True)
class Frames:
    """How pictures are published.

    Attributes:
        rate: Most of them a second for each source.
        quality: Of the JPEG, 1 to 100.
        size: Most pixels of the longer side.
        annotated: Boxes or scores are drawn on them.
    """

    rate: float = 0.5
    quality: int = 80
    size: int = 640
    annotated: bool = True

    def __post_init__(self) -> None:
        _check_number("frames.rate", self.rate, 0.001, 60)
        check_quality(self.quality)
        _check_number("frames.size", self.size, 16, 65535)


@dataclass(frozen=True)
class MqttSettings:
    """A broker, and what is published there.

    Attributes:
        host, port: Of the broker.
        username, password: None: the broker asks for none.
        tls: None: not encrypted.
        client_id: None: ``mmedge-DEVICE``. One client of a broker has it at a time.
        base_topic: Before all topics; None: ``mmedge/DEVICE``. No two devices may share it.
        discovery: Prefix of Home Assistant's discovery topics; None: nothing is announced.
        qos: 0, 1 or 2, of events and of answers to commands.
        frames: None: no pictures.
        results_rate: Most results a second for each source; 0: none.
        off_delay: Seconds without a detection after which the sensor of a prompt without a trigger goes off.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    client_id: str | None = None
    base_topic: str | None = None
    discovery: str | None = "homeassistant"
    qos: int = 1
    frames: Frames | None = field(default_factory=Frames)
    results_rate: float = 1.0
    off_delay: float = 2.0

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not self.host or "/" in self.host or "@" in self.host:
            # Without the value: a URL may hold a password.
            raise InputError("mqtt: host must be the name or address of a broker, such as 'broker.local', not a URL")
        _check_number("port", self.port, 1, 65535)
        if self.password is not None and self.username is None:
            raise InputError("mqtt: password needs username")
        if self.qos not in (0, 1, 2):
            raise InputError(f"mqtt: qos must be 0, 1 or 2, got {self.qos!r}")
        if self.results_rate != 0:
            _check_number("results_rate", self.results_rate, 0.001, 1000)
        _check_number("off_delay", self.off_delay, 0, 3600)
        for name in ("base_topic", "discovery"):
            _check_topic(name, getattr(self, name))


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"mqtt: {name} must be a number, got {value!r}")
    if not low <= value <= high:
        raise InputError(f"mqtt: {name} must be {low:g} to {high:g}, got {value:g}")


def _check_topic(name: str, topic: str | None) -> None:
    if topic is None:
        return
    levels = topic.split("/")
    if not topic or len(topic) > 200 or topic.startswith("$") or not all(levels) or set("+#\0") & set(topic):
        raise InputError(
            f"mqtt: {name} must be a topic such as 'home/door', without + # $ or empty levels, got {topic!r}"
        )
