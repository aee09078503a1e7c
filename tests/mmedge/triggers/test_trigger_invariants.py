"""What holds for events of any scores, at any times, in any state of the source."""

from __future__ import annotations

import weakref
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scored import asked, classification, observed, utc

from mmedge.sources.frame import Frame
from mmedge.streaming.states import StateChange
from mmedge.triggers.event import Event
from mmedge.triggers.settings import TriggerSettings
from mmedge.triggers.trigger_set import TriggerSet

TRIGGERS = [
    TriggerSettings("cat", "a cat", on=0.6, off=0.3, min_duration=0.3, end_after=0.2, cool_down=0.7, lost_after=1.0),
    TriggerSettings("quick", "a cat", on=0.5, min_duration=0, end_after=0, cool_down=0, update_every=0.3),
    TriggerSettings("dog", "a dog", ("yard",), on=0.5, min_duration=0.1, negatives=("a cat",)),
]
SOURCES = ("hall", "yard")

SCORES = st.sampled_from([0.0, 0.2, 0.3, 0.45, 0.5, 0.6, 0.9, 1.0]) | st.floats(0, 1)
FRAMES = st.tuples(
    st.just("frame"),
    st.sampled_from(SOURCES),
    st.sampled_from([-0.2, 0.0, 0.05, 0.1, 0.1, 0.1, 0.3, 2.0]),
    SCORES,
    SCORES,
    st.sampled_from(["live", "live", "live", "live", "stale", "frozen"]),
)
OTHERS = st.one_of(
    st.tuples(st.just("state"), st.sampled_from(SOURCES), st.sampled_from(["live", "stale", "failed"])),
    st.tuples(st.just("prompts"), st.sampled_from([("a cat", "a dog"), ("a dog",), ("a cat",)])),
    st.tuples(st.just("tick")),
)
STEPS = st.lists(st.one_of(FRAMES, FRAMES, FRAMES, FRAMES, FRAMES, FRAMES, OTHERS), max_size=60)


class Run:
    """A set of triggers, what went in, and what came out."""

    def __init__(self) -> None:
        self.triggers = TriggerSet(TRIGGERS)
        self.events: list[Event] = []
        self.frames: list[weakref.ref[Frame]] = []
        self.evidence: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
        self.now = dict.fromkeys(SOURCES, 10.0)
        self.version = 1
        self.tell(self.triggers.prompts_changed(asked(1, "a cat", "a dog", sources=SOURCES)))

    def tell(self, events: list[Event]) -> None:
        self.events += events

    def step(self, kind: str, *what: object) -> None:
        latest = max(self.now.values())
        if kind == "frame":
            source, later, cat, dog, state = what
            at = self.now[str(source)] + float(later)  # type: ignore[arg-type]
            self.now[str(source)] = max(at, self.now[str(source)])
            scores = {"a cat": float(cat), "a dog": float(dog)}  # type: ignore[arg-type]
            result = classification(at, scores, source=str(source), state=str(state), version=self.version)
            observation = observed(result, (4, 4))
            assert observation.frame is not None
            self.frames.append(weakref.ref(observation.frame))
            if state == "live":
                self.evidence[str(source), at].append((float(result.scores[0]), float(result.scores[1])))
            self.tell(self.triggers.observe(observation))
        elif kind == "state":
            change = StateChange(str(what[0]), "live", what[1], latest, utc(latest))  # type: ignore[arg-type]
            self.tell(self.triggers.source_state(change))
        elif kind == "prompts":
            self.version += 1
            self.tell(self.triggers.prompts_changed(asked(self.version, *what[0], sources=SOURCES)))  # type: ignore[misc]
        else:
            self.tell(self.triggers.tick(latest, utc(latest)))


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_events_are_well_formed_whatever_happens(steps: list[tuple[str, ...]]) -> None:
    run = Run()
    for step in steps:
        run.step(*step)
    on = {(event.trigger, event.source) for event in run.events if event.kind == "start"}
    assert {(name, source) for name, sources in run.triggers.active.items() for source in sources} <= on
    run.tell(run.triggers.stop())
    assert all(sources == () for sources in run.triggers.active.values())
    by_place: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in run.events:
        by_place[event.trigger, event.source].append(event)
    assert len({event.id for event in run.events}) == sum(event.kind == "start" for event in run.events)
    for (name, _), events in by_place.items():
        check(next(trigger for trigger in TRIGGERS if trigger.name == name), events, run)


def check(trigger: TriggerSettings, events: list[Event], run: Run) -> None:
    """Starts and ends alternate, with updates between; durations, cool-down and the best frame are as promised."""
    open_id, ended = None, float("-inf")
    assert events[-1].kind == "end"
    for event in events:
        assert trigger.watches(event.source)
        assert (event.kind == "start") == (open_id is None)
        assert event.kind == "start" or event.id == open_id
        assert (event.reason is not None) == (event.kind == "end")
        assert event.best is not None
        assert event.best.captured == event.best_result.captured <= event.at
        assert event.best_result.captured >= event.at - event.duration_s - 1e-9
        if event.kind == "start":
            assert trigger.on is not None
            assert event.score >= trigger.on
            assert event.duration_s >= trigger.min_duration
            assert event.at - event.duration_s >= ended + trigger.cool_down - 1e-9
            assert (event.source, event.at) in run.evidence, "only what is live begins anything"
        if event.kind != "end":
            assert event.best_score >= event.score
        open_id = None if event.kind == "end" else event.id
        ended = event.at if event.kind == "end" else ended


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_only_best_frames_are_kept(steps: list[tuple[str, ...]]) -> None:
    run = Run()
    for step in steps:
        run.step(*step)
        run.events.clear()
    kept = sum(reference() is not None for reference in run.frames)
    # One for each trigger on each source, and no more: two watch both, one watches one.
    assert kept <= 5


def test_the_best_frame_is_the_one_with_the_highest_score() -> None:
    triggers = TriggerSet(TRIGGERS[:1])
    scores = [0.7, 0.65, 0.95, 0.8, 0.9, 0.62]
    for number, score in enumerate(scores):
        triggers.observe(observed(classification(0.1 * number, {"a cat": score}, frame=number)))
    (end,) = triggers.stop()
    assert end.best_score == pytest.approx(0.95)
    assert end.best is not None
    assert end.best.index == end.best_result.frame == 2


@pytest.mark.parametrize("scores", [(0.9,) * 4 + (0.0,) * 4, (0.9, 0.9, 0.0)], ids=["ended", "never-begun"])
def test_no_frame_is_kept_of_what_is_over(scores: tuple[float, ...]) -> None:
    triggers = TriggerSet(TRIGGERS[:1])
    frames = []
    for number, score in enumerate(scores):
        observation = observed(classification(0.125 * number, {"a cat": score}))
        assert observation.frame is not None
        frames.append(weakref.ref(observation.frame))
        triggers.observe(observation)
    del observation
    assert [frame() for frame in frames] == [None] * len(scores)
