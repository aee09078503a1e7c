"""float16: what leaves its range stays in float32, on the whole way between two nodes that need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime

from mmedge_export.precision.half import convertible, out_of_range, round_values, to_half
from mmedge_export.precision.ranges import Range, capture

Array = np.ndarray[Any, np.dtype[Any]]

LARGE = """<ir_version: 9, opset_import: ["" : 20]>
g (float[2,64] x) => (float[2,64] y, float[2,64] small)
<float huge = {300000}>
{
  stream = Mul(x, huge)
  added = Add(stream, x)
  normal = LayerNormalization<axis = -1>(added, one)
  small = MatMul(normal, w)
  y = Softmax<axis = -1>(small)
}"""


def large() -> ir.Model:
    proto = onnx.parser.parse_model(LARGE)
    weights = 0.1 * np.random.default_rng(0).standard_normal((64, 64))
    for name, array in {"one": np.ones(64), "w": weights}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    loaded = ir.from_proto(proto)
    for node in loaded.graph:
        node.name = f"node_{node.outputs[0].name}"
        for output in node.outputs:
            output.dtype = ir.DataType.FLOAT
    return loaded


def feeds() -> dict[str, Array]:
    return {"x": np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)}


def run(what: ir.Model) -> list[Array]:
    return onnxruntime.InferenceSession(ir.to_proto(what).SerializeToString()).run(None, feeds())


def types(what: ir.Model) -> dict[str, str]:
    return {str(v.name): v.dtype.name for n in what.graph for v in n.outputs if v.dtype is not None and v.name}


def test_ranges_are_those_of_the_samples(tmp_path: Path) -> None:
    found = capture(large(), tmp_path, [feeds(), {"x": 2 * feeds()["x"]}])
    x = feeds()["x"]
    assert found["x"] == Range(float(2 * x.min()), float(2 * x.max()))
    assert found["stream"].magnitude == float(np.abs(2 * x * np.float32(300000)).max())
    assert list(tmp_path.iterdir()) == []


def test_a_large_residual_stays_in_float32(tmp_path: Path) -> None:
    source = large()
    kept = out_of_range(source.graph, capture(source, tmp_path, [feeds()]))
    assert kept == ["node_stream", "node_added"]
    to_half(source, kept)
    found = types(source)
    assert (found["stream"], found["added"]) == ("FLOAT", "FLOAT")
    assert found["small.inner"] == "FLOAT16"
    assert [node.op_type for node in source.graph].count("Cast") == 2, "into the product and out of it"
    assert [value.dtype for value in source.graph.outputs] == [ir.DataType.FLOAT] * 2
    for ours, exact in zip(run(source), run(large()), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=0.01, atol=0.01)


def test_rounding_shows_the_overflow_that_a_cpu_does_not(tmp_path: Path) -> None:
    rounded, kept = large(), large()
    round_values(rounded, (), ir.DataType.FLOAT16)
    assert not all(np.isfinite(array).all() for array in run(rounded))
    round_values(kept, ("node_stream", "node_added"), ir.DataType.FLOAT16)
    for ours, exact in zip(run(kept), run(large()), strict=True):
        error = np.linalg.norm(ours - exact) / np.linalg.norm(exact)
        assert 0 < error < 0.005


def test_rounding_keeps_the_names_of_outputs() -> None:
    done = large()
    round_values(done, (), ir.DataType.BFLOAT16)
    assert [value.name for value in done.graph.outputs] == ["y", "small"]
    ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(done), check_type=True, strict_mode=True))


def test_norms_softmax_and_roots_are_not_convertible() -> None:
    assert [node.op_type for node in convertible(large().graph)] == ["Mul", "Add", "MatMul"]


def test_a_norm_that_is_written_out_stays_whole(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]>
    g (float[2,64] x) => (float[2,64] y) <int64[1] last = {-1}, float eps = {1e-5}>
    { m = ReduceMean(x, last) d = Sub(x, m) s = Mul(d, d) v = ReduceMean(s, last) e = Add(v, eps) r = Sqrt(e)
      n = Div(d, r) y = Relu(n) }"""
    source = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    for node in source.graph:
        node.name = f"node_{node.outputs[0].name}"
    # Small enough for float16, in which their squares vanish.
    ranges = capture(source, tmp_path, [{"x": 1e-4 * feeds()["x"]}])
    assert out_of_range(source.graph, ranges) == ["node_d", "node_s", "node_e", "node_n"]
