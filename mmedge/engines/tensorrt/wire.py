"""Cutting nodes out of a serialized ONNX graph, on the wire format of protocol buffers.

The parser stops at the first node that it cannot import. To hear about the next one, that node is taken out and its
outputs become inputs of the graph. The runtime has no `onnx`, and needs no more of it than the few fields here.
Numbers of the fields: onnx.proto (ModelProto.graph = 7; GraphProto: node = 1, input = 11, output = 12, value_info = 13;
NodeProto: output = 2, name = 3, op_type = 4; ValueInfoProto.name = 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmedge.errors import EngineError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _NODE, _INPUT, _OUTPUT, _VALUE_INFO = 7, 1, 11, 12, 13
_NODE_OUTPUT, _NODE_NAME, _NODE_TYPE, _VALUE_NAME = 2, 3, 4, 1


@dataclass(frozen=True)
class WireNode:
    """What a node says of itself."""

    name: str
    op_type: str
    outputs: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its name; its first output where it has none."""
        return self.name or self.outputs[0]


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    payload: bytes

    def encoded(self) -> bytes:
        length = _varint(len(self.payload)) if self.kind == _BYTES else b""
        return _varint(self.number << 3 | self.kind) + length + self.payload


class WireGraph:
    """The main graph of a serialized model.

    Attributes:
        nodes: In order.

    Raises:
        EngineError: The bytes are no message.
    """

    def __init__(self, model: bytes) -> None:
        self._model = list(_fields(model))
        graph = [field for field in self._model if field.number == _GRAPH and field.kind == _BYTES]
        self._graph = list(_fields(graph[0].payload)) if graph else []
        self._nodes = [field for field in self._graph if field.number == _NODE]
        self.nodes = [_node(field.payload) for field in self._nodes]
        self._known = {_text(f.payload, _VALUE_NAME): f.payload for f in self._graph if f.number == _VALUE_INFO}
        self._outputs = {_text(f.payload, _VALUE_NAME): f.payload for f in self._graph if f.number == _OUTPUT}

    def can_cut(self, index: int) -> bool:
        """Whether the types of all outputs of a node are recorded, so that they can become inputs."""
        return all(name in self._known or name in self._outputs for name in self.nodes[index].outputs)

    def without(self, cut: Iterable[int]) -> bytes:
        """The model without the nodes of these indices."""
        gone = {id(self._nodes[index]) for index in cut}
        freed = [name for index in set(cut) for name in self.nodes[index].outputs]
        kept = [
            field
            for field in self._graph
            if id(field) not in gone and not (field.number == _OUTPUT and _text(field.payload, _VALUE_NAME) in freed)
        ]
        values = {**self._outputs, **self._known}
        kept += [_Field(_INPUT, _BYTES, values[name]) for name in freed]
        graph = _Field(_GRAPH, _BYTES, b"".join(field.encoded() for field in kept))
        return b"".join((graph if field.number == _GRAPH else field).encoded() for field in self._model)


def _node(payload: bytes) -> WireNode:
    outputs = [field.payload.decode() for field in _fields(payload) if field.number == _NODE_OUTPUT]
    given = tuple(output for output in outputs if output)
    return WireNode(_text(payload, _NODE_NAME), _text(payload, _NODE_TYPE), given or ("",))


def _text(payload: bytes, number: int) -> str:
    return next((field.payload.decode() for field in _fields(payload) if field.number == number), "")


def _fields(data: bytes) -> Iterator[_Field]:
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        number, kind = key >> 3, key & 7
        start = place
        if kind == _VARINT:
            _, place = _read_varint(data, place)
        elif kind == _BYTES:
            length, start = _read_varint(data, place)
            place = start + length
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            raise EngineError(f"the graph is no ONNX model: wire type {kind} at byte {start}; export it again")
        if place > len(data):
            raise EngineError("the graph is no ONNX model, or a truncated one; export it again")
        yield _Field(number, kind, data[start:place])


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while place < len(data):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise EngineError("the graph is no ONNX model, or a truncated one; export it again")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
