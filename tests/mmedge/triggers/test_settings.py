"""Settings refuse what cannot be meant, and say which field it is."""

from __future__ import annotations

from typing import Any

import pytest

from mmedge.errors import InputError
from mmedge.triggers.settings import TriggerSettings, Zone, needed_prompts

SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": " "}, "name of a trigger"),
        ({"prompt": ""}, "prompt must be a text"),
        ({"sources": "hall"}, "sources must be a list"),
        ({"sources": ()}, "sources must name at least one"),
        ({"sources": ("hall", "hall")}, "sources must name each once"),
        ({"on": float("nan")}, "on must be a finite number, got nan"),
        ({"on": True}, "on must be a finite number, got True"),
        ({"off": 0.4}, "off must come with an `on`"),
        ({"on": 0.5, "off": 0.6}, "off must be at most `on`, 0.5, got 0.6"),
        ({"negatives": ("a cat", "a dog")}, "negatives must not hold the prompt itself"),
        ({"negatives": ("a dog", 3)}, r"negatives\[1\] must be a text"),
        ({"activation": "relu"}, "activation must be one of softmax, sigmoid, none, got 'relu'"),
        ({"zone": 3}, "zone must be a text"),
        ({"min_duration": -1}, "min_duration must be a number from 0 to 86400, got -1"),
        ({"end_after": "1"}, "end_after must be a number"),
        ({"cool_down": float("inf")}, "cool_down must be a number"),
        ({"update_every": 0}, "update_every must be a number from 0.01"),
        ({"lost_after": 0}, "lost_after must be a number from 0.01"),
    ],
)
def test_a_wrong_field_of_a_trigger_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TriggerSettings(**{"name": "cat", "prompt": "a cat", **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "name of a zone"),
        ({"points": SQUARE[:2]}, "points must be 3 to 64 corners"),
        ({"points": "square"}, "points must be 3 to 64 corners"),
        ({"points": (*SQUARE, (1.2, 0.5))}, r"points\[4\] must be \[x, y\] in 0..1 of the frame, got \(1.2, 0.5\)"),
        ({"points": (*SQUARE, (0.5,))}, r"points\[4\]"),
        ({"points": ((0, 0), (0.5, 0.5), (1, 1))}, "points must enclose an area"),
        ({"points": ((0, 0), (1, 1), (1, 0.2), (0, 1))}, r"points\[0\] and points\[2\] cross"),
        ({"anchor": "top"}, "anchor must be one of bottom, centre, overlap, got 'top'"),
        ({"sources": ("hall", "")}, r"sources\[1\] must be a text"),
    ],
)
def test_a_wrong_field_of_a_zone_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Zone(**{"name": "step", "points": SQUARE, **fields})


def test_lists_become_tuples() -> None:
    zone = Zone("step", [list(point) for point in SQUARE], ["hall"])  # type: ignore[arg-type]
    assert zone.points == SQUARE
    assert zone.sources == ("hall",)
    assert hash(TriggerSettings("cat", "a cat", sources=["hall"], negatives=["a dog"]))  # type: ignore[arg-type]


def test_a_trigger_watches_its_sources_or_all() -> None:
    assert TriggerSettings("cat", "a cat").watches("anything")
    assert TriggerSettings("cat", "a cat", ("hall",)).watches("hall")
    assert not TriggerSettings("cat", "a cat", ("hall",)).watches("yard")


def test_a_model_is_asked_for_prompts_and_then_for_negatives_once_each() -> None:
    triggers = [
        TriggerSettings("cat", "a cat", negatives=("a dog", "a hat")),
        TriggerSettings("dog", "a dog", negatives=("a cat",)),
    ]
    assert needed_prompts(triggers, ["a hat"]) == ("a hat", "a cat", "a dog")
    assert needed_prompts([]) == ()
