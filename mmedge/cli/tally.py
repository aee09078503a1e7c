"""Counting what a session did."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmedge.results import Result
    from mmedge.stream import SourceReport

_RECENT = 10_000


class Tally:
    """Results, drops, rate and age of a session so far. Percentiles are those of the last 10,000 results.

    Attributes:
        results: Number of results.
        reports: One for each source.
        interrupted: Somebody ended it from outside.
    """

    def __init__(self) -> None:
        self.results = 0
        self.reports: tuple[SourceReport, ...] = ()
        self.interrupted = False
        self._first = 0.0
        self._last = 0.0
        self._ages_ms: deque[float] = deque(maxlen=_RECENT)
        self._latencies_ms: deque[float] = deque(maxlen=_RECENT)

    def add(self, result: Result, reports: tuple[SourceReport, ...]) -> None:
        self._last = time.monotonic()
        if self.results == 0:
            self._first = self._last
        self.results += 1
        self.reports = reports
        self._ages_ms.append(result.age_ms)
        self._latencies_ms.append(result.latency_ms)

    @property
    def elapsed(self) -> float:
        """Seconds from the first result to the last."""
        return self._last - self._first

    @property
    def rate(self) -> float:
        """Results a second; 0 before the second result."""
        return (self.results - 1) / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def dropped(self) -> int:
        return sum(report.dropped for report in self.reports)

    def summary(self) -> str:
        """What happened, one line, and one more for each file that was incomplete."""
        parts = [f"{self.results} frames, {self.dropped} dropped"]
        if self.rate:
            parts.append(f"{self.rate:.1f} a second")
        if self.results:
            ages, latencies = sorted(self._ages_ms), sorted(self._latencies_ms)
            parts.append(f"age p50 {_rank(ages, 50):.1f} ms, p95 {_rank(ages, 95):.1f} ms")
            parts.append(f"model p50 {_rank(latencies, 50):.1f} ms, p95 {_rank(latencies, 95):.1f} ms")
        return "\n".join(["; ".join(parts), *_incomplete(self.reports)])


def _rank(ordered: list[float], percent: int) -> float:
    """The value at or below which `percent` of the ordered values lie, by nearest rank."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


def _incomplete(reports: Iterable[SourceReport]) -> list[str]:
    return [f"{report.name}: {report.incomplete}" for report in reports if report.incomplete]
