"""Items as JSON: one object each, told apart by its ``type``."""

from __future__ import annotations

import json
import math
from typing import Any, Literal, get_args

from mmedge.errors import InputError
from mmedge.sinks.sink import Item, Observation, PromptsChange
from mmedge.streaming.states import StateChange, utc_text
from mmedge.triggers.event import Event

ItemType = Literal["result", "event", "state", "prompts"]

TYPES: dict[ItemType, type] = {
    "result": Observation,
    "event": Event,
    "state": StateChange,
    "prompts": PromptsChange,
}


def classes_of(types: Any) -> tuple[type, ...]:
    """The classes of items that words such as ``event`` name.

    Raises:
        InputError: There is no such type, or none is given.
    """
    if isinstance(types, str) or not types or any(name not in TYPES for name in types):
        raise InputError(f"types must be a list of some of {', '.join(get_args(ItemType))}, got {types!r:.60}")
    return tuple(TYPES[name] for name in types)


def record(item: Item) -> dict[str, Any]:
    """An item as JSON values: ``type``, then its own fields, without pixels."""
    if isinstance(item, Observation):
        return {"type": "result", **item.result.to_json()}
    if isinstance(item, PromptsChange):
        return {
            "type": "prompts",
            "model": item.model,
            "sources": list(item.sources),
            "prompts": list(item.prompts),
            "version": item.version,
            "at": utc_text(item.at_utc),
        }
    return {"type": "event" if isinstance(item, Event) else "state", **item.to_json()}


def encode(value: Any) -> bytes:
    """JSON in UTF-8 on one line, readable by every parser: numbers that JSON lacks (NaN, infinities) become null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    # A lone surrogate, which UTF-8 cannot hold, becomes its escape, which JSON can.
    return text.encode("utf-8", "backslashreplace")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
