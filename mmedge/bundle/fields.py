"""Strict reading of JSON objects: every field is asked for by name and type, every error names its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mmedge.errors import BundleFormatError

T = TypeVar("T")


class Fields:
    """One JSON object whose fields are read once each; `done()` refuses what nobody asked for.

    Args:
        value: The decoded JSON value, expected to be an object.
        where: The place of this object in the manifest, for messages, such as ``stages[0].cost``.

    Raises:
        BundleFormatError: `value` is no object, or later: a field is missing, of another type, or unknown.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise BundleFormatError(f"manifest: {where} must be an object, got {type(value).__name__}")
        self._fields: dict[str, Any] = dict(value)
        self._where = where

    def _take(self, name: str, kind: type | tuple[type, ...], what: str) -> Any:
        if name not in self._fields:
            raise BundleFormatError(f"manifest: {self.place(name)} is missing (expected {what})")
        value = self._fields.pop(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise BundleFormatError(f"manifest: {self.place(name)} must be {what}, got {value!r:.80}")
        return value

    def place(self, name: str) -> str:
        """The full path of a field, for messages."""
        return ".".join(part for part in (self._where, name) if part)

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def string(self, name: str, choices: tuple[str, ...] = ()) -> str:
        value: str = self._take(name, str, "a string")
        if choices and value not in choices:
            raise BundleFormatError(f"manifest: {self.place(name)} must be one of {', '.join(choices)}, got {value!r}")
        return value

    def integer(self, name: str, minimum: int = 0) -> int:
        value: int = self._take(name, int, "an integer")
        if value < minimum:
            raise BundleFormatError(f"manifest: {self.place(name)} must be at least {minimum}, got {value}")
        return value

    def number(self, name: str) -> float:
        return self._finite(name, self._take(name, (int, float), "a number"))

    def boolean(self, name: str) -> bool:
        value: bool = self._take(name, bool, "true or false")
        return value

    def items(self, name: str) -> list[Any]:
        value: list[Any] = self._take(name, list, "a list")
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        return self.all_of(name, str, "a string")

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        values = tuple(self._finite(name, v) for v in self.all_of(name, (int, float), "a number"))
        if len(values) != length:
            raise BundleFormatError(f"manifest: {self.place(name)} must be {length} numbers, got {len(values)}")
        return values

    def _finite(self, name: str, value: int | float) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise BundleFormatError(f"manifest: {self.place(name)} must be finite, got {value!r:.40}")
        return number

    def all_of(self, name: str, kind: type | tuple[type, ...], what: str) -> tuple[Any, ...]:
        values = self.items(name)
        for index, value in enumerate(values):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise BundleFormatError(f"manifest: {self.place(name)}[{index}] must be {what}, got {value!r:.80}")
        return tuple(values)

    def mapping(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = self._take(name, dict, "an object")
        return value

    def number_map(self, name: str) -> dict[str, float]:
        """Read an object whose values are numbers."""
        return {key: self._finite(f"{name}.{key}", self._number(name, key, v)) for key, v in self.mapping(name).items()}

    def _number(self, name: str, key: str, value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise BundleFormatError(f"manifest: {self.place(name)}.{key} must be a number, got {value!r:.80}")
        return value

    def each(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """Read a list of objects."""
        place = self.place(name)
        return tuple(_read(Fields(v, f"{place}[{i}]"), read) for i, v in enumerate(self.items(name)))

    def each_named(self, name: str, read: Callable[[Fields], T]) -> dict[str, T]:
        """Read an object of objects."""
        place = self.place(name)
        return {key: _read(Fields(v, f"{place}.{key}"), read) for key, v in self.mapping(name).items()}

    def one(self, name: str, read: Callable[[Fields], T]) -> T:
        """Read one object."""
        return _read(Fields(self.mapping(name), self.place(name)), read)

    def done(self) -> None:
        """Refuse fields that nobody asked for: a typing error must not pass as a default."""
        if self._fields:
            names = ", ".join(sorted(self._fields))
            raise BundleFormatError(f"manifest: {self._where or 'top level'} has unknown fields: {names}")


def _read(fields: Fields, read: Callable[[Fields], T]) -> T:
    value = read(fields)
    fields.done()
    return value


def without_none(value: Mapping[str, object]) -> dict[str, object]:
    """Drop the entries that are None: absent and null mean the same in a manifest."""
    return {key: item for key, item in value.items() if item is not None}
