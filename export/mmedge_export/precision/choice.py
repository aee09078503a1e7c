"""Which variants a bundle carries: those that are worth their bytes on some engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmedge_export.precision.variants import Precision

NOISE = 1.03
"""Times that differ by less are the same."""


@dataclass(frozen=True)
class Row:
    """One variant on one engine, within its limits.

    Attributes:
        variant, engine: What ran.
        ms: Time of a frame.
        deviation: Distance of the worst figure from perfect agreement.
        size: Bytes that the variant adds to the bundle.
    """

    variant: Precision
    engine: str
    ms: float
    deviation: float
    size: int


def verdicts(rows: Sequence[Row]) -> list[tuple[bool, str]]:
    """Whether each row is worth keeping, and why.

    Engines are looked at one by one, since a device may have either: on its engine a row must be faster than every
    variant that it replaces, and no other row may be as fast, as exact and as small. fp32 is always kept.
    """
    return [_verdict(row, [other for other in rows if other.engine == row.engine]) for row in rows]


def _verdict(row: Row, others: Sequence[Row]) -> tuple[bool, str]:
    if not row.variant.replaces:
        return True, "the reference"
    replaced = [other for other in others if other.variant.name in row.variant.replaces]
    slow = [other for other in replaced if row.ms * NOISE > other.ms]
    if slow:
        fastest = min(slow, key=lambda other: other.ms)
        return False, f"not faster than {fastest.variant.name}, which takes {fastest.ms:.3g} ms on {row.engine}"
    for other in others:
        if other is not row and _dominates(other, row):
            return False, f"{other.variant.name} is as fast, as exact and as small"
    reference = next((other for other in replaced if not other.variant.replaces), None)
    return True, "" if reference is None else f"{reference.ms / row.ms:.2f}x as fast as {reference.variant.name}"


def _dominates(a: Row, b: Row) -> bool:
    """`a` is at least as good in everything, and better in something; differences of the time within noise are none."""
    as_good = a.ms <= b.ms * NOISE and a.deviation <= b.deviation and a.size <= b.size
    return as_good and (a.ms * NOISE < b.ms or a.deviation < b.deviation or a.size < b.size)
