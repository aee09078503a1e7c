"""Sinks by their kind and options, as a device file names them."""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from mmedge.errors import InputError
from mmedge.sinks.sink import Sink, SinkContext

OPENERS: Mapping[str, str] = {
    "jsonl": "mmedge.sinks.jsonl:open_jsonl",
    "video": "mmedge.sinks.video:open_video",
    "webhook": "mmedge.sinks.webhook:open_webhook",
    "mcap": "mmedge.sinks.mcap:open_mcap",
    "rerun": "mmedge.sinks.rerun:open_rerun",
    "mqtt": "mmedge.sinks.mqtt:open_mqtt",
    "ros2": "mmedge.sinks.ros2:open_ros2",
}
"""Kind -> the function that opens it, ``open_KIND(context, *, OPTIONS) -> Sink``. Its keyword arguments are the options
of a device file, its annotations their types, those without a default have to be given."""


def open_sink(kind: str, options: Mapping[str, Any], context: SinkContext) -> Sink:
    """Open a sink.

    Args:
        kind: One of `OPENERS`.
        options: Its options.
        context: What there is to know about the device.

    Raises:
        InputError: No such kind or option, one is missing, or a value cannot be used.
        MissingDependencyError: A library is missing; names the extra.
        SinkError: The place is there, or may be, and cannot be written to.
    """
    if kind not in OPENERS:
        raise InputError(f"kind must be one of {', '.join(OPENERS)}, got {kind!r}")
    module, _, function = OPENERS[kind].partition(":")
    opener = getattr(importlib.import_module(module), function)
    _check(kind, opener, options)
    sink: Sink = opener(context, **options)
    return sink


def _check(kind: str, opener: Any, options: Mapping[str, Any]) -> None:
    parameters = list(inspect.signature(opener).parameters.values())[1:]
    known = {parameter.name: parameter for parameter in parameters}
    hints = typing.get_type_hints(opener)
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            guess = f"did you mean {near[0]}?" if near else f"options: {', '.join(known)}"
            raise InputError(f"{kind} has no option {name!r}; {guess}")
        if not _fits(value, hints[name]):
            # Without the value: it may be a password.
            raise InputError(f"{kind}: {name} must be {_words(hints[name])}, got {_words(type(value))}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise InputError(f"{kind} needs the option {name!r}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type of an annotation; what is no plain type, union, list or literal fits."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is typing.Literal:
        return value in inner
    if isinstance(origin, type):
        if not isinstance(value, origin) or isinstance(value, str):
            return False
        return not isinstance(value, (list, tuple)) or all(_fits(one, inner[0]) for one in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _words(hint: Any) -> str:
    """An annotation in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in inner if one is not type(None))
    if isinstance(origin, type):
        return "a table" if issubclass(origin, Mapping) else f"a list, each {_words(inner[0])}"
    return _WORDS.get(hint, str(getattr(hint, "__name__", hint)))
