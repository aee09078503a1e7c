from __future__ import annotations

import io
import logging

import pytest

from mmedge.device.secrets import HidingFilter, Secrets, is_secret


def test_log_lines_and_traces_hide_what_is_secret() -> None:
    secrets = Secrets(["tok3n"])
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.addFilter(HidingFilter(lambda: secrets))
    logger = logging.getLogger("tests.secrets")
    logger.addHandler(handler)
    try:
        try:
            raise ValueError("http://host/tok3n/path and rtsp://me:pass-w0rd@host/")
        except ValueError:
            logger.exception("%s failed with %s", "it", "tok3n")
    finally:
        logger.removeHandler(handler)
    assert "it failed with ***" in told.getvalue()
    assert "ValueError: http://host/***/path and rtsp://me:***@host/" in told.getvalue()
    assert "tok3n" not in told.getvalue()
    assert "pass-w0rd" not in told.getvalue()


@pytest.mark.parametrize(
    "value", ["p@ss/word", "späße und mehr", "100%", "a b c d"], ids=["signs", "letters", "percent", "spaces"]
)
def test_secrets_are_hidden_in_addresses_too(value: str) -> None:
    from urllib.parse import quote

    secrets = Secrets([value])
    assert secrets.hide(f"<{value}> <{quote(value, safe='')}>") == "<***> <***>"


def test_a_secret_that_holds_another_is_hidden_as_a_whole() -> None:
    assert Secrets(["abcd", "abcdefgh"]).hide("abcdefgh abcd") == "*** ***"


def test_short_values_are_not_looked_for_in_every_word() -> None:
    assert Secrets(["abc", ""]).hide("abc of the alphabet") == "abc of the alphabet"


def test_values_in_json_are_hidden_and_its_keys_stay() -> None:
    value = {"abcd": ["x abcd", {"y": ("abcd", 1, None)}], "n": 2.5}
    assert Secrets(["abcd"]).hidden(value) == {"abcd": ["x ***", {"y": ["***", 1, None]}], "n": 2.5}


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("password", "HALL_PW", "api_key", "key", "MQTT_TOKEN", "compass")),
        *((name, False) for name in ("token_file", "monkey", "path", "pwm")),
    ],
)
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert is_secret(name) is secret
