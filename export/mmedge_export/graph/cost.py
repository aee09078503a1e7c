"""What a node costs: floating-point operations, from its shapes alone. A multiply-add counts as two operations."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir

from mmedge_export.graph.sizes import Sizes

Shape = tuple[int, ...]

_FREE = frozenset({
    "Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherElements",
    "GatherND", "Identity", "Pad", "Range", "Reshape", "ScatterElements", "ScatterND", "Shape", "Size", "Slice",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
_PER_ELEMENT = {
    "Softmax": 5, "LogSoftmax": 6, "LayerNormalization": 8, "RMSNormalization": 5, "GroupNormalization": 8,
    "InstanceNormalization": 8, "BatchNormalization": 4, "Gelu": 10, "Erf": 8, "Sigmoid": 4, "Tanh": 6, "Exp": 4,
    "Log": 4, "Pow": 4, "Sqrt": 2, "HardSwish": 4, "Swish": 5, "Softplus": 6,
}  # fmt: skip


def node_flops(node: ir.Node, sizes: Sizes) -> int:
    """Operations of one node. Unknown shapes count as zero, and so does what a node with graphs of its own runs inside.

    Args:
        node: Any node of a prepared graph.
        sizes: Concrete shapes by value name.
    """
    if node.op_type in _FREE:
        return 0
    inputs = [sizes.get(str(v.name), ()) if v is not None else () for v in node.inputs]
    output = sizes.get(str(node.outputs[0].name))
    if output is None:
        return 0
    if node.op_type in _BY_SHAPE:
        return _BY_SHAPE[node.op_type](node, inputs, output)
    if node.op_type.startswith("Reduce") or node.op_type in ("ArgMax", "ArgMin", "TopK", "GlobalAveragePool", "CumSum"):
        return math.prod(inputs[0])
    return _PER_ELEMENT.get(node.op_type, 1) * math.prod(output)


def _matmul(node: ir.Node, inputs: list[Shape], output: Shape) -> int:
    return 2 * math.prod(output) * inputs[0][-1] if inputs[0] else 0


def _gemm(node: ir.Node, inputs: list[Shape], output: Shape) -> int:
    transposed = node.attributes["transA"].as_int() if "transA" in node.attributes else 0
    return 2 * math.prod(output) * inputs[0][0 if transposed else 1] if inputs[0] else 0


def _conv(node: ir.Node, inputs: list[Shape], output: Shape) -> int:
    return 2 * math.prod(output) * math.prod(inputs[1][1:])


def _conv_transpose(node: ir.Node, inputs: list[Shape], output: Shape) -> int:
    return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _pool(node: ir.Node, inputs: list[Shape], output: Shape) -> int:
    return math.prod(output) * math.prod(node.attributes["kernel_shape"].as_ints())


def _attention(node: ir.Node, inputs: list[Shape], output: Shape) -> int:
    """Both products of ``Attention``: q [B, H, M, d] or [B, M, H*d], k with L in the last axis but one."""
    query, key, value = inputs[:3]
    if len(query) < 3 or len(key) != len(query) or len(value) != len(query):
        return 0
    length = key[-2]
    heads = query[1] if len(query) == 4 else node.attributes["q_num_heads"].as_int()
    scores = (math.prod(query[:-1]) if len(query) == 4 else math.prod(query[:-1]) * heads) * length
    return 2 * math.prod(query) * length + 2 * math.prod(output) * length + 5 * scores


def _recurrent(gates: int) -> Callable[[ir.Node, list[Shape], Shape], int]:
    def flops(node: ir.Node, inputs: list[Shape], output: Shape) -> int:
        """x [T, B, in], W [dirs, gates*hidden, in], R [dirs, gates*hidden, hidden]."""
        if len(inputs[0]) != 3:
            return 0
        steps, batch, _ = inputs[0]
        return 2 * steps * batch * (math.prod(inputs[1]) + math.prod(inputs[2]))

    return flops


def _einsum(node: ir.Node, inputs: list[Shape], output: Shape) -> int:
    terms = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    sizes = {axis: n for term, shape in zip(terms, inputs, strict=True) for axis, n in zip(term, shape, strict=False)}
    return len(terms) * math.prod(sizes.values())


_BY_SHAPE: dict[str, Callable[[ir.Node, list[Shape], Shape], int]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Attention": _attention,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Einsum": _einsum,
}
