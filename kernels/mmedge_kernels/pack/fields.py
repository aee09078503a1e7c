"""Reading JSON that nobody vouches for: each value is checked for its type and range where it is taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from mmedge_kernels.errors import PackError

T = TypeVar("T")

_MOST_ITEMS = 4096


def text(value: object, place: str, pattern: re.Pattern[str]) -> str:
    """A string that `pattern` matches as a whole; raises PackError for anything else."""
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise _error(place, f"a string of the form {pattern.pattern}", value)
    return value


def integer(value: object, place: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`; raises PackError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _error(place, f"a whole number from {low} to {high}", value)
    return value


class Fields:
    """A JSON object and its place in pack.json, for messages. Raises PackError for what does not fit."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise _error(place, "an object", value)
        self._value: dict[str, Any] = value
        self._place = place

    def items(self) -> dict[str, Any]:
        """All of it, unchecked."""
        return self._value

    def text(self, key: str, pattern: re.Pattern[str]) -> str:
        return text(self._get(key), f"{self._place}.{key}", pattern)

    def integer(self, key: str, low: int, high: int) -> int:
        return integer(self._get(key), f"{self._place}.{key}", low, high)

    def boolean(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            raise _error(f"{self._place}.{key}", "true or false", value)
        return value

    def each(self, key: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
        """Every item of a list, read by ``read(item, place)``."""
        value = self._get(key)
        if not isinstance(value, list) or len(value) > _MOST_ITEMS:
            raise _error(f"{self._place}.{key}", f"a list of at most {_MOST_ITEMS} items", value)
        return tuple(read(item, f"{self._place}.{key}[{i}]") for i, item in enumerate(value))

    def one(self, key: str, read: Callable[[Any, str], T]) -> T:
        """The value itself, read by ``read(value, place)``."""
        return read(self._get(key), f"{self._place}.{key}")

    def _get(self, key: str) -> Any:
        if key not in self._value:
            raise PackError(f"pack.json: {self._place} lacks {key!r}; make the pack again")
        return self._value[key]


def _error(place: str, expected: str, value: object) -> PackError:
    return PackError(f"pack.json: {place} must be {expected}, got {value!r:.80}; make the pack again")
