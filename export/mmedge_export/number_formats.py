"""Which number formats a stage computes in, read off the types of its values and its quantizing nodes."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

_PRECISIONS = {
    "FLOAT": "fp32",
    "FLOAT16": "fp16",
    "BFLOAT16": "bf16",
    "FLOAT8E4M3FN": "fp8",
    "FLOAT8E4M3FNUZ": "fp8",
    "FLOAT8E5M2": "fp8",
    "FLOAT8E5M2FNUZ": "fp8",
}
_INTEGER_PRODUCTS = frozenset({"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"})


def load_typed(path: Path) -> ir.Model:
    """The graph at `path`; types of values that the file does not state are inferred where inference can tell."""
    model = ir.load(path)
    if any(
        output.dtype is None for node in ir.traversal.RecursiveGraphIterator(model.graph) for output in node.outputs
    ):
        ShapeInferencePass(strict_mode=False)(model)
    return model


def graph_precisions(model: ir.Model) -> frozenset[str]:
    """The precisions, of `mmedge.targets.PRECISIONS`, that occur in `model`.

    Integers count only where a quantizing node makes or takes them: ids and indices are no arithmetic.
    """
    found: set[str] = set()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.dtype is not None and value.dtype.name in _PRECISIONS:
                found.add(_PRECISIONS[value.dtype.name])
        if node.op_type in _INTEGER_PRODUCTS or _quantizes_to_integers(node):
            found.add("int8")
    return frozenset(found)


def _quantizes_to_integers(node: ir.Node) -> bool:
    """Q/DQ name their quantized type by the zero point; without one, by the quantized tensor, which is uint8 then."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return False
    quantized = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    named = [value for value in (*node.inputs[2:3], quantized) if value is not None and value.dtype is not None]
    return not named or (named[0].dtype is not None and named[0].dtype.name not in _PRECISIONS)
