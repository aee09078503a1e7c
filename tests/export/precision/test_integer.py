"""int8: products and their weights are rounded, and nothing beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

from mmedge_export.precision.integer import quantizable, to_dynamic, to_static
from mmedge_export.precision.ranges import capture

Array = np.ndarray[Any, np.dtype[Any]]

GRAPH = """<ir_version: 9, opset_import: ["" : 20]>
g (float[3,64] x, float[64,5] other) => (float[3,64] y, float[3,5] scores)
{
  m = MatMul(x, w)
  a = Add(m, b)
  residual = Add(x, a)
  h = Relu(residual)
  g = Gemm<transB = 1>(h, t, c)
  few = MatMul(h, thin)
  y = Add(residual, g)
  scores = MatMul(y, other)
}"""


def model() -> ir.Model:
    random = np.random.default_rng(0)
    proto = onnx.parser.parse_model(GRAPH)
    shapes = {"w": (64, 64), "b": (64,), "t": (64, 64), "c": (64,), "thin": (64, 4)}
    for name, shape in shapes.items():
        # Channels of very different size: one scale for all would lose the small ones.
        spread = np.logspace(-2, 0, shape[0] if name in "tc" else shape[-1])
        array = random.standard_normal(shape) * (spread[:, None] if name == "t" else spread)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def feeds() -> dict[str, Array]:
    random = np.random.default_rng(1)
    shapes = {"x": (3, 64), "other": (64, 5)}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def run(what: ir.Model, inputs: dict[str, Array]) -> list[Array]:
    return onnxruntime.InferenceSession(ir.to_proto(what).SerializeToString()).run(None, inputs)


def static(tmp_path: Path, *, symmetric: bool = False, kept: tuple[str, ...] = ()) -> ir.Model:
    done = model()
    to_static(done, capture(done, tmp_path, [feeds()]), kept, symmetric=symmetric)
    return done


def named(what: ir.Model) -> dict[str, ir.Node]:
    return {str(node.outputs[0].name): node for node in what.graph}


def kinds(node: ir.Node) -> list[str]:
    return [("" if v is None or v.producer() is None else v.producer().op_type) for v in node.inputs]  # type: ignore[union-attr]


def name_nodes(what: ir.Model) -> ir.Model:
    for node in what.graph:
        node.name = f"node_{node.outputs[0].name}"
    return what


def test_products_with_weights_are_chosen() -> None:
    assert [node.outputs[0].name for node in quantizable(model().graph)] == ["m", "g"]


def test_products_read_rounded_values_and_sums_exact_ones(tmp_path: Path) -> None:
    nodes = named(static(tmp_path))
    assert kinds(nodes["m"]) == ["DequantizeLinear"] * 2
    assert kinds(nodes["g"]) == ["DequantizeLinear"] * 3
    assert kinds(nodes["a"]) == ["MatMul", "DequantizeLinear"], "a bias in int32, which is exact for what it is for"
    assert kinds(nodes["residual"]) == ["", "Add"]
    assert kinds(nodes["y"]) == ["Add", "Gemm"]
    assert kinds(nodes["scores"]) == ["Add", ""], "a product of two activations is left alone"
    assert kinds(nodes["few"])[1] == ""


@pytest.mark.parametrize("symmetric", [False, True], ids=["uint8", "symmetric"])
def test_results_stay_close(symmetric: bool, tmp_path: Path) -> None:
    ours, exact = run(static(tmp_path, symmetric=symmetric), feeds()), run(model(), feeds())
    for a, b in zip(ours, exact, strict=True):
        error = np.linalg.norm(a - b) / np.linalg.norm(b)
        assert 0 < error < 0.02


def test_symmetric_has_zero_points_of_zero_and_float_biases(tmp_path: Path) -> None:
    done = static(tmp_path, symmetric=True)
    linear = [node for node in done.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert linear
    for node in linear:
        zero = node.inputs[2]
        assert zero is not None
        assert zero.const_value is not None
        assert zero.dtype == ir.DataType.INT8
        assert not zero.const_value.numpy().any()
    assert kinds(named(done)["a"]) == ["MatMul", ""]


def test_onnxruntime_multiplies_integers(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    onnxruntime.InferenceSession(ir.to_proto(static(tmp_path)).SerializeToString(), options)
    left = [node.op_type for node in ir.load(tmp_path / "o.onnx").graph]
    assert left.count("QGemm") + left.count("MatMulIntegerToFloat") == 2, left


def test_kept_products_stay(tmp_path: Path) -> None:
    source = name_nodes(model())
    to_static(source, capture(source, tmp_path, [feeds()]), ("node_m",), symmetric=False)
    nodes = named(source)
    assert kinds(nodes["m"]) == ["", ""]
    assert kinds(nodes["g"])[0] == "DequantizeLinear"


def test_dynamic_takes_the_same_products(tmp_path: Path) -> None:
    source = name_nodes(model())
    ir.save(source, tmp_path / "stage.onnx", external_data="stage.bin")
    source = ir.load(tmp_path / "stage.onnx")
    done = to_dynamic(source, ())
    assert [node.op_type for node in done.graph].count("MatMulInteger") == 2
    assert [node.op_type for node in to_dynamic(source, ("node_g",)).graph].count("MatMulInteger") == 1
    for a, b in zip(run(done, feeds()), run(model(), feeds()), strict=True):
        assert np.linalg.norm(a - b) / np.linalg.norm(b) < 0.02


def test_an_input_that_is_always_zero_does_no_harm(tmp_path: Path) -> None:
    done, zeros = model(), {**feeds(), "x": np.zeros((3, 64), np.float32)}
    to_static(done, capture(done, tmp_path, [zeros]), (), symmetric=False)
    for array in run(done, zeros):
        assert np.isfinite(array).all()
