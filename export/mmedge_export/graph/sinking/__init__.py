"""Sink broadcasts: a tower that is applied to n copies of one image is applied to the image, and its result is copied.

Many models repeat the image for every prompt before the image tower. By dataflow the whole tower then depends on the
number of prompts, and its cost grows with it. A repeat commutes with every operator that works row by row, so it can
be moved down until something mixes rows or meets a value that differs from row to row.

Requires: a prepared graph (`mmedge_export.graph.prepare`). Ensures: the same outputs for every input, the same names of
inputs and outputs. A repeat that would cross nothing that computes stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mmedge_export.graph.shapes import forward_shapes
from mmedge_export.graph.sinking.extents import SIZE_OPERATORS, Extents
from mmedge_export.graph.sinking.rewrite import Plan, Root, Stop

__all__ = ["Stop", "Sunk", "sink_broadcasts"]


@dataclass(frozen=True)
class Sunk:
    """One place where a tensor is repeated.

    Attributes:
        node: The name of the node that repeats.
        op_type: Its operator.
        count: How often: a number, or the name of an axis.
        crossed: How many operators the repeat was moved past; 0 where it stayed.
        stops: Where it ended, and why.
    """

    node: str
    op_type: str
    count: str
    crossed: int
    stops: tuple[Stop, ...]


def sink_broadcasts(model: ir.Model) -> list[Sunk]:
    """Move repeats of `model` below everything that works row by row, in place.

    Args:
        model: Prepared: flat, shapes inferred, input axes named, opset 15 or newer.

    Returns:
        A record for each repeat found, in graph order.
    """
    stayed: dict[str, Sunk] = {}
    order = [str(output.name) for node in model.graph for output in node.outputs]
    while True:
        plan = Plan(model, frozenset(stayed))
        idle = [root for root in plan.roots if not root.computing]
        if not idle:
            break
        # Moved past nothing that computes, a repeat would only hide from those who look for it where it was.
        stayed.update((str(root.value.name), _record(root, 0)) for root in idle)
        plan.discard()
    records = {str(root.value.name): _record(root, root.crossed) for root in plan.roots} | stayed
    if plan.roots:
        plan.commit()
        RemoveUnusedNodesPass()(model)
        forward_shapes(model.graph)
        _write_sizes(model.graph)
        RemoveUnusedNodesPass()(model)
    return sorted(records.values(), key=lambda record: order.index(record.node))


def _record(root: Root, crossed: int) -> Sunk:
    return Sunk(str(root.value.name), root.op_type, root.count, crossed, tuple(root.stops))


def _write_sizes(graph: ir.Graph) -> None:
    """Write down sizes that are known now, so that nobody asks a tensor of another modality for them."""
    extents = Extents(graph)
    for node in list(graph):
        value = node.outputs[0]
        if node.op_type not in SIZE_OPERATORS or value.shape is None or value.dtype != ir.DataType.INT64:
            continue
        numbers = extents.numbers(value)
        if numbers is None or value in graph.outputs or len(value.shape) > 1:
            continue
        array = np.array(numbers, np.int64).reshape([len(numbers)] * len(value.shape))
        constant = ir.node("Constant", [], attributes={"value": ir.tensor(array)})
        constant.outputs[0].dtype, constant.outputs[0].shape = value.dtype, value.shape
        ir.convenience.replace_nodes_and_values(graph, node, [node], [constant], [value], [constant.outputs[0]])
