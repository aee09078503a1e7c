"""What is known of sizes: the axes of values, and the numbers in vectors that carry sizes.

A size is a product of a number and of named axes (``12·n``), which is all that reshapes of a repeated tensor need. A
size that cannot be told gets a symbol of its own, so that it still equals itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

_LONGEST = 64
_OPAQUE = "?"


@dataclass(frozen=True)
class Size:
    """A number times symbols. ``Size(12, ("n",))`` is 12·n; vectors may also hold 0 and -1, as numbers."""

    factor: int = 1
    symbols: tuple[str, ...] = ()

    def __mul__(self, other: Size) -> Size:
        return Size(self.factor * other.factor, tuple(sorted(self.symbols + other.symbols)))

    def divided(self, other: Size) -> Size | None:
        """The exact quotient, or None where there is none."""
        rest = list(self.symbols)
        for symbol in other.symbols:
            if symbol not in rest:
                return None
            rest.remove(symbol)
        if other.factor == 0 or self.factor % other.factor:
            return None
        return Size(self.factor // other.factor, tuple(rest))

    @property
    def number(self) -> int | None:
        return None if self.symbols else self.factor

    @property
    def opaque(self) -> bool:
        """It was read from a vector of unknown content, so that even its sign is unknown."""
        return any(symbol.startswith(_OPAQUE) for symbol in self.symbols)

    def __str__(self) -> str:
        parts = [str(self.factor)] if self.factor != 1 or not self.symbols else []
        return "·".join((*parts, *(symbol.lstrip(_OPAQUE) for symbol in self.symbols)))


ONE = Size()


def product(sizes: Iterable[Size]) -> Size:
    return math.prod(sizes, start=ONE)


class Extents:
    """Reads sizes of one graph.

    Args:
        graph: With inferred shapes.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._inputs = [value for value in graph.inputs if not value.is_initializer()]
        self._known: dict[ir.Value, list[Size]] = {}
        self._vectors: dict[ir.Value, list[Size] | None] = {}
        self._sources: dict[str, tuple[ir.Value, int]] = {}

    def know(self, value: ir.Value, shape: Sequence[Size]) -> None:
        """What is known of `value` beyond its inferred shape."""
        self._known[value] = list(shape)

    def shape(self, value: ir.Value) -> list[Size] | None:
        """The axes of `value`, or None where not even their number is known."""
        if value in self._known:
            return self._known[value]
        if value.shape is None:
            return None
        self._known[value] = [self._axis(value, index, size) for index, size in enumerate(value.shape)]
        node = value.producer()
        if node is not None and node.op_type == "Expand" and not value.shape.is_static():
            self._known[value] = self._expanded(node, self._known[value])
        return self._known[value]

    def _expanded(self, node: ir.Node, inferred: list[Size]) -> list[Size]:
        """Shape inference does not follow every way to write a target shape: older exporters fill theirs with ones."""
        source, target = node.inputs[0], node.inputs[1]
        before = self.shape(source) if source is not None else None
        after = self.vector(target) if target is not None else None
        if before is None or after is None or len(inferred) != max(len(before), len(after)):
            return inferred
        before = [ONE] * (len(inferred) - len(before)) + before
        after = [ONE] * (len(inferred) - len(after)) + after
        sizes = zip(before, after, inferred, strict=True)
        return [old if new == ONE else new if old == ONE else size for old, new, size in sizes]

    def _axis(self, value: ir.Value, index: int, size: int | ir.SymbolicDim) -> Size:
        if isinstance(size, int):
            return Size(size)
        symbol = size.value if size.value is not None else f"{value.name}#{index}"
        # Nodes are read in order, so the first value with this axis is where it comes from.
        self._sources.setdefault(symbol, (value, index))
        return Size(1, (symbol,))

    def source(self, symbol: str) -> tuple[ir.Value, int] | None:
        """A value inside the graph that has an axis of this size, and where; None for the axes of inputs."""
        return None if self.named_inputs(symbol) else self._sources.get(symbol)

    def named_inputs(self, name: str) -> list[tuple[ir.Value, int]]:
        """The graph inputs that have an axis of this name, and where."""
        return [
            (value, index)
            for value in self._inputs
            for index, size in enumerate(value.shape or ())
            if isinstance(size, ir.SymbolicDim) and size.value == name
        ]

    def numbers(self, value: ir.Value) -> list[int] | None:
        """The content of an integer vector or scalar, where all of it is known."""
        vector = self.vector(value)
        if vector is None or any(size.symbols for size in vector):
            return None
        return [size.factor for size in vector]

    def vector(self, value: ir.Value) -> list[Size] | None:
        """The content of an integer vector or scalar; None where not even its length is known."""
        if value not in self._vectors:
            self._vectors[value] = self._read(value)
        return self._vectors[value]

    def _read(self, value: ir.Value) -> list[Size] | None:
        constant = ir.convenience.get_const_tensor(value)
        if constant is not None:
            short = constant.size <= _LONGEST and len(constant.shape) <= 1 and constant.dtype.is_integer()
            return [Size(int(number)) for number in constant.numpy().reshape(-1)] if short else None
        if value.shape is None or len(value.shape) > 1 or not value.shape.is_static():
            return None
        if value.dtype not in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL):
            return None
        length = int(value.shape[0]) if len(value.shape) else 1  # type: ignore[arg-type]
        if length > _LONGEST:
            return None
        node = value.producer()
        reader = _READERS.get(node.op_type) if node is not None and node.domain in ("", "ai.onnx") else None
        found = reader(self, node) if reader is not None and node is not None else None
        if found is None or len(found) != length:
            return [Size(1, (f"{_OPAQUE}{value.name}[{index}]",)) for index in range(length)]
        return found


def attribute_int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


Vector = list[Size] | None


def _read_shape(extents: Extents, node: ir.Node) -> Vector:
    source = node.inputs[0]
    shape = extents.shape(source) if source is not None else None
    return None if shape is None else shape[slice(*shape_range(node, len(shape)))]


def shape_range(node: ir.Node, rank: int) -> tuple[int, int]:
    """Which axes a ``Shape`` node tells."""
    start, end = attribute_int(node, "start", 0), attribute_int(node, "end", rank)
    first, last, _ = slice(start, end).indices(rank)
    return first, max(first, last)


def _same(extents: Extents, node: ir.Node) -> Vector:
    source = node.inputs[0]
    return extents.vector(source) if source is not None else None


def _cast(extents: Extents, node: ir.Node) -> Vector:
    whole = node.attributes["to"].as_int() in (ir.DataType.INT64, ir.DataType.INT32)
    return _same(extents, node) if whole else None


def _concat(extents: Extents, node: ir.Node) -> Vector:
    parts = [extents.vector(value) if value is not None else None for value in node.inputs]
    return None if any(part is None for part in parts) else [size for part in parts for size in part or ()]


def _constants(extents: Extents, node: ir.Node, start: int) -> list[list[int]] | None:
    found = [extents.numbers(value) for value in node.inputs[start:] if value is not None]
    return None if any(part is None for part in found) else [part for part in found if part is not None]


def _gather(extents: Extents, node: ir.Node) -> Vector:
    data, places = _same(extents, node), _constants(extents, node, 1)
    if data is None or places is None or any(not -len(data) <= place < len(data) for place in places[0]):
        return None
    return [data[place] for place in places[0]]


def _slice(extents: Extents, node: ir.Node) -> Vector:
    data, bounds = _same(extents, node), _constants(extents, node, 1)
    if data is None or bounds is None:
        return None
    step = bounds[3][0] if len(bounds) > 3 else 1
    return data[bounds[0][0] : bounds[1][0] : step] if step > 0 else None


def _elementwise(function: Callable[..., Size | None]) -> Callable[[Extents, ir.Node], Vector]:
    def read(extents: Extents, node: ir.Node) -> Vector:
        parts = [extents.vector(value) if value is not None else None for value in node.inputs]
        known = [part for part in parts if part is not None]
        length = max((len(part) for part in known), default=0)
        if len(known) < len(parts) or any(len(part) not in (1, length) for part in known):
            return None
        found = [function(*(part[i if len(part) > 1 else 0] for part in known)) for i in range(length)]
        return None if any(size is None for size in found) else [size for size in found if size is not None]

    return read


def _sum(a: Size, b: Size) -> Size | None:
    return Size(a.factor + b.factor) if not a.symbols and not b.symbols else None


def _difference(a: Size, b: Size) -> Size | None:
    return _sum(a, Size(-b.factor, b.symbols))


def _equal(a: Size, b: Size) -> Size | None:
    if a == b:
        return Size(1)
    apart = not a.symbols and not b.symbols
    negative = (b.factor < 0 and not b.symbols and not a.opaque) or (a.factor < 0 and not a.symbols and not b.opaque)
    return Size(0) if apart or negative else None


def _where(condition: Size, a: Size, b: Size) -> Size | None:
    return None if condition.symbols else (a if condition.factor else b)


def _filled(extents: Extents, node: ir.Node) -> Vector:
    lengths = _constants(extents, node, 0)
    value = node.attributes["value"].as_tensor() if "value" in node.attributes else None
    if not lengths or len(lengths[0]) != 1 or lengths[0][0] > _LONGEST:
        return None
    return [Size(int(value.numpy().reshape(-1)[0]) if value is not None else 0)] * lengths[0][0]


_READERS: dict[str, Callable[[Extents, ir.Node], Vector]] = {
    "Shape": _read_shape,
    "Identity": _same,
    "Unsqueeze": _same,
    "Squeeze": _same,
    "Reshape": _same,
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Mul": _elementwise(lambda a, b: a * b),
    "Div": _elementwise(lambda a, b: a.divided(b)),
    "Add": _elementwise(_sum),
    "Sub": _elementwise(_difference),
    "Equal": _elementwise(_equal),
    "Where": _elementwise(_where),
    "ConstantOfShape": _filled,
}
SIZE_OPERATORS = frozenset(_READERS)
