"""The tables of a device file and their keys."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmedge.device.config import Box, ModelConfig, PrivacyConfig, SinkConfig
from mmedge.device.schema import Key, Schema, keys_of, nearest
from mmedge.errors import InputError
from mmedge.server.settings import ServerSettings
from mmedge.sinks.opening import OPENERS
from mmedge.streaming.options import Backoff, SourceOptions
from mmedge.triggers.settings import TriggerSettings, Zone

_LONGEST_S = 1e6
_PATHS = ("path", "folder", "file", "certificate", "cert", "key", "ca")
_SECONDS = ("max_age", "stale_after", "frozen_after", "timeout", "open_timeout")


def _source_keys() -> dict[str, Key]:
    keys = keys_of(SourceOptions, without=("source", "name", "backoff"))
    keys |= {name: replace(keys[name], smallest=0.0, largest=_LONGEST_S) for name in _SECONDS}
    keys["max_rate"] = replace(keys["max_rate"], smallest=0.0, largest=1000.0)
    keys["reconnect"] = replace(keys["reconnect"], default="always")
    own = {
        "url": Key(str),
        "model": Key(str | None, None),
        "password_file": Key(str | None, None),
        "blur": Key(tuple[Box, ...], ()),
        "backoff": Key(dict[str, Any], {}),
    }
    return own | keys


def _bounded(keys: dict[str, Key], **bounds: tuple[float, float]) -> dict[str, Key]:
    return keys | {name: replace(keys[name], smallest=low, largest=high) for name, (low, high) in bounds.items()}


SCHEMA: Mapping[str, Schema] = {
    "device": {"name": Key(str, "mmedge")},
    "server": keys_of(ServerSettings) | {"token_file": Key(str | None, None)},
    "models.NAME": _bounded(keys_of(ModelConfig), threads=(0, 256)),
    "sources.NAME": _source_keys(),
    "sources.NAME.backoff": _bounded(
        keys_of(Backoff), first=(0, _LONGEST_S), longest=(0, _LONGEST_S), attempts=(0, 10**9)
    ),
    "zones.NAME": keys_of(Zone, without=("name",)),
    "triggers.NAME": keys_of(TriggerSettings, without=("name", "activation")) | {"calibration": Key(str | None, None)},
    "privacy": _bounded(keys_of(PrivacyConfig), hold=(-1e-9, 3600.0), margin=(-1e-9, 10.0)),
    "sinks.NAME": _bounded(keys_of(SinkConfig, without=("options",)), capacity=(0, 1_000_000)),
}
"""The tables of a device file and their keys. A sink has the options of its kind besides."""


SECRET_FILES = ("password_file", "token_file", "secret_file")
"""Keys that a sink has beside its options ``password``, ``token`` and ``secret``: a file that holds it."""


def sink_keys(kind: str) -> dict[str, Key]:
    """The options of a kind of sink.

    Raises:
        InputError: There is no such kind.
        MissingDependencyError: It needs a library that is not installed.
    """
    if kind not in OPENERS:
        raise InputError(f"there is no such kind of sink; {nearest(kind, OPENERS)}")
    module, _, function = OPENERS[kind].partition(":")
    return keys_of(getattr(importlib.import_module(module), function))


def is_path(option: str) -> bool:
    """Whether an option of a sink names a file or folder."""
    return option in _PATHS or option.endswith(("_path", "_file"))
