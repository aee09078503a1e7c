"""Write one form of the program: the attention that it folds, and everything after it, beside the original nodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmedge_export.graph.compiler.attention import Attention
from mmedge_export.graph.compiler.choice import Fold
from mmedge_export.graph.compiler.projection import Projection
from mmedge_export.graph.compiler.sites import Candidate

TOKENS_FIRST = (0, 2, 1, 3)
"""[B, H, M, L] <-> [B, M, H, L]."""


class FormWriter:
    """Writes one form into a graph.

    Args:
        graph: Gets the new nodes at its end; nothing of it is changed.
        name: Of the form; ends the name of each new value.
        nodes: The nodes that were there before any form was written.
        parts: From `mmedge_export.graph.compiler.decompose.decompose`.
    """

    def __init__(self, graph: ir.Graph, name: str, nodes: list[ir.Node], parts: Mapping[ir.Value, ir.Value]) -> None:
        self._graph = graph
        self._name = name
        self._nodes = nodes
        self._parts = parts
        self._new: dict[ir.Value, ir.Value] = {}
        self._count = 0

    def write(self, candidates: list[Candidate], fold: Fold) -> list[ir.Value]:
        """Write the form; returns the graph's outputs in it, in order."""
        replaced: dict[ir.Node, tuple[Candidate, Projection, str]] = {}
        turned: set[ir.Node] = set()
        for index, candidate in enumerate(candidates):
            for half in candidate.halves:
                if (index, half.kind) in fold:
                    attention = candidate.attention
                    node = attention.scores if half.kind == "scores" else attention.values
                    assert node is not None
                    replaced[node] = (candidate, half.projection, half.kind)
            if {(index, "scores"), (index, "outputs")} <= fold and _can_turn(candidate.attention):
                turned.update(candidate.attention.between)
        inside = {output for node in turned for output in node.outputs}
        inside |= {c.attention.scores.outputs[0] for c in candidates}
        whole = self._whole(candidates, fold)
        for node in self._nodes:
            if node.outputs[0] in whole:
                self._new[node.outputs[0]] = self._now(whole[node.outputs[0]])
            elif node in replaced:
                candidate, projection, kind = replaced[node]
                inner = bool(candidate.attention.between) and candidate.attention.between[0] in turned
                if kind == "scores":
                    self._scores(node, projection, keep_turned=inner)
                else:
                    self._outputs(node, projection, is_turned=inner)
            elif any(value in self._new for value in node.inputs if value is not None) and not self._done(node):
                self._copy(node, inside if node in turned else None)
        return [self._new.get(value, value) for value in self._graph.outputs]

    def _whole(self, candidates: list[Candidate], fold: Fold) -> dict[ir.Value, ir.Value]:
        """What stands for operators of which this form folds nothing, with the operators' own outputs."""
        folded = [c for index, c in enumerate(candidates) if any(index == i for i, _ in fold)]
        needed = {c.attention.softmax for c in folded}
        return {new: old for new, old in self._parts.items() if softmax_of(new) not in needed}

    def _done(self, node: ir.Node) -> bool:
        return all(output in self._new for output in node.outputs)

    def _scores(self, node: ir.Node, projection: Projection, *, keep_turned: bool) -> None:
        """scores = x A + a."""
        heads = projection.weight.shape[0]
        tokens = self._tokens(projection)
        keys = self._per_head(node.inputs[1], heads)
        dtype = _numpy(node.outputs[0])
        matrix = self._op("MatMul", [self._constant(projection.weight[None].astype(dtype)), keys])
        matrix = self._op("Transpose", [matrix], perm=TOKENS_FIRST)
        matrix = self._reshape(matrix, [0, 0, -1])
        scores = self._op("MatMul", [tokens, matrix])
        if projection.bias is not None:
            bias = self._op("MatMul", [self._constant(projection.bias[None, :, None].astype(dtype)), keys])
            scores = self._op("Add", [scores, self._reshape(bias, [0, 1, -1])])
        scores = self._reshape(scores, [0, 0, heads, -1])
        if not keep_turned:
            scores = self._op("Transpose", [scores], perm=TOKENS_FIRST)
            if len(node.outputs[0].shape or ()) == 3:
                scores = self._merge_heads(scores)
        self._new[node.outputs[0]] = scores

    def _outputs(self, node: ir.Node, projection: Projection, *, is_turned: bool) -> None:
        """outputs = P B + c."""
        heads = projection.weight.shape[0]
        values = self._per_head(node.inputs[1], heads)
        dtype = _numpy(node.outputs[0])
        if is_turned:
            weights = self._now(node.inputs[0])
        else:
            weights = self._op("Transpose", [self._per_head(node.inputs[0], heads)], perm=TOKENS_FIRST)
        weights = self._reshape(weights, [0, 0, -1])
        matrix = self._op("MatMul", [values, self._constant(projection.weight[None].astype(dtype))])
        matrix = self._reshape(matrix, [0, -1, projection.weight.shape[2]])
        result = self._op("MatMul", [weights, matrix])
        if projection.bias is not None:
            result = self._op("Add", [result, self._constant(projection.bias.astype(dtype))])
        if projection.swapped:
            result = self._op("Transpose", [result], perm=(1, 0, 2))
        self._new[projection.outer] = result

    def _tokens(self, projection: Projection) -> ir.Value:
        tokens = self._now(projection.outer)
        return self._op("Transpose", [tokens], perm=(1, 0, 2)) if projection.swapped else tokens

    def _per_head(self, old: ir.Value | None, heads: int) -> ir.Value:
        """[B*H, .., ..] -> [B, H, .., ..]; four axes stay as they are."""
        value = self._now(old)
        if old is None or len(old.shape or ()) != 3:
            return value
        tail = self._op("Shape", [value], start=1)
        shape = self._op("Concat", [self._constant(np.array([-1, heads])), tail], axis=0)
        return self._op("Reshape", [value, shape])

    def _merge_heads(self, value: ir.Value) -> ir.Value:
        """[B, H, M, L] -> [B*H, M, L]."""
        tail = self._op("Shape", [value], start=2)
        shape = self._op("Concat", [self._constant(np.array([-1])), tail], axis=0)
        return self._op("Reshape", [value, shape])

    def _copy(self, node: ir.Node, inside: set[ir.Value] | None) -> None:
        """The same node on the values of this form.

        Args:
            inside: For a node whose scores lie as [B, M, H, L] here: the values that already lie so.
        """
        inputs = [
            None if old is None else self._now(old) if inside is None or old in inside else self._turn(old)
            for old in node.inputs
        ]
        copy = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), num_outputs=len(node.outputs))
        self._append(copy)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.type = old.type
            self._new[old] = new

    def _turn(self, old: ir.Value) -> ir.Value:
        """What is combined with scores [B, H, M, L] for scores [B, M, H, L]."""
        value, rank = self._now(old), len(old.shape or ())
        if rank == 4:
            return self._op("Transpose", [value], perm=TOKENS_FIRST)
        if rank == 3:
            return self._op("Transpose", [value], perm=(1, 0, 2))
        if rank == 2:
            return self._op("Unsqueeze", [value, self._constant(np.array([1]))])
        return value

    def _now(self, old: ir.Value | None) -> ir.Value:
        assert old is not None
        return self._new.get(old, old)

    def _reshape(self, value: ir.Value, shape: list[int]) -> ir.Value:
        return self._op("Reshape", [value, self._constant(np.array(shape))])

    def _constant(self, array: npt.NDArray[np.generic]) -> ir.Value:
        name = self._fresh("constant")
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(array.dtype)), ir.Shape(array.shape)
        self._graph.register_initializer(value)
        return value

    def _op(self, kind: str, inputs: list[ir.Value], **attributes: int | tuple[int, ...]) -> ir.Value:
        node = ir.node(kind, inputs, attributes=attributes)
        node.outputs[0].type = ir.TensorType(ir.DataType.INT64) if kind in ("Shape", "Concat") else inputs[0].type
        self._append(node)
        return node.outputs[0]

    def _append(self, node: ir.Node) -> None:
        for output in node.outputs:
            output.name = self._fresh(node.op_type)
        node.name = str(node.outputs[0].name)
        self._graph.append(node)

    def _fresh(self, what: str) -> str:
        self._count += 1
        return f"{what}_{self._count}.{self._name or 'compiled'}"


def softmax_of(value: ir.Value) -> ir.Node | None:
    """The softmax in the parts that end in `value`."""
    node = value.producer()
    while node is not None and node.op_type != "Softmax":
        before = node.inputs[0]
        node = None if before is None else before.producer()
    return node


def _can_turn(attention: Attention) -> bool:
    """Everything from scores to weights can work on [B, M, H, L] as well."""
    if not attention.between or len(attention.scores.outputs[0].shape or ()) != 4:
        return False
    inside = {output for node in (attention.scores, *attention.between) for output in node.outputs}
    beside = (v for node in attention.between for v in node.inputs if v is not None and v not in inside)
    return all(value.shape is not None and len(value.shape) <= 4 for value in beside)


def _numpy(value: ir.Value) -> npt.DTypeLike:
    assert value.dtype is not None
    dtype: npt.DTypeLike = value.dtype.numpy()
    return dtype


def fold_names(candidates: list[Candidate], folds: Mapping[str, Fold]) -> dict[int, str]:
    """What is done with each candidate, in words, by its index."""
    words: dict[int, str] = {}
    for index, candidate in enumerate(candidates):
        parts = []
        for name, fold in folds.items():
            kinds = [half.kind for half in candidate.halves if (index, half.kind) in fold]
            done = f"folds {' and '.join(kinds) or 'nothing'}"
            parts.append(f"form {name} {done}" if name else done)
        words[index] = "; ".join(parts)
    return words
