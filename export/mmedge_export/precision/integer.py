"""Stages with int8 products: Q/DQ around the inputs and the weights of matrix products and convolutions, nothing else.

The static quantizer that comes with ONNX Runtime puts Q/DQ on a tensor for everything that reads it, so a residual sum
beside a product would read the rounded tensor too. Here each product reads its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from mmedge_export.precision.ranges import Range

_LEAST_WEIGHTS = 1024
"""Weights of a product from which it is worth quantizing."""

Weights = npt.NDArray[np.float32]


def quantizable(graph: ir.Graph) -> list[ir.Node]:
    """The products of an activation with weights: MatMul, Gemm, Conv. Products of two activations are left alone."""
    return [node for node in graph if _product(node) is not None]


def to_dynamic(model: ir.Model, kept: Collection[str]) -> ir.Model:
    """The stage with MatMulInteger, whose input ranges are computed in each run, for its matrix products."""
    nodes = [str(n.name) for n in quantizable(model.graph) if n.op_type != "Conv" and n.name not in kept]
    proto = ir.to_proto(ir.external_data.load_to_model(model.clone()))
    # Says that shapes are inferred already; without it the quantizer warns.
    add_pre_process_metadata(proto)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "dynamic.onnx"
        quantize_dynamic(
            proto,
            out,
            op_types_to_quantize=["MatMul"],
            # The quantizer turns each Gemm into a MatMul with this name first.
            nodes_to_quantize=[*nodes, *(f"{name}_MatMul" for name in nodes)],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return ir.from_proto(onnx.load(out))


def to_static(model: ir.Model, ranges: Mapping[str, Range], kept: Collection[str], *, symmetric: bool) -> None:
    """Quantize a stage in place.

    Args:
        model: The stage.
        ranges: Of its values on calibration samples; a product whose input was not seen stays as it is.
        kept: Names of products that stay in float32.
        symmetric: int8 inputs around 0 and float biases, as TensorRT takes them; otherwise uint8 inputs with a zero
            point, and int32 biases, without which ONNX Runtime does not fuse the product.
    """
    quantizer = _Quantizer(model.graph, ranges, symmetric)
    for product in [found for node in model.graph if (found := _product(node)) is not None]:
        if product.node.name not in kept and str(product.data.name) in ranges:
            quantizer.quantize(product)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and value not in model.graph.outputs:
            del model.graph.initializers[name]


@dataclass(frozen=True)
class _Product:
    """A node that multiplies `data` with the weights `array`, whose axis `channel` are the outputs."""

    node: ir.Node
    data: ir.Value
    weight: ir.Value
    array: Weights
    channel: int


def _product(node: ir.Node) -> _Product | None:
    if node.domain or node.op_type not in _CHANNEL:
        return None
    data, weight = node.inputs[0], node.inputs[1]
    if data is None or weight is None or weight.const_value is None or not weight.is_initializer():
        return None
    if data.is_initializer() or data.dtype != ir.DataType.FLOAT or weight.dtype != ir.DataType.FLOAT:
        return None
    plain = node.op_type == "Conv" or len(weight.const_value.shape) == 2
    if node.op_type == "Gemm":
        plain = plain and not _int(node, "transA") and _float(node, "alpha") == 1.0 and _float(node, "beta") == 1.0
    if not plain or weight.const_value.size < _LEAST_WEIGHTS:
        return None
    channel = 0 if node.op_type == "Gemm" and _int(node, "transB") else _CHANNEL[node.op_type]
    return _Product(node, data, weight, weight.const_value.numpy(), channel)


def _int(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int() if name in node.attributes else 0


def _float(node: ir.Node, name: str) -> float:
    return node.attributes[name].as_float() if name in node.attributes else 1.0


_CHANNEL = {"MatMul": 1, "Gemm": 1, "Conv": 0}
"""Axis of the output channels in the weights; Gemm has them in 0 where it transposes."""


@dataclass(frozen=True)
class _Scaled:
    """A dequantized value and what it was scaled by."""

    value: ir.Value
    scale: npt.NDArray[np.float32]


class _Quantizer:
    """Puts Q/DQ into a graph; each input and each weight once."""

    def __init__(self, graph: ir.Graph, ranges: Mapping[str, Range], symmetric: bool) -> None:
        self._graph = graph
        self._ranges = ranges
        self._symmetric = symmetric
        self._inputs: dict[ir.Value, _Scaled] = {}
        self._weights: dict[tuple[ir.Value, int, str], _Scaled] = {}

    def quantize(self, product: _Product) -> None:
        data = self._input(product.data)
        bias = None if self._symmetric else _bias(product)
        weight = self._weight(product, data.scale, None if bias is None else bias.array)
        product.node.replace_input_with(0, data.value)
        product.node.replace_input_with(1, weight.value)
        if bias is not None:
            bias.reader.replace_input_with(bias.index, self._bias(bias, data.scale * weight.scale))

    def _input(self, value: ir.Value) -> _Scaled:
        if value not in self._inputs:
            seen = self._ranges[str(value.name)]
            if self._symmetric:
                scale, zero = _nonzero(seen.magnitude / 127), np.zeros((), np.int8)
            else:
                low, high = min(seen.low, 0.0), max(seen.high, 0.0)
                scale = _nonzero((high - low) / 255)
                zero = np.array(np.clip(np.rint(-low / scale), 0, 255), np.uint8)
            names = self._constant(f"{value.name}.scale", scale), self._constant(f"{value.name}.zero", zero)
            quantized = self._node("QuantizeLinear", [value, *names], f"{value.name}.q", zero.dtype, value, {})
            restored = self._node(
                "DequantizeLinear", [quantized, *names], f"{value.name}.dq", scale.dtype, quantized, {}
            )
            restored.shape = quantized.shape = value.shape
            self._inputs[value] = _Scaled(restored, scale)
        return self._inputs[value]

    def _weight(self, product: _Product, data_scale: npt.NDArray[np.float32], bias: Weights | None) -> _Scaled:
        node, value, array, channel = product.node, product.weight, product.array, product.channel
        # A bias fixes the smallest scale, so weights that are shared between products have a scale for each bias.
        key = (value, channel, "" if bias is None else str(node.name))
        if key not in self._weights:
            others = tuple(axis for axis in range(array.ndim) if axis != channel)
            scale = np.maximum(np.abs(array).max(axis=others) / 127, np.float32(1e-30)).astype(np.float32)
            if bias is not None:
                scale = np.maximum(scale, np.abs(bias) / (data_scale * 2.0**30)).astype(np.float32)
            shape = [-1 if axis == channel else 1 for axis in range(array.ndim)]
            rounded = np.clip(np.rint(array / scale.reshape(shape)), -127, 127).astype(np.int8)
            name = f"{value.name}.{len(self._weights)}"
            inputs = [
                self._constant(f"{name}.q", rounded),
                self._constant(f"{name}.scale", scale),
                self._constant(f"{name}.zero", np.zeros(len(scale), np.int8)),
            ]
            restored = self._node("DequantizeLinear", inputs, f"{name}.dq", scale.dtype, node, {"axis": channel})
            restored.shape = value.shape
            self._weights[key] = _Scaled(restored, scale)
        return self._weights[key]

    def _bias(self, bias: _Bias, scale: npt.NDArray[np.float32]) -> ir.Value:
        name = f"{bias.reader.outputs[0].name}.bias"
        rounded = np.clip(np.rint(bias.array / scale), -(2.0**31) + 1, 2.0**31 - 1).astype(np.int32)
        inputs = [self._constant(f"{name}.q", rounded), self._constant(f"{name}.scale", scale)]
        return self._node("DequantizeLinear", inputs, f"{name}.dq", scale.dtype, bias.reader, {"axis": 0})

    def _constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _node(
        self,
        kind: str,
        inputs: list[ir.Value],
        name: str,
        dtype: npt.DTypeLike,
        place: ir.Value | ir.Node,
        attributes: dict[str, int],
    ) -> ir.Value:
        """A node behind the value `place`, or before the node `place`."""
        node = ir.node(kind, inputs, attributes=attributes, name=name)
        output = node.outputs[0]
        output.name, output.dtype = name, ir.DataType.from_numpy(np.dtype(dtype))
        producer = place.producer() if isinstance(place, ir.Value) else None
        if producer is not None:
            self._graph.insert_after(producer, node)
        else:
            self._graph.insert_before(place if isinstance(place, ir.Node) else self._graph[0], node)
        return output


@dataclass(frozen=True)
class _Bias:
    """A constant that is added to each output channel of a product, by the product itself or by the node behind it."""

    reader: ir.Node
    index: int
    array: Weights


def _bias(product: _Product) -> _Bias | None:
    node = product.node
    if node.op_type != "MatMul":
        found = _constant_bias(node, 2) if len(node.inputs) > 2 else None
    else:
        readers = node.outputs[0].consumers()
        alone = len(readers) == 1 and readers[0].op_type == "Add" and not node.outputs[0].is_graph_output()
        found = (_constant_bias(readers[0], 0) or _constant_bias(readers[0], 1)) if alone else None
    width = product.array.shape[product.channel]
    return found if found is not None and found.array.shape == (width,) else None


def _constant_bias(reader: ir.Node, index: int) -> _Bias | None:
    value = reader.inputs[index]
    if value is None or not value.is_initializer() or value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return None
    return _Bias(reader, index, value.const_value.numpy())


def _nonzero(scale: float) -> npt.NDArray[np.float32]:
    """A scale that can be divided by, also for a value that was 0 throughout."""
    return np.array(scale if np.isfinite(scale) and scale > 1e-30 else 1.0, np.float32)
