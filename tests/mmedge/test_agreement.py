"""Figures of agreement: each sees what it is for, and nothing that is not finite passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mmedge.agreement import became_constant, deviation, figures, is_constant, shortfalls
from mmedge.bundle import Classify, Embed, Ground, Raw

Array = np.ndarray[Any, np.dtype[Any]]


def vectors(*rows: list[float]) -> dict[str, Array]:
    return {"v": np.array(rows, np.float32)}


def test_the_worst_row_gives_the_cosine() -> None:
    found = figures(Embed("v"), [vectors([1, 0], [1, 1])], [vectors([2, 0], [0, 1])])
    assert found["cosine"] == pytest.approx(math.sqrt(0.5))


def test_a_wrong_scale_shows_in_the_relative_error_alone() -> None:
    found = figures(Embed("v"), [vectors([1.5, 3])], [vectors([1, 2])])
    assert found["cosine"] == pytest.approx(1.0)
    assert found["relative_error"] == pytest.approx(0.5)


def test_columns_of_single_values_are_one_row() -> None:
    ours, source = {"v": np.array([[1.0], [1.0]])}, {"v": np.array([[1.0], [0.0]])}
    assert figures(Raw(), [ours], [source])["cosine"] == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    ("ours", "source", "cosine"),
    [([0.0, 0.0], [0.0, 0.0], 1.0), ([0.0, 0.0], [1.0, 0.0], 0.0), ([math.nan, 1.0], [1.0, 1.0], -1.0)],
    ids=["both zero", "one zero", "nan"],
)
def test_cosines_without_a_direction(ours: list[float], source: list[float], cosine: float) -> None:
    assert figures(Raw(), [vectors(ours)], [vectors(source)])["cosine"] == cosine


def test_outputs_of_another_shape_are_as_wrong_as_can_be() -> None:
    found = figures(Raw(), [vectors([1, 2])], [vectors([1, 2], [3, 4])])
    assert (found["cosine"], found["relative_error"]) == (-1.0, math.inf)
    assert len(shortfalls(found, {"cosine": 0.5, "relative_error": 0.1})) == 2


def test_integers_are_counted() -> None:
    ours, source = {"ids": np.array([1, 2, 3, 4])}, {"ids": np.array([1, 2, 3, 5])}
    assert figures(Raw(), [ours, source], [source, source]) == {"equal": 0.75}


def test_top1_is_the_share_of_samples_with_the_same_winner() -> None:
    source = [{"logits": np.array([[0.1, 0.2]])}, {"logits": np.array([[3.0, 1.0]])}]
    ours = [{"logits": np.array([[0.2, 0.1]])}, {"logits": np.array([[2.0, 1.0]])}]
    assert figures(Classify("logits"), ours, source)["top1"] == 0.5


def boxes(scores: list[list[float]], where: list[list[list[float]]]) -> dict[str, Array]:
    return {"scores": np.array(scores, np.float32), "boxes": np.array(where, np.float32)}


def test_boxes_are_compared_where_both_find_something() -> None:
    box, moved, nowhere = [0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2], [0.0, 0.0, 0.0, 0.0]
    source = boxes([[0.9, 0.1], [0.2, 0.6], [0.1, 0.0]], [[box, nowhere], [nowhere, box], [nowhere, nowhere]])
    ours = boxes([[0.1, 0.8], [0.2, 0.4], [0.1, 0.0]], [[nowhere, moved], [nowhere, box], [nowhere, nowhere]])
    found = figures(Ground("scores", "boxes", threshold=0.5), [ours], [source])
    assert found["presence"] == pytest.approx(2 / 3)
    assert found["score_difference"] == pytest.approx(0.2)
    # Half of each box is in the other.
    assert found["iou"] == pytest.approx(1 / 3, abs=1e-6)


def test_boxes_that_are_not_finite_agree_in_nothing() -> None:
    good = boxes([[0.9]], [[[0.5, 0.5, 0.2, 0.2]]])
    bad = boxes([[math.nan]], [[[0.5, 0.5, 0.2, 0.2]]])
    found = figures(Ground("scores", "boxes"), [bad], [good])
    assert len(shortfalls(found, {"presence": 1.0, "score_difference": 0.5, "iou": 0.5})) == 3


def test_limits_are_inclusive_and_an_unknown_one_is_never_met() -> None:
    found = {"cosine": 0.99, "relative_error": 0.1}
    assert shortfalls(found, {"cosine": 0.99, "relative_error": 0.1}) == ()
    assert "at least 0.999" in shortfalls(found, {"cosine": 0.999})[0]
    assert "at most 0.05" in shortfalls(found, {"relative_error": 0.05})[0]
    assert "update mmedge" in shortfalls(found, {"sharpness": 1.0})[0]
    assert shortfalls({"cosine": math.nan}, {"cosine": 0.1})


def test_the_worst_figure_gives_the_deviation() -> None:
    assert deviation({"cosine": 0.99, "relative_error": 0.2, "top1": 1.0}) == pytest.approx(0.2)
    assert deviation({}) == 0.0


def test_an_output_that_no_longer_moves_is_found_though_its_cosine_is_good() -> None:
    """Embeddings of one model can lie so close together that a constant one passes any cosine."""
    random = np.random.default_rng(3)
    centre = random.standard_normal(64)
    source = [{"v": centre + 0.01 * random.standard_normal(64)} for _ in range(3)]
    stuck = [source[0]] * 3
    assert figures(Raw(), stuck, source)["cosine"] > 0.999
    assert became_constant(stuck, source) == ["v"]
    nearly = [{"v": sample["v"] + 1e-4 * random.standard_normal(64)} for sample in source]
    assert became_constant(nearly, source) == []


def test_samples_of_different_shapes_are_not_compared_with_each_other() -> None:
    samples = [np.ones(2), np.ones(3)]
    assert became_constant([{"v": a} for a in samples], [{"v": a * i} for i, a in enumerate(samples, 1)]) == []
    assert not is_constant(samples)
    assert is_constant([*samples, np.ones(3)])
    assert not is_constant([*samples, np.full(3, 1.01)])
