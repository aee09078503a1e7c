"""Everything at once, by chance: every frame is counted exactly once, at any moment."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from support.media import Script
from support.streaming import Batching, threads

from mmedge.errors import SourceLostError, SourceOpenError
from mmedge.sources import Frame, Source
from mmedge.streaming import Backoff, SourceOptions, SourceReport, stream


class Erratic(Script):
    """A camera that comes irregularly, leaves frames out, and is lost now and then."""

    def __init__(self, chance: random.Random, name: str, left: int) -> None:
        super().__init__(chance.randrange(1, left), name=name, then=SourceLostError("lost"))
        self._chance = chance
        self._skipped = 0

    def read(self) -> Frame | None:
        time.sleep(self._chance.choice([0, 0, 0.001, 0.01]))
        frame = super().read()
        left_out = self._chance.choice([0, 0, 0, 2])
        self._skipped += left_out
        return None if frame is None else replace(frame, index=frame.index + self._skipped)


def waiting(report: SourceReport) -> int:
    return report.read - report.processed - report.errors - sum(report.dropped.values()) + report.dropped["source"]


@pytest.mark.parametrize("seed", [1, 2])
def test_every_frame_is_counted_once_at_any_moment(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)

    def open_source(spec: str, **options: float) -> Source:
        if chance.random() < 0.3:
            raise SourceOpenError("busy")
        return Erratic(random.Random(chance.random()), spec, 60)

    monkeypatch.setattr("mmedge.streaming.link.open_source", open_source)
    common: dict[str, Any] = {"reconnect": "always", "backoff": Backoff(first=0.005, longest=0.02)}
    sources = [
        SourceOptions("0", "newest", **common),
        SourceOptions("1", "all", policy="every", **common),
        SourceOptions("2", "young", policy="every", max_age=0.02, **common),
        SourceOptions("3", "few", max_rate=30, **common),
        SourceOptions("4", "thin", policy="every", max_rate=30, **common),
        SourceOptions(Script(400, live=False, name="file"), "file"),
    ]
    model = Batching(0.004, refuses=lambda frame: frame.index % 17 == 3)
    results = stream(model, sources)
    most: dict[str, int] = defaultdict(int)
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.002):
            for report in results.reports:
                assert waiting(report) >= 0
                most[report.name] = max(most[report.name], waiting(report))

    looking = threading.Thread(target=look)
    looking.start()
    counted: dict[str, list[tuple[int, int]]] = defaultdict(list)
    end = time.monotonic() + 2.5
    for result in results:
        counted[result.source].append((result.frame, result.dropped))
        if time.monotonic() > end:
            break
    results.close()
    stop.set()
    looking.join()
    reports = {report.name: report for report in results.reports}
    assert threads() == []
    assert set(counted) == set(reports)
    for name, report in reports.items():
        pairs = counted[name]
        assert waiting(report) == 0, name
        # One batch may be made and not taken when the loop is left.
        assert 0 <= report.processed - len(pairs) <= 1, name
        frames = [frame for frame, _ in pairs]
        assert frames == sorted(set(frames)), name
        assert sum(drop for _, drop in pairs) <= sum(report.dropped.values()), name
    assert sum(reports["file"].dropped.values()) == reports["file"].dropped["closed"] <= 3
    assert reports["newest"].reconnects > 2
    assert reports["newest"].dropped["source"] > 0
    assert reports["thin"].dropped["rate"] > reports["thin"].processed
    # Those that are thinned out may be asked for none of the frames that are refused.
    assert all(reports[name].errors for name in ("newest", "all", "file"))
    assert most["newest"] <= 2
    assert most["all"] <= 65
    assert most["file"] <= 3


def test_a_slow_model_on_a_fast_camera_gives_results_that_are_young_and_counts_the_rest() -> None:
    """200 ms a frame at 30 frames a second: a result is at most one frame interval and one call old."""
    camera = Script(interval=1 / 30, name="camera")
    ages, drops, last = [], 0, -1
    with stream(Batching(0.2), camera, max_frames=15) as results:
        for result in results:
            ages.append(result.age_ms - result.latency_ms)
            drops += result.dropped
            assert result.dropped == result.frame - last - 1
            last = result.frame
        report = results.reports[0]
    after_last = report.read - report.dropped["closed"] - (last + 1)
    assert drops + after_last == report.dropped["newer"]
    assert report.read == report.processed + report.dropped["newer"] + report.dropped["closed"]
    # One interval is 33 ms; the rest is for machines that do something else.
    assert sorted(ages)[len(ages) // 2] < 60
