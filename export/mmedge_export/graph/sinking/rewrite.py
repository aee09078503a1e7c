"""Move repeats down a graph: plan on the bases first, then put the new nodes in and take the old ones out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from mmedge_export.graph.labels import reads
from mmedge_export.graph.sinking.building import Builder
from mmedge_export.graph.sinking.extents import Extents, shape_range
from mmedge_export.graph.sinking.operators import MOVING, RULES, broadcast_anyway
from mmedge_export.graph.sinking.repeats import Finder
from mmedge_export.graph.sinking.site import Crossing, Entry, Piece, Site, Stays
from mmedge_export.graph.sinking.tiling import Tiling, full_shape


@dataclass(frozen=True)
class Stop:
    """Where a repeat could sink no further.

    Attributes:
        node: Name of the node, or of the model's output.
        op_type: Its operator, or ``output``.
        reason: Why the node does not commute with the repeat.
    """

    node: str
    op_type: str
    reason: str


@dataclass
class Root:
    """A node that repeats, and what became of its repeat."""

    value: ir.Value
    op_type: str
    count: str
    crossed: int = 0
    computing: int = 0
    stops: dict[Stop, None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Repeated:
    base: ir.Value
    tiling: Tiling
    roots: frozenset[int]


class Plan:
    """How far the repeats of a graph sink. Nothing of the graph is changed before `commit`.

    Args:
        model: A prepared model.
        idle: Names of values whose repeat is to stay where it is.
    """

    def __init__(self, model: ir.Model, idle: frozenset[str]) -> None:
        self.roots: list[Root] = []
        self._graph = model.graph
        self._idle = idle
        self._extents = Extents(model.graph)
        self._builder = Builder(model, self._extents)
        self._finder = Finder(self._extents, self._builder, self._row)
        self._repeated: dict[ir.Value, _Repeated] = {}
        self._crossed: set[ir.Node] = set()
        self._sources: set[ir.Value] = set()
        self._new: dict[ir.Node, list[ir.Node]] = {}
        self._bare: list[tuple[ir.Node, int]] = []
        self._sizes: list[ir.Node] = []
        for node, used in reads(model.graph).items():
            self._visit(node, [value for value in used if value in self._repeated])
            if made := self._builder.take():
                self._new[node] = made
        for value in model.graph.outputs:
            self._stop([value], Stop(str(value.name), "output", "is an output of the model"))

    def _row(self, value: ir.Value, axis: int) -> ir.Value | None:
        found = self._repeated.get(value)
        if found is None or found.tiling.axis != axis or found.tiling.base_size != 1:
            return None
        return found.base

    def _visit(self, node: ir.Node, repeated: list[ir.Value]) -> None:
        if repeated and node.op_type == "Shape" and node.domain in ("", "ai.onnx"):
            self._sizes.append(node)
            return
        reasons = self._cross(node, repeated, whole=True) if repeated else ["nothing repeated comes in"]
        if not reasons or self._start(node, repeated):
            return
        if repeated and not self._cross(node, repeated, whole=False):
            return
        self._stop(repeated, Stop(str(node.name), node.op_type, reasons[0]))
        whole = next(self._sites(node))
        self._bare += [(node, index) for index in whole.repeated if self._is_bare(whole, index)]

    def _start(self, node: ir.Node, repeated: list[ir.Value]) -> bool:
        """Whether the node is itself a repeat."""
        found = self._finder.find(node) if str(node.outputs[0].name) not in self._idle else None
        if found is None:
            return False
        roots = frozenset({len(self.roots)}).union(*(self._repeated[value].roots for value in repeated))
        self.roots.append(Root(node.outputs[0], node.op_type, str(found.tiling.count.size)))
        self._sources.add(node.outputs[0])
        self._know(node.outputs[0], found.base, found.tiling, roots)
        return True

    def _know(self, value: ir.Value, base: ir.Value, tiling: Tiling, roots: frozenset[int]) -> None:
        self._repeated[value] = _Repeated(base, tiling, roots)
        shape = self._extents.shape(base)
        if shape is not None:
            self._extents.know(value, full_shape(shape, tiling))

    def _stop(self, values: Sequence[ir.Value], stop: Stop) -> None:
        for index in {index for value in values if value in self._repeated for index in self._repeated[value].roots}:
            self.roots[index].stops[stop] = None

    def _cross(self, node: ir.Node, repeated: list[ir.Value], *, whole: bool) -> list[str]:
        """Put the node onto the bases of all its repeated inputs, or of some; the reasons where that is wrong."""
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            return ["holds graphs of its own"]
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            return ["is not known to work row by row"]
        reasons: list[str] = []
        for site in itertools.islice(self._sites(node), 1 if whole else None):
            try:
                self._apply(site, rule(site))
            except Stays as stays:
                reasons.append(str(stays))
                continue
            used = {value for index in site.repeated if (value := node.inputs[index]) is not None}
            if left := [value for value in repeated if value not in used]:
                self._stop(left, Stop(str(node.name), node.op_type, reasons[0]))
            return []
        return reasons

    def _sites(self, node: ir.Node) -> Iterator[Site]:
        """The node with all its repeated inputs, then with fewer: the others count as plain tensors."""
        found = [self._repeated.get(value) if value is not None else None for value in node.inputs]
        indices = [index for index, known in enumerate(found) if known is not None]
        counts = {index: known.tiling.count for index, known in enumerate(found) if known is not None}
        subsets = [frozenset(indices)]
        subsets += [frozenset(i for i in indices if counts[i] == counts[index]) for index in indices]
        subsets += [frozenset({index}) for index in indices]
        for subset in dict.fromkeys(subsets):
            chosen = [known if index in subset else None for index, known in enumerate(found)]
            bases = [k.base if k is not None else value for k, value in zip(chosen, node.inputs, strict=True)]
            yield Site(node, bases, [k.tiling if k is not None else None for k in chosen], self._extents)

    def _is_bare(self, site: Site, index: int) -> bool:
        try:
            return broadcast_anyway(site, index)
        except Stays:
            return False

    def _apply(self, site: Site, crossing: Crossing) -> None:
        node = site.node
        inputs = [self._input(site, crossing, index) for index in range(max(len(node.inputs), *crossing.inputs, 0))]
        outputs = self._builder.like(node, inputs, crossing.attributes, crossing.tiling)
        if crossing.keeps_shape and inputs[0] is not None:
            outputs[0].shape = inputs[0].shape
        if any(new.shape is None for new, old in zip(outputs, node.outputs, strict=True) if _used(old)):
            raise Stays("the rank of its result is unknown")
        known = [self._repeated[value] for i in site.repeated if (value := node.inputs[i]) is not None]
        roots = frozenset[int]().union(*(each.roots for each in known))
        for old, new in zip(node.outputs, outputs, strict=True):
            self._know(old, new, crossing.tiling, roots)
        for index in roots:
            self.roots[index].crossed += 1
            self.roots[index].computing += node.op_type not in MOVING
        self._crossed.add(node)

    def _input(self, site: Site, crossing: Crossing, index: int) -> ir.Value | None:
        other = crossing.inputs.get(index)
        if isinstance(other, np.ndarray):
            return self._builder.constant(other)
        if other is not None:
            entries: Sequence[Entry] = list(other)
            return self._builder.vector(entries)
        value = site.bases[index] if index < len(site.bases) else None
        if value is None or value.dtype != ir.DataType.INT64 or index in site.repeated:
            return value
        return self._without_dependency(value)

    def _without_dependency(self, value: ir.Value) -> ir.Value:
        """Known sizes are made anew: they may have been asked of a tensor that hangs on other modalities."""
        sizes = self._extents.vector(value) if ir.convenience.get_const_tensor(value) is None else None
        if sizes is None or value.shape is None or any(size.opaque for size in sizes):
            return value
        if len(value.shape) == 0:
            number = sizes[0].number
            return value if number is None else self._builder.constant(np.array(number, np.int64))
        entries = [size.number if size.number is not None else Piece(value, i) for i, size in enumerate(sizes)]
        return self._builder.vector(entries)

    def discard(self) -> None:
        """Take the planned nodes off the values that they read."""
        for node in (node for made in self._new.values() for node in made):
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)

    def commit(self) -> None:
        """Rewrite the graph; nodes that lost their use are left for the caller to remove."""
        for node, made in self._new.items():
            self._graph.insert_before(node, made)
        for node, index in self._bare:
            value = node.inputs[index]
            if value is not None:
                node.replace_input_with(index, self._repeated[value].base)
        for node in self._sizes:
            self._answer_shape(node)
        final: dict[ir.Value, ir.Value] = {}
        for value, known in self._repeated.items():
            if value not in self._sources:
                self._repeat_again(value, known, final)

    def _answer_shape(self, node: ir.Node) -> None:
        value = node.inputs[0]
        if value is None:
            return
        known = self._repeated[value]
        shape = self._extents.shape(value)
        if shape is None:
            return
        answer = self._builder.shape_of(known.base, known.tiling, *shape_range(node, len(shape)))
        self._graph.insert_before(node, self._builder.take())
        _hand_over(self._graph, node.outputs[0], answer, [use.node for use in node.outputs[0].uses()])

    def _repeat_again(self, value: ir.Value, known: _Repeated, final: dict[ir.Value, ir.Value]) -> None:
        """Where the repeat could not cross, give the repeated tensor, made of the base."""
        users = [use.node for use in value.uses() if use.node not in self._crossed]
        node = value.producer()
        if node is None or (not users and value not in self._graph.outputs):
            return
        again = self._builder.repeated(final.get(known.base, known.base), known.tiling)
        again.type, again.shape = value.type, value.shape if value.shape is not None else again.shape
        self._graph.insert_after(node, self._builder.take())
        final[value] = again
        _hand_over(self._graph, value, again, users)


def _used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _hand_over(graph: ir.Graph, old: ir.Value, new: ir.Value, users: Sequence[ir.Node]) -> None:
    """Let `users` and the outputs of the graph read `new`; outputs keep their names."""
    for user in dict.fromkeys(users):
        for index, value in enumerate(user.inputs):
            if value is old:
                user.replace_input_with(index, new)
    places = [index for index, value in enumerate(graph.outputs) if value is old]
    if places:
        new.name, old.name = old.name, new.name
    for index in places:
        graph.outputs[index] = new
