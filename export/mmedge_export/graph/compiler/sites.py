"""Judge each attention: who asks whom, and which of its two projections can be folded into keys and values.

The two are independent of one another, and of what is done to the scores between them:

    scores  = (x Wq + bq) K^T     =  x A + a       A = Wq K^T    where K stands while x changes
    outputs = (P V) Wo + bo       =  P B + c       B = V Wo      where V stands while P changes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from mmedge_export.graph.compiler.attention import Attention
from mmedge_export.graph.compiler.projection import Folder, NotFoldable, Projection
from mmedge_export.graph.labels import Label

Axis = int | str


@dataclass(frozen=True)
class Half:
    """A projection that can be folded, and what its two ways cost.

    Attributes:
        kind: ``scores`` or ``outputs``.
        projection: What is folded.
        plain, compiled: Operations as products of sizes: (factor, named axes), to be summed.
    """

    kind: str
    projection: Projection
    plain: tuple[tuple[float, tuple[str, ...]], ...]
    compiled: tuple[tuple[float, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Candidate:
    """An attention across modalities, and what may be done with it.

    Attributes:
        attention: Where it is.
        asks, answers: The modalities of queries and of keys and values.
        heads, width: Of the attention; width of the tokens that ask, 0 where that is unknown.
        halves: What can be folded.
        slow: Keys and values change less often than the scores, so they are kept in any case.
        reasons: Why what is not in `halves` is left alone.
    """

    attention: Attention
    asks: Label
    answers: Label
    heads: int
    width: int
    halves: tuple[Half, ...]
    slow: bool
    reasons: tuple[str, ...]


def judge(
    attention: Attention, labels: Mapping[ir.Value, Label], rates: Mapping[str, int], folder: Folder
) -> Candidate | None:
    """What may be done with an attention; None if it is within one modality.

    Args:
        labels: Of every value.
        rates: How often each modality changes, as a rank: text before sensors before frames.
        folder: For the graph at hand.
    """
    asks, keys = labels[attention.queries], labels[attention.keys]
    joint = labels[attention.scores.outputs[0]]
    if len(joint) < 2:
        return None
    values = attention.values.inputs[1] if attention.values is not None else None
    answers = keys | (labels[values] if values is not None else frozenset())
    heads, width = _heads(attention), 0
    slow = _rate(answers, rates) < _rate(joint, rates)
    if not slow:
        return Candidate(attention, asks, answers, heads, width, (), False, (_why_not(asks, answers, rates),))
    halves: list[Half] = []
    reasons: list[str] = []
    for kind, make in (("scores", _scores), ("outputs", _outputs)):
        try:
            halves.append(make(attention, folder))
        except NotFoldable as refusal:
            reasons.append(f"{kind}: {refusal}")
    for half in halves:
        if half.kind == "scores":
            width = half.projection.weight.shape[1]
        heads = half.projection.weight.shape[0]
    return Candidate(attention, asks, answers, heads, width, tuple(halves), True, tuple(reasons))


def _scores(attention: Attention, folder: Folder) -> Half:
    projection = folder.queries(attention.queries)
    heads, width, depth = projection.weight.shape
    batch, tokens = _axes(projection.outer, projection.swapped)
    many, length = _batch(attention.keys, heads, folder), _axis(attention.keys, -1)
    made = _term(2.0 * heads * width * depth, tokens, batch)
    return Half(
        "scores",
        projection,
        (made, _term(2.0 * heads * depth, tokens, many, length)),
        (_term(2.0 * heads * width, tokens, many, length),),
    )


def _outputs(attention: Attention, folder: Folder) -> Half:
    if attention.values is None or attention.values.inputs[1] is None:
        raise NotFoldable("no product with values follows the softmax")
    projection = folder.outputs(attention.values.outputs[0])
    heads, depth, width = projection.weight.shape
    batch, tokens = _axes(projection.outer, projection.swapped)
    length = _axis(attention.values.inputs[1], -2)
    return Half(
        "outputs",
        projection,
        (_term(2.0 * heads * depth, tokens, batch, length), _term(2.0 * heads * depth * width, tokens, batch)),
        (_term(2.0 * heads * width, tokens, batch, length),),
    )


def _term(flops: float, *axes: Axis) -> tuple[float, tuple[str, ...]]:
    for size in axes:
        flops *= size if isinstance(size, int) else 1
    return flops, tuple(axis for axis in axes if isinstance(axis, str))


def _axes(value: ir.Value, swapped: bool) -> tuple[Axis, Axis]:
    """Batch and tokens of [B, M, D], or of [M, B, D] if `swapped`."""
    first, second = _axis(value, 0), _axis(value, 1)
    return (second, first) if swapped else (first, second)


def _batch(value: ir.Value, heads: int, folder: Folder) -> Axis:
    """The batch of keys [B, H, d, L] or [B*H, d, L]; a product of axes has no name, but its size tells of which."""
    if value.shape is not None and len(value.shape) == 3:
        return folder.axis_of(folder.shape(value)[0] // heads)
    return _axis(value, 0)


def _axis(value: ir.Value, index: int) -> Axis:
    if value.shape is None:
        raise NotFoldable(f"the shape of {value.name!r} is unknown")
    size = value.shape[index]
    if isinstance(size, int):
        return size
    if size.value is None:
        raise NotFoldable(f"an axis of {value.name!r} has no name, so its cost is unknown")
    return size.value


def _heads(attention: Attention) -> int:
    shape = attention.queries.shape
    size = shape[-3] if shape is not None and len(shape) >= 4 else 0
    return size if isinstance(size, int) else 0


def _rate(label: Label, rates: Mapping[str, int]) -> int:
    return max((rates[modality] for modality in label), default=-1)


def _why_not(asks: Label, answers: Label, rates: Mapping[str, int]) -> str:
    quick = sorted(m for m in answers if rates[m] == _rate(answers, rates))
    if answers == asks or answers > asks:
        return f"keys and values depend on {' and '.join(sorted(answers))}, which changes with every frame"
    return f"keys and values come from {' and '.join(quick)}, which changes as often as the scores"
