"""Every operator of the table: the repeat sinks below it, and the result is the same."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
from support.sinking import Array, Sinking, graph

from mmedge_export.graph.sinking.operators import RULES

RNG = np.random.default_rng(11)
ROWS = (1, 2, 5)


class Case(NamedTuple):
    """``r`` is x repeated along its first axis; the nodes make ``o`` of it."""

    body: str
    x: tuple[int, ...] = (1, 4, 6)
    constants: Mapping[str, Array] = MappingProxyType({})
    opset: int = 20


def words(text: str) -> list[str]:
    return text.split()


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


PICTURE = (1, 4, 6, 6)
FUNCTIONS = words(
    "Abs Atan Asinh Ceil Celu Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Mish Neg Reciprocal "
    "Relu Round Selu Sigmoid Sign Sin Sinh Cosh Softplus Softsign Tan Tanh ThresholdedRelu Shrink Dropout"
)
UNARY = {
    **dict.fromkeys(words("Acos Asin Atanh"), "t = Tanh(r)  o = {op}(t)"),
    **dict.fromkeys(words("Log Sqrt"), "t = Softplus(r)  o = {op}(t)"),
    "Acosh": "t = Exp(r)  u = Add(t, t)  v = Max(u, two)  o = Acosh(v)",
    "IsInf": "t = Exp(r)  o = IsInf(t)",
    "IsNaN": "o = IsNaN(r)",
    "Not": "t = Less(r, two)  o = Not(t)",
    "BitwiseNot": "t = Cast<to=6>(r)  o = BitwiseNot(t)",
    "Cast": "o = Cast<to=11>(r)",
    "CastLike": "o = CastLike(r, tens)",
    "Clip": "o = Clip(r, low, two)",
}
SCALARS = {"two": np.float32(2.0), "low": np.float32(-0.5), "tens": ints(10)}
BINARY = words("Add Sub Mul Div Pow Min Max Mean Sum Equal Greater GreaterOrEqual Less LessOrEqual")
LOGICAL = words("And Or Xor")
BITWISE = words("BitwiseAnd BitwiseOr BitwiseXor")
REDUCE = words("ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp")

CASES: dict[str, Case] = {
    **{op: Case(body.format(op=op), constants=SCALARS) for op, body in UNARY.items()},
    "Swish": Case("o = Swish(r)", opset=24),
    **{f"{op} of bits": Case(f"t = Cast<to=6>(r)  o = {op}(t, c)", constants={"c": np.int32([3])}) for op in BITWISE},
    **{
        f"{op} of truths": Case(f"t = Less(r, c)  u = Less(c, r)  o = {op}(t, u)", constants={"c": floats(6)})
        for op in LOGICAL
    },
    "ReduceLogSum": Case("t = Exp(r)  o = ReduceLogSum(t, axes)", constants={"axes": ints(1, 2)}),
    "ReduceMean of nothing": Case("o = ReduceMean<noop_with_empty_axes=1>(r, axes)", constants={"axes": ints()}),
    "ReduceMean by an attribute": Case("o = ReduceMean<axes=[1], keepdims=0>(r)", opset=15),
    "Mod": Case("o = Mod<fmod=1>(r, c)", constants={"c": np.float32([0.7])}),
    "Add of another rank": Case("o = Add(c, r)", constants={"c": floats(3, 1, 4, 6)}),
    "Add of the image itself": Case("o = Add(r, x)"),
    "Where": Case("t = Less(r, zero)  o = Where(t, r, zero)", constants={"zero": np.float32(0)}),
    "PRelu": Case("o = PRelu(r, c)", constants={"c": floats(4, 1)}),
    "MatMul by weights": Case("o = MatMul(r, w)", constants={"w": floats(6, 3)}),
    "MatMul from the left": Case("o = MatMul(w, r)", constants={"w": floats(3, 4)}),
    "MatMul of two copies": Case("t = Transpose<perm=[0,2,1]>(r)  o = MatMul(r, t)"),
    "MatMul with the image": Case("t = Transpose<perm=[0,2,1]>(x)  o = MatMul(r, t)"),
    "MatMul of a matrix": Case("o = MatMul(r, w)", (1, 6), {"w": floats(6, 3)}),
    "MatMul of a matrix from the right": Case(
        "t = Transpose<perm=[1,0]>(r)  o = MatMul(w, t)", (1, 6), {"w": floats(3, 6)}
    ),
    "MatMul of rows in the middle": Case(
        "t = Transpose<perm=[1,0,2]>(r)  o = MatMul(t, w)", constants={"w": floats(6, 3)}
    ),
    "MatMul by a vector": Case("o = MatMul(r, w)", constants={"w": floats(6)}),
    "MatMul of a vector": Case("o = MatMul(w, r)", constants={"w": floats(4)}),
    "Gemm": Case("o = Gemm(r, w, b)", (1, 6), {"w": floats(6, 3), "b": floats(3)}),
    "Gemm transposed": Case(
        "t = Transpose<perm=[1,0]>(r)  o = Gemm<transA=1, transB=1>(t, w, b)",
        (1, 6),
        {"w": floats(3, 6), "b": floats(1, 3)},
    ),
    "Gemm from the right": Case("o = Gemm<transB=1>(w, r)", (1, 6), {"w": floats(3, 6)}),
    "Conv": Case(
        "o = Conv<group=2, strides=[2,2], kernel_shape=[3,3]>(r, w, b)",
        PICTURE,
        {"w": floats(8, 2, 3, 3), "b": floats(8)},
    ),
    "Conv of a signal": Case("o = Conv(r, w)", constants={"w": floats(5, 4, 3)}),
    "ConvTranspose": Case("o = ConvTranspose<strides=[2,2]>(r, w)", PICTURE, {"w": floats(4, 3, 2, 2)}),
    "ConvInteger": Case(
        "t, s, z = DynamicQuantizeLinear(x)  u = Expand(t, sizes)  i = ConvInteger(u, w)  o = Cast<to=1>(i)",
        PICTURE,
        {"w": np.ones((2, 4, 6, 6), np.uint8)},
    ),
    "MaxPool": Case("o = MaxPool<kernel_shape=[2,2]>(r)", PICTURE),
    "AveragePool": Case("o = AveragePool<kernel_shape=[2,2], strides=[2,2]>(r)", PICTURE),
    "LpPool": Case("o = LpPool<kernel_shape=[2,2]>(r)", PICTURE),
    "GlobalAveragePool": Case("o = GlobalAveragePool(r)", PICTURE),
    "GlobalMaxPool": Case("o = GlobalMaxPool(r)", PICTURE),
    "GlobalLpPool": Case("o = GlobalLpPool(r)", PICTURE),
    "BatchNormalization": Case(
        "o = BatchNormalization(r, a, b, c, d)",
        PICTURE,
        {"a": floats(4), "b": floats(4), "c": floats(4), "d": np.abs(floats(4)) + 1},
    ),
    "InstanceNormalization": Case("o = InstanceNormalization(r, a, b)", PICTURE, {"a": floats(4), "b": floats(4)}),
    "GroupNormalization": Case(
        "o = GroupNormalization<num_groups=2>(r, a, b)", PICTURE, {"a": floats(4), "b": floats(4)}, 21
    ),
    "MeanVarianceNormalization": Case("o = MeanVarianceNormalization<axes=[1,2,3]>(r)", PICTURE),
    "LRN": Case("o = LRN<size=3>(r)", PICTURE),
    "DepthToSpace": Case("o = DepthToSpace<blocksize=2>(r)", PICTURE),
    "SpaceToDepth": Case("o = SpaceToDepth<blocksize=2>(r)", PICTURE),
    "GridSample": Case(
        "t = Slice(r, one, three, one)  u = Tanh(t)  v = Transpose<perm=[0,2,3,1]>(u)  o = GridSample(r, v)",
        PICTURE,
        {"one": ints(1), "three": ints(3)},
    ),
    "LayerNormalization": Case("o = LayerNormalization(r, a, b)", constants={"a": floats(6), "b": floats(6)}),
    "LayerNormalization of pictures": Case("o = LayerNormalization<axis=1>(r, a)", constants={"a": floats(4, 6)}),
    "RMSNormalization": Case("o = RMSNormalization(r, a)", constants={"a": floats(6)}, opset=23),
    "LpNormalization": Case("o = LpNormalization(r)"),
    "Softmax": Case("o = Softmax(r)"),
    "Softmax over the middle": Case("o = Softmax<axis=1>(r)"),
    "LogSoftmax": Case("o = LogSoftmax(r)"),
    "Hardmax": Case("o = Hardmax(r)"),
    "TopK": Case("o, i = TopK(r, k)", constants={"k": ints(2)}),
    "TopK, its indices": Case("v, o = TopK<axis=1>(r, k)", constants={"k": ints(2)}),
    "ArgMax": Case("o = ArgMax<axis=1, keepdims=0>(r)"),
    "ArgMin": Case("o = ArgMin<axis=-1>(r)"),
    "CumSum": Case("o = CumSum(r, axis)", constants={"axis": np.int64(-1)}),
    "QuantizeLinear": Case("o = QuantizeLinear(r, s, z)", constants={"s": np.float32(0.05), "z": np.uint8(128)}),
    "DequantizeLinear": Case(
        "q = QuantizeLinear<axis=1>(r, s, z)  o = DequantizeLinear<axis=1>(q, s, z)",
        constants={"s": np.float32([0.1, 0.2, 0.05, 0.1]), "z": np.zeros(4, np.int8)},
    ),
    "Attention": Case("o = Attention(r, r, r)", (1, 2, 5, 4), opset=23),
    "Attention of tokens with a mask": Case(
        "o = Attention<q_num_heads=2, kv_num_heads=2>(r, r, r, m)", (1, 5, 8), {"m": floats(5, 5)}, 23
    ),
    "Einsum": Case('o = Einsum<equation="bij,bkj->bik">(r, r)'),
    "Einsum with weights": Case('o = Einsum<equation="bij,jk->kbi">(r, w)', constants={"w": floats(6, 3)}),
    "Reshape": Case("o = Reshape(r, s)", constants={"s": ints(-1, 24)}),
    "Reshape that copies": Case("o = Reshape(r, s)", constants={"s": ints(0, 2, 2, -1)}),
    "Reshape by its own shape": Case(
        "t = Shape<start=0, end=1>(r)  s = Concat<axis=0>(t, m)  o = Reshape(r, s)", constants={"m": ints(2, -1)}
    ),
    "Reshape to heads in the batch and back": Case(
        "s = Mul(rows, four)  u = Concat<axis=0>(s, six)  t = Reshape(r, u)  v = MatMul(t, w)  "
        "back = Concat<axis=0>(rows, four, six)  o = Reshape(v, back)",
        constants={"four": ints(4), "six": ints(6), "w": floats(6, 6)},
    ),
    "Reshape of rows in the middle": Case(
        "t = Transpose<perm=[1,0,2]>(r)  u = Reshape(t, s)  v = MatMul(u, w)  shape = Concat<axis=0>(four, rows, six)  "
        "o = Reshape(v, shape)",
        constants={"s": ints(-1, 6), "four": ints(4), "six": ints(6), "w": floats(6, 6)},
    ),
    "Reshape of rows behind others": Case(
        "t = Transpose<perm=[1,0]>(r)  o = Reshape(t, s)", (1, 6), {"s": ints(3, -1)}
    ),
    "Flatten": Case("o = Flatten(r)"),
    "Flatten into one row": Case("o = Flatten<axis=0>(r)"),
    "Flatten of two axes": Case("o = Flatten<axis=2>(r)"),
    "Transpose": Case("o = Transpose<perm=[2,0,1]>(r)"),
    "Transpose without order": Case("o = Transpose(r)"),
    "Squeeze": Case("o = Squeeze(r, a)", (1, 1, 6), {"a": ints(1)}),
    "Unsqueeze": Case("o = Unsqueeze(r, a)", constants={"a": ints(0, -1)}),
    "Slice": Case("o = Slice(r, a, b, a)", constants={"a": ints(1), "b": ints(3)}),
    "Slice of all rows": Case("o = Slice(r, a, b)", constants={"a": ints(0, 1), "b": ints(2**63 - 1, 3)}),
    "Slice to the end by its own shape": Case(
        "s = Shape(r)  e = Gather(s, one)  u = Unsqueeze(e, zero)  o = Slice(r, zero, u, ones)",
        constants={"one": np.int64(1), "zero": ints(0), "ones": ints(1)},
    ),
    "Split": Case("t, u = Split<axis=2, num_outputs=2>(r)  o = Mul(t, u)"),
    "Concat": Case("t = Neg(r)  o = Concat<axis=1>(r, t)"),
    "Concat with a token for all": Case(
        "u = Concat<axis=0>(rows, v)  c = Expand(token, u)  o = Concat<axis=1>(c, r)",
        constants={"token": floats(1, 1, 6), "v": ints(1, 6)},
    ),
    "Gather": Case("o = Gather<axis=1>(r, i)", constants={"i": ints(2, 0)}),
    "Gather of one": Case("o = Gather<axis=2>(r, i)", constants={"i": np.int64(-1)}),
    "Gather by copies": Case("i = ArgMax<axis=2>(r)  o = Gather(t, i)", constants={"t": floats(6, 3)}),
    "GatherElements": Case("i = ArgMax<axis=2>(r)  o = GatherElements<axis=2>(r, i)"),
    "GatherND": Case("i = ArgMax<axis=2>(r)  o = GatherND(t, i)", constants={"t": floats(6, 3)}),
    "Pad": Case("o = Pad(r, p)", PICTURE, {"p": ints(0, 0, 1, 2, 0, 0, 1, 0)}),
    "Pad by axes": Case('o = Pad<mode="edge">(r, p, , a)', PICTURE, {"p": ints(1, 1), "a": ints(-1)}),
    "Resize by scales": Case('o = Resize<mode="linear">(r, , s)', PICTURE, {"s": np.float32([1, 1, 2, 2])}),
    "Resize by sizes": Case(
        's = Concat<axis=0>(rows, t)  o = Resize<mode="nearest", keep_aspect_ratio_policy="stretch">(r, , , s)',
        PICTURE,
        {"t": ints(4, 9, 12)},
    ),
    "Expand of another axis": Case("s = Concat<axis=0>(rows, t)  o = Expand(r, s)", (1, 1, 6), {"t": ints(5, 6)}),
    "Tile of another axis": Case("o = Tile(r, t)", constants={"t": ints(1, 2, 1)}),
    "Trilu": Case("o = Trilu(r)"),
    "OneHot": Case("i = ArgMax<axis=2>(r)  o = OneHot<axis=1>(i, d, v)", constants={"d": ints(6), "v": floats(2)}),
}


# Many operators of one kind, each on the same value; the results are put side by side.
FAMILIES: dict[str, tuple[list[str], str]] = {
    "functions of one value": (FUNCTIONS, "{o} = {op}(r)"),
    "two copies": (BINARY, "{o}b = {op}(p, q)  {o} = Cast<to=1>({o}b)"),
    "a copy and a constant": (BINARY, "{o}b = {op}(c, q)  {o} = Cast<to=1>({o}b)"),
    "reductions": (REDUCE, "{o} = {op}<keepdims=0>(q, axes)"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_repeat_sinks_below(name: str) -> None:
    case = CASES[name]
    body = f"{case.body}  f = Cast<to=1>(o)  y = Neg(f)"
    sinking = Sinking(graph(body, case.x, case.constants, opset=case.opset))
    assert {stop.op_type for record in sinking.records for stop in record.stops} == {"output"}, sinking.stops
    assert sinking.labels("Neg") == {"x"}
    sinking.check(case.x, ROWS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_repeat_sinks_below_all_of_a_kind(family: str) -> None:
    operators, node = FAMILIES[family]
    nodes = "  ".join(node.format(o=f"o{index}", op=op) for index, op in enumerate(operators))
    together = ", ".join(f"o{index}" for index in range(len(operators)))
    body = f"p = Softplus(r)  q = Exp(r)  {nodes}  y = Concat<axis=1>({together})"
    constants = {"c": np.abs(floats(4, 6)), "axes": ints(-1)}
    sinking = Sinking(graph(body, (1, 4, 6), constants))
    assert {stop.op_type for record in sinking.records for stop in record.stops} == {"output"}, sinking.stops
    assert sinking.labels("Softplus", "Exp", *operators) == {"x"}
    sinking.check((1, 4, 6), ROWS)


def test_every_operator_of_the_table_has_a_case() -> None:
    of_a_kind = {op for operators, _ in FAMILIES.values() for op in operators}
    assert {name.split()[0].rstrip(",") for name in CASES} | of_a_kind == set(RULES)
