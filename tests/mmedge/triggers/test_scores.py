"""The number by which a trigger judges a result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support.scored import classification, grounding

from mmedge.errors import InputError
from mmedge.results import Embedding
from mmedge.triggers.scores import overlaps, score_of
from mmedge.triggers.settings import TriggerSettings, Zone

HERE, BESIDE, THERE = (0, 0, 20, 20), (2, 0, 22, 20), (40, 20, 60, 40)
LEFT = Zone("left", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))


def score(result: Any, prompts: Any = None, zone: Zone | None = None, **fields: Any) -> float | None:
    return score_of(TriggerSettings("cat", "a cat", **fields), result, prompts, zone, (64, 48))


def test_a_grounding_is_judged_by_the_best_score_of_the_prompt_found_or_not() -> None:
    result = grounding(0, [("a dog", 0.9, HERE)], [0.9, 0.3])
    assert score(result, ("a dog", "a cat")) == pytest.approx(0.3)


def test_without_the_list_of_prompts_by_what_was_found() -> None:
    result = grounding(0, [("a dog", 0.9, HERE), ("a cat", 0.6, THERE), ("a cat", 0.5, HERE)], [0.9, 0.6])
    assert score(result) == pytest.approx(0.6)
    assert score(grounding(0, [], [0.9, 0.6])) == 0.0


@pytest.mark.parametrize(
    ("rival", "expected"),
    [
        pytest.param(("a dog", 0.9, BESIDE), 0.4, id="better-on-the-same-place"),
        pytest.param(("a dog", 0.7, BESIDE), 0.8, id="worse-on-the-same-place"),
        pytest.param(("a dog", 0.9, THERE), 0.8, id="better-elsewhere"),
        pytest.param(("a hat", 0.9, BESIDE), 0.8, id="no-negative"),
    ],
)
def test_a_better_negative_on_the_same_place_strikes_a_detection_out(rival: Any, expected: float) -> None:
    found = [("a cat", 0.8, HERE), ("a cat", 0.4, (0, 30, 9, 40)), rival]
    result = grounding(0, found, [0.8, 0.9, 0.9])
    asked = ("a cat", "a dog", "a hat")
    assert score(result, asked, negatives=("a dog",)) == pytest.approx(expected)


def test_only_what_stands_in_the_zone_counts() -> None:
    result = grounding(0, [("a cat", 0.9, THERE), ("a cat", 0.6, HERE)], [0.9])
    assert score(result, ("a cat",), LEFT) == pytest.approx(0.6)
    with pytest.raises(InputError, match="zone 'left' needs the size of the frame"):
        score_of(TriggerSettings("cat", "a cat"), result, ("a cat",), LEFT, None)


def test_a_prompt_or_negative_that_was_not_asked_for_says_nothing() -> None:
    assert score(grounding(0, [], [0.9]), ("a dog",)) is None
    assert score(grounding(0, [], [0.9]), ("a cat",), negatives=("a dog",)) is None
    assert score(classification(0, {"a dog": 0.9})) is None
    assert score(classification(0, {"a cat": 0.9}), negatives=("a dog",)) is None


@pytest.mark.parametrize(
    ("activation", "scores", "expected"),
    [
        pytest.param("softmax", (0.6, 0.1, 0.1, 0.2), 0.6 / 0.8, id="share"),
        pytest.param("softmax", (0.0, 0.0, 0.0, 1.0), 0.0, id="nothing-to-share"),
        pytest.param("sigmoid", (0.6, 0.3, 0.3, 0.9), 0.6 * 0.5, id="score-times-share"),
        pytest.param("none", (800.0, 799.0, -900.0, 3.0), 1 / (1 + math.exp(-1)), id="softmax-of-raw-scores"),
    ],
)
def test_a_classification_is_weighed_against_its_negatives(activation: Any, scores: Any, expected: float) -> None:
    result = classification(0, dict(zip(("a cat", "a dog", "a fox", "a hat"), scores, strict=True)))
    found = score(result, activation=activation, negatives=("a dog", "a fox"))
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_classification_without_negatives_is_judged_as_it_is() -> None:
    assert score(classification(0, {"a dog": 0.9, "a cat": -3.5})) == pytest.approx(-3.5)


def test_raw_scores_need_their_activation() -> None:
    with pytest.raises(InputError, match="for raw scores it is 'none'"):
        score(classification(0, {"a dog": 0.9, "a cat": -3.5}), negatives=("a dog",))


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(InputError, match="zone 'left' needs a model that finds boxes"):
        score(classification(0, {"a cat": 0.9}), None, LEFT)
    vector = classification(0, {"a cat": 0.9})
    stamp = {name: getattr(vector, name) for name in ("source", "frame", "captured", "captured_at", "age_ms")}
    with pytest.raises(InputError, match="task classify or ground, got Embedding"):
        score(Embedding(**stamp, latency_ms=1.0))


def test_overlaps_of_boxes() -> None:
    first = np.array([HERE, THERE, (5, 5, 5, 5)], np.float32)
    second = np.array([HERE, (10, 0, 30, 20)], np.float32)
    np.testing.assert_allclose(overlaps(first, second), np.array([[1, 1 / 3], [0, 0], [0, 0]]))
    assert overlaps(first, second[:0]).shape == (3, 0)
