"""Where a repeat must stop, what is put there, and what happens to sizes that are asked of a repeated tensor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.sinking import Array, Sinking, graph

RNG = np.random.default_rng(12)
ROWS = (1, 2, 5)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


FIRST = {"axis": np.int64(0), "axes": ints(0), "zero": ints(0), "one": ints(1), "tall": ints(2)}
# Every body begins with something that computes and ends so that y is float.
STAYS: dict[str, tuple[str, tuple[int, ...], dict[str, Array]]] = {
    "Softmax over the rows": ("o = Softmax<axis=0>(t)", (1, 4, 6), {}),
    "LayerNormalization over all": ("o = LayerNormalization<axis=0>(t, g)", (1, 6), {"g": np.float32([1])}),
    "ReduceMean over the rows": ("o = ReduceMean(t, axes)", (1, 4, 6), FIRST),
    "ReduceMax over everything": ("o = ReduceMax(t)", (1, 4, 6), {}),
    "ArgMax over the rows": ("o = ArgMax<axis=0>(t)", (1, 4, 6), {}),
    "TopK over the rows": ("o, i = TopK<axis=0>(t, one)", (1, 4, 6), FIRST),
    "CumSum over the rows": ("o = CumSum(t, axis)", (1, 4, 6), FIRST),
    "MatMul that sums over the rows": ("u = Transpose<perm=[1,0]>(t)  o = MatMul(u, t)", (1, 6), {}),
    "Gemm that sums over the rows": ("o = Gemm<transA=1>(t, t)", (1, 6), {}),
    "Einsum that sums over the rows": ('o = Einsum<equation="bij->ij">(t)', (1, 4, 6), {}),
    "Reshape that mixes rows": ("o = Reshape(t, s)", (1, 6), {"s": ints(3, -1)}),
    "Slice of the rows": ("o = Slice(t, zero, one)", (1, 6), FIRST),
    "Gather of the rows": ("o = Gather(t, axis)", (1, 6), FIRST),
    "Concat along the rows": ("u = Neg(t)  o = Concat<axis=0>(t, u)", (1, 6), {}),
    "Pad of the rows": ("o = Pad(t, p)", (1, 6), {"p": ints(1, 0, 0, 0)}),
    "Resize of the rows": ("o = Resize(t, , s)", (1, 2, 4, 4), {"s": np.float32([2, 1, 1, 1])}),
    "Tile of the rows": ("o = Tile(t, p)", (1, 6), {"p": ints(2, 1)}),
    "Trilu of the rows": ("o = Trilu(t)", (1, 6), {}),
    "MaxPool with indices": ("v, o = MaxPool<kernel_shape=[2,2]>(t)", (1, 2, 4, 4), {}),
    "BatchNormalization along the rows": (
        "w = Expand(one, rows)  c = Cast<to=1>(w)  u = Unsqueeze(t, zero)  o = BatchNormalization(u, c, c, c, c)",
        (1, 4, 6),
        FIRST,
    ),
    "MeanVarianceNormalization over the rows": ("o = MeanVarianceNormalization(t)", (1, 2, 4, 4), {}),
    "Mul with the rows of the text": ("m = ReduceMean(text, tall1)  o = Mul(t, m)", (1, 6), {"tall1": ints(1)}),
    "NonZero": ("o = NonZero(t)", (1, 6), {}),
    "ScatterElements": (
        "i = ArgMax<axis=1>(t)  m = ReduceMax(t, one)  o = ScatterElements<axis=1>(t, i, m)",
        (1, 6),
        FIRST,
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_the_repeat_stays_above(name: str) -> None:
    body, x, constants = STAYS[name]
    sinking = Sinking(graph(f"t = Exp(r)  {body}  f = Cast<to=1>(o)  y = Neg(f)", x, constants))
    assert name.split()[0] in sinking.stops
    assert sinking.labels("Exp") == {"x"}
    sinking.check(x, ROWS)


def test_a_constant_with_unlike_rows_stops_a_repeat_and_one_with_equal_rows_does_not() -> None:
    equal = np.repeat(floats(1, 6), 3, axis=0)
    for constant, expected in ((equal, {"output"}), (floats(3, 6), {"Add"})):
        sinking = Sinking(graph("t = Exp(r)  y = Add(t, c)", (1, 6), {"c": constant}, rows=3))
        assert set(sinking.stops) == expected
        sinking.check((1, 6), [3])


def test_no_expand_is_put_where_broadcasting_repeats_anyway() -> None:
    body = "t = Exp(r)  m = ReduceMean(text, axes)  y = Mul(m, t)"
    sinking = Sinking(graph(body, (1, 6), {"axes": ints(1)}))
    assert {node.op_type for node in sinking.model.graph} == {"Exp", "ReduceMean", "Mul"}
    sinking.check((1, 6), ROWS)


def test_one_expand_is_put_where_it_is_needed() -> None:
    body = "t = Exp(r)  u = Tanh(t)  y = CumSum(u, axis)"
    sinking = Sinking(graph(body, (1, 6), {"axis": np.int64(0)}))
    kinds = [node.op_type for node in sinking.model.graph]
    assert [kinds.count(kind) for kind in ("Exp", "Tanh", "Expand", "CumSum")] == [1, 1, 1, 1]
    assert kinds.index("Expand") > kinds.index("Tanh")
    sinking.check((1, 6), ROWS)


def test_rows_grouped_with_heads_are_repeated_in_their_order() -> None:
    body = (
        "s = Mul(rows, four)  u = Concat<axis=0>(s, six)  t = Reshape(r, u)  v = MatMul(t, w)  "
        "y = CumSum(v, axis)"
    )  # fmt: skip
    constants = {"four": ints(4), "six": ints(6), "w": floats(6, 6), "axis": np.int64(0)}
    sinking = Sinking(graph(body, (1, 4, 6), constants))
    assert sinking.labels("MatMul") == {"x"}
    sinking.check((1, 4, 6), ROWS)


def test_rows_in_the_middle_are_repeated_in_their_order() -> None:
    body = "t = Transpose<perm=[1,0,2]>(r)  u = Reshape(t, s)  v = MatMul(u, w)  y = CumSum(v, axis)"
    sinking = Sinking(graph(body, (1, 4, 6), {"s": ints(-1, 6), "w": floats(6, 6), "axis": np.int64(0)}))
    assert sinking.labels("MatMul") == {"x"}
    sinking.check((1, 4, 6), ROWS)


def test_the_size_of_a_repeated_tensor_is_still_the_repeated_one() -> None:
    body = (
        "t = Exp(r)  s = Shape(t)  f = Cast<to=1>(s)  u = ReduceSum(f)  c = Size(t)  d = Cast<to=1>(c)  y = Add(u, d)"
    )
    sinking = Sinking(graph(body, (1, 4, 6)))
    sinking.check((1, 4, 6), ROWS)


def test_sizes_that_do_not_change_are_not_asked_of_a_joint_value() -> None:
    body = (
        "t = Exp(r)  s = Shape(t)  k = Slice(s, one, three)  u = Expand(x1, k)  v = Neg(u)  "
        "m = ReduceMean(text, one)  w = ReduceSum(m)  z = Mul(v, w)  q = ReduceSum<keepdims=0>(t)  y = Add(z, q)"
    )
    sinking = Sinking(graph(f"x1 = ReduceMean<keepdims=0>(x)  {body}", (1, 4, 6), {"one": ints(1), "three": ints(3)}))
    assert sinking.labels("Neg") == {"x"}
    sinking.check((1, 4, 6), ROWS)


def test_branches_that_capture_a_repeated_value_get_it_repeated() -> None:
    model = graph("t = Exp(r)  y = Identity(t)", (1, 6))
    model.graph.node.pop()
    one = onnx.helper.make_tensor("c", onnx.TensorProto.FLOAT, [], [0.0])
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("p", "q")]
    branches = {
        "then_branch": onnx.helper.make_graph([onnx.helper.make_node("Neg", ["t"], ["p"])], "then", [], outputs[:1]),
        "else_branch": onnx.helper.make_graph([onnx.helper.make_node("Abs", ["t"], ["q"])], "else", [], outputs[1:]),
    }
    model.graph.node.extend([
        onnx.helper.make_node("Constant", [], ["c"], value=one),
        onnx.helper.make_node("ReduceSum", ["text"], ["total"], keepdims=0),
        onnx.helper.make_node("Less", ["total", "c"], ["switch"]),
        onnx.helper.make_node("If", ["switch"], ["y"], **branches),
    ])  # fmt: skip
    sinking = Sinking(model)
    assert sinking.stops["If"] == "holds graphs of its own"
    assert sinking.labels("Exp") == {"x"}
    for seed in range(3):
        sinking.check((1, 6), ROWS, seed)


def test_operators_of_other_domains_are_not_crossed() -> None:
    model = graph("t = Exp(r)  y = Gelu(t)", (1, 6))
    model.graph.node[-1].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    sinking = Sinking(model)
    assert sinking.stops["Gelu"] == "is not known to work row by row"
    sinking.check((1, 6), ROWS)


def test_a_repeat_that_would_cross_nothing_that_computes_is_left_where_it_is() -> None:
    sinking = Sinking(graph("t = Transpose<perm=[0,2,1]>(r)  y = CumSum(t, axis)", (1, 4, 6), {"axis": np.int64(0)}))
    assert [(record.crossed, record.stops[0].op_type) for record in sinking.records] == [(0, "CumSum")]
    kinds = [node.op_type for node in sinking.model.graph]
    assert kinds.index("Expand") < kinds.index("Transpose")
    sinking.check((1, 4, 6), ROWS)


def test_a_squeeze_that_would_drop_a_single_row_too_is_not_crossed() -> None:
    """With one prompt the rank is another: no shape is known, so nothing is moved."""
    sinking = Sinking(graph("t = Exp(r)  u = Squeeze(t)  y = ReduceSum<keepdims=0>(u)", (1, 1, 6)))
    assert "Squeeze" in sinking.stops
    sinking.check((1, 1, 6), ROWS)


def test_a_record_says_what_was_crossed_and_where_it_ended() -> None:
    body = "t = Exp(r)  u = Tanh(t)  y = Softmax<axis=0>(u)"
    [record] = Sinking(graph(body, (1, 6))).records
    assert (record.node, record.op_type, record.count, record.crossed) == ("r", "Expand", "n", 2)
    assert [(stop.op_type, stop.reason) for stop in record.stops] == [("Softmax", "works over the repeated axis")]


def test_outputs_keep_their_names() -> None:
    sinking = Sinking(graph("t = Exp(r)  y = Tanh(t)", (1, 6)))
    assert [value.name for value in sinking.model.graph.outputs] == ["y"]
    assert [node.op_type for node in sinking.model.graph][-1] == "Expand"
    sinking.check((1, 6), ROWS)
