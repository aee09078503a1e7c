"""Axes of inner values are named after the axes of the inputs that they follow, or after a multiple of one."""

from __future__ import annotations

import onnx_ir as ir
from support.staged import parse

from mmedge.bundle import TensorSpec
from mmedge_export.graph.prepare import prepare

GRAPH = """
heads (float[n, l, 6] x) => (float[n, d, 3] merged, float[n, e] flat)
<int64[3] split = {0, -1, 3}, int64[2] whole = {0, -1}, float[3, 4] weight = {1,0,0,0,0,1,0,0,0,0,1,0}> {
  merged = Reshape(x, split)
  wide = MatMul(merged, weight)
  flat = Reshape(wide, whole)
}
"""


def test_a_multiple_of_an_axis_is_named_as_one() -> None:
    model = ir.from_proto(parse(GRAPH))
    prepare(model, [TensorSpec("x", "float32", ("n", "l", 6))], {"l": 40})
    merged, flat = model.graph.outputs
    assert str(merged.shape) == "[n,2*l,3]"
    assert str(flat.shape) == "[n,8*l]"


def test_a_cut_at_a_fixed_length_is_no_axis() -> None:
    text = """
    cut (float[n, l] x) => (float[n, m] short) <int64[1] zero = {0}, int64[1] four = {4}, int64[1] one = {1}> {
      short = Slice(x, zero, four, one)
    }
    """
    model = ir.from_proto(parse(text))
    prepare(model, [TensorSpec("x", "float32", ("n", "l"))], {"l": 40})
    shape = model.graph.outputs[0].shape
    assert shape is not None
    assert str(shape[0]) == "n"
    assert not {"l", "1*l"} & {str(shape[1])}
