"""Checks of what a stream is asked for."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, cast, get_args

from mmedge.errors import InputError
from mmedge.sources.source import SourceLike
from mmedge.sources.spec import GRAMMAR, checked_seconds, spec_of
from mmedge.streaming.options import Backoff, Policy, Reconnect, SourceOptions

POLICIES: tuple[Policy, ...] = get_args(Policy)
RECONNECTS: tuple[Reconnect, ...] = get_args(Reconnect)

Watched = SourceLike | SourceOptions
Sources = Watched | Sequence[Watched] | Mapping[str, Watched]

_MEMBERS = ("name", "live", "fps", "frame_count", "incomplete", "read", "close")
_OPTIONS = tuple(field.name for field in fields(SourceOptions) if field.name not in ("source", "name"))
_HIGHEST_RATE = 1e4


def checked_sources(source: Sources, options: Mapping[str, Any]) -> list[SourceOptions]:
    """Every source with its options, all of them usable.

    Args:
        source: One, a list, or a mapping from the names that they shall have.
        options: For the sources that come without.

    Raises:
        InputError: There is no source, something is none, an option is unknown or out of range, or two sources were
            given the same name.
    """
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise InputError(f"stream has no option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    listed = _listed(source)
    if not listed:
        raise InputError("source must name at least one source, got none")
    if options and all(isinstance(watched, SourceOptions) for _, watched in listed):
        raise InputError(f"{', '.join(options)}: every source comes with options of its own; set it there")
    checked = [_checked(name, watched, options) for name, watched in listed]
    twice = [name for name, count in Counter(o.name for o in checked if o.name is not None).items() if count > 1]
    if twice:
        raise InputError(f"two sources are named {twice[0]!r}; results could not be told apart")
    return checked


def _listed(source: Sources) -> list[tuple[str | None, Watched]]:
    if isinstance(source, Mapping):
        return list(source.items())
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes, bytearray)):
        return [(None, watched) for watched in source]
    return [(None, cast(Watched, source))]


def _checked(name: str | None, watched: Watched, options: Mapping[str, Any]) -> SourceOptions:
    given = watched if isinstance(watched, SourceOptions) else SourceOptions(watched, **options)
    name = given.name if name is None else name
    if name is not None and (not isinstance(name, str) or not name):
        raise InputError(f"the name of a source must be some text, got {name!r}")
    _one_of("policy", given.policy, POLICIES)
    _one_of("reconnect", given.reconnect, RECONNECTS)
    rate = given.max_rate
    if rate is not None and not (_number(rate) and 0 < rate <= _HIGHEST_RATE):
        raise InputError(f"max_rate must be a number of frames a second above 0, or None, got {rate!r}")
    return replace(
        given,
        source=_checked_source(given.source),
        name=name,
        max_age=_seconds_or_none("max_age", given.max_age),
        max_rate=None if rate is None else float(rate),
        stale_after=checked_seconds("stale_after", given.stale_after),
        frozen_after=_seconds_or_none("frozen_after", given.frozen_after),
        timeout=checked_seconds("timeout", given.timeout),
        open_timeout=checked_seconds("open_timeout", given.open_timeout),
        backoff=_checked_backoff(given.backoff),
    )


def _checked_source(source: object) -> SourceLike:
    spec = spec_of(source)
    if spec is not None:
        return spec
    missing = [member for member in _MEMBERS if not hasattr(source, member)]
    if missing:
        raise InputError(
            f"{GRAMMAR}, or an object with {', '.join(_MEMBERS)} such as mmedge.open_source gives; "
            f"got {type(source).__name__}, which has no {', '.join(missing)}"
        )
    return cast(SourceLike, source)


def _checked_backoff(backoff: object) -> Backoff:
    if not isinstance(backoff, Backoff):
        raise InputError(f"backoff must be a Backoff, got {backoff!r}")
    first, longest = (checked_seconds(f"backoff.{n}", getattr(backoff, n)) for n in ("first", "longest"))
    if backoff.attempts is not None:
        checked_count("backoff.attempts", backoff.attempts, 1)
    return replace(backoff, first=first, longest=longest)


def checked_count(name: str, value: Any, least: int) -> int:
    """`value`, the argument `name`, as a whole number of at least `least`.

    Raises:
        InputError: It is none.
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise InputError(f"{name} must be a whole number of {least} or more, or None, got {value!r}")


def _seconds_or_none(name: str, value: Any) -> float | None:
    return None if value is None else checked_seconds(name, value)


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
