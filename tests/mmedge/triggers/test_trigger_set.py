"""From observations to events: what begins, goes on and ends, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from support.scored import asked, classification, grounding, observed, utc

from mmedge.errors import InputError
from mmedge.sinks.sink import Observation
from mmedge.streaming.states import State, StateChange
from mmedge.triggers.event import Event
from mmedge.triggers.settings import TriggerSettings, Zone
from mmedge.triggers.trigger_set import TriggerSet

STEP = 0.125
"""Seconds between frames, exact in binary: sums of it are what they seem."""

CAT: dict[str, Any] = {
    "on": 0.6, "off": 0.4, "min_duration": 0.375, "end_after": 0.375, "cool_down": 0.0, "update_every": None,
    "lost_after": 2.0,
}  # fmt: skip


def one(**fields: Any) -> TriggerSet:
    return TriggerSet([TriggerSettings("cat", "a cat", **{**CAT, **fields})])


def feed(triggers: TriggerSet, *scores: float, start: float = 0.0, step: float = STEP, **fields: Any) -> list[Event]:
    """One frame each `step` seconds."""
    return [
        event
        for number, score in enumerate(scores)
        for event in triggers.observe(observed(classification(start + step * number, {"a cat": score}, **fields)))
    ]


def told(events: list[Event]) -> list[tuple[str, float]]:
    """Kinds, and times in steps."""
    return [(event.kind, event.at / STEP) for event in events]


def change(at: float, state: State, source: str = "hall") -> StateChange:
    return StateChange(source, "live", state, at, utc(at))


def test_a_happening_from_start_to_end() -> None:
    events = feed(one(), 0.1, 0.7, 0.5, 0.8, 0.9, 0.5, 0.2, 0.2, 0.2, 0.2, 0.2)
    assert told(events) == [("start", 4), ("end", 8)]
    start, end = events
    assert start.id == end.id
    assert (start.trigger, start.source, start.prompt) == ("cat", "hall", "a cat")
    assert start.started_utc == end.started_utc == utc(STEP)
    assert (start.duration_s, end.duration_s) == (3 * STEP, 7 * STEP)
    assert (start.reason, end.reason) == (None, "below")
    assert end.best_score == pytest.approx(0.9)
    assert end.score == pytest.approx(0.2)
    assert end.best is not None
    assert end.best.captured == end.best_result.captured == 4 * STEP
    assert end.at_utc == utc(8 * STEP)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param((0.7, 0.7, 0.7, 0.1, 0.1), [], id="too-short"),
        pytest.param((0.7, 0.7, 0.1, 0.7, 0.7, 0.7), [], id="one-frame-below-takes-the-beginning-back"),
        pytest.param((0.7, 0.5, 0.5, 0.5, 0.5, 0.7), [("start", 5)], id="between-the-thresholds-neither-counts"),
        pytest.param((0.7,) * 4 + (0.5,) * 9, [("start", 3)], id="between-the-thresholds-it-goes-on"),
        pytest.param((0.7,) * 4 + (0.1, 0.1, 0.7, 0.1, 0.1, 0.7), [("start", 3)], id="dips-do-not-end-it"),
        pytest.param((0.5,) * 9, [], id="never-reached-on"),
        pytest.param((0.6,) * 4 + (0.4,) * 5, [("start", 3)], id="thresholds-themselves-count"),
    ],
)
def test_hysteresis_and_durations(scores: tuple[float, ...], expected: list[tuple[str, float]]) -> None:
    assert told(feed(one(), *scores)) == expected


def test_without_durations_each_frame_decides() -> None:
    events = feed(one(min_duration=0, end_after=0), 0.7, 0.1, 0.7, 0.1)
    assert told(events) == [("start", 0), ("end", 1), ("start", 2), ("end", 3)]
    assert events[0].id != events[2].id


def test_nothing_begins_while_it_cools_down() -> None:
    events = feed(one(min_duration=STEP, end_after=0, cool_down=0.5), 0.7, 0.7, 0.1, *(0.7,) * 8)
    assert told(events) == [("start", 1), ("end", 2), ("start", 7)]


def test_updates_come_at_most_so_often() -> None:
    events = feed(one(min_duration=0, update_every=0.25), 0.7, 0.8, 0.9, 0.6, 0.6, 0.6, 0.6)
    assert told(events) == [("start", 0), ("update", 2), ("update", 4), ("update", 6)]
    assert [event.best_score for event in events] == pytest.approx([0.7, 0.9, 0.9, 0.9])


@pytest.mark.parametrize("state", ["stale", "frozen", "reconnecting"])
def test_what_is_not_live_is_no_evidence(state: str) -> None:
    triggers = one()
    assert feed(triggers, *(0.9,) * 9, state=state) == []
    assert told(feed(triggers, *(0.9,) * 4, start=1)) == [("start", 11)]
    # Neither do low scores speak against it.
    assert feed(triggers, *(0.1,) * 9, start=1.5, state=state) == []
    assert triggers.active == {"cat": ("hall",)}


def test_a_source_that_is_not_live_for_too_long_ends_it() -> None:
    triggers = one()
    feed(triggers, *(0.9,) * 4)
    events = feed(triggers, *(0.9,) * 30, start=0.5, state="frozen")
    assert told(events) == [("end", 20)]
    assert events[0].reason == "source"


def test_a_long_gap_ends_it_before_the_next_frame_counts() -> None:
    triggers = one(min_duration=0)
    feed(triggers, 0.9)
    events = feed(triggers, 0.9, start=5)
    assert told(events) == [("end", 40), ("start", 40)]
    assert events[0].reason == "source"


def test_evidence_from_before_a_long_gap_does_not_begin_it() -> None:
    triggers = one()
    feed(triggers, 0.9, 0.9)
    assert feed(triggers, 0.9, start=5) == []
    assert told(feed(triggers, *(0.9,) * 3, start=5 + STEP)) == [("start", 43)]


def test_states_of_the_source_end_it_in_time() -> None:
    triggers = one()
    feed(triggers, *(0.9,) * 4)
    assert triggers.source_state(change(1.0, "stale")) == []
    assert triggers.source_state(change(9.0, "stale", "yard")) == []
    assert told(triggers.source_state(change(2.5, "reconnecting"))) == [("end", 20)]
    assert triggers.source_state(change(3.0, "failed")) == []


@pytest.mark.parametrize("state", ["ended", "failed"])
def test_an_ended_source_ends_it_at_once(state: State) -> None:
    triggers = one()
    feed(triggers, *(0.9,) * 4)
    (event,) = triggers.source_state(change(0.5, state))
    assert (event.kind, event.reason, event.at_utc) == ("end", "source", utc(0.5))
    assert triggers.active == {"cat": ()}


def test_a_tick_ends_what_fell_silent() -> None:
    triggers = one()
    feed(triggers, *(0.9,) * 4)
    assert triggers.tick(2.25, utc(2.25)) == []
    assert told(triggers.tick(2.5, utc(2.5))) == [("end", 20)]


def test_frames_that_come_too_late_are_passed_over() -> None:
    triggers = one(min_duration=0, end_after=0)
    feed(triggers, 0.9, start=1)
    assert feed(triggers, 0.1, 0.1, start=0.5) == []
    assert triggers.active == {"cat": ("hall",)}


def test_sources_do_not_know_each_other() -> None:
    triggers = TriggerSet([TriggerSettings("cat", "a cat", ("hall", "yard"), **CAT)])
    feed(triggers, *(0.9,) * 4)
    assert feed(triggers, *(0.1,) * 9, source="yard") == []
    assert feed(triggers, *(0.9,) * 9, source="attic") == []
    feed(triggers, *(0.9,) * 4, source="yard", start=2)
    assert triggers.active == {"cat": ("hall", "yard")}
    events = triggers.stop()
    assert [(event.source, event.reason, event.at) for event in events] == [
        ("hall", "stopped", 3 * STEP),
        ("yard", "stopped", 2 + 3 * STEP),
    ]
    assert triggers.stop() == []


def test_other_prompts_end_it_and_late_results_do_not_begin_it_again() -> None:
    triggers = one(min_duration=0)
    assert triggers.prompts_changed(asked(1, "a dog", "a cat")) == []
    assert told(feed(triggers, 0.9)) == [("start", 0)]
    assert triggers.prompts_changed(asked(2, "a cat", "a hat")) == []
    (event,) = triggers.prompts_changed(asked(3, "a dog"))
    assert (event.kind, event.reason, event.at) == ("end", "prompt", 0)
    assert feed(triggers, 0.9, start=1, version=1) == []
    triggers.prompts_changed(asked(4, "a cat"))
    assert told(feed(triggers, 0.9, start=2, version=4)) == [("start", 16)]


def test_a_negative_that_is_not_asked_for_ends_it_too() -> None:
    triggers = one(negatives=("a dog",), min_duration=0)
    triggers.prompts_changed(asked(1, "a cat", "a dog"))
    triggers.observe(observed(classification(0, {"a cat": 0.9, "a dog": 0.1})))
    assert [event.reason for event in triggers.prompts_changed(asked(2, "a cat"))] == ["prompt"]


def test_scores_of_a_grounding_go_by_the_prompts_of_its_version() -> None:
    triggers = one(min_duration=0)
    triggers.prompts_changed(asked(1, "a cat", "a dog"))
    triggers.prompts_changed(asked(2, "a dog", "a cat"))
    assert triggers.observe(observed(grounding(0, [], [0.1, 0.9], version=1))) == []
    assert triggers.observe(observed(grounding(1, [], [0.1, 0.9], version=7))) == [], "a version that nobody told of"
    assert told(triggers.observe(observed(grounding(2, [], [0.1, 0.9], version=2)))) == [("start", 16)]


def test_a_zone_holds_on_its_sources() -> None:
    zone = Zone("step", ((0, 0.5), (1, 0.5), (1, 1), (0, 1)), ("hall",))
    triggers = TriggerSet([TriggerSettings("cat", "a cat", zone="step", **{**CAT, "min_duration": 0})], [zone])
    above, below = ("a cat", 0.9, (0, 0, 20, 20)), ("a cat", 0.8, (0, 10, 20, 40))
    assert triggers.observe(observed(grounding(0, [above], [0.9]))) == []
    assert told(triggers.observe(observed(grounding(1, [above, below], [0.9])))) == [("start", 8)]
    assert triggers.observe(observed(grounding(0, [below], [0.9], source="yard"))) == []
    # Where no pixels are kept, somebody has to say how large they were.
    bare = Observation(None, grounding(2, [below], [0.9]))
    with pytest.raises(InputError, match="needs the size of the frame"):
        triggers.observe(bare)
    assert triggers.observe(bare, (64, 48)) == []
    (end,) = triggers.stop()
    assert end.best is not None


def test_without_pixels_there_is_a_best_result_and_no_best_frame() -> None:
    (start,) = one(min_duration=0).observe(Observation(None, classification(0, {"a cat": 0.9}, frame=7)))
    assert start.best is None
    assert start.best_result.frame == 7


@pytest.mark.parametrize(
    ("settings", "zones", "words"),
    [
        ([TriggerSettings("cat", "a cat")], [], "trigger 'cat': on must be a score, or come from a calibration"),
        ([TriggerSettings("cat", "a cat", on=0.5)] * 2, [], "trigger names must differ from each other, got 'cat'"),
        (
            [TriggerSettings("cat", "a cat", on=0.5, zone="step")],
            [],
            r"zone must be the name of a zone \(there are none\), got 'step'",
        ),
        (
            [TriggerSettings("cat", "a cat", ("yard",), on=0.5, zone="step")],
            [Zone("step", ((0, 0), (1, 0), (1, 1)), ("hall",))],
            "zone 'step' is drawn on hall, and the trigger watches yard",
        ),
    ],
    ids=["no-threshold", "same-name", "unknown-zone", "zone-elsewhere"],
)
def test_a_set_that_cannot_work_is_refused(settings: Any, zones: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TriggerSet(settings, zones)


def test_the_oldest_source_is_forgotten_and_its_event_ended() -> None:
    triggers = one(min_duration=0)
    feed(triggers, 0.9, source="picture 0")
    ends = [event for n in range(1, 300) for event in feed(triggers, 0.1, start=n, source=f"picture {n}")]
    assert [(event.source, event.kind, event.reason) for event in ends] == [("picture 0", "end", "source")]
