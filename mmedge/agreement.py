"""How far the outputs of a variant agree with those of the source model, in figures that fit the task.

A variant that rounds is not judged by the relative error of its tensors, which says little of what they are used for:
embeddings are judged by their angle, scores by which prompt wins, boxes by their overlap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import Classify, Ground, Task

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

HIGHER_IS_BETTER = {
    "cosine": True,
    "relative_error": False,
    "equal": True,
    "top1": True,
    "presence": True,
    "score_difference": False,
    "iou": True,
}
"""Every figure that `figures` can give.

- ``cosine``: smallest cosine between a row of a float output and the source's row; a row is the last axis, or the whole
  output where that axis has one value.
- ``relative_error``: largest ||ours - source|| / ||source|| of a float output: cosines do not see a wrong scale.
- ``equal``: smallest share of equal values of an output that is no float.
- ``top1``: share of samples in which the same prompt has the highest score.
- ``presence``: share of prompts about which both say the same, present or absent, at the task's threshold.
- ``score_difference``: largest difference of the best score of a prompt.
- ``iou``: mean overlap of the best boxes of the prompts that both find; 1 where there are none.
"""

_CONSTANT = 1e-3
"""Outputs whose samples differ by less than this part of what the source's differ by are taken for constant."""

_SAME = 1e-6
"""Relative difference up to which two outputs of the source are the same."""


def figures(task: Task, ours: Sequence[Outputs], source: Sequence[Outputs]) -> dict[str, float]:
    """The figures of the task over all samples, as `HIGHER_IS_BETTER` explains them.

    Args:
        task: What the outputs mean.
        ours, source: The model's outputs by name, for each sample.

    Returns:
        Figure -> value. Outputs of another shape or with values that are not finite give the worst value that a
        figure has: -1 or 0, or infinity.
    """
    pairs = list(zip(ours, source, strict=True))
    if isinstance(task, Ground):
        return _grounding(task, pairs)
    found = _tensors(pairs)
    if isinstance(task, Classify):
        same = [_winner(a[task.logits]) == _winner(b[task.logits]) for a, b in pairs]
        found["top1"] = float(np.mean(same)) if same else 1.0
    return found


def shortfalls(found: Mapping[str, float], limits: Mapping[str, float]) -> tuple[str, ...]:
    """What is outside its limit, in words; () where all is well.

    Args:
        found: From `figures`.
        limits: The worst accepted value of each figure.
    """
    reasons = []
    for name, limit in limits.items():
        value = found.get(name)
        if name not in HIGHER_IS_BETTER or value is None:
            reasons.append(f"figure {name} has a limit and cannot be measured for this task; update mmedge")
        elif not (value >= limit if HIGHER_IS_BETTER[name] else value <= limit):
            most = "at least" if HIGHER_IS_BETTER[name] else "at most"
            reasons.append(f"figure {name} is {value:.4g}; {most} {limit:g} is accepted")
    return tuple(reasons)


def deviation(found: Mapping[str, float]) -> float:
    """The distance of the worst figure from perfect agreement; 0 is perfect."""
    distances = [1.0 - value if HIGHER_IS_BETTER[name] else value for name, value in found.items()]
    return max(distances, default=0.0)


def became_constant(ours: Sequence[Outputs], source: Sequence[Outputs]) -> list[str]:
    """Outputs that are the same for samples to which the source gives different answers.

    A cosine does not see it where the source's answers are close to each other, as embeddings of one model often are.

    Args:
        ours, source: The model's outputs by name, for each sample; samples of one shape are compared.
    """
    found = []
    for name in source[0] if source else ():
        groups = _by_shape([sample[name] for sample in source])
        pairs = [(_spread([ours[i][name] for i in g]), _spread([source[i][name] for i in g])) for g in groups]
        varied = [(a, b) for a, b in pairs if b > _SAME]
        if varied and all(a <= _CONSTANT * b for a, b in varied):
            found.append(name)
    return found


def is_constant(samples: Sequence[Array]) -> bool:
    """Whether arrays of one output are the same for all samples; False where no two have the same shape."""
    groups = _by_shape(samples)
    return bool(groups) and all(_spread([samples[i] for i in group]) <= _SAME for group in groups)


def relative_error(ours: Array, golden: Array) -> float:
    """||ours - golden|| / ||golden||; infinity where a shape differs or anything is not finite."""
    if ours.shape != golden.shape:
        return math.inf
    a, b = ours.astype(np.float64), golden.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    difference, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if size == 0.0:
        return 0.0 if difference == 0.0 else math.inf
    return difference / size


def _by_shape(samples: Sequence[Array]) -> list[list[int]]:
    """Indices of samples of equal shape, where there are several."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for index, array in enumerate(samples):
        shapes.setdefault(array.shape, []).append(index)
    return [group for group in shapes.values() if len(group) > 1]


def _spread(arrays: Sequence[Array]) -> float:
    """Largest difference from the first, relative to it; 0 for arrays that cannot be compared."""
    if len({array.shape for array in arrays}) != 1:
        return 0.0
    first, *rest = (array.astype(np.float64) for array in arrays)
    size = max(float(np.linalg.norm(array)) for array in (first, *rest))
    differences = [float(np.linalg.norm(array - first)) for array in rest]
    return max(differences) / size if size > 0.0 and math.isfinite(size) else 0.0


def _tensors(pairs: Sequence[tuple[Outputs, Outputs]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for ours, source in pairs:
        for name, b in source.items():
            a = ours[name]
            if b.dtype.kind == "f":
                found["cosine"] = min(found.get("cosine", 1.0), _least_cosine(a, b))
                found["relative_error"] = max(found.get("relative_error", 0.0), relative_error(a, b))
            else:
                share = float(np.mean(a == b)) if a.shape == b.shape and b.size else float(a.shape == b.shape)
                found["equal"] = min(found.get("equal", 1.0), share)
    return found


def _least_cosine(ours: Array, source: Array) -> float:
    if ours.shape != source.shape or not (np.isfinite(ours).all() and np.isfinite(source).all()):
        return -1.0
    if source.size == 0:
        return 1.0
    width = source.shape[-1] if source.ndim and source.shape[-1] > 1 else source.size
    a, b = ours.astype(np.float64).reshape(-1, width), source.astype(np.float64).reshape(-1, width)
    sizes = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = sizes[0] * sizes[1]
    both_zero = (sizes[0] == 0) & (sizes[1] == 0)
    cosines = np.where(both_zero, 1.0, (a * b).sum(axis=1) / np.where(product > 0, product, 1.0))
    return float(np.clip(cosines, -1.0, 1.0).min())


def _winner(logits: Array) -> int:
    flat = logits.reshape(-1)
    return int(flat.argmax()) if flat.size and np.isfinite(flat).all() else -1


def _grounding(task: Ground, pairs: Sequence[tuple[Outputs, Outputs]]) -> dict[str, float]:
    same: list[bool] = []
    overlaps: list[float] = []
    difference = 0.0
    for ours, source in pairs:
        if not _comparable(task, ours, source):
            return {"presence": 0.0, "score_difference": math.inf, "iou": 0.0}
        if source[task.scores].size == 0:
            continue
        (a, our_boxes), (b, boxes) = _best(task, ours), _best(task, source)
        found = (a >= task.threshold) & (b >= task.threshold)
        same.extend((a >= task.threshold) == (b >= task.threshold))
        difference = max(difference, float(np.abs(a - b).max()))
        overlaps.extend(_overlap(our_boxes[found], boxes[found]))
    return {
        "presence": float(np.mean(same)) if same else 1.0,
        "score_difference": difference,
        "iou": float(np.mean(overlaps)) if overlaps else 1.0,
    }


def _comparable(task: Ground, ours: Outputs, source: Outputs) -> bool:
    names = task.outputs
    alike = all(ours[name].shape == source[name].shape and np.isfinite(ours[name]).all() for name in names)
    scores, boxes = source[task.scores], source[task.boxes]
    return alike and scores.ndim == 2 and boxes.shape == (*scores.shape, 4)


def _best(task: Ground, outputs: Outputs) -> tuple[Array, Array]:
    """Best score [n] and its box [n, 4] of each prompt."""
    scores, boxes = outputs[task.scores].astype(np.float64), outputs[task.boxes].astype(np.float64)
    rows, best = np.arange(len(scores)), scores.argmax(axis=1)
    return scores[rows, best], boxes[rows, best]


def _overlap(a: Array, b: Array) -> Array:
    """Intersection over union of boxes (cx, cy, w, h) [n, 4] with boxes [n, 4] -> [n]."""
    low = np.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = np.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    shared = np.maximum(high - low, 0).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-12))
