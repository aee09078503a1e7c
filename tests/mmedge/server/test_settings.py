from __future__ import annotations

from pathlib import Path

import pytest

from mmedge.errors import InputError
from mmedge.server.settings import ServerSettings, is_loopback

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert ServerSettings(host=host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "robot.local", "127.0.0.1.example.org"])
def test_any_other_address_needs_a_token(host: str) -> None:
    with pytest.raises(InputError, match="token"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, token=TOKEN).host == host


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"host": ""}, "host"),
        ({"port": 70000}, "port"),
        ({"port": "80"}, "port"),
        ({"port": True}, "port"),
        ({"token": "hunter2"}, "token"),
        ({"token": "with a space in the middle"}, "token"),
        ({"token": "ümlauts-are-no-header"}, "token"),
        ({"certificate": "cert.pem"}, "key"),
        ({"key": "key.pem"}, "certificate"),
        ({"certificate": "no-such.pem", "key": "no-such.pem"}, "certificate"),
        ({"origins": ("robot.example",)}, "origins"),
        ({"origins": ("https://robot.example/page",)}, "origins"),
        ({"origins": ("*",)}, "origins"),
        ({"max_body": 0}, "max_body"),
        ({"max_sockets": 1.5}, "max_sockets"),
        ({"requests_per_second": float("nan")}, "requests_per_second"),
        ({"request_timeout": -1}, "request_timeout"),
    ],
)
def test_what_cannot_be_used_is_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        ServerSettings(**wrong)  # type: ignore[arg-type]
    if "token" in wrong:
        assert str(wrong["token"]) not in str(caught.value)


def test_the_token_is_not_shown() -> None:
    settings = ServerSettings(token=TOKEN)
    assert TOKEN not in repr(settings)
    assert TOKEN not in str(settings)


def test_certificate_and_key_are_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="certificate must be a PEM file"):
        ServerSettings(certificate=str(tmp_path), key=str(tmp_path))
