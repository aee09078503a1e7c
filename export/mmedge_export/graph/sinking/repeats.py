"""Find where a tensor is repeated: Expand, Tile, Gather of one row, Concat of one value, constants with equal rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from mmedge_export.graph.sinking.building import Builder
from mmedge_export.graph.sinking.extents import ONE, Extents, Size
from mmedge_export.graph.sinking.operators import RULES, broadcasting
from mmedge_export.graph.sinking.site import Entry, Piece
from mmedge_export.graph.sinking.tiling import Count, Tiling, one_row


@dataclass(frozen=True)
class Repeat:
    """The output of a node is `base`, repeated as `tiling` says."""

    base: ir.Value
    tiling: Tiling


@dataclass(frozen=True)
class Finder:
    """Looks for repeats.

    Attributes:
        extents: Sizes known in the graph.
        builder: Makes the nodes of bases that are not there yet.
        row: The one row of a value that is itself known to be one row repeated along an axis, or None.
    """

    extents: Extents
    builder: Builder
    row: Callable[[ir.Value, int], ir.Value | None]

    def find(self, node: ir.Node) -> Repeat | None:
        if node.domain not in ("", "ai.onnx") or _is_vector_of_sizes(node.outputs[0]):
            return None
        if node.op_type in _FINDERS:
            return _FINDERS[node.op_type](self, node)
        return self._constant_rows(node) if RULES.get(node.op_type) is broadcasting else None

    def _expand(self, node: ir.Node) -> Repeat | None:
        value, target = node.inputs[0], node.inputs[1]
        if value is None or target is None:
            return None
        shape, known = self.extents.shape(value), self.extents.vector(target)
        if shape is None or known is None:
            return None
        rank = max(len(shape), len(known))
        before = [ONE] * (rank - len(shape)) + shape
        after = [ONE] * (rank - len(known)) + known
        grown = [axis for axis in range(rank) if before[axis] == ONE and after[axis] != ONE]
        if not grown or Size(0) in after:
            return None
        axis = _chosen(grown, after)
        shift = rank - len(known)
        count = self.builder.count(after[axis], Piece(target, axis - shift))
        entries = [1 if i + shift == axis else _entry(target, i, size) for i, size in enumerate(known)]
        base = value
        if len(grown) > 1:
            base = self.builder.node("Expand", [value, self.builder.vector(entries)], {}, str(value.name))
        elif rank > len(shape):
            new = self.builder.vector(list(range(rank - len(shape))))
            base = self.builder.node("Unsqueeze", [value, new], {}, str(value.name))
        return Repeat(base, Tiling(axis, count))

    def _tile(self, node: ir.Node) -> Repeat | None:
        value, repeats = node.inputs[0], node.inputs[1]
        if value is None or repeats is None:
            return None
        shape, known = self.extents.shape(value), self.extents.vector(repeats)
        grown = [axis for axis, size in enumerate(known or ()) if size != ONE]
        if not grown or shape is None or known is None or Size(0) in known:
            return None
        axis = _chosen(grown, known)
        size = shape[axis].number
        if not size:
            return None
        base = value
        if len(grown) > 1:
            entries = [1 if i == axis else _entry(repeats, i, times) for i, times in enumerate(known)]
            base = self.builder.node("Tile", [value, self.builder.vector(entries)], {}, str(value.name))
        return Repeat(base, Tiling(axis, self.builder.count(known[axis], Piece(repeats, axis)), 1, size))

    def _gather(self, node: ir.Node) -> Repeat | None:
        """Whatever valid indices pick from a single row, they pick that row."""
        value, indices = node.inputs[0], node.inputs[1]
        shape = self.extents.shape(value) if value is not None else None
        if value is None or indices is None or shape is None:
            return None
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        axis += len(shape) if axis < 0 else 0
        return self._picked(value, axis, shape, indices, 1)

    def _gather_nd(self, node: ir.Node) -> Repeat | None:
        value, indices = node.inputs[0], node.inputs[1]
        shape = self.extents.shape(value) if value is not None else None
        batched = "batch_dims" in node.attributes and node.attributes["batch_dims"].as_int() != 0
        if value is None or indices is None or shape is None or batched:
            return None
        wanted = self.extents.shape(indices)
        return self._picked(value, 0, shape, indices, 2) if wanted is not None and wanted[-1] == ONE else None

    def _picked(
        self, value: ir.Value, axis: int, shape: Sequence[Size], indices: ir.Value, index_rank: int
    ) -> Repeat | None:
        base = value if shape[axis] == ONE else self.row(value, axis)
        wanted = self.extents.shape(indices)
        if base is None or wanted is None or len(wanted) != index_rank or wanted[0] in (ONE, Size(0)):
            return None
        return Repeat(base, Tiling(axis, self._count_of_axis(indices, wanted[0])))

    def _count_of_axis(self, value: ir.Value, size: Size) -> Count:
        if size.number is not None:
            return Count(size)
        return Count(size, self.builder.node("Shape", [value], {"start": 0, "end": 1}, str(value.name)))

    def _concat(self, node: ir.Node) -> Repeat | None:
        value = node.inputs[0]
        if value is None or len(node.inputs) < 2 or any(other is not value for other in node.inputs):
            return None
        shape = self.extents.shape(value)
        if shape is None:
            return None
        axis = node.attributes["axis"].as_int() % len(shape)
        size = shape[axis].number
        return Repeat(value, Tiling(axis, Count(Size(len(node.inputs))), 1, size)) if size else None

    def _filled(self, node: ir.Node) -> Repeat | None:
        target = node.inputs[0]
        known = self.extents.vector(target) if target is not None else None
        grown = [axis for axis, size in enumerate(known or ()) if size != ONE]
        if target is None or known is None or not grown or Size(0) in known:
            return None
        axis = _chosen(grown, known)
        entries = [1 if i == axis else _entry(target, i, size) for i, size in enumerate(known)]
        value = {"value": node.attributes["value"].as_tensor()} if "value" in node.attributes else {}
        base = self.builder.node("ConstantOfShape", [self.builder.vector(entries)], value, "filled")
        return Repeat(base, Tiling(axis, self.builder.count(known[axis], Piece(target, axis))))

    def _constant_rows(self, node: ir.Node) -> Repeat | None:
        """A value of one row meets a constant of several equal rows, such as the zeros that some add to repeat."""
        constants = [ir.convenience.get_const_tensor(value) if value is not None else None for value in node.inputs]
        shapes = [self.extents.shape(value) if value is not None else None for value in node.inputs]
        known = [shape for shape in shapes if shape is not None]
        rank = max((len(shape) for shape in known), default=0)
        grown = [index for index, shape in enumerate(known) if len(shape) == rank > 0 and shape[0] != ONE]
        constant = constants[grown[0]] if len(grown) == 1 and len(known) == len(shapes) else None
        if constant is None or None not in constants:
            return None
        tiling = Tiling(0, Count(known[grown[0]][0]))
        row = one_row(constant.numpy(), 0, tiling)
        if row is None:
            return None
        inputs = [self.builder.constant(row) if i == grown[0] else value for i, value in enumerate(node.inputs)]
        return Repeat(self.builder.like(node, inputs, {}, tiling)[0], tiling)


def _is_vector_of_sizes(value: ir.Value) -> bool:
    """Whole numbers in one axis are sizes or indices: to repeat them costs nothing."""
    return value.dtype == ir.DataType.INT64 and value.shape is not None and len(value.shape) <= 1


def _chosen(axes: Sequence[int], sizes: Sequence[Size]) -> int:
    """The axis that counts as the repeat, where several grow: one of open size, else the first."""
    return next((axis for axis in axes if sizes[axis].symbols), axes[0])


def _entry(vector: ir.Value, index: int, size: Size) -> Entry:
    return size.number if size.number is not None else Piece(vector, index)


_FINDERS: dict[str, Callable[[Finder, ir.Node], Repeat | None]] = {
    "Expand": Finder._expand,
    "Tile": Finder._tile,
    "Gather": Finder._gather,
    "GatherND": Finder._gather_nd,
    "Concat": Finder._concat,
    "ConstantOfShape": Finder._filled,
}
