"""Layer normalisation that was exported as its parts: found, so that it can stay whole in float32."""

from __future__ import annotations

import onnx_ir as ir

_ELEMENTWISE = frozenset({"Pow", "Mul", "Add", "Sqrt", "Reciprocal", "Div", "Max", "Cast", "Identity"})
_MEANS = frozenset({"ReduceMean", "ReduceL2", "ReduceSumSquare", "ReduceSum"})


def decomposed_norms(graph: ir.Graph) -> list[list[ir.Node]]:
    """The nodes of each layer normalisation that is written out: mean, difference, square, mean, root, quotient.

    The squares leave the range of float16 long before the result does, and small variances vanish in it. What looks
    alike and is none stays in float32 for nothing, which costs time and no accuracy.
    """
    norms = []
    for node in graph:
        if node.op_type == "Sub" and (mean := _mean_of(node)) is not None:
            found = _towards_quotient(node)
            if found:
                inside = set(found) | {mean, node}
                norms.append([n for n in graph if n in inside])
    return norms


def _mean_of(difference: ir.Node) -> ir.Node | None:
    """The ReduceMean whose result is subtracted from its own input."""
    value, mean = difference.inputs[0], difference.inputs[1]
    producer = None if mean is None else mean.producer()
    if producer is None or producer.op_type != "ReduceMean" or not producer.inputs or producer.inputs[0] is not value:
        return None
    return producer


def _towards_quotient(difference: ir.Node) -> list[ir.Node]:
    """The nodes from the difference to where it meets its own deviation; [] where it does not."""
    start = difference.outputs[0]
    reached, nodes, meetings = {start}, [], []
    stack = list(start.consumers())
    while stack:
        node = stack.pop()
        if node in nodes or node in meetings or len(node.outputs) != 1:
            continue
        others = [v for v in node.inputs if v is not None and v is not start and v.producer() is not None]
        if node.op_type in ("Div", "Mul") and start in node.inputs and others:
            meetings.append(node)
        elif node.op_type in _ELEMENTWISE | _MEANS:
            nodes.append(node)
            reached.add(node.outputs[0])
            stack.extend(node.outputs[0].consumers())
    ends = [node for node in meetings if all(v in reached for v in node.inputs)]
    return [*_before(nodes, ends), *ends] if ends else []


def _before(nodes: list[ir.Node], ends: list[ir.Node]) -> list[ir.Node]:
    """Those of `nodes` from which an end is reached: what is made of the result is no part of the norm."""
    needed: set[ir.Node] = set()
    stack = [v.producer() for end in ends for v in end.inputs if v is not None]
    while stack:
        node = stack.pop()
        if node is not None and node in nodes and node not in needed:
            needed.add(node)
            stack.extend(v.producer() for v in node.inputs if v is not None)
    return [node for node in nodes if node in needed]
