"""Stages in float16: operators that gain by it are converted, and a value between two others stays in float32.

The converter that comes with ONNX Runtime casts the result of each node that stays in float32 to float16 and back, so
that a value that is too large for float16 is lost on its way between two such nodes. Here the type of a value is that
of the node that makes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from mmedge_export.precision.norms import decomposed_norms
from mmedge_export.precision.ranges import Range

LARGEST = 65504.0
"""Largest finite float16."""

MARGIN = 4.0
"""How much larger than on the calibration samples a value may become before it leaves the range."""

_CONVERTED = frozenset({
    "Abs", "Add", "Attention", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Div",
    "Einsum", "Erf", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Relu",
    "Reshape", "Sigmoid", "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Swish", "Tanh", "Tile",
    "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""Everything else stays in float32: sums of many terms (normalisation, softmax, means), exponentials and roots lose
digits or leave the range in float16, and cost little next to the products."""


def convertible(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that may be computed in a smaller type."""
    return [node for node in graph if node.op_type in _CONVERTED and not node.domain and _floats(node)]


def out_of_range(graph: ir.Graph, ranges: Mapping[str, Range]) -> list[str]:
    """Names of convertible nodes that read or write a value, or are part of a norm, that float16 cannot hold.

    Args:
        graph: A stage.
        ranges: From `mmedge_export.precision.ranges.capture`.
    """
    inside = {node for norm in decomposed_norms(graph) for node in norm}
    found = []
    for node in convertible(graph):
        values = [*node.inputs, *node.outputs]
        largest = max((ranges[str(v.name)].magnitude for v in values if v and str(v.name) in ranges), default=0.0)
        # A magnitude that is not a number is out of range too.
        if node in inside or not largest * MARGIN <= LARGEST:
            found.append(str(node.name))
    return found


def to_half(model: ir.Model, kept: Collection[str]) -> None:
    """Convert a stage in place; its inputs and outputs stay float32.

    Args:
        model: The stage.
        kept: Names of nodes that stay in float32 although they could be converted.
    """
    graph = model.graph
    chosen = {node for node in convertible(graph) if node.name not in kept}
    casts = _Casts(graph)
    for node in list(graph):
        if node in chosen:
            for made in node.outputs:
                if made.dtype == ir.DataType.FLOAT:
                    # Copies of a graph share the objects that are the types of their values.
                    made.type = ir.TensorType(ir.DataType.FLOAT16)
            if node.op_type == "Attention":
                node.attributes["softmax_precision"] = ir.AttrInt64("softmax_precision", int(ir.DataType.FLOAT))
    for node in list(graph):
        wanted = ir.DataType.FLOAT16 if node in chosen else ir.DataType.FLOAT
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) and value.dtype != wanted:
                node.replace_input_with(index, casts.of(value, wanted))
    for index, output in enumerate(graph.outputs):
        if output.dtype == ir.DataType.FLOAT16:
            graph.outputs[index] = _take_name(casts.of(output, ir.DataType.FLOAT), output)
    _drop_unused_weights(graph)


def round_values(model: ir.Model, kept: Collection[str], dtype: ir.DataType) -> None:
    """Round in place what `to_half` would store in `dtype`, and compute in float32 between.

    CPUs without float16 run a float16 graph in float32 and do not round: what overflows on a device would not be seen
    here.

    Args:
        model: The stage.
        kept: As in `to_half`.
        dtype: FLOAT16 or BFLOAT16.
    """
    graph = model.graph
    chosen = [node for node in convertible(graph) if node.name not in kept]
    casts = _Casts(graph)
    made = {value for node in chosen for value in node.outputs if value.dtype == ir.DataType.FLOAT}
    for exact in made:
        users = list(exact.uses())
        rounded = casts.rounded(exact, dtype)
        for user, index in users:
            user.replace_input_with(index, rounded)
        for index, output in enumerate(graph.outputs):
            if output is exact:
                graph.outputs[index] = _take_name(rounded, exact)
    back = {casts.rounded(value, dtype) for value in made}
    for node in chosen:
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == ir.DataType.FLOAT and value not in back:
                node.replace_input_with(index, casts.rounded(value, dtype))


class _Casts:
    """Casts of the values of a graph, each made once, right behind the value."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def of(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        key = (value, dtype)
        if key not in self._made:
            weight = value.const_value if value.is_initializer() else None
            self._made[key] = self._cast(value, dtype) if weight is None else self._weight(value, weight, dtype)
        return self._made[key]

    def rounded(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        key = (value, ir.DataType.FLOAT)
        if key not in self._made:
            self._made[key] = self._cast(self._cast(value, dtype), ir.DataType.FLOAT)
        return self._made[key]

    def _weight(self, value: ir.Value, tensor: ir.TensorProtocol, dtype: ir.DataType) -> ir.Value:
        array = tensor.numpy().astype(np.float16 if dtype == ir.DataType.FLOAT16 else np.float32)
        name = f"{value.name}.{dtype.name.lower()}"
        stored = ir.tensor(array, name=name)
        weight = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype), const_value=stored)
        self._graph.register_initializer(weight)
        return weight

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        name = f"{value.name}.{dtype.name.lower()}"
        node = ir.node("Cast", [value], attributes={"to": int(dtype)}, name=f"cast.{name}")
        output = node.outputs[0]
        output.name, output.dtype, output.shape = name, dtype, value.shape
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(producer, node)
        return output


def _floats(node: ir.Node) -> bool:
    inside = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    return not inside and any(v.dtype == ir.DataType.FLOAT for v in node.outputs)


def _take_name(new: ir.Value, old: ir.Value) -> ir.Value:
    """The stage's contract names its outputs: what replaces one takes its name."""
    name = old.name
    old.name = f"{name}.inner"
    new.name = name
    return new


def _drop_unused_weights(graph: ir.Graph) -> None:
    outputs = set(graph.outputs)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in outputs:
            del graph.initializers[name]
