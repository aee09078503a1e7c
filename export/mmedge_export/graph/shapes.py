"""Cut fake dependencies: a shape that is known, or that repeats an axis of an input, is not asked of a large tensor.

A mask that is expanded "to the size of the image features" seems to depend on the image although it only reads a number
that never changes. Requires: inferred shapes. Ensures: each ``Shape`` node whose result is made of fixed sizes and of
named input axes, of inputs that it depends on anyway, reads those inputs alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from mmedge_export.graph.labels import label_values


def forward_shapes(graph: ir.Graph) -> bool:
    """Rewrite ``Shape`` nodes at the top level of `graph` in place; True if any changed."""
    inputs = {str(value.name): value for value in graph.inputs if not value.is_initializer()}
    needs = label_values(graph, {name: name for name in inputs})
    changed = False
    for node in list(graph):
        if node.op_type != "Shape" or node.domain not in ("", "ai.onnx"):
            continue
        source = node.inputs[0]
        if source is None or source in graph.inputs or source.shape is None:
            continue
        wanted = _selected(node, source.shape)
        # An axis of the same name on an input that the value does not need would be a dependency of another kind.
        axes = _input_axes(value for name, value in inputs.items() if name in needs[source])
        if all(isinstance(d, int) or (d.value in axes) for d in wanted):
            _replace(graph, node, wanted, axes)
            changed = True
    return changed


def _input_axes(inputs: Iterable[ir.Value]) -> dict[str | None, tuple[ir.Value, int]]:
    """Where each named axis of `inputs` can be read."""
    axes: dict[str | None, tuple[ir.Value, int]] = {}
    for value in inputs:
        for index, size in enumerate(value.shape or ()):
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                axes.setdefault(size.value, (value, index))
    return axes


def _selected(node: ir.Node, shape: ir.Shape) -> list[int | ir.SymbolicDim]:
    start = node.attributes["start"].as_int() if "start" in node.attributes else 0
    end = node.attributes["end"].as_int() if "end" in node.attributes else len(shape)
    return list(shape)[slice(start, end)]


def _replace(
    graph: ir.Graph,
    node: ir.Node,
    wanted: list[int | ir.SymbolicDim],
    axes: dict[str | None, tuple[ir.Value, int]],
) -> None:
    new: list[ir.Node] = []
    for fixed, run in itertools.groupby(wanted, key=lambda d: isinstance(d, int)):
        if fixed:
            sizes = ir.tensor(np.array(list(run), dtype=np.int64))
            new.append(ir.node("Constant", [], attributes={"value": sizes}))
            continue
        for size in run:
            value, index = axes[size.value if isinstance(size, ir.SymbolicDim) else None]
            new.append(ir.node("Shape", [value], attributes={"start": index, "end": index + 1}))
    if not new:
        new.append(ir.node("Constant", [], attributes={"value": ir.tensor(np.zeros(0, dtype=np.int64))}))
    if len(new) > 1:
        new.append(ir.node("Concat", [n.outputs[0] for n in new], attributes={"axis": 0}))
    result, old = new[-1].outputs[0], node.outputs[0]
    result.dtype, result.shape = ir.DataType.INT64, ir.Shape([len(wanted)])
    ir.convenience.replace_nodes_and_values(graph, node, [node], new, [old], [result])
