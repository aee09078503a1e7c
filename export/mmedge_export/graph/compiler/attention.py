"""Find attention in a graph: product of queries and keys, whatever is done to the scores, softmax, product with values.

Nothing here depends on how a framework writes it down. A softmax over the last axis is followed back to the product
that made the scores and on to the product that uses the weights; what stands between is kept as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from mmedge_export.graph.labels import CONSTANT, Label

_BETWEEN = frozenset({
    "Add", "Sub", "Mul", "Div", "Neg", "Where", "Clip", "Min", "Max", "Tanh", "IsNaN", "IsInf", "Not", "And", "Or",
    "Equal", "Greater", "Less", "Cast", "CastLike", "Identity", "Softmax",
})  # fmt: skip
"""What may be done to the scores, element by element, or row by row over the keys."""


@dataclass(frozen=True)
class Attention:
    """One softmax attention.

    Attributes:
        name: Of the softmax's node.
        scores: ``MatMul`` of queries [.., H, M, d] or [B*H, M, d] and transposed keys [.., H, d, L] or [B*H, d, L].
        softmax: Its node.
        values: ``MatMul`` of the weights with the values [.., H, L, d] or [B*H, L, d]; None where there is no such.
        between: Every node after `scores` up to the weights, in graph order; () if anything else reads one of them.
    """

    name: str
    scores: ir.Node
    softmax: ir.Node
    values: ir.Node | None
    between: tuple[ir.Node, ...]

    @property
    def queries(self) -> ir.Value:
        return _input(self.scores, 0)

    @property
    def keys(self) -> ir.Value:
        return _input(self.scores, 1)


def find_attention(graph: ir.Graph, labels: dict[ir.Value, Label]) -> list[Attention]:
    """Every attention at the top level of a prepared graph, in graph order.

    Args:
        labels: Of each value, see `mmedge_export.graph.labels`.
    """
    found = []
    for node in graph:
        if node.op_type == "Softmax" and is_standard(node) and _last_axis(node):
            scores = _product_before(node, labels)
            if scores is not None:
                values = _product_after(node)
                between = _between(graph, scores, values) if values is not None else ()
                found.append(Attention(str(node.name), scores, node, values, between))
    return found


def is_standard(node: ir.Node) -> bool:
    """The node is an operator of ONNX itself."""
    return node.domain in ("", "ai.onnx")


def _last_axis(node: ir.Node) -> bool:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    shape = node.outputs[0].shape
    return axis == -1 or (shape is not None and axis == len(shape) - 1)


def _product_before(softmax: ir.Node, labels: dict[ir.Value, Label]) -> ir.Node | None:
    """The product of two values that are no weights, from which the softmax's input is made element by element."""
    shape = softmax.outputs[0].shape
    stack, seen = [softmax.inputs[0]], set()
    while stack:
        value = stack.pop()
        node = None if value is None or value in seen else value.producer()
        if value is None or node is None or not is_standard(node):
            continue
        seen.add(value)
        if node.op_type == "MatMul":
            both = all(labels[_input(node, i)] != CONSTANT for i in (0, 1))
            if both and value.shape is not None and shape is not None and len(value.shape) == len(shape) >= 3:
                return node
        elif node.op_type in _BETWEEN - {"Softmax"}:
            stack.extend(node.inputs)
    return None


def _product_after(softmax: ir.Node) -> ir.Node | None:
    stack, seen = [softmax.outputs[0]], set()
    while stack:
        value = stack.pop()
        for use in value.uses():
            node = use.node
            if node.op_type == "MatMul" and use.idx == 0:
                return node
            if node.op_type in _BETWEEN and is_standard(node) and node not in seen:
                seen.add(node)
                stack.extend(node.outputs)
    return None


def _between(graph: ir.Graph, scores: ir.Node, values: ir.Node) -> tuple[ir.Node, ...]:
    """The nodes that lead from `scores` to `values`, if nothing leads out of them."""
    region: set[ir.Node] = set()
    stack = [scores.outputs[0]]
    while stack:
        value = stack.pop()
        if value in graph.outputs:
            return ()
        for use in value.uses():
            node = use.node
            if node is values and use.idx == 0:
                continue
            if node.op_type not in _BETWEEN or not is_standard(node) or node.graph is not graph:
                return ()
            if node not in region:
                region.add(node)
                stack.extend(node.outputs)
    return tuple(node for node in graph if node in region)


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise TypeError(f"{node.op_type} {node.name!r} has no input {index}")
    return value
