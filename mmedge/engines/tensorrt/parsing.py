"""From an ONNX graph to a network, and what the parser says against it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmedge.engines.tensorrt.library import Library, messages, open_library
from mmedge.engines.tensorrt.lifetime import native_call
from mmedge.engines.tensorrt.wire import WireGraph
from mmedge.errors import EngineError

_log = logging.getLogger("mmedge")

_MOST_ROUNDS = 100

_NO_OPERATOR = "the parser has no such operator"

_NO_PLUGIN = (
    "no such operator and no plugin of this name; operators of domain mmedge are plugins of TensorRT 10.9 and newer "
    "(not of TensorRT-RTX), known after mmedge_kernels.tensorrt.register_plugins(PACK)"
)


@dataclass(frozen=True)
class Refusal:
    """A node that the parser does not take.

    Attributes:
        node: Its name, behind those of the nodes in whose bodies it stands; its output where it has no name; empty
            where the parser refuses the whole model.
        op_type: Its operator.
        why: What the parser says.
    """

    node: str
    op_type: str
    why: str

    def __str__(self) -> str:
        return f"{self.node or 'the model'}{f' ({self.op_type})' if self.op_type else ''}: {self.why}"


def refusals(onnx: Path, library: str = "tensorrt_rtx") -> tuple[Refusal, ...]:
    """Every node of a graph that the library's parser refuses; () where it takes them all. Needs no GPU.

    The parser stops at the first node that it cannot import, as for its types or weights. That one is taken out, and
    its outputs become inputs of the graph, which needs their recorded types. Where those are missing, the nodes that
    come after are only asked for operators that the parser does not have at all, and the log says so.

    Args:
        onnx: The file; external weights lie beside it.
        library: ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        EngineError: The library is not installed, or the file cannot be read.
    """
    opened = open_library(library)
    try:
        whole = onnx.read_bytes()
    except OSError as error:
        raise EngineError(f"{onnx} cannot be read: {error}") from error
    found: dict[str, Refusal] = {}
    cut: set[int] = set()
    model = whole
    for _ in range(_MOST_ROUNDS):
        with native_call():
            errors = _supports(opened, model, onnx)
        if not errors:
            break
        graph = WireGraph(whole) if errors[0].node >= 0 else None
        for each in errors:
            _note(found, each, graph, cut)
        if graph is None:
            break
        places = {place for each in errors if (place := _place(graph, each, cut)) is not None}
        if not places or not all(map(graph.can_cut, places)):
            _log.warning("%s: what depends on the refused nodes was not all checked", onnx.name)
            _note_unknown(opened, found, graph, cut | places)
            break
        cut |= places
        model = graph.without(cut)
    return tuple(found.values())


def parse(library: Library, onnx: Path, builder: Any, log: Any) -> tuple[Any, Any]:
    """A strongly typed network of the graph in `onnx`, and the parser, which holds its weights while it is in use.

    External weights are read from beside the graph, of any size.

    Args:
        builder: ``trt.Builder``.
        log: From `messages`, the builder's too.

    Raises:
        EngineError: The parser refused it; the message names node, operator and reason.
    """
    log.clear()
    network = _network(library, builder)
    parser = library.trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        errors = [_Error.of(parser.get_error(i)) for i in range(parser.num_errors)]
        said = "; ".join(f"{each.subject()}: {each.why()}" for each in errors) or log.errors()
        raise EngineError(f"{library.name} {library.version} does not take {onnx.name}: {said}")
    return network, parser


def _network(library: Library, builder: Any) -> Any:
    # Newer versions are always strongly typed and know no flag for it.
    flag = getattr(library.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return builder.create_network(0 if flag is None else 1 << int(flag))


@dataclass(frozen=True)
class _Error:
    """One error of the parser. node: index in the graph in which the node stands, -1 for none. stack: of graphs."""

    node: int
    name: str
    operator: str
    code: str
    text: str
    stack: tuple[str, ...]

    @staticmethod
    def of(error: Any) -> _Error:
        stack = error.local_function_stack()
        # Without a GPU the library adds to each reason that there is none.
        lines = [line for line in str(error.desc()).splitlines() if "cudaError 35" not in line]
        text = " ".join(" ".join(lines).split())
        return _Error(error.node(), error.node_name(), error.node_operator(), error.code().name, text, tuple(stack))

    def label(self) -> str:
        return "/".join(part for part in (*self.stack, self.name) if part)

    def subject(self) -> str:
        if self.node < 0:
            return "the model"
        return f"node {self.label() or self.node} ({self.operator})"

    def why(self) -> str:
        # A check that failed without a text of its own is reported as the word "false".
        text = _NO_OPERATOR if self.text in ("false", "") else self.text
        if "Plugin not found" in text:
            text = _NO_PLUGIN
        return f"{text} [{self.code}]"[:400]


def _supports(library: Library, model: bytes, path: Path) -> list[_Error]:
    log = messages(library)
    builder = library.trt.Builder(log)
    network = _network(library, builder)
    parser = library.trt.OnnxParser(network, log)
    if parser.supports_model_v2(model, str(path)):
        return []
    if not parser.num_errors:
        raise EngineError(f"{library.name} {library.version} does not take {path.name}: {log.errors()}")
    return [_Error.of(parser.get_error(index)) for index in range(parser.num_errors)]


def _kept(graph: WireGraph, cut: set[int]) -> list[int]:
    return [index for index in range(len(graph.nodes)) if index not in cut]


def _place(graph: WireGraph, error: _Error, cut: set[int]) -> int | None:
    """The index in the whole graph of the node of the main graph in which the error is."""
    kept = _kept(graph, cut)
    if not error.stack:
        return kept[error.node] if 0 <= error.node < len(kept) else None
    outer = error.stack[0].rpartition(" (")[0]
    names = {
        name: index
        for index in kept
        for name in (graph.nodes[index].name, f"node_of_{graph.nodes[index].outputs[0]}")
        if name
    }
    return names.get(outer)


def _note(found: dict[str, Refusal], error: _Error, graph: WireGraph | None, cut: set[int]) -> None:
    label = error.label()
    place = None if graph is None or error.stack else _place(graph, error, cut)
    if not error.name and graph is not None and place is not None:
        label = graph.nodes[place].label
    found.setdefault(f"{label} {error.operator}", Refusal(label, error.operator, error.why()))


def _note_unknown(library: Library, found: dict[str, Refusal], graph: WireGraph, cut: set[int]) -> None:
    """Of the nodes that are left, those whose operator the parser does not have."""
    log = messages(library)
    builder = library.trt.Builder(log)
    network = _network(library, builder)
    parser = library.trt.OnnxParser(network, log)
    for index in _kept(graph, cut):
        node = graph.nodes[index]
        if not parser.supports_operator(node.op_type):
            found.setdefault(f"{node.label} {node.op_type}", Refusal(node.label, node.op_type, _NO_OPERATOR))
