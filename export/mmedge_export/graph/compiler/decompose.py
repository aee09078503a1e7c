"""Write the ``Attention`` operator (ONNX 23 and newer) as the products and the softmax that it stands for.

The compiler works on those. Where it folds nothing, the operator is put back: engines run it faster than its parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from mmedge_export.graph.compiler.attention import is_standard


def decompose(graph: ir.Graph) -> dict[ir.Value, ir.Value]:
    """Take every ``Attention`` that can be written in parts out of the flow, in place.

    Returns:
        The operator's own output, by the value that stands for it now.
    """
    parts: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        if node.op_type == "Attention" and is_standard(node) and _can(node):
            parts[_write(graph, node)] = node.outputs[0]
    return parts


def _can(node: ir.Node) -> bool:
    """One output, whole sequences, no causal mask and no cap on the scores."""
    switched = any(_integer(node, name) for name in ("is_causal", "qk_matmul_output_mode"))
    capped = "softcap" in node.attributes and node.attributes["softcap"].as_float() != 0.0
    extra = any(value is not None for value in node.inputs[4:]) or any(o.uses() for o in node.outputs[1:])
    shapes = [v.shape for v in node.inputs[:3] if v is not None and v.shape is not None]
    known = len(shapes) == 3 and all(isinstance(s[-1], int) and (len(s) == 3 or isinstance(s[1], int)) for s in shapes)
    return not switched and not capped and not extra and known


class _Writer:
    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self._graph = graph
        self._last = node
        self._base = str(node.name or node.outputs[0].name)
        self._count = 0

    def op(self, kind: str, *inputs: ir.Value, **attributes: int | tuple[int, ...]) -> ir.Value:
        node = ir.node(kind, list(inputs), attributes=attributes, name=self._fresh(kind))
        node.outputs[0].name = node.name
        node.outputs[0].type = inputs[1 if kind == "Where" else 0].type
        self._graph.insert_after(self._last, node)
        self._last = node
        return node.outputs[0]

    def constant(self, array: object, like: ir.Value | None = None) -> ir.Value:
        dtype = np.int64 if like is None or like.dtype is None else like.dtype.numpy()
        data = np.asarray(array, dtype)
        name = self._fresh("constant")
        value = ir.val(name, const_value=ir.tensor(data, name=name))
        value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(data.dtype)), ir.Shape(data.shape)
        self._graph.register_initializer(value)
        return value

    def _fresh(self, what: str) -> str:
        self._count += 1
        return f"{self._base}/{what}_{self._count}"


def _write(graph: ir.Graph, node: ir.Node) -> ir.Value:
    """The parts of `node`, behind it; everything that read it reads them."""
    query, key, value = (v for v in node.inputs[:3] if v is not None)
    writer = _Writer(graph, node)
    flat = len(query.shape or ()) == 3
    heads = _integer(node, "q_num_heads") if flat else _size(query, 1)
    groups = _integer(node, "kv_num_heads") if flat else _size(key, 1)
    depth = _size(query, -1) // (heads if flat else 1)
    scale = node.attributes["scale"].as_float() if "scale" in node.attributes else 1.0 / math.sqrt(depth)
    if flat:
        query, key, value = (
            writer.op("Transpose", writer.op("Reshape", v, writer.constant([0, 0, n, -1])), perm=(0, 2, 1, 3))
            for v, n in ((query, heads), (key, groups), (value, groups))
        )
    if groups != heads:
        key, value = (_repeat(writer, v, heads, groups) for v in (key, value))
    turned = writer.op("Transpose", writer.op("Mul", key, writer.constant(scale, key)), perm=(0, 1, 3, 2))
    scores = writer.op("MatMul", query, turned)
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is not None:
        scores = writer.op("Add", scores, _additive(writer, mask, scores))
    result = writer.op("MatMul", writer.op("Softmax", scores, axis=-1), value)
    if flat:
        turned = writer.op("Transpose", result, perm=(0, 2, 1, 3))
        result = writer.op("Reshape", turned, writer.constant([0, 0, -1]))
    ir.convenience.replace_all_uses_with(node.outputs[0], result, replace_graph_outputs=True)
    return result


def _additive(writer: _Writer, mask: ir.Value, scores: ir.Value) -> ir.Value:
    if mask.dtype != ir.DataType.BOOL:
        return mask
    nothing, never = writer.constant(0.0, scores), writer.constant(-np.inf, scores)
    return writer.op("Where", mask, nothing, never)


def _repeat(writer: _Writer, value: ir.Value, heads: int, groups: int) -> ir.Value:
    """[B, groups, L, d] -> [B, heads, L, d], each group for heads / groups heads."""
    wide = writer.op("Unsqueeze", value, writer.constant([2]))
    many = writer.op("Expand", wide, writer.constant([1, 1, heads // groups, 1, 1]))
    tail = writer.op("Shape", value, start=2)
    tail.type = ir.TensorType(ir.DataType.INT64)
    batch = writer.op("Shape", value, start=0, end=1)
    batch.type = ir.TensorType(ir.DataType.INT64)
    return writer.op("Reshape", many, writer.op("Concat", batch, writer.constant([heads]), tail, axis=0))


def _integer(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int() if name in node.attributes else 0


def _size(value: ir.Value, index: int) -> int:
    size = value.shape[index] if value.shape is not None else 0
    return size if isinstance(size, int) else 0


def _spreads_mask(output: ir.Value) -> bool:
    """The mask is one row for all queries: ONNX allows it, and ONNX Runtime 1.32 refuses it."""
    node = output.producer()
    mask = node.inputs[3] if node is not None and len(node.inputs) > 3 else None
    query = node.inputs[0] if node is not None else None
    if mask is None or query is None or mask.shape is None or query.shape is None:
        return False
    return len(mask.shape) < 2 or mask.shape[-2] != query.shape[-2]


def put_back(parts: Mapping[ir.Value, ir.Value], used: set[ir.Value]) -> None:
    """Restore every operator of which nothing was folded.

    Args:
        parts: From `decompose`.
        used: The values of `parts` that stay in parts.
    """
    for new, old in parts.items():
        if new not in used and not _spreads_mask(old):
            ir.convenience.replace_all_uses_with(new, old, replace_graph_outputs=True)
