"""Which keys a table of a device file may have, and of what type: read off the dataclass or function they are for."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Key:
    """One key of a table.

    Attributes:
        hint: The annotation of what it becomes. Where it may be None and is not by itself, the file says ``false``.
        default: What it is where the file does not name it; `inspect.Parameter.empty`: it has to be named.
        smallest, largest: Bounds of a number; `smallest` itself is out of bounds.
    """

    hint: Any
    default: Any = inspect.Parameter.empty
    smallest: float | None = None
    largest: float | None = None

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def false_is_none(self) -> bool:
        return not self.required and self.default is not None and type(None) in typing.get_args(self.hint)

    @property
    def expected(self) -> str:
        """In words."""
        words = _words(self.hint)
        if self.largest is not None:
            words += f" above {self.smallest:g} and up to {self.largest:g}"
        return f"{words} or false" if self.false_is_none else words


Schema = Mapping[str, Key]


def keys_of(kind: Any, *, without: Iterable[str] = ()) -> dict[str, Key]:
    """The keys for the fields of a dataclass, or for the keyword arguments of a function.

    Args:
        without: Those that the file does not give.
    """
    hints = typing.get_type_hints(kind)
    if is_dataclass(kind):
        found = {one.name: (one.default, one.default_factory) for one in fields(kind) if one.init}
        defaults = {
            name: default if default is not MISSING else factory() if factory is not MISSING else MISSING
            for name, (default, factory) in found.items()
        }
    else:
        only = inspect.Parameter.KEYWORD_ONLY
        parameters = inspect.signature(kind).parameters.values()
        defaults = {one.name: one.default for one in parameters if one.kind is only}
    empty = inspect.Parameter.empty
    return {
        name: Key(hints[name], empty if default is MISSING else default)
        for name, default in defaults.items()
        if name not in set(without)
    }


class MismatchError(ValueError):
    """A value is not of the type of its key."""


def converted(value: Any, key: Key) -> Any:
    """`value` as its key wants it: lists as tuples, whole numbers as numbers where a number is wanted.

    Raises:
        MismatchError: It is of another type, or out of bounds.
    """
    if value is False and key.false_is_none:
        return None
    result = _converted(value, key.hint)
    bounded = key.largest is not None and key.smallest is not None and isinstance(result, (int, float))
    if bounded and not key.smallest < result <= key.largest:
        raise MismatchError
    return result


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known."""
    close = guess(name, known)
    return f"known are {', '.join(sorted(known)) or 'none'}" if close is None else f"did you mean {close!r}?"


def guess(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`; None where none is."""
    return next(iter(difflib.get_close_matches(name, sorted(known), 1, 0.6)), None)


def _converted(value: Any, hint: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first(value, inner)
    if origin is typing.Literal:
        return _plain(value, any(value == one and type(value) is type(one) for one in inner))
    if origin in (tuple, list, Sequence):
        items = _sequence(value, inner)
        return list(items) if origin is list else items
    if origin in (dict, Mapping):
        _plain(value, isinstance(value, dict))
        return {name: _converted(one, inner[1]) for name, one in value.items()}
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return float(_plain(value, number))
    if hint is int:
        return _plain(value, isinstance(value, int) and not isinstance(value, bool))
    if hint is Path or hint is os.PathLike:
        return Path(_plain(value, isinstance(value, str) and bool(value)))
    return value if hint is Any else _plain(value, isinstance(value, hint))


def _first(value: Any, hints: Sequence[Any]) -> Any:
    for hint in hints:
        try:
            return _converted(value, hint)
        except MismatchError:
            continue
    raise MismatchError


def _sequence(value: Any, inner: Sequence[Any]) -> tuple[Any, ...]:
    _plain(value, isinstance(value, (list, tuple)))
    if (len(inner) == 2 and inner[1] is Ellipsis) or len(inner) == 1:
        return tuple(_converted(one, inner[0]) for one in value)
    _plain(value, len(value) == len(inner))
    return tuple(_converted(one, hint) for one, hint in zip(value, inner, strict=True))


def _plain(value: Any, fits: bool) -> Any:
    if not fits:
        raise MismatchError
    return value


_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
}


def _words(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(one) for one in inner if one is not type(None)))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple and (len(inner) != 2 or inner[1] is not Ellipsis):
        return f"a list of {len(inner)}, each {_words(inner[0])}"
    if origin in (tuple, list, Sequence):
        return f"a list, each {_words(inner[0])}"
    if origin in (dict, Mapping) or is_dataclass(hint):
        return "a table"
    return _WORDS.get(hint, str(getattr(hint, "__name__", hint)))
