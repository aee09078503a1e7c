"""The MQTT sink as a device file names it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from mmedge.errors import InputError
from mmedge.sinks.mqtt.settings import Frames, MqttSettings, Tls
from mmedge.sinks.mqtt.sink import Mqtt
from mmedge.sinks.sink import SinkContext

_Table = TypeVar("_Table", Tls, Frames)
_KINDS: dict[str, type | tuple[type, ...]] = {"str | None": str, "int": int, "float": (int, float), "bool": bool}


def open_mqtt(
    context: SinkContext,
    *,
    host: str,
    port: int = 1883,
    username: str | None = None,
    password: str | None = None,
    tls: bool | Mapping[str, Any] = False,
    client_id: str | None = None,
    base_topic: str | None = None,
    discovery: bool | str = "homeassistant",
    qos: int = 1,
    frames: bool | Mapping[str, Any] = True,
    results_rate: float = 1.0,
    off_delay: float = 2.0,
) -> Mqtt:
    """The sink of these options; see `MqttSettings`. The broker need not be there yet.

    Args:
        context: What there is to know about the device.
        host, port, username, password, client_id, base_topic, qos, results_rate, off_delay: As in `MqttSettings`.
        tls: ``{ca, cert, key}``, or True: encrypted, with the authorities that the system trusts.
        discovery: Prefix; True: ``homeassistant``, False: nothing is announced.
        frames: ``{rate, quality, size, annotated}``, or False: no pictures.

    Raises:
        InputError: An option cannot be used.
        MissingDependencyError: paho-mqtt is not installed.
    """
    settings = MqttSettings(
        host,
        port,
        username,
        password,
        _table("tls", Tls, tls),
        client_id,
        base_topic,
        ("homeassistant" if discovery else None) if isinstance(discovery, bool) else discovery,
        qos,
        _table("frames", Frames, frames),
        results_rate,
        off_delay,
    )
    return Mqtt.of(settings, context)


def _table(name: str, kind: type[_Table], option: bool | Mapping[str, Any]) -> _Table | None:
    """The `kind` of an option that is a table, True for all its defaults, or False for None."""
    if isinstance(option, bool):
        return kind() if option else None
    known = {one.name: _KINDS[str(one.type)] for one in dataclasses.fields(kind)}
    for key, value in option.items():
        if key not in known:
            raise InputError(f"mqtt: {name} has no option {key!r}; options: {', '.join(known)}")
        if not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool):
            raise InputError(f"mqtt: {name}.{key} cannot be {value!r}")
    return kind(**option)
