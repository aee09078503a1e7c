"""Bring a graph into the form that labelling needs: declared inputs, one flat graph, shapes inferred, constants folded.

Requires: an ONNX model. Ensures: opset 15 or newer, no functions, every input carries its declared axes, no node that
only re-reads a shape of an input hangs on a large tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
import onnx.version_converter
import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, InlinePass, RemoveUnusedNodesPass, ShapeInferencePass

from mmedge.bundle import TensorSpec
from mmedge.errors import ExportError, GraphError
from mmedge_export.graph.axes import name_axes
from mmedge_export.graph.shapes import forward_shapes

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_OLDEST_OPSET = 15
_NEW_OPSET = 17
_IR_NAMES = {"float32": "FLOAT", "float64": "DOUBLE"}


def load_graph(path: Path) -> ir.Model:
    """Read an ONNX file; weights stay on disk until they are needed.

    Raises:
        ExportError: There is no such file, or it is no ONNX model.
    """
    if not path.is_file():
        raise ExportError(f"no ONNX file at {path}")
    try:
        model = ir.load(path)
    except Exception as error:
        # The parser's own errors come from several libraries and share no base class.
        raise ExportError(f"{path} is no readable ONNX model: {error}") from error
    if not model.graph.inputs and not model.graph.outputs:
        raise ExportError(f"{path} is no ONNX model with inputs and outputs")
    return model if model.opset_imports.get("", 0) >= _OLDEST_OPSET else _upgraded(path)


def _upgraded(path: Path) -> ir.Model:
    """Old files keep axes in attributes and know no part of a shape; nothing below is written for those."""
    try:
        return ir.from_proto(onnx.version_converter.convert_version(onnx.load(path), _NEW_OPSET))
    except Exception as error:
        # The converter raises bare RuntimeError and its own C++ errors.
        raise GraphError(f"{path} has an old opset and cannot be brought to opset {_NEW_OPSET}: {error}") from error


def prepare(model: ir.Model, tensors: Iterable[TensorSpec], limits: Mapping[str, int] | None = None) -> None:
    """Prepare `model` in place.

    Args:
        model: The graph as traced or loaded.
        tensors: The declared input tensors of all modalities.
        limits: The largest size of a named axis, where there is one.

    Raises:
        GraphError: The graph and the declaration disagree, or a node cannot be staged; the message names it.
    """
    InlinePass()(model)
    bind_inputs(model.graph, {spec.name: spec for spec in tensors})
    refuse_random(model.graph)
    _check_outputs(model.graph)
    for _ in range(3):
        _forget_shapes(model.graph)
        onnxscript.optimizer.optimize(model)
        ShapeInferencePass(strict_mode=False)(model)
        if not forward_shapes(model.graph):
            break
    infer(model, limits or {})
    # Tracers leave stack traces in the nodes, with the paths of the machine that traced them.
    ClearMetadataAndDocStringPass()(model)
    _own_outputs(model.graph)


def infer(model: ir.Model, limits: Mapping[str, int]) -> None:
    """Infer shapes and names of axes, and drop what nothing needs, after a graph was changed.

    Args:
        limits: The largest size of a named axis, where there is one.
    """
    ShapeInferencePass(strict_mode=False)(model)
    name_axes(model, limits)
    RemoveUnusedNodesPass()(model)


def _check_outputs(graph: ir.Graph) -> None:
    """Refuse what no bundle can give back.

    Raises:
        GraphError: An output is an input handed through, or no tensor of numbers.
    """
    for value in graph.outputs:
        if value in graph.inputs and not value.is_initializer():
            raise GraphError(f"output {value.name!r} is an input handed through: leave it out of the model's outputs")
        kind = value.type
        if kind is not None and (not isinstance(kind, ir.TensorType) or kind.dtype == ir.DataType.STRING):
            raise GraphError(f"output {value.name!r} is {kind}; a bundle gives tensors of numbers: convert or drop it")


def _own_outputs(graph: ir.Graph) -> None:
    """Give each constant output a node of its own, since a stage is made of nodes."""
    for index, value in enumerate(graph.outputs):
        if value.producer() is not None:
            continue
        copy = ir.node("Identity", [value])
        copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
        copy.outputs[0].name, value.name = value.name, f"{value.name}_constant"
        graph.append(copy)
        graph.outputs[index] = copy.outputs[0]


def bind_inputs(graph: ir.Graph, specs: Mapping[str, TensorSpec]) -> None:
    """Write the declared axes onto the graph's inputs.

    Raises:
        GraphError: An input is not declared, a declared one is absent, or ranks, sizes or dtypes disagree.
    """
    inputs = {str(value.name): value for value in graph.inputs if not value.is_initializer()}
    if unknown := sorted(set(inputs) ^ set(specs)):
        raise GraphError(
            f"the graph takes {', '.join(inputs) or 'nothing'} and the declaration names "
            f"{', '.join(specs) or 'nothing'}; they differ in: {', '.join(unknown)}"
        )
    for name, spec in specs.items():
        value = inputs[name]
        dtype = ir.DataType[_IR_NAMES.get(spec.dtype, spec.dtype.upper())]
        if value.dtype is not None and value.dtype != dtype:
            raise GraphError(f"input {name!r}: declared {spec.dtype}, the graph takes {value.dtype.name.lower()}")
        if value.shape is not None and not _compatible(value.shape, spec.shape):
            raise GraphError(f"input {name!r}: declared axes {list(spec.shape)}, the graph takes {value.shape}")
        value.dtype = dtype
        value.shape = ir.Shape(spec.shape)


def refuse_random(graph: ir.Graph) -> None:
    """Random nodes depend on nothing that could be compared or cached: name the first one.

    Raises:
        GraphError: There is one, at any depth.
    """
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.domain in ("", "ai.onnx") and (node.op_type in _RANDOM or _drops(node)):
            raise GraphError(
                f"node {node.name!r} ({node.op_type}) gives another result at each run, so the program could not be "
                "compared with its source: put the model into evaluation mode, or make the noise an input"
            )


def _drops(node: ir.Node) -> bool:
    training = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
    if training is None:
        return False
    constant = ir.convenience.get_const_tensor(training)
    return constant is None or bool(constant.numpy())


def _compatible(shape: ir.Shape, declared: tuple[int | str, ...]) -> bool:
    if len(shape) != len(declared):
        return False
    return all(not isinstance(ours, int) or ours == theirs for ours, theirs in zip(shape, declared, strict=True))


def _forget_shapes(graph: ir.Graph) -> None:
    """Recorded shapes can be those of the traced sample only (seen with recurrent layers): infer them anew."""
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for value in node.outputs:
            value.shape = None
