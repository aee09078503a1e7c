"""Which operators commute with a repeat along one axis, and what they do to it.

``RULES`` maps an operator to a function that looks at one node and either says how the outputs are repeated
(`Crossing`) or why the node must stay above nothing (`Stays`). An operator without a rule stays. Rules demand what the
ONNX operator specification promises for every input; where that depends on sizes that are not known, they refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mmedge_export.graph.sinking.arrangement import ARRANGEMENT
from mmedge_export.graph.sinking.extents import ONE, attribute_int
from mmedge_export.graph.sinking.site import Crossing, Override, Site, Stays
from mmedge_export.graph.sinking.tiling import Tiling

Rule = Callable[[Site], Crossing]


def broadcasting(site: Site) -> Crossing:
    """Element by element, with NumPy's broadcasting: axes are counted from the back."""
    rank = max(site.rank(index) for index in site.present)
    first = site.repeated[0]
    tiling = site.tiling(first)
    back = tiling.axis - site.rank(first)
    rows = {index: row for index in site.present if (row := _joined(site, index, back, tiling)) is not None}
    return Crossing(tiling.along(rank + back), rows)


def _joined(site: Site, index: int, back: int, tiling: Tiling) -> Override | None:
    """Whether one operand fits: repeated alike, the same for all rows, or a constant with equal rows (returned)."""
    axis = site.rank(index) + back
    other = site.tilings[index]
    if other is not None:
        if other.axis != axis or not other.alike(tiling):
            raise Stays(f"{site.label(index)} is repeated in another way")
        return None
    if axis < 0 or site.shape(index)[axis] == ONE:
        return None
    row = site.row(index, axis, tiling)
    if row is None:
        raise Stays(f"joins {site.label(index)}, which differs from row to row")
    return row


def matmul(site: Site) -> Crossing:
    """[..., M, K] x [..., K, N]: over the leading axes as `broadcasting`, else over M or N of one operand."""
    first = site.repeated[0]
    tiling, ranks = site.tiling(first), (site.rank(0), site.rank(1))
    back = tiling.axis - ranks[first]
    if min(ranks) < 2:
        return _matmul_vector(site, first, tiling, ranks)
    if back >= -2:
        if site.repeated != [first]:
            raise Stays("both operands are repeated, not along a leading axis of both")
        if back != (-2, -1)[first]:
            raise Stays("sums over the repeated axis")
        return Crossing(tiling.along(max(ranks) + back))
    rows = {index: row for index in (0, 1) if (row := _joined(site, index, back, tiling)) is not None}
    return Crossing(tiling.along(max(ranks) + back), rows)


def _matmul_vector(site: Site, first: int, tiling: Tiling, ranks: tuple[int, int]) -> Crossing:
    summed = ranks[0] - 1 if first == 0 else max(ranks[1] - 2, 0)
    if site.repeated != [first] or tiling.axis == summed:
        raise Stays("sums over the repeated axis")
    return Crossing(tiling.along(tiling.axis - (first == 1 and tiling.axis > summed)))


def gemm(site: Site) -> Crossing:
    first = site.repeated[0]
    tiling = site.tiling(first)
    if first == 2 or 1 - first in site.repeated:
        raise Stays("more than one factor, or only the addend, is repeated")
    transposed = attribute_int(site.node, ("transA", "transB")[first], 0)
    if tiling.axis != (first if not transposed else 1 - first):
        raise Stays("sums over the repeated axis")
    rows: dict[int, Override] = {}
    if 2 in site.present and (row := _joined(site, 2, first - 2, tiling)) is not None:
        rows[2] = row
    return Crossing(tiling.along(first), rows)


def leading(site: Site) -> Crossing:
    """Works picture by picture: [B, ...] with parameters that belong to all."""
    tiling = site.only(0)
    if tiling.axis != 0:
        raise Stays("repeated along another axis than the first")
    return Crossing(tiling)


def group_normalization(site: Site) -> Crossing:
    return replace(leading(site), keeps_shape=True)


def max_pool(site: Site) -> Crossing:
    if len(site.node.outputs) > 1 and site.node.outputs[1].uses():
        raise Stays("its indices count over all rows")
    return leading(site)


def batch_normalization(site: Site) -> Crossing:
    if attribute_int(site.node, "training_mode", 0):
        raise Stays("takes its statistics over all rows")
    tiling = site.only(0)
    if tiling.axis == 1:
        raise Stays("has parameters along the repeated axis")
    return Crossing(tiling)


def all_leading(site: Site) -> Crossing:
    """Works picture by picture on several inputs that may not be broadcast."""
    for index in site.present:
        if site.tiling(index).axis != 0 or not site.tiling(index).alike(site.tiling(0)):
            raise Stays("inputs are repeated in different ways")
    return Crossing(site.tiling(0))


def last_axes(site: Site) -> Crossing:
    """LayerNormalization and RMSNormalization: over all axes from ``axis`` on; scale and bias count from the back."""
    tiling, rank = site.only(0), site.rank(0)
    if tiling.axis >= site.axis(-1, rank):
        raise Stays("normalises over the repeated axis")
    parameters = [(index, _joined(site, index, tiling.axis - rank, tiling)) for index in site.present[1:]]
    return Crossing(tiling, {index: row for index, row in parameters if row is not None})


def over_axis(site: Site) -> Crossing:
    """Softmax and its like: over one axis, of the input's rank."""
    tiling = site.only(0)
    if tiling.axis == site.axis(-1, site.rank(0)):
        raise Stays("works over the repeated axis")
    return Crossing(tiling)


def cumsum(site: Site) -> Crossing:
    tiling, axes = site.only(0), site.numbers(1)
    if axes is None or tiling.axis == axes[0] % site.rank(0):
        raise Stays("sums over the repeated axis")
    return Crossing(tiling)


def reduce(site: Site) -> Crossing:
    tiling, rank = site.only(0), site.rank(0)
    axes = site.numbers(1)
    if axes is None and "axes" in site.node.attributes:
        axes = list(site.node.attributes["axes"].as_ints())
    if not axes:
        if attribute_int(site.node, "noop_with_empty_axes", 0):
            return Crossing(tiling)
        raise Stays("reduces over all axes")
    return _reduced(site, tiling, [axis % rank for axis in axes])


def arg_reduce(site: Site) -> Crossing:
    return _reduced(site, site.only(0), [site.axis(0, site.rank(0))])


def _reduced(site: Site, tiling: Tiling, axes: list[int]) -> Crossing:
    if tiling.axis in axes:
        raise Stays("reduces over the repeated axis")
    gone = 0 if attribute_int(site.node, "keepdims", 1) else sum(axis < tiling.axis for axis in axes)
    return Crossing(tiling.along(tiling.axis - gone))


def mean_variance(site: Site) -> Crossing:
    tiling, rank = site.only(0), site.rank(0)
    axes = site.node.attributes["axes"].as_ints() if "axes" in site.node.attributes else (0, 2, 3)
    if tiling.axis in [axis % rank for axis in axes]:
        raise Stays("normalises over the repeated axis")
    return Crossing(tiling)


def attention(site: Site) -> Crossing:
    """q, k, v [B, H, M, d] or [B, M, H·d] repeated along B; the mask counts its axes from the back of [B, H, M, L]."""
    tiling = site.tiling(0)
    for index in site.present:
        if index > 3:
            raise Stays("keeps keys and values of earlier calls")
        if index == 3:
            continue
        if site.tiling(index).axis != 0 or not site.tiling(index).alike(tiling):
            raise Stays("queries, keys and values are repeated in different ways")
    if 3 in site.present:
        row = _joined(site, 3, -4, tiling)
        return Crossing(tiling, {} if row is None else {3: row})
    return Crossing(tiling)


def einsum(site: Site) -> Crossing:
    equation = site.node.attributes["equation"].as_string().replace(" ", "")
    if "->" not in equation or "." in equation:
        raise Stays("an equation without named output axes is not read")
    terms, result = equation.split("->")
    operands = terms.split(",")
    first = site.repeated[0]
    letter = operands[first][site.tiling(first).axis]
    if letter not in result or any(term.count(letter) > 1 for term in (*operands, result)):
        raise Stays("sums over the repeated axis")
    for index, term in enumerate(operands):
        if letter not in term and index in site.repeated:
            raise Stays("operands are repeated along different axes")
        if letter in term and (
            site.tiling(index).axis != term.index(letter) or not site.tiling(index).alike(site.tiling(first))
        ):
            raise Stays("operands are repeated in different ways")
    return Crossing(site.tiling(first).along(result.index(letter)))


def prelu(site: Site) -> Crossing:
    site.tiling(0)
    if 1 in site.present and site.rank(1) > site.rank(0):
        raise Stays("the slope has more axes than the input")
    return broadcasting(site)


def quantize(site: Site) -> Crossing:
    """Scale and zero point for the whole tensor, or along another axis."""
    tiling = site.only(0)
    per_axis = site.rank(1) > 0 and site.shape(1) != [ONE]
    if "block_size" in site.node.attributes or (per_axis and tiling.axis == site.axis(1, site.rank(0))):
        raise Stays("has a scale for each row")
    return Crossing(tiling)


def first_only(site: Site) -> Crossing:
    """Element by element; the other inputs are scalars, or say only the type."""
    return Crossing(site.tiling(0))


_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Swish Tan Tanh ThresholdedRelu Shrink BitwiseNot CastLike Clip Dropout"
)
_BROADCASTING = (
    "Add Sub Mul Div Pow Mod Min Max Mean Sum And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual Where "
    "BitwiseAnd BitwiseOr BitwiseXor"
)
_LEADING = (
    "Conv ConvTranspose ConvInteger AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool "
    "InstanceNormalization LRN DepthToSpace SpaceToDepth"
)
_REDUCE = (
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY.split(), first_only),
    **dict.fromkeys(_BROADCASTING.split(), broadcasting),
    **dict.fromkeys(_LEADING.split(), leading),
    **dict.fromkeys(_REDUCE.split(), reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "TopK"), over_axis),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), last_axes),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantize),
    **dict.fromkeys(("ArgMax", "ArgMin"), arg_reduce),
    **ARRANGEMENT,
    "MatMul": matmul,
    "Gemm": gemm,
    "GroupNormalization": group_normalization,
    "MaxPool": max_pool,
    "BatchNormalization": batch_normalization,
    "GridSample": all_leading,
    "MeanVarianceNormalization": mean_variance,
    "CumSum": cumsum,
    "Attention": attention,
    "Einsum": einsum,
    "PRelu": prelu,
}
"""What each operator does to a repeat. Random operators, loops and branches are not here and never will be."""

MOVING = frozenset({*ARRANGEMENT, "Identity", "Cast", "CastLike", "Dropout"})
"""Operators that compute nothing: a repeat that would cross only these is left where it is."""

_JOINING = frozenset({*_BROADCASTING.split(), "MatMul"})


def broadcast_anyway(site: Site, index: int) -> bool:
    """Whether the node gives the same result for the base of input `index`: another operand has its rows anyway."""
    tiling = site.tilings[index]
    if site.node.op_type not in _JOINING or tiling is None or tiling.base_size != 1:
        return False
    back = tiling.axis - site.rank(index)
    if site.node.op_type == "MatMul" and back > -3:
        return False
    for other in set(site.present) - set(site.repeated):
        axis = site.rank(other) + back
        if axis >= 0 and site.shape(other)[axis] == tiling.size:
            return True
    return False
