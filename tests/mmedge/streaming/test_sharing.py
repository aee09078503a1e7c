"""One model, several cameras."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise

import pytest
from support.media import Script, settled
from support.streaming import Batching, Slow, result_of

from mmedge.errors import FrameInputError, TextInputError
from mmedge.results import Result
from mmedge.sources import Frame
from mmedge.streaming import stream


def test_sources_take_turns() -> None:
    sources = [Script(20, live=False, name=name) for name in "abc"]
    names = []
    with stream(Slow(), sources) as results:
        names.append(next(results).source)
        assert settled(lambda: all(source.reads >= 2 for source in sources))
        for result in results:
            names.append(result.source)
            time.sleep(0.002)
    assert all(len(set(names[n : n + 3])) == 3 for n in range(1, 10))
    assert Counter(names) == {"a": 20, "b": 20, "c": 20}


def test_a_fast_camera_does_not_starve_a_slow_one() -> None:
    with stream(Slow(0.01), [Script(interval=0.001, name="fast"), Script(20, interval=0.05, name="slow")]) as results:
        counts: Counter[str] = Counter()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            counts[next(results).source] += 1
    assert counts["slow"] >= 12
    assert counts["fast"] >= 25


def test_frames_that_are_due_together_go_through_the_model_together() -> None:
    model = Batching(0.02)
    with stream(model, [Script(interval=0.01, name=name) for name in "abc"]) as results:
        found = [next(results) for _ in range(40)]
    assert Counter(len(call) for call in model.calls).most_common(1)[0][0] == 3
    assert all(len({name for name, _ in call}) == len(call) for call in model.calls)
    flat = [frame for call in model.calls for frame in call]
    assert [(result.source, result.frame) for result in found] == flat[: len(found)]


@pytest.mark.parametrize(("ours", "models"), [(2, 8), (8, 2), (1, 8), (8, 1)])
def test_no_more_frames_at_once_than_stream_and_model_take(ours: int, models: int) -> None:
    model = Batching(0.01, max_batch=models)
    with stream(model, [Script(20, live=False, name=name) for name in "abcd"], max_batch=ours) as results:
        assert len(list(results)) == 80
    assert max(len(call) for call in model.calls) == min(ours, models)


def test_no_more_results_than_asked_for_although_they_come_in_batches() -> None:
    model = Batching(0.005)
    with stream(model, [Script(live=False, name=name) for name in "abc"], max_frames=7) as results:
        assert len(list(results)) == 7
        assert sum(report.processed for report in results.reports) == 7


def test_each_source_is_served_in_turn_and_its_age_does_not_grow_with_their_number() -> None:
    """Five cameras of 100 frames a second, a model of 40 ms for two: each is served at the latest every third call, and
    a result is at most one frame interval and one call old."""
    model = Batching(0.04, max_batch=2)
    sources = [Script(interval=0.01, name=name) for name in "abcde"]
    with stream(model, sources) as results:
        for _ in range(10):
            next(results)
        start, ages = len(model.calls), [next(results).age_ms for _ in range(40)]
    waits = []
    for name in "abcde":
        served = [n for n, call in enumerate(model.calls[start:]) if any(who == name for who, _ in call)]
        waits += [later - earlier for earlier, later in pairwise(served)]
    assert max(waits) <= 3
    # Far beyond the bound of 50 ms, for machines that do something else; ten frames of 40 ms would be 400.
    assert sorted(ages)[len(ages) // 2] < 75


def test_no_frame_waits_for_another_camera() -> None:
    """A camera of 100 frames a second beside one of 1: nobody waits a second to fill a batch."""
    model = Batching()
    with stream(model, [Script(interval=0.01, name="fast"), Script(interval=1, name="slow")]) as results:
        began = time.monotonic()
        assert {next(results).source for _ in range(20)} == {"fast"}
        assert time.monotonic() - began < 0.9


@pytest.mark.parametrize("batch", [1, 3])
def test_frames_that_the_model_refuses_are_counted_and_passed_over(
    batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = Batching(0.002, max_batch=batch, refuses=lambda frame: frame.source == "b" and frame.index % 3 == 0)
    with stream(model, [Script(30, live=False, name=name) for name in "abc"]) as results:
        found = [(result.source, result.frame) for result in results]
        reports = {report.name: report for report in results.reports}
    assert [frame for name, frame in found if name == "b"] == [n for n in range(30) if n % 3]
    assert len(found) == 80
    assert (reports["b"].errors, reports["b"].processed, reports["b"].read) == (10, 20, 30)
    assert reports["a"].errors == 0
    assert caplog.text.count("was refused: not this one") == 1


def test_a_model_that_refuses_every_frame_is_an_error_at_the_end() -> None:
    with (
        stream(Slow(refuses=lambda frame: True), Script(5, live=False)) as results,
        pytest.raises(FrameInputError, match="not this one"),
    ):
        list(results)
    assert results.reports[0].errors == 5


def test_every_other_error_of_the_model_ends_the_stream() -> None:
    def model(frame: Frame, /) -> Result:
        if frame.index == 3:
            raise TextInputError("no prompts")
        return result_of(frame)

    results = stream(model, Script(10, live=False))
    with pytest.raises(TextInputError, match="no prompts"):
        list(results)
    report = results.reports[0]
    assert (report.processed, report.errors) == (3, 1)
    assert report.read == report.processed + report.errors + report.dropped["closed"]
