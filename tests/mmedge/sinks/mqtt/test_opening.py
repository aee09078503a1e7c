"""The options of the MQTT sink."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mmedge.errors import InputError, MissingDependencyError
from mmedge.sinks.mqtt import Frames, MqttSettings, Tls
from mmedge.sinks.opening import open_sink
from mmedge.sinks.sink import SinkContext


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "needs the option 'host'"),
        ({"host": "mqtt://me:secret@broker"}, "host must be the name or address of a broker"),
        ({"host": ""}, "host must be the name or address of a broker"),
        ({"host": "b", "port": 0}, "port must be 1 to 65535, got 0"),
        ({"host": "b", "pasword": "secret"}, "did you mean password?"),
        ({"host": "b", "password": "secret"}, "password needs username"),
        ({"host": "b", "password": 7}, "password must be text"),
        ({"host": "b", "qos": 3}, "qos must be 0, 1 or 2, got 3"),
        ({"host": "b", "base_topic": "home/+/x"}, "base_topic must be a topic"),
        ({"host": "b", "base_topic": "/home"}, "base_topic must be a topic"),
        ({"host": "b", "discovery": "#"}, "discovery must be a topic"),
        ({"host": "b", "frames": {"rate": 0}}, "frames.rate must be 0.001 to 60, got 0"),
        ({"host": "b", "frames": {"quality": 0}}, "quality must be 1 to 100"),
        (
            {"host": "b", "frames": {"width": 3}},
            "frames has no option 'width'; options: rate, quality, size, annotated",
        ),
        ({"host": "b", "frames": {"annotated": 1}}, "frames.annotated cannot be 1"),
        ({"host": "b", "frames": "no"}, "frames must be true or false or a table"),
        ({"host": "b", "tls": {"ca": "/none.pem"}}, "tls needs PEM files, got /none.pem: No such file or directory"),
        ({"host": "b", "tls": {"key": "k.pem"}}, "tls.key needs tls.cert"),
        ({"host": "b", "results_rate": -1.0}, "results_rate must be 0.001 to 1000, got -1"),
        ({"host": "b", "off_delay": float("nan")}, "off_delay must be a number, got nan"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_wrong_options_are_named_without_secrets(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        open_sink("mqtt", options, SinkContext())
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_right_options_are_taken_and_no_broker_is_needed() -> None:
    options = {"host": "192.0.2.1", "discovery": False, "frames": {"rate": 1, "size": 320}, "results_rate": 0}
    sink = open_sink("mqtt", options, SinkContext())
    assert sink.kind == "mqtt"
    sink.close()


def test_the_password_is_not_shown() -> None:
    settings = MqttSettings("broker", username="me", password="secret", tls=Tls(), frames=Frames())
    assert "secret" not in repr(settings)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "mmedge\[mqtt\]"'):
        open_sink("mqtt", {"host": "broker"}, SinkContext())
