"""What the sensors of a source show."""

from __future__ import annotations

import pytest
from support.items import boxes_observation, event_of, scores_observation

from mmedge.sinks.mqtt.entities import OFF, ON, Sensors
from mmedge.sinks.sink import Watched

PERSON, PARCEL = "a person", "a parcel"


def sensors(*, boxes: bool = True, off_delay: float = 2.0) -> Sensors:
    return Sensors(Watched("front", "door", (PERSON, PARCEL), triggered=(PERSON,), boxes=boxes), off_delay)


def test_a_trigger_is_on_while_anything_it_tells_goes_on() -> None:
    watched = sensors()
    result = boxes_observation([PERSON]).result
    shown = []
    for kind, id in [("start", "1"), ("start", "2"), ("end", "1"), ("update", "2"), ("end", "2"), ("end", "2")]:
        watched.event(event_of(kind, result, id=id))  # type: ignore[arg-type]
        shown.append(watched.shown()[PERSON])
    assert shown == [ON, ON, ON, ON, OFF, OFF]


def test_a_detection_alone_does_not_switch_a_trigger_on() -> None:
    watched = sensors()
    watched.result(boxes_observation([PERSON, PARCEL]).result)
    assert watched.shown() == {PERSON: OFF, PARCEL: ON}


def test_without_a_trigger_it_is_on_while_detected_and_a_while_longer() -> None:
    watched = sensors()
    shown = []
    for at, labels in [(0.0, ()), (1.0, (PARCEL,)), (2.9, ()), (3.1, ()), (4.0, (PARCEL,))]:
        watched.result(boxes_observation(labels, at=at).result)
        shown.append(watched.shown()[PARCEL])
    assert shown == [OFF, ON, ON, OFF, ON]


@pytest.mark.parametrize("state", ["stale", "frozen", "reconnecting"])
def test_what_is_not_there_now_switches_nothing(state: str) -> None:
    watched = sensors()
    watched.result(boxes_observation([PARCEL], state=state).result)  # type: ignore[arg-type]
    assert watched.shown()[PARCEL] == OFF


def test_a_lost_source_detects_nothing() -> None:
    watched = sensors()
    watched.result(boxes_observation([PARCEL]).result)
    watched.event(event_of("start", boxes_observation().result))
    watched.lost()
    # The trigger says itself when it ends.
    assert watched.shown() == {PERSON: ON, PARCEL: OFF}


def test_scores_are_shown_once_a_second_and_never_as_nan() -> None:
    watched = sensors(boxes=False)
    assert PARCEL not in watched.shown()
    shown = []
    for at, score in [(0.0, 0.5), (0.9, 0.6), (1.0, float("nan")), (2.0, 0.125)]:
        watched.result(scores_observation({PERSON: 0.1, PARCEL: score}, at=at).result)
        shown.append(watched.shown()[PARCEL])
    assert shown == [b"0.5000", b"0.5000", b"0.5000", b"0.1250"]


def test_other_prompts_forget_the_old_ones_and_keep_what_stays() -> None:
    watched = sensors()
    watched.event(event_of("start", boxes_observation().result))
    watched.result(boxes_observation([PARCEL]).result)
    watched.set_prompts((PERSON, "a dog", "a dog"))
    assert watched.prompts == (PERSON, "a dog")
    assert watched.shown() == {PERSON: ON, "a dog": OFF}
    watched.result(boxes_observation([PARCEL]).result)
    assert watched.shown() == {PERSON: ON, "a dog": OFF}


def test_events_that_never_end_are_bounded() -> None:
    watched = sensors()
    for number in range(1000):
        watched.event(event_of("start", boxes_observation().result, id=str(number)))
    assert len(watched._going_on[PERSON]) <= 64
