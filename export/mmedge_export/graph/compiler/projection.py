"""Fold the linear projections beside a product of attention into one weight per head.

Frameworks write a projection with a dozen layouts: products, biases, reshapes, transposes and scales in any order. All
of them are the same affine map, row by row, so the map is not read off the nodes. The nodes on the way are only checked
to be affine; then the map is found by running them on the rows of the identity, in float64, and checked on random rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from mmedge_export.graph.compiler.attention import is_standard
from mmedge_export.graph.compiler.fit import Array, fit
from mmedge_export.graph.labels import CONSTANT, Label
from mmedge_export.graph.sizes import Sizes

_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Identity"})
_SCALES = frozenset({"Add", "Sub", "Mul", "Div"})
_NORMS = frozenset({
    "LayerNormalization", "RMSNormalization", "LpNormalization", "ReduceMean", "ReduceL2", "ReduceSumSquare", "Sqrt",
})  # fmt: skip
_TURNS = frozenset({"Neg", "Concat", "RotaryEmbedding", "Slice", "Split", "Cos", "Sin"})


class NotFoldable(Exception):  # noqa: N818 - an answer, not a failure
    """Why a projection is left alone, in words."""


@dataclass(frozen=True)
class Projection:
    """An affine map of rows.

    Attributes:
        outer: Where the map ends away from the product: [B, M, D], or [M, B, D] if `swapped`.
        weight: [H, D, d] for queries (tokens in, heads out), [H, d, D] for outputs (heads in, tokens out).
        bias: [H, d] for queries, [D] for outputs; None if it is zero.
        swapped: `outer` has the tokens in front of the batch.
    """

    outer: ir.Value
    weight: Array
    bias: Array | None
    swapped: bool


class Folder:
    """Folds projections of one graph.

    Args:
        graph: Prepared.
        labels: Of every value: what depends on nothing is a constant, also where it is computed from weights.
        sizes: Concrete shapes for one choice of the named axes.
        inputs: Inputs of the graph of these sizes, of which only shapes are read.
        axes: The named axes by their sizes in that choice, which are unlike each other.
    """

    def __init__(
        self,
        graph: ir.Graph,
        labels: Mapping[ir.Value, Label],
        sizes: Sizes,
        inputs: Mapping[str, npt.NDArray[np.generic]],
        axes: Mapping[int, str],
    ) -> None:
        self._graph = graph
        self._labels = labels
        self._sizes = sizes
        self._inputs = inputs
        self._axes = axes

    def axis_of(self, size: int) -> int | str:
        """The named axis that has this size, or the size."""
        return self._axes.get(size, size)

    def queries(self, query: ir.Value) -> Projection:
        """The projection that makes the queries of a product.

        Raises:
            NotFoldable: Something else than a projection makes them, or something else reads them.
        """
        value = query
        while not self._projects(value.producer()):
            self._lone(value, "the queries")
            value = self._before(value)
        self._lone(value, "the queries")
        node = value.producer()
        token, tries = _first(node), []
        while True:
            if len(self.shape(token)) == 3:
                tries.append(token)
            moved = token.producer()
            if moved is None or moved.op_type not in _MOVES - {"Expand"} or moved.inputs[0] is None or len(tries) == 2:
                break
            token = moved.inputs[0]
        for outer in tries:
            run = self._runner(outer, query)
            for swapped in (False, True):
                found = self._fit_queries(run, outer, query, swapped)
                if found is not None:
                    return found
        raise NotFoldable("the queries are not made token by token")

    def outputs(self, mixed: ir.Value) -> Projection:
        """The projection that follows a product with the values.

        Raises:
            NotFoldable: Something else than a projection follows, or something else reads the product.
        """
        value = mixed
        while not self._projects(value.producer()) or value is mixed:
            self._lone(value, "what attention gives")
            value = self._after(value)
        tries = [value]
        while len(value.uses()) == 1 and value not in self._graph.outputs:
            user = _use(value).node
            if not _moves(user, value) and not self._scales(user, value):
                break
            value = user.outputs[0]
            tries.append(value)
        for outer in tries:
            if len(self.shape(outer)) != 3:
                continue
            run = self._runner(mixed, outer)
            for swapped in (False, True):
                found = self._fit_outputs(run, mixed, outer, swapped)
                if found is not None:
                    return found
        raise NotFoldable("what follows attention is not done token by token")

    def _before(self, value: ir.Value) -> ir.Value:
        node = value.producer()
        if node is None:
            raise NotFoldable("no projection stands before the queries")
        if is_standard(node) and node.op_type in _MOVES and node.inputs[0] is not None:
            return node.inputs[0]
        if is_standard(node) and node.op_type in _SCALES:
            for side, other in ((0, 1), (1, 0)):
                ours, constant = node.inputs[side], node.inputs[other]
                if ours is not None and self._is_constant(constant) and not (node.op_type == "Div" and side == 1):
                    return ours
        raise NotFoldable(_reason(node))

    def _projects(self, node: ir.Node | None) -> bool:
        """The node multiplies rows by a constant matrix."""
        if node is None or not is_standard(node) or node.op_type not in ("MatMul", "Gemm"):
            return False
        turned = node.op_type == "Gemm" and "transA" in node.attributes and node.attributes["transA"].as_int()
        matrix = node.inputs[1]
        return not turned and self._is_constant(matrix) and matrix is not None and len(matrix.shape or ()) == 2

    def _after(self, value: ir.Value) -> ir.Value:
        use = _use(value)
        node: ir.Node = use.node
        if self._projects(node) and use.idx == 0:
            return node.outputs[0]
        if _moves(node, value) or self._scales(node, value):
            return node.outputs[0]
        raise NotFoldable(f"no projection follows attention, but {node.op_type}")

    def _scales(self, node: ir.Node, value: ir.Value) -> bool:
        """The node adds a constant to `value`, or multiplies it by one."""
        if not is_standard(node) or node.op_type not in _SCALES:
            return False
        ours = [index for index, given in enumerate(node.inputs) if given is value]
        others = [given for given in node.inputs if given is not value]
        divides = node.op_type == "Div" and ours[0] == 1
        return len(ours) == 1 and not divides and all(self._is_constant(v) for v in others)

    def _is_constant(self, value: ir.Value | None) -> bool:
        return value is not None and self._labels[value] == CONSTANT

    def _lone(self, value: ir.Value, what: str) -> None:
        if len(value.uses()) != 1 or value in self._graph.outputs:
            others = sorted({use.node.op_type for use in value.uses()})
            raise NotFoldable(f"{what} are read elsewhere too ({', '.join(others)})")

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Concrete shape of `value`; raises NotFoldable if that depends on data."""
        if str(value.name) not in self._sizes:
            raise NotFoldable(f"the shape of {value.name!r} depends on data")
        return self._sizes[str(value.name)]

    def _runner(self, start: ir.Value, end: ir.Value) -> Callable[[Array], Array]:
        """Runs the nodes from `start` to `end` in float64."""
        names = [v for v in self._graph.inputs if str(v.name) in self._inputs and v is not start]
        part = ir.convenience.extract(self._graph, [start, *names], [end])
        for value in part.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype.is_floating_point():
                value.const_value = ir.tensor(tensor.numpy().astype(np.float64), name=value.name)
                value.type = ir.TensorType(ir.DataType.DOUBLE)
        for value in (*part.inputs, *part.outputs, *(o for node in part for o in node.outputs)):
            if value.dtype is not None and value.dtype.is_floating_point():
                value.type = ir.TensorType(ir.DataType.DOUBLE)
        model = ir.Model(part, ir_version=10)
        model.opset_imports.update({"": 20})
        evaluator = ReferenceEvaluator(ir.to_proto(model))
        given: dict[str, npt.NDArray[np.generic]] = {str(v.name): self._inputs[str(v.name)] for v in names}
        return lambda array: _first_of(evaluator.run(None, {str(start.name): array, **given}))

    def _fit_queries(
        self, run: Callable[[Array], Array], outer: ir.Value, query: ir.Value, swapped: bool
    ) -> Projection | None:
        """The map from tokens to queries, if it is one map for all tokens."""
        shape, out = self.shape(outer), self.shape(query)
        tokens = shape[0] if swapped else shape[1]
        if len(out) not in (3, 4) or out[-2] != tokens:
            return None
        batch, width = shape[1] if swapped else shape[0], shape[2]
        heads = out[-3] if len(out) == 4 else out[0] // batch
        if heads == 0 or math.prod(out[:-2]) % heads:
            return None

        def heads_of(given: Array) -> Array:
            """[B or 1, M, D] -> [B, H, M, d]."""
            full = np.broadcast_to(given.swapaxes(0, 1) if swapped else given, shape)
            return run(np.ascontiguousarray(full)).reshape(-1, heads, tokens, out[-1])

        found = fit(lambda rows: heads_of(rows[None])[0], heads_of, (batch, tokens, width))
        return None if found is None else Projection(outer, *found, swapped)

    def _fit_outputs(
        self, run: Callable[[Array], Array], mixed: ir.Value, outer: ir.Value, swapped: bool
    ) -> Projection | None:
        """The map from what the heads give to tokens, if it is one map for all tokens."""
        shape, out = self.shape(mixed), self.shape(outer)
        tokens, depth = shape[-2:]
        batch = out[1] if swapped else out[0]
        if len(shape) not in (3, 4) or (out[0] if swapped else out[1]) != tokens or math.prod(shape[:-2]) % batch:
            return None
        heads = math.prod(shape[:-2]) // batch

        def tokens_of(given: Array) -> Array:
            """[B or 1, M, H*d] -> [B, 1, M, D]."""
            split = given.reshape(-1, tokens, heads, depth).transpose(0, 2, 1, 3)
            full = np.broadcast_to(split, (batch, heads, tokens, depth)).reshape(shape)
            result = run(np.ascontiguousarray(full))
            return (result.swapaxes(0, 1) if swapped else result)[:, None]

        found = fit(lambda rows: tokens_of(rows[None])[0], tokens_of, (batch, tokens, heads * depth))
        if found is None:
            return None
        weight, bias = found[0][0].reshape(heads, depth, -1), found[1]
        return Projection(outer, weight, None if bias is None else bias[0], swapped)


def _use(value: ir.Value) -> Any:
    return next(iter(value.uses()))


def _moves(node: ir.Node, value: ir.Value) -> bool:
    return is_standard(node) and node.op_type in _MOVES - {"Expand"} and node.inputs[0] is value


def _first_of(results: Any) -> Array:
    return np.asarray(results[0])


def _first(node: ir.Node | None) -> ir.Value:
    value = None if node is None else node.inputs[0]
    if value is None:
        raise NotFoldable("the projection takes nothing")
    return value


def _reason(node: ir.Node) -> str:
    """Why `node`, which stands between a projection and the scores, keeps it from being folded."""
    kinds: set[str] = set()
    stack: list[ir.Node | None] = [node]
    while stack and len(kinds) < 32:
        one = stack.pop()
        if one is not None and one.op_type not in ("MatMul", "Gemm") and one.op_type not in kinds:
            kinds.add(one.op_type)
            stack.extend(value.producer() for value in one.inputs if value is not None)
    if kinds & _NORMS:
        return "the queries are normalised (q-norm)"
    if kinds & _TURNS:
        return "the queries are turned by their place (rotary embedding)"
    return f"{node.op_type} stands between projection and scores"
