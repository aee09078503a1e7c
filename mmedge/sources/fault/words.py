"""The words behind ``fault+SOURCE?``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmedge.errors import SourceOpenError
from mmedge.sources.fault.schedule import Schedule, Span, When
from mmedge.sources.spec import FAULT_PREFIX, LARGEST_SIDE, faults_split, mask_passwords

FAULTS = (
    "drop, freeze and corrupt as CHANCE or LENGTH@WHEN, hang=SECONDS@WHEN, delay=SECONDS[*LENGTH][@WHEN], "
    "resize=WIDTHxHEIGHT[*LENGTH][@WHEN], disconnect=WHEN, seed=NUMBER; a LENGTH is a number of frames (5) or a time "
    "(2s, 500ms); WHEN is a frame (100), a time (10s), one of these and a period (10s/30s), or a chance a frame (0.05)"
)

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")
_SIZE = re.compile(r"(\d+)x(\d+)")
_KINDS = ("drop", "freeze", "corrupt", "hang", "delay", "resize", "disconnect")
_LONGEST_S = 3600.0
_ONE_FRAME = Span(1, timed=False)
_AT_ONCE = When(start=Span(0, timed=False))


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: ``drop``, ``freeze``, ``corrupt``, ``hang``, ``delay``, ``resize`` or ``disconnect``.
        schedule: When it is there.
        seconds: How long a hang takes, or how late a delayed frame is; else 0.
        size: Width and height after a resize; else None.
    """

    kind: str
    schedule: Schedule
    seconds: float = 0.0
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Faults:
    """The faults of one source, and the seed of what is random about them."""

    faults: tuple[Fault, ...]
    seed: int


class _UnreadableError(ValueError):
    """A value that is none, with what was expected."""


def split_faults(spec: str) -> tuple[str, str]:
    """``fault+SOURCE?FAULTS`` as source and faults: the faults stand behind the last ``?``.

    Raises:
        SourceOpenError: There is no source, or there are no faults.
    """
    source, options = faults_split(spec)
    if not source or not options or source.lower().startswith(FAULT_PREFIX):
        raise SourceOpenError(
            f"{mask_passwords(spec)}: expected {FAULT_PREFIX}SOURCE?FAULT=…, all faults behind the last '?', and '?' "
            f"and '@' inside a user name or password as %3F and %40; faults are {FAULTS}"
        )
    return source, options


def faults_of(spec: str, options: str) -> Faults:
    """The faults that `options`, the second part of what `split_faults` gives for `spec`, ask for.

    Raises:
        SourceOpenError: One is unknown or cannot be read.
    """
    name = mask_passwords(spec)
    fields = [field.partition("=")[::2] for field in options.split("&")]
    seeds = [text for kind, text in fields if kind == "seed"]
    if len(seeds) > 1 or not all(re.fullmatch(r"\d{1,15}", text) for text in seeds):
        raise SourceOpenError(f"{name}: expected one whole number as seed, up to 15 digits")
    seed = int(seeds[0]) if seeds else 0
    found = []
    for place, (kind, text) in enumerate(fields):
        if kind == "seed":
            continue
        if kind not in _KINDS:
            raise SourceOpenError(
                f"{name}: {_quoted(name, kind)} is no fault; faults stand behind the last '?', options of the source "
                f"before it (…?OPTION=1?drop=0.1); faults are {FAULTS}"
            )
        try:
            found.append(_fault(kind, text, (seed, place)))
        except _UnreadableError as error:
            raise SourceOpenError(f"{name}: {kind}={_quoted(name, text)}: {error}; faults are {FAULTS}") from error
    if not found:
        raise SourceOpenError(f"{name}: a seed and no fault; faults are {FAULTS}")
    return Faults(tuple(found), seed)


def _quoted(name: str, text: str) -> str:
    """A part of a source as a message may show it: only what its masked name shows, too."""
    return repr(text) if text in name else "what stands there"


def _fault(kind: str, text: str, seed: tuple[int, int]) -> Fault:
    if kind == "disconnect":
        return Fault(kind, Schedule(_when(text), None, seed))
    what, mark, when_text = text.partition("@")
    if kind in ("delay", "resize"):
        what, times, length_text = what.partition("*")
        when = _when(when_text) if mark else _AT_ONCE
        repeated = when.chance is not None or when.period is not None
        length = _length(length_text) if times else _ONE_FRAME if repeated else None
        schedule = Schedule(when, length, seed)
        return Fault(kind, schedule, size=_size(what)) if kind == "resize" else Fault(kind, schedule, _seconds(what))
    if kind == "hang":
        if not mark:
            raise _UnreadableError("expected SECONDS@WHEN, such as 3s@10s")
        return Fault(kind, Schedule(_when(when_text), _ONE_FRAME, seed), _seconds(what))
    if not mark:
        return Fault(kind, Schedule(When(chance=_chance(what)), _ONE_FRAME, seed))
    return Fault(kind, Schedule(_when(when_text), _length(what), seed))


def _span(text: str) -> Span:
    found = _SPAN.fullmatch(text)
    if not found or (found[2] is None and "." in text):
        raise _UnreadableError("expected a number of frames such as 5, or a time such as 2s or 500ms")
    value = float(found[1]) / (1000 if found[2] == "ms" else 1)
    return Span(value, timed=found[2] is not None)


def _length(text: str) -> Span:
    span = _span(text)
    if span.value <= 0:
        raise _UnreadableError("expected a length above 0")
    return span


def _seconds(text: str) -> float:
    span = _span(text)
    if not span.timed or not 0 < span.value <= _LONGEST_S:
        raise _UnreadableError(f"expected a time above 0 and up to {_LONGEST_S:g}s, such as 2s or 500ms")
    return span.value


def _chance(text: str) -> float:
    found = _SPAN.fullmatch(text)
    if not found or found[2] or not 0 <= float(found[1]) <= 1:
        raise _UnreadableError("expected a chance from 0 to 1, or LENGTH@WHEN such as 2s@10s")
    return float(found[1])


def _when(text: str) -> When:
    start_text, mark, period_text = text.partition("/")
    if not mark and "." in text and text[-1:].isdecimal():
        return When(chance=_chance(text))
    start = _span(start_text)
    if not mark:
        return When(start=start)
    period = _length(period_text)
    if period.timed != start.timed:
        raise _UnreadableError("expected start and period in the same unit, such as 10s/30s or 100/50")
    return When(start=start, period=period.value)


def _size(text: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(text)
    if not found or not all(1 <= int(side) <= LARGEST_SIDE for side in found.groups()):
        raise _UnreadableError(f"expected WIDTHxHEIGHT, such as 320x240, each up to {LARGEST_SIDE}")
    return int(found[1]), int(found[2])
