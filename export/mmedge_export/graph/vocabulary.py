"""Find the embedding table that token ids look up, to tell a tokenizer of another model."""

from __future__ import annotations

import onnx_ir as ir

_SAME_VALUES = frozenset({"Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Transpose", "Expand"})


def embedding_rows(graph: ir.Graph, ids: str) -> int | None:
    """The number of rows of the table that the input `ids` indexes, or None where there is no plain look-up."""
    stack = [value for value in graph.inputs if value.name == ids]
    while stack:
        value = stack.pop()
        for use in value.uses():
            node = use.node
            if node.op_type == "Gather" and use.idx == 1 and node.inputs[0] is not None:
                table = node.inputs[0]
                if table.is_initializer() and table.shape is not None and isinstance(table.shape[0], int):
                    return table.shape[0]
            elif node.op_type in _SAME_VALUES and use.idx == 0:
                stack.append(node.outputs[0])
    return None
