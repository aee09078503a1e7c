"""Choose what to fold, by the sizes that prompts will have, and which forms of the program a bundle carries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmedge.bundle import Form, Term
from mmedge_export.graph.compiler.sites import Candidate, Half

_MARGIN = 0.95
"""A fold must save this much of the operations to be made: close to the break-even the plain form is as fast."""

_WORTH = 0.03
"""A form must make a frame this much cheaper, at some size, than the other forms do: each costs memory."""

_COUNTS = (1, 2, 4, 8, 16, 32)
_MOST_FORMS = 3

Fold = frozenset[tuple[int, str]]
"""The folded halves: (index of the candidate, ``scores`` or ``outputs``)."""


@dataclass(frozen=True)
class Choice:
    """Which forms there are.

    Attributes:
        folds: What each form folds, by its name. One entry if one form is best for every size.
        forms: What a frame costs in each; {} if there is one form.
    """

    folds: Mapping[str, Fold]
    forms: Mapping[str, Form]


def choose(candidates: Sequence[Candidate], lengths: Mapping[str, int], frame_flops: float) -> Choice:
    """Choose the forms.

    Args:
        candidates: Each attention across modalities.
        lengths: Largest size of each named axis that is a prompt length. Other named axes count things such as prompts.
        frame_flops: What a frame costs in all, for judging whether a form is worth its memory.
    """
    halves = {(index, half.kind): half for index, c in enumerate(candidates) for half in c.halves}
    if not halves:
        return Choice({"": frozenset()}, {})
    axes = sorted({axis for half in halves.values() for _, names in (*half.plain, *half.compiled) for axis in names})
    points = _grid(axes, lengths)
    best = [frozenset(key for key, half in halves.items() if _pays(half, point)) for point in points]
    folds = _worth_carrying(sorted(set(best), key=len, reverse=True), halves, points, frame_flops)
    names = {_name(fold, folds): fold for fold in folds}
    if len(names) == 1:
        return Choice({"": folds[0]}, {})
    forms = {name: Form(_terms(fold, halves)) for name, fold in names.items()}
    return Choice(names, forms)


def _grid(axes: Sequence[str], lengths: Mapping[str, int]) -> list[dict[str, int]]:
    points: list[dict[str, int]] = [{}]
    for axis in axes:
        top = lengths.get(axis)
        sizes = _COUNTS if top is None else tuple(dict.fromkeys([*(s for s in _steps(top)), top]))
        points = [{**point, axis: size} for point in points for size in sizes]
    return points


def _steps(top: int) -> list[int]:
    return [size for size in range(1, top + 1) if size <= 8 or size % 4 == 0]


def _cost(terms: Sequence[tuple[float, tuple[str, ...]]], point: Mapping[str, int]) -> float:
    return sum(flops * math.prod(point[axis] for axis in axes) for flops, axes in terms)


def _pays(half: Half, point: Mapping[str, int]) -> bool:
    return _cost(half.compiled, point) < _MARGIN * _cost(half.plain, point)


def _total(fold: Fold, halves: Mapping[tuple[int, str], Half], point: Mapping[str, int]) -> float:
    return sum(_cost(half.compiled if key in fold else half.plain, point) for key, half in halves.items())


def _worth_carrying(
    folds: list[Fold], halves: Mapping[tuple[int, str], Half], points: list[dict[str, int]], frame_flops: float
) -> list[Fold]:
    """Drop the form whose loss is least, while that loss is small or there are too many."""
    while len(folds) > 1:
        losses = []
        for fold in folds:
            others = [other for other in folds if other != fold]
            loss = 0.0
            for point in points:
                without = min(_total(other, halves, point) for other in others)
                loss = max(loss, (without - _total(fold, halves, point)) / (frame_flops + without))
            losses.append((loss, fold))
        least, fold = min(losses, key=lambda item: item[0])
        if least > _WORTH and len(folds) <= _MOST_FORMS:
            break
        folds = [other for other in folds if other != fold]
    return folds


def _terms(fold: Fold, halves: Mapping[tuple[int, str], Half]) -> tuple[Term, ...]:
    sums: dict[tuple[str, ...], float] = {}
    for key, half in halves.items():
        for flops, axes in half.compiled if key in fold else half.plain:
            name = tuple(sorted(axes))
            sums[name] = sums.get(name, 0.0) + flops
    return tuple(Term(flops, axes) for axes, flops in sorted(sums.items()))


def _name(fold: Fold, folds: Sequence[Fold]) -> str:
    """`folds` are sorted, those that fold most first."""
    if not fold:
        return "cached"
    return "compiled" if fold == folds[0] else "mixed"
