"""Outputs -> results: right numbers, and never a normal-looking result from broken outputs."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from mmedge.bundle import Classify, Embed, Ground, Raw
from mmedge.bundle import Task as TaskSpec
from mmedge.errors import TaskError
from mmedge.results import Classification, Embedding, Grounding, RawResult, Result, Stamp
from mmedge.tasks import Context, interpret
from mmedge.tasks.classify import activate

LABELS = ("red", "green", "blue")
GROUND = Ground("scores", "boxes", 0.5)


def stamp() -> Stamp:
    return Stamp(
        source="array",
        frame=0,
        captured=0.0,
        captured_at=datetime(2026, 1, 2, tzinfo=timezone.utc),
        age_ms=1.0,
        input_ages_ms={},
        dropped=0,
        state="live",
        media_time_s=None,
        prompt_version=1,
        latency_ms=1.0,
        warnings=(),
    )


def answer(task: TaskSpec, labels: tuple[str, ...] | None = LABELS, **outputs: Any) -> Result:
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    return interpret(task, arrays, Context(labels, lambda boxes: boxes * 100, stamp))


def numbers(*values: Any, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.array(values, dtype)


@pytest.mark.parametrize("shape", [(3,), (1, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_softmax_over_the_prompts(shape: tuple[int, ...], dtype: Any) -> None:
    result = answer(Classify("logits"), logits=numbers(1, 2, 4, dtype=dtype).reshape(shape))
    assert isinstance(result, Classification)
    np.testing.assert_allclose(result.scores, np.exp([1, 2, 4]) / np.exp([1, 2, 4]).sum(), rtol=1e-6)
    assert result.scores.dtype == np.float32
    assert result.top == ("blue", pytest.approx(0.8437947))


@pytest.mark.parametrize("scale", [1.0, 1e2, 3e4, 3e38])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_activations_are_stable(scale: float, activation: str) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        scores = activate(numbers(-scale, 0.0, scale), activation)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) >= 0).all()
    assert (scores.sum() if activation == "softmax" else scores[1] * 2) == pytest.approx(1.0)


def test_sigmoid_and_none() -> None:
    np.testing.assert_allclose(activate(numbers(-1, 0, 2), "sigmoid"), [0.26894142, 0.5, 0.880797], rtol=1e-6)
    assert activate(numbers(0.25, 0.5), "none").tolist() == [0.25, 0.5]


def test_a_classifier_without_text_numbers_its_classes() -> None:
    result = answer(Classify("logits", "none"), None, logits=numbers(0.1, 0.9))
    assert isinstance(result, Classification)
    assert result.labels == ("0", "1")


def test_embeddings_come_along() -> None:
    task = Classify("logits", image_embedding="image", text_embedding="text")
    result = answer(task, logits=numbers(1, 2, 3), image=np.ones((1, 4)), text=np.ones((3, 4)))
    assert isinstance(result, Classification)
    assert result.image_embedding is not None
    assert result.text_embedding is not None
    assert (result.image_embedding.shape, result.text_embedding.shape) == ((4,), (3, 4))
    assert result.image_embedding.dtype == np.float32


def test_detections_are_those_above_the_threshold_best_first() -> None:
    boxes = np.arange(24, dtype=np.float32).reshape(3, 2, 4) / 100
    scores = numbers([0.5, 0.49], [0.1, 0.2], [0.7, 0.9])
    result = answer(GROUND, scores=scores, boxes=boxes)
    assert isinstance(result, Grounding)
    assert result.labels == ("blue", "blue", "red")
    assert result.prompts.tolist() == [2, 2, 0]
    np.testing.assert_allclose(result.scores, [0.9, 0.7, 0.5])
    np.testing.assert_allclose(result.boxes, [[20, 21, 22, 23], [16, 17, 18, 19], [0, 1, 2, 3]], rtol=1e-6)
    np.testing.assert_allclose(result.all_scores, [0.5, 0.2, 0.9])


@pytest.mark.parametrize("candidates", [0, 1, 63])
def test_nothing_found_is_an_empty_result(candidates: int) -> None:
    outputs = {"scores": np.zeros((3, candidates), np.float32), "boxes": np.zeros((3, candidates, 4), np.float32)}
    result = answer(GROUND, **outputs)
    assert isinstance(result, Grounding)
    assert (result.labels, result.boxes.shape, result.scores.shape) == ((), (0, 4), (0,))
    assert result.all_scores.tolist() == [0.0] * 3


def test_embeddings_and_raw_outputs() -> None:
    result = answer(Embed("image", "text"), image=np.ones((1, 4)), text=np.ones((3, 4)))
    assert isinstance(result, Embedding)
    assert result.labels == LABELS
    raw = answer(Raw(), mask=np.ones((2, 2), np.bool_), count=np.array(3))
    assert isinstance(raw, RawResult)
    assert set(raw.outputs) == {"mask", "count"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        (Classify("a"), {"a": np.zeros(3)}),
        (Classify("a"), {"a": np.zeros(3), "unused": np.zeros(7, np.float16)}),
        (Ground("a", "b"), {"a": np.zeros((3, 2)), "b": np.zeros((3, 2, 4))}),
        (Embed("a"), {"a": np.zeros((1, 2))}),
        (Raw(), {"a": np.zeros(1)}),
    ],
    ids=["classify", "unused-output", "ground", "embed", "raw"],
)
def test_outputs_that_are_not_finite_are_an_error(value: float, task: TaskSpec, outputs: dict[str, Any]) -> None:
    name = list(outputs)[-1]
    outputs = {key: array.copy() for key, array in outputs.items()}
    outputs[name].flat[-1] = value
    with pytest.raises(TaskError, match=rf"output '{name}' holds 1 of \d+ values that are NaN or infinite"):
        answer(task, **outputs)


@pytest.mark.parametrize(
    ("task", "outputs", "message"),
    [
        (Classify("a"), {"a": np.zeros(4)}, r"must be \[1, 3\] or \[3\], got \[4\]"),
        (Classify("a"), {"a": np.zeros((3, 1))}, r"got \[3, 1\]"),
        (Classify("a"), {"a": np.zeros((2, 3))}, r"got \[2, 3\]"),
        (Classify("a", image_embedding="b"), {"a": np.zeros(3), "b": np.zeros((2, 4))}, r"\[1, d\], got \[2, 4\]"),
        (Classify("a", text_embedding="b"), {"a": np.zeros(3), "b": np.zeros((2, 4))}, r"\[3, d\], got \[2, 4\]"),
        (GROUND, {"scores": np.zeros((2, 5)), "boxes": np.zeros((2, 5, 4))}, r"must be \[3, k\]"),
        (GROUND, {"scores": np.zeros((3, 5)), "boxes": np.zeros((3, 4, 4))}, r"and \[3, 4, 4\]"),
        (GROUND, {"scores": np.zeros(3), "boxes": np.zeros((3, 4))}, r"got \[3\] and"),
        (Embed("a"), {"a": np.zeros(3)}, r"\[1, d\], got \[3\]"),
    ],
)
def test_outputs_of_another_shape_are_an_error(task: TaskSpec, outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        answer(task, **outputs)


def test_grounding_needs_prompts_and_a_frame() -> None:
    with pytest.raises(TaskError, match="needs prompts and a frame"):
        answer(GROUND, None, scores=np.zeros((3, 1)), boxes=np.zeros((3, 1, 4)))


def test_a_classifier_of_nothing_is_an_error() -> None:
    with pytest.raises(TaskError, match="logits"):
        answer(Classify("a"), None, a=np.zeros(0))
