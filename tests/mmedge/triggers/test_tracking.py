"""The same number for the same thing."""

from __future__ import annotations

import numpy as np
import pytest
from support.scored import grounding

from mmedge.errors import InputError
from mmedge.tabletop import Tabletop
from mmedge.triggers.tracking import Tracker


def numbers(tracker: Tracker, at: float, *boxes: tuple[float, float], label: str = "a cat", **fields: str) -> list[int]:
    """Numbers of boxes of 20 x 20 pixels at these places."""
    found = [(label, 0.9, (x, y, x + 20, y + 20)) for x, y in boxes]
    ids = tracker.update(grounding(at, found, [0.9], **fields)).track_ids  # type: ignore[arg-type]
    assert ids is not None
    assert ids.dtype == np.int64
    return list(ids)


def test_numbers_follow_things_whatever_their_order() -> None:
    tracker = Tracker()
    assert numbers(tracker, 0.0, (0, 0), (100, 0)) == [1, 2]
    assert numbers(tracker, 0.1, (104, 2), (3, 1)) == [2, 1]
    assert numbers(tracker, 0.2, (6, 2), (50, 50), (108, 4)) == [1, 3, 2]


def test_the_pair_that_overlaps_most_belongs_together() -> None:
    tracker = Tracker()
    assert numbers(tracker, 0.0, (0, 0), (12, 0)) == [1, 2]
    assert numbers(tracker, 0.1, (11, 0)) == [2]


def test_a_thing_out_of_sight_keeps_its_number_for_a_while_and_moves_on() -> None:
    tracker = Tracker(max_age=1.0)
    for step in range(5):
        assert numbers(tracker, 0.1 * step, (10 * step, 0)) == [1]
    assert numbers(tracker, 0.5) == []
    assert numbers(tracker, 0.8, (80, 0)) == [1], "80 is where it gets to at that pace"
    assert numbers(tracker, 1.9, (80, 0)) == [2]


def test_two_that_pass_each_other_keep_their_numbers() -> None:
    tracker = Tracker()
    for step in range(20):
        assert numbers(tracker, 0.1 * step, (8 * step, 0), (160 - 8 * step, 9)) == [1, 2]


def test_prompts_and_sources_have_numbers_of_their_own() -> None:
    tracker = Tracker()
    assert numbers(tracker, 0.0, (0, 0)) == [1]
    assert numbers(tracker, 0.1, (0, 0), label="a pet") == [2]
    assert numbers(tracker, 0.2, (0, 0)) == [1]
    assert numbers(tracker, 0.2, (0, 0), source="yard") == [1]


def test_nothing_is_kept_of_what_is_gone() -> None:
    tracker = Tracker()
    for step in range(600):
        numbers(tracker, 2.0 * step, (0, 0), (50, 0), source=f"picture {step}")
        numbers(tracker, 2.0 * step, (0, 0))
    assert len(tracker._sources) <= 256
    assert sum(len(source._tracks) for source in tracker._sources.values()) <= 600
    assert numbers(tracker, 1200.0, (0, 0)) == [601]


def test_things_on_the_table_keep_their_numbers() -> None:
    rng = np.random.default_rng(3)
    switches = frames = 0
    for seed in range(3):
        camera, tracker = Tabletop(seed, (160, 120), 5, scene_seconds=6), Tracker()
        known: dict[int, int] = {}
        for index in range(30):
            _, truth = camera.frame(index)
            seen = [i for i, thing in enumerate(truth.objects) if thing.visible > 0.5]
            order = rng.permutation(seen)
            found = [("a thing", 0.9, tuple(rng.normal(truth.objects[i].box, 1.0).tolist())) for i in order]
            ids = tracker.update(grounding(index / 5, found, [0.9])).track_ids
            assert ids is not None
            assert len(set(ids)) == len(ids)
            frames += len(ids)
            switches += sum(known.setdefault(int(i), number) != number for i, number in zip(order, ids, strict=True))
    assert frames > 300
    assert switches == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"min_overlap": 0}, "min_overlap must be above 0"), ({"max_age": -1}, "max_age must be a number of seconds")],
    ids=["min_overlap", "max_age"],
)
def test_arguments_out_of_range_are_refused(fields: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Tracker(**fields)
