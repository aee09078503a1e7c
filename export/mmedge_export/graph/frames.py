"""Let a stage that was cut for one frame take several at once.

Running a stage on n frames is running it on a repeat whose rows differ: what commutes with a repeat along one axis (the
rules of `mmedge_export.graph.sinking`) works frame by frame. So the frames are followed from the pixel tensor to the
outputs, node by node, and what holds the number 1 for them (a reshape's target, a constant row that is joined to each
frame) is opened. Requires: a stage without subgraphs on frames, static shapes. Ensures: the same graph for one frame;
the first axis of the pixel tensor, and one axis of every output, counts frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from mmedge.errors import GraphError
from mmedge_export.graph.labels import reads
from mmedge_export.graph.sinking.extents import ONE, Extents, Size
from mmedge_export.graph.sinking.operators import RULES
from mmedge_export.graph.sinking.site import Site, Stays
from mmedge_export.graph.sinking.tiling import Count, Tiling, regrouped

_AXES_OF_RESIZE = 18
"""The opset from which ``Resize`` can be told the axes that it changes."""

_OVER_ALL_AXES = frozenset({"tf_crop_and_resize", "not_larger", "not_smaller"})
"""Ways of ``Resize`` that depend on the axis of frames too."""


def open_frames(model: ir.Model, pixels: str, axis: str) -> None:
    """Open the axis of frames, in place; after an error the graph is of no use any more.

    Args:
        model: One stage.
        pixels: Name of its pixel tensor, [1, ...].
        axis: Name of the new axis. An axis that holds k rows of each frame is called ``k*AXIS``.

    Raises:
        GraphError: A node mixes frames, or an output does not hold them one after the other; it is named.
    """
    graph = model.graph
    first = next((value for value in graph.inputs if value.name == pixels), None)
    if first is None:
        raise GraphError(f"the stage of the frames does not read {pixels!r}")
    opening = _Opening(graph, model.opset_imports.get("", 0))
    opening.follow(first, Tiling(0, Count(Size(1, (axis,)))))
    opening.write_shapes(axis)


class _Opening:
    """What is known of the frames in one graph."""

    def __init__(self, graph: ir.Graph, opset: int) -> None:
        self._graph = graph
        self._opset = opset
        self._extents = Extents(graph)
        self._tilings: dict[ir.Value, Tiling] = {}
        named = (*graph.inputs, *graph.initializers.values(), *graph, *(v for node in graph for v in node.outputs))
        self._taken = {str(one.name) for one in named}

    def follow(self, first: ir.Value, tiling: Tiling) -> None:
        self._tilings[first] = tiling
        for node, used in reads(self._graph).items():
            if any(value in self._tilings for value in used):
                found = self._crossed(node)
                self._tilings.update(dict.fromkeys(node.outputs, found))
        for value in self._graph.outputs:
            last = self._tilings.get(value)
            if last is None or last.outer != 1:
                raise GraphError(
                    f"several frames cannot run at once: {value.name!r} does not hold one frame after the other along "
                    "an axis"
                )

    def write_shapes(self, axis: str) -> None:
        for value, tiling in self._tilings.items():
            if value.shape is not None:
                sizes: list[int | ir.SymbolicDim | str] = list(value.shape)
                sizes[tiling.axis] = axis if tiling.base_size == 1 else f"{tiling.base_size}*{axis}"
                value.shape = ir.Shape(sizes)

    def _crossed(self, node: ir.Node) -> Tiling:
        tilings = [None if value is None else self._tilings.get(value) for value in node.inputs]
        site = Site(node, list(node.inputs), tilings, self._extents)
        own = _OWN.get(node.op_type)
        rule = RULES.get(node.op_type)
        graphs = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        try:
            if graphs or node.domain not in ("", "ai.onnx") or (own is None and rule is None):
                raise Stays("is not known to work frame by frame")
            if own is not None:
                return own(self, site)
            return rule(site).tiling if rule is not None else site.tiling(0)
        except Stays as stays:
            raise GraphError(
                f"several frames cannot run at once: node {node.name!r} ({node.op_type}) {stays}"
            ) from stays

    def reshape(self, site: Site) -> Tiling:
        tiling, base = site.only(0), site.shape(0)
        target = self._after(site)
        found = [
            moved
            for axis, size in enumerate(target)
            if (moved := regrouped(base, tiling, [*target[:axis], size * tiling.count.size, *target[axis + 1 :]]))
            and moved.axis == axis
        ]
        if not found:
            raise Stays("mixes frames with something else")
        # Beside an axis of size 1 there is a choice, which the static sizes leave open: frames on their own, else
        # joined with what follows (heads), else, before features, with what comes first (rows of one product).
        last = len(target) - 1
        best = min(found, key=lambda moved: (moved.base_size != 1, moved.axis == last, moved.outer != 1))
        entries = [-1 if axis == best.axis else size.factor for axis, size in enumerate(target)]
        node = site.node
        node.op_type = "Reshape"
        node.attributes.clear()
        node.resize_inputs(2)
        node.replace_input_with(1, self._vector(entries))
        return best

    def gather(self, site: Site) -> Tiling:
        tiling = site.only(0, 1)
        if site.repeated != [0] or tiling.axis != site.axis(0, site.rank(0)):
            return RULES["Gather"](site).tiling
        if tiling.base_size != 1 or site.rank(1) != 0:
            raise Stays("picks from the frames")
        # The one frame is picked: for several, its rows come one frame after the other along the next axis.
        return self.reshape(site)

    def squeeze(self, site: Site) -> Tiling:
        tiling, axes = site.only(0), site.numbers(1)
        kept = axes is not None and tiling.axis not in [axis % site.rank(0) for axis in axes]
        return RULES["Squeeze"](site).tiling if kept else self.reshape(site)

    def expand(self, site: Site) -> Tiling:
        tiling, wanted = site.only(0), site.numbers(1)
        if wanted is None:
            raise Stays("has a target that is only known at run time")
        axis = len(wanted) - site.rank(0) + tiling.axis
        if axis >= 0:
            if wanted[axis] not in (1, tiling.base_size):
                raise Stays("repeats frames")
            # A 1 leaves the axis as it is.
            site.node.replace_input_with(1, self._vector([*wanted[:axis], 1, *wanted[axis + 1 :]]))
        return tiling.along(max(len(wanted), site.rank(0)) - site.rank(0) + tiling.axis)

    def concat(self, site: Site) -> Tiling:
        tiling = site.tiling(site.repeated[0])
        if tiling.axis == site.axis(0, site.rank(site.repeated[0])):
            raise Stays("joins along the axis of the frames")
        for index in site.present:
            if site.tilings[index] is None:
                self._give_each_frame(site, index, tiling)
            elif site.tilings[index] != tiling:
                raise Stays(f"joins {site.label(index)}, in which frames are laid out in another way")
        return tiling

    def _give_each_frame(self, site: Site, index: int, tiling: Tiling) -> None:
        """What is the same for every frame, such as a class token, is repeated for each."""
        value, like = site.node.inputs[index], site.node.inputs[site.repeated[0]]
        shape = site.shape(index)
        if value is None or like is None or tiling.base_size != 1 or shape[tiling.axis] != ONE:
            raise Stays(f"joins {site.label(index)}, which is the same for every frame")
        sizes = [self._number(size) for size in shape]
        attributes = {"start": tiling.axis, "end": tiling.axis + 1}
        count = self._node("Shape", [like], ir.DataType.INT64, [1], attributes)
        parts = [self._vector(part) for part in (sizes[: tiling.axis], sizes[tiling.axis + 1 :]) if part]
        parts.insert(1 if tiling.axis else 0, count.outputs[0])
        target = self._node("Concat", parts, ir.DataType.INT64, [len(sizes)], {"axis": 0})
        each = self._node("Expand", [value, target.outputs[0]], value.dtype, sizes)
        self._graph.insert_before(site.node, [count, target, each])
        self._tilings[each.outputs[0]] = tiling
        site.node.replace_input_with(index, each.outputs[0])

    def resize(self, site: Site) -> Tiling:
        tiling, node = site.only(0), site.node
        sizes = site.numbers(3)
        if sizes is None or "axes" in node.attributes:
            return RULES["Resize"](site).tiling
        if sizes[tiling.axis] != tiling.base_size or self._opset < _AXES_OF_RESIZE:
            raise Stays("resizes the axis of the frames")
        told = [
            attribute.as_string() for attribute in node.attributes.values() if attribute.type == ir.AttributeType.STRING
        ]
        if not _OVER_ALL_AXES.isdisjoint(told):
            raise Stays("looks at all axes")
        axes = [axis for axis in range(len(sizes)) if axis != tiling.axis]
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
        node.replace_input_with(3, self._vector([sizes[axis] for axis in axes]))
        return tiling

    def _after(self, site: Site) -> Sequence[Size]:
        found = self._extents.shape(site.node.outputs[0])
        if found is None or any(size.symbols for size in found):
            raise Stays("has a target that is only known at run time")
        return found

    def _number(self, size: Size) -> int:
        if size.number is None:
            raise Stays("joins something of a size that is only known at run time")
        return size.number

    def _vector(self, entries: Sequence[int]) -> ir.Value:
        name = self._name()
        tensor = ir.tensor(np.array(entries, np.int64), name=name)
        kind = ir.TensorType(ir.DataType.INT64)
        value = ir.Value(name=name, shape=ir.Shape([len(entries)]), type=kind, const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _node(
        self,
        operator: str,
        inputs: Sequence[ir.Value],
        dtype: ir.DataType | None,
        shape: Sequence[int],
        attributes: dict[str, int] | None = None,
    ) -> ir.Node:
        node = ir.node(operator, inputs, attributes or {}, name=self._name())
        output = node.outputs[0]
        output.name, output.shape = self._name(), ir.Shape(shape)
        output.type = None if dtype is None else ir.TensorType(dtype)
        return node

    def _name(self) -> str:
        name = next(name for i in itertools.count() if (name := f"frames.{i}") not in self._taken)
        self._taken.add(name)
        return name


_OWN: dict[str, Callable[[_Opening, Site], Tiling]] = {
    "Reshape": _Opening.reshape,
    "Gather": _Opening.gather,
    "Squeeze": _Opening.squeeze,
    "Expand": _Opening.expand,
    "Concat": _Opening.concat,
    "Resize": _Opening.resize,
}
"""Operators whose parameters hold the number of frames."""
