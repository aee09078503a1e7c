"""Make the new nodes: applied to bases instead of repeated tensors, with shapes inferred on the spot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx.defs
import onnx.shape_inference
import onnx_ir as ir

from mmedge_export.graph.labels import Label, label_values
from mmedge_export.graph.sinking.extents import Extents, Size
from mmedge_export.graph.sinking.site import Entry, Piece
from mmedge_export.graph.sinking.tiling import Count, Tiling

_SMALL = 64


class Builder:
    """Makes nodes that are not yet in the graph.

    Attributes:
        nodes: What was made since `take` was called last.
    """

    def __init__(self, model: ir.Model, extents: Extents) -> None:
        graph = model.graph
        self._opsets = dict(model.opset_imports)
        self._extents = extents
        inputs = {str(value.name): str(value.name) for value in graph.inputs if not value.is_initializer()}
        self._needs: dict[ir.Value, Label] = label_values(graph, inputs)
        self._names = {value.name for inner in model.graphs() for value in _values(inner)}
        self.nodes: list[ir.Node] = []

    def take(self) -> list[ir.Node]:
        """The nodes made since the last call."""
        made, self.nodes = self.nodes, []
        return made

    def name(self, hint: str) -> str:
        name, number = f"{hint}_once", 1
        while name in self._names:
            number += 1
            name = f"{hint}_once_{number}"
        self._names.add(name)
        return name

    def constant(self, array: npt.NDArray[np.generic]) -> ir.Value:
        return self.node("Constant", [], {"value": ir.tensor(array)}, "constant")

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, ir.TensorProtocol | int],
        hint: str,
    ) -> ir.Value:
        """A node with one output."""
        made = ir.node(op_type, inputs, attributes=attributes)
        made.outputs[0].name = self.name(hint)
        made.name = made.outputs[0].name
        self._add(made)
        return made.outputs[0]

    def like(
        self, node: ir.Node, inputs: Sequence[ir.Value | None], attributes: Mapping[str, int], tiling: Tiling
    ) -> Sequence[ir.Value]:
        """`node` again with other inputs; its outputs were repeated as `tiling` says and are so no more."""
        changed = {name: ir.AttrInt64(name, number) for name, number in attributes.items()}
        kept = [attribute for name, attribute in node.attributes.items() if name not in changed]
        made = ir.Node("", node.op_type, inputs, attributes=[*kept, *changed.values()], num_outputs=len(node.outputs))
        made.name = self.name(str(node.name))
        for new, old in zip(made.outputs, node.outputs, strict=True):
            new.name = self.name(str(old.name)) if old.name else ""
            new.type = old.type
            if old.shape is not None and tiling.axis < len(old.shape):
                new.shape = ir.Shape(
                    [tiling.base_size if i == tiling.axis else size for i, size in enumerate(old.shape)]
                )
        self._add(made)
        return made.outputs

    def vector(self, entries: Sequence[Entry]) -> ir.Value:
        """An int64 vector of numbers and of elements that are read from other vectors at run time."""
        parts: list[ir.Value] = []
        numbers: list[int] = []
        for entry in (*entries, None):
            if isinstance(entry, int):
                numbers.append(entry)
                continue
            if numbers:
                parts.append(self.constant(np.array(numbers, np.int64)))
                numbers = []
            if entry is not None:
                parts.append(self._element(entry))
        if not parts:
            return self.constant(np.zeros(0, np.int64))
        return parts[0] if len(parts) == 1 else self.node("Concat", parts, {"axis": 0}, "shape")

    def _element(self, piece: Piece) -> ir.Value:
        """One element, made of the axes that it is the product of: whatever else the vector holds is not asked for."""
        for size in (self._extents.vector(piece.vector) or [])[piece.index : piece.index + 1]:
            parts = [self._axis(symbol, piece.vector) for symbol in size.symbols]
            known = [part for part in parts if part is not None]
            if parts and len(known) == len(parts):
                return self._product(known, size.factor)
        return self._cut(piece)

    def _axis(self, symbol: str, vector: ir.Value) -> ir.Value | None:
        """The size of an axis that occurs in `vector`, read where it is first found."""
        found = self._extents.source(symbol)
        for value, axis in self._extents.named_inputs(symbol):
            # An input of another modality may have an axis of the same name: that would be a new dependency.
            if found is None and str(value.name) in self._needs.get(vector, ()):
                found = value, axis
        if found is None:
            return None
        return self.node("Shape", [found[0]], {"start": found[1], "end": found[1] + 1}, symbol)

    def _product(self, parts: Sequence[ir.Value], factor: int) -> ir.Value:
        result = parts[0]
        for part in parts[1:]:
            result = self.node("Mul", [result, part], {}, "size")
        if factor == 1:
            return result
        return self.node("Mul", [result, self.constant(np.array([factor], np.int64))], {}, "size")

    def _cut(self, piece: Piece) -> ir.Value:
        if piece.vector.shape is not None and piece.vector.shape.is_static() and list(piece.vector.shape) == [1]:
            return piece.vector
        bounds = [self.constant(np.array([piece.index + more], np.int64)) for more in (0, 1)]
        return self.node("Slice", [piece.vector, *bounds], {}, "size")

    def count(self, size: Size, piece: Piece) -> Count:
        """A number of repeats that stands in a vector."""
        if size.number is not None:
            return Count(size)
        return Count(size, self._element(piece))

    def times(self, count: Count, factor: int) -> ir.Value:
        """``factor`` times a count, as an int64 vector of one element."""
        number = count.size.number
        if number is not None or count.source is None:
            return self.constant(np.array([(number or 1) * factor], np.int64))
        return self._product([count.source], factor)

    def repeated(self, base: ir.Value, tiling: Tiling) -> ir.Value:
        """`base` repeated as `tiling` says: one Expand, or a Tile where rows stand in groups."""
        rank = len(self._extents.shape(base) or ())
        if tiling.base_size == 1:
            return self.node("Expand", [base, self._ones_but(rank, tiling.axis, tiling.count)], {}, "repeated")
        if tiling.outer == 1:
            return self.node("Tile", [base, self._ones_but(rank, tiling.axis, tiling.count)], {}, "repeated")
        # Reshape to [..., outer, 1, inner, ...], expand the 1, and put the three axes together again.
        before, after = self._axes(base, 0, tiling.axis), self._axes(base, tiling.axis + 1, rank)
        groups = self.constant(np.array([tiling.outer, 1, tiling.inner], np.int64))
        apart = self.node("Reshape", [base, self._joined([before, groups, after])], {"allowzero": 0}, "groups")
        spread = self.node("Expand", [apart, self._ones_but(rank + 2, tiling.axis + 1, tiling.count)], {}, "repeated")
        size = self.times(tiling.count, tiling.base_size)
        return self.node("Reshape", [spread, self._joined([before, size, after])], {"allowzero": 0}, "repeated")

    def _ones_but(self, rank: int, axis: int, count: Count) -> ir.Value:
        ones = [np.ones(axis, np.int64), np.ones(rank - axis - 1, np.int64)]
        before, after = (self.constant(part) if part.size else None for part in ones)
        return self._joined([before, self.times(count, 1), after])

    def shape_of(self, base: ir.Value, tiling: Tiling, start: int, end: int) -> ir.Value:
        """What ``Shape`` says of the repeated tensor, without asking it."""
        parts = [
            self._axes(base, start, min(end, tiling.axis)),
            self.times(tiling.count, tiling.base_size) if start <= tiling.axis < end else None,
            self._axes(base, max(start, tiling.axis + 1), end),
        ]
        return self._joined(parts)

    def _axes(self, value: ir.Value, start: int, end: int) -> ir.Value | None:
        if start >= end:
            return None
        sizes = (self._extents.shape(value) or [])[start:end]
        numbers = [size.number for size in sizes]
        known = [number for number in numbers if number is not None]
        if len(known) == end - start:
            return self.constant(np.array(known, np.int64))
        return self.node("Shape", [value], {"start": start, "end": end}, "axes")

    def _joined(self, parts: Iterable[ir.Value | None]) -> ir.Value:
        present = [part for part in parts if part is not None]
        if not present:
            return self.constant(np.zeros(0, np.int64))
        return present[0] if len(present) == 1 else self.node("Concat", present, {"axis": 0}, "shape")

    def _add(self, node: ir.Node) -> None:
        self._infer(node)
        self.nodes.append(node)

    def _infer(self, node: ir.Node) -> None:
        """Shapes and types of the outputs; what cannot be inferred keeps what was known before."""
        proto = ir.to_proto(node)
        types = {str(v.name): _type(v) for v in node.inputs if v is not None and v.dtype is not None}
        data = {str(v.name): tensor for v in node.inputs if v is not None and (tensor := _content(v)) is not None}
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get("", 1), "")
            imports = [onnx.helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
            found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
        except (onnx.shape_inference.InferenceError, onnx.defs.SchemaError):
            return
        for output in node.outputs:
            if output.name in found and found[output.name].HasField("tensor_type"):
                _merge(output, found[output.name].tensor_type)


def _values(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _type(value: ir.Value) -> onnx.TypeProto:
    dims = None
    if value.shape is not None:
        dims = [size if isinstance(size, int) else size.value for size in value.shape]
    return onnx.helper.make_tensor_type_proto(int(value.dtype or 0), dims)


def _content(value: ir.Value) -> onnx.TensorProto | None:
    constant = ir.convenience.get_const_tensor(value)
    return ir.to_proto(constant) if constant is not None and constant.size <= _SMALL else None


def _merge(value: ir.Value, found: onnx.TypeProto.Tensor) -> None:
    value.dtype = ir.DataType(found.elem_type)
    if not found.HasField("shape"):
        return
    old = list(value.shape) if value.shape is not None and len(value.shape) == len(found.shape.dim) else []
    sizes: list[int | ir.SymbolicDim | str | None] = []
    for index, dim in enumerate(found.shape.dim):
        before = old[index] if old else None
        if dim.HasField("dim_value"):
            sizes.append(dim.dim_value)
        else:
            sizes.append(before if isinstance(before, int) else (dim.dim_param or None))
    value.shape = ir.Shape(sizes)
