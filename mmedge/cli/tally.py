"""Counting what a session did."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmedge.results import Result
    from mmedge.streaming import SourceReport, StateChange

_RECENT = 10_000
_TROUBLES = ("stale", "frozen", "reconnecting", "failed")


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
        self._changes: Counter[tuple[str, str]] = Counter()
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

    def changed(self, change: StateChange) -> None:
        """A source is in another state. Any thread may tell."""
        self._changes[change.source, change.state] += 1

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
        """Frames that were passed over between results."""
        return sum(sum(report.dropped.values()) - report.dropped["closed"] for report in self.reports)

    def summary(self) -> str:
        """What happened, one line, and one more for each source with which something was wrong."""
        parts = [f"{self.results} frames, {self.dropped} dropped"]
        if self.rate:
            parts.append(f"{self.rate:.1f} a second")
        if self.results:
            ages, latencies = sorted(self._ages_ms), sorted(self._latencies_ms)
            parts.append(f"age p50 {_rank(ages, 50):.1f} ms, p95 {_rank(ages, 95):.1f} ms")
            parts.append(f"model p50 {_rank(latencies, 50):.1f} ms, p95 {_rank(latencies, 95):.1f} ms")
        return "\n".join(["; ".join(parts), *self._troubles()])

    def _troubles(self) -> list[str]:
        lines = []
        for report in self.reports:
            found = [f"{state} {count} x" for state in _TROUBLES if (count := self._changes[report.name, state])]
            if report.reconnects:
                found.append(f"opened again {report.reconnects} x")
            if report.errors:
                found.append(f"{report.errors} frames refused")
            if report.incomplete:
                found.append(report.incomplete)
            if found:
                lines.append(f"{report.name}: {', '.join(found)}")
        return lines


def _rank(ordered: list[float], percent: int) -> float:
    """The value at or below which `percent` of the ordered values lie, by nearest rank."""
    return ordered[-(-len(ordered) * percent // 100) - 1]
