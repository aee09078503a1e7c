"""What a trigger waits for, and where: frozen settings, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mmedge.errors import InputError

Anchor = Literal["bottom", "centre", "overlap"]
Activation = Literal["softmax", "sigmoid", "none"]

_MOST_POINTS = 64
_LONGEST_S = 86_400.0


@dataclass(frozen=True)
class Zone:
    """A part of the picture.

    Attributes:
        name: By which triggers name it.
        points: 3 to 64 corners (x, y) in 0..1 of the frame's width and height, in order around it; x to the right, y
            downwards. Its edges must not cross each other.
        sources: Names of the sources in whose pictures it is drawn; None for all.
        anchor: What of a box must be inside: ``bottom``, the middle of its lower edge, where a thing stands;
            ``centre``; or ``overlap``, any part of it.

    Raises:
        InputError: A field cannot be used; the message names it.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    sources: tuple[str, ...] | None = None
    anchor: Anchor = "bottom"

    def __post_init__(self) -> None:
        where = f"zone {self.name!r}"
        _check_name("zone", self.name)
        _check_choice(where, "anchor", self.anchor, get_args(Anchor))
        object.__setattr__(self, "sources", _checked_sources(where, self.sources))
        object.__setattr__(self, "points", _checked_points(where, self.points))


@dataclass(frozen=True)
class TriggerSettings:
    """When a prompt counts as an event.

    An event starts when the score reached `on` and, `min_duration` later, still or again does, without having been
    below `off` in between. It ends when the score was below `off` for `end_after`. Times are those at which the
    frames were taken; a frame whose state is not ``live`` is no evidence either way.

    Attributes:
        name: Of the trigger, unique in a set.
        prompt: What it waits for, exactly as the model is asked for it.
        sources: Names of the sources that it watches; None for all.
        on: Score at which it begins. None: take it from a calibration (`mmedge.triggers.calibration`), without which
            the trigger cannot be used.
        off: Score below which it is over, at most `on`. None: as `on`, or from the calibration.
        negatives: Prompts that it must not be confused with. The model is asked for them, too. In a `Classification`
            the score is then weighed against theirs, see `activation`; in a `Grounding` a detection with a better one
            of theirs on the same place does not count. None: none, or those of the calibration.
        activation: Of the bundle's classify task; with negatives only. ``softmax``: the score is the prompt's share in
            the sum of its own score and theirs. ``sigmoid``: its own score, which says something by itself, times
            that share. ``none``: its share in the softmax of the raw scores.
        zone: Name of the zone in which it must be, for models that find boxes; None for the whole picture.
        min_duration: Seconds from the first evidence to the start; 0: the first frame.
        end_after: Seconds below `off` until the end; 0: the first frame.
        cool_down: Seconds after an end in which nothing new begins on that source.
        update_every: An event that goes on is told again this often, in seconds; None: never.
        lost_after: Seconds without a live frame after which an event is over, with the reason ``source``, and
            evidence from before counts no more.

    Raises:
        InputError: A field cannot be used; the message names it.
    """

    name: str
    prompt: str
    sources: tuple[str, ...] | None = None
    on: float | None = None
    off: float | None = None
    negatives: tuple[str, ...] | None = None
    activation: Activation = "softmax"
    zone: str | None = None
    min_duration: float = 0.4
    end_after: float = 1.0
    cool_down: float = 1.0
    update_every: float | None = 1.0
    lost_after: float = 3.0

    def __post_init__(self) -> None:
        where = f"trigger {self.name!r}"
        _check_name("trigger", self.name)
        _check_text(where, "prompt", self.prompt)
        object.__setattr__(self, "sources", _checked_sources(where, self.sources))
        if self.negatives is not None:
            object.__setattr__(self, "negatives", _checked_negatives(where, self.negatives, self.prompt))
        if self.zone is not None:
            _check_text(where, "zone", self.zone)
        _check_thresholds(where, self.on, self.off)
        _check_choice(where, "activation", self.activation, get_args(Activation))
        for field, smallest in (("min_duration", 0.0), ("end_after", 0.0), ("cool_down", 0.0), ("lost_after", 0.01)):
            _check_number(where, field, getattr(self, field), smallest, _LONGEST_S)
        if self.update_every is not None:
            _check_number(where, "update_every", self.update_every, 0.01, _LONGEST_S)

    def watches(self, source: str) -> bool:
        """Whether it looks at this source."""
        return self.sources is None or source in self.sources


def needed_prompts(settings: Iterable[TriggerSettings], prompts: Sequence[str] = ()) -> tuple[str, ...]:
    """The prompts that a model must be asked for: `prompts`, then those of the triggers, then their negatives.

    Each once, in this order. Only the triggers that watch a source of the model belong in `settings`.
    """
    triggers = tuple(settings)
    negatives = (negative for trigger in triggers for negative in trigger.negatives or ())
    return tuple(dict.fromkeys((*prompts, *(trigger.prompt for trigger in triggers), *negatives)))


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"name of a {what} must be a text that is not empty, got {name!r}")


def _check_text(where: str, field: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {field} must be a text that is not empty, got {value!r}")


def _check_choice(where: str, field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{where}: {field} must be one of {', '.join(choices)}, got {value!r}")


def _check_number(where: str, field: str, value: Any, smallest: float, largest: float) -> None:
    if not _is_number(value) or not smallest <= value <= largest:
        raise InputError(f"{where}: {field} must be a number from {smallest:g} to {largest:g}, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_thresholds(where: str, on: Any, off: Any) -> None:
    for field, value in (("on", on), ("off", off)):
        if value is not None and not _is_number(value):
            raise InputError(f"{where}: {field} must be a finite number, got {value!r}")
    if off is not None and (on is None or off > on):
        expected = "must come with an `on`" if on is None else f"must be at most `on`, {on!r}"
        raise InputError(f"{where}: off {expected}, got {off!r}")


def _checked_texts(where: str, field: str, values: object) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InputError(f"{where}: {field} must be a list of texts, got {values!r}")
    for index, value in enumerate(values):
        _check_text(where, f"{field}[{index}]", value)
    if len(set(values)) < len(values):
        raise InputError(f"{where}: {field} must name each once, got {list(values)!r}")
    return tuple(values)


def _checked_sources(where: str, sources: object) -> tuple[str, ...] | None:
    if sources is None:
        return None
    checked = _checked_texts(where, "sources", sources)
    if not checked:
        raise InputError(f"{where}: sources must name at least one; leave it out for all of them")
    return checked


def _checked_negatives(where: str, negatives: object, prompt: str) -> tuple[str, ...]:
    checked = _checked_texts(where, "negatives", negatives)
    if prompt in checked:
        raise InputError(f"{where}: negatives must not hold the prompt itself, {prompt!r}")
    return checked


def _checked_points(where: str, points: object) -> tuple[tuple[float, float], ...]:
    if isinstance(points, str) or not isinstance(points, Sequence) or not 3 <= len(points) <= _MOST_POINTS:
        got = f"{len(points)}" if isinstance(points, Sequence) and not isinstance(points, str) else repr(points)
        raise InputError(f"{where}: points must be 3 to {_MOST_POINTS} corners [x, y], got {got}")
    for index, point in enumerate(points):
        pair = isinstance(point, Sequence) and not isinstance(point, str) and len(point) == 2
        if not pair or not all(_is_number(value) and 0 <= value <= 1 for value in point):
            raise InputError(f"{where}: points[{index}] must be [x, y] in 0..1 of the frame, got {point!r}")
    checked = tuple((float(x), float(y)) for x, y in points)
    edges = list(zip(checked, checked[1:] + checked[:1], strict=True))
    if abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in edges)) < 1e-9:
        raise InputError(f"{where}: points must enclose an area, got {[list(point) for point in checked]}")
    for i, first in enumerate(edges):
        for j in range(i + 1, len(edges)):
            if _cross(first, edges[j]):
                raise InputError(
                    f"{where}: the edges from points[{i}] and points[{j}] cross; give the corners in order"
                )
    return checked


_Edge = tuple[tuple[float, float], tuple[float, float]]


def _cross(first: _Edge, second: _Edge) -> bool:
    """Whether two edges cut each other in their inner parts."""

    def side(edge: _Edge, point: tuple[float, float]) -> float:
        (x0, y0), (x1, y1) = edge
        return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)

    return side(first, second[0]) * side(first, second[1]) < 0 and side(second, first[0]) * side(second, first[1]) < 0
