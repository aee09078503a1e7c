"""Label every value with the set of modalities that it depends on, by plain dataflow."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.analysis import analyze_implicit_usage

Label = frozenset[str]

CONSTANT: Label = frozenset()


def label_values(graph: ir.Graph, modalities: Mapping[str, str]) -> dict[ir.Value, Label]:
    """Label the values of `graph`.

    A node depends on what its inputs depend on, and, if it holds graphs (``If``, ``Loop``, ``Scan``), on what those
    capture. Shape-only use counts as use: `mmedge_export.graph.shapes` removes what is only apparent.

    Args:
        graph: Sorted topologically, as ONNX demands.
        modalities: The modality of each input tensor, by the tensor's name.

    Returns:
        The label of each input, initializer and node output; the empty label is a constant.
    """
    labels: dict[ir.Value, Label] = dict.fromkeys(graph.initializers.values(), CONSTANT)
    for value in graph.inputs:
        if not value.is_initializer():
            labels[value] = frozenset({modalities[str(value.name)]})
    for node, used in reads(graph).items():
        label = CONSTANT.union(*(labels[value] for value in used))
        labels.update((output, label) for output in node.outputs)
    return labels


def reads(graph: ir.Graph) -> dict[ir.Node, list[ir.Value]]:
    """The values of `graph` that each node reads, in graph order: its inputs and what its own graphs capture."""
    captured = analyze_implicit_usage(graph)
    result: dict[ir.Node, list[ir.Value]] = {}
    for node in graph:
        used = [value for value in node.inputs if value is not None]
        for subgraph in _own_graphs(node):
            used.extend(sorted((v for v in captured[subgraph] if v.graph is graph), key=lambda v: str(v.name)))
        result[node] = used
    return result


def _own_graphs(node: ir.Node) -> list[ir.Graph]:
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs.extend(attribute.as_graphs())
    return graphs
