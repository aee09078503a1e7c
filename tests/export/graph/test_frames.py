"""A stage that was cut for one frame, and several frames: each gets what it gets alone, or the export says why not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes.common import ShapeInferencePass
from support.bundles import parse

from mmedge.errors import GraphError
from mmedge_export.graph.frames import open_frames

COUNT = 3
START = "stage (float[1, 3, 4, 4] pixels) => (float[{shape}] out) <{constants}> {{\n{body}\n}}"

TOKENS = """
  two = Constant<value_ints = [1, 3, 16]>()
  flat = Reshape(pixels, two)
  tokens = Transpose<perm = [0, 2, 1]>(flat)
"""
"""[1, 16, 3]"""

WORKING = {
    "element by element": ("1, 3, 4, 4", "float[3, 1, 1] scale = {1, 2, 3}", "  out = Mul(pixels, scale)"),
    "convolution": (
        "1, 2, 2, 2",
        "float[2, 3, 2, 2] w = {1,2,3,4,5,6,7,8,9,10,11,12,-1,-2,-3,-4,-5,-6,-7,-8,-9,-10,-11,-12}",
        "  out = Conv<strides = [2, 2]>(pixels, w)",
    ),
    "class token": (
        "1, 17, 3",
        "float[1, 1, 3] token = {1, 2, 3}",
        f"{TOKENS}  out = Concat<axis = 1>(token, tokens)",
    ),
    "class token, sequence first": (
        "1, 17, 3",
        "float[1, 1, 3] token = {1, 2, 3}",
        f"{TOKENS}  first = Transpose<perm = [1, 0, 2]>(tokens)\n  all = Concat<axis = 0>(token, first)\n"
        "  out = Transpose<perm = [1, 0, 2]>(all)",
    ),
    "heads beside frames, sequence first": (
        "1, 16, 4",
        "float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}, int64[3] heads = {16, 2, 2}, "
        "int64[3] whole = {16, 1, 4}",
        f"{TOKENS}  wide = MatMul(tokens, w)\n  first = Transpose<perm = [1, 0, 2]>(wide)\n"
        "  h = Reshape(first, heads)\n  q = Transpose<perm = [1, 0, 2]>(h)\n  k = Transpose<perm = [0, 2, 1]>(q)\n"
        "  s = MatMul(q, k)\n  p = Softmax<axis = -1>(s)\n  mixed = MatMul(p, q)\n"
        "  t = Transpose<perm = [1, 0, 2]>(mixed)\n  b = Reshape(t, whole)\n  out = Transpose<perm = [1, 0, 2]>(b)",
    ),
    "heads beside frames": (
        "1, 16, 3",
        "int64[4] split = {1, 16, 3, 1}, int64[3] joined = {3, 16, 1}, int64[4] back = {1, 3, 16, 1}, "
        "int64[3] whole = {1, 16, 3}",
        f"{TOKENS}  h = Reshape(tokens, split)\n  q = Transpose<perm = [0, 2, 1, 3]>(h)\n"
        "  m = Reshape(q, joined)\n"
        "  k = Transpose<perm = [0, 2, 1]>(m)\n  s = MatMul(m, k)\n  p = Softmax<axis = -1>(s)\n"
        "  mixed = MatMul(p, m)\n  b = Reshape(mixed, back)\n"
        "  t = Transpose<perm = [0, 2, 1, 3]>(b)\n  out = Reshape(t, whole)",
    ),
    "rows of frames between each other": (
        "1, 16, 2",
        "int64[2] rows = {16, 3}, float[3, 2] w = {1, 2, 3, 4, 5, 6}, int64[3] back = {16, 1, 2}",
        f"{TOKENS}  first = Transpose<perm = [1, 0, 2]>(tokens)\n  r = Reshape(first, rows)\n  m = MatMul(r, w)\n"
        "  u = Reshape(m, back)\n  out = Transpose<perm = [1, 0, 2]>(u)",
    ),
    "groups": (
        "1, 3, 4, 4",
        "int64[3] groups = {0, 3, -1}, float[3] one = {1, 1, 1}, float[3] zero = {0, 0, 0}, "
        "int64[4] back = {1, 3, 4, 4}",
        "  g = Reshape(pixels, groups)\n  n = InstanceNormalization(g, one, zero)\n  out = Reshape(n, back)",
    ),
    "the one frame picked": (
        "16, 3",
        "int64 zero = {0}",
        f"{TOKENS}  doubled = Add(tokens, tokens)\n  out = Gather<axis = 0>(doubled, zero)",
    ),
    "the axis of frames dropped": ("16, 3", "int64[1] first = {0}", f"{TOKENS}  out = Squeeze(tokens, first)"),
    "another axis dropped": (
        "1, 3",
        "int64[2] last = {2, 3}",
        "  pooled = GlobalAveragePool(pixels)\n  out = Squeeze(pooled, last)",
    ),
    "resized to sizes": (
        "1, 3, 7, 5",
        "int64[4] sizes = {1, 3, 7, 5}",
        '  out = Resize<mode = "linear">(pixels, , , sizes)',
    ),
    "resized by scales": (
        "1, 3, 8, 8",
        "float[4] scales = {1, 1, 2, 2}",
        '  out = Resize<mode = "nearest">(pixels, , scales)',
    ),
    "spread out": (
        "1, 3, 5, 16",
        "int64[4] one = {1, 3, 1, 16}, int64[4] wide = {1, 3, 5, 16}",
        "  r = Reshape(pixels, one)\n  out = Expand(r, wide)",
    ),
    "frames last": ("3, 1", "int64[2] row = {1, 3}", "  p = GlobalAveragePool(pixels)\n  r = Reshape(p, row)\n"
                    "  out = Transpose<perm = [1, 0]>(r)"),
    "cut and summed": (
        "1, 3",
        "int64[1] a = {1}, int64[1] b = {3}, int64[1] axis = {2}, int64[2] axes = {2, 3}",
        "  c = Slice(pixels, a, b, axis)\n  out = ReduceSum<keepdims = 0>(c, axes)",
    ),
}  # fmt: skip

REFUSED = {
    "softmax over frames": ("1, 3, 4, 4", "float one = {1}", "  out = Softmax<axis = 0>(pixels)", "Softmax"),
    "mean of frames": ("1, 3, 4, 4", "int64[1] axis = {0}", "  out = ReduceMean(pixels, axis)", "ReduceMean"),
    "mean of everything": ("1, 1, 1, 1", "float one = {1}", "  out = ReduceMean(pixels)", "ReduceMean"),
    "joined along frames": ("2, 3, 4, 4", "float one = {1}", "  out = Concat<axis = 0>(pixels, pixels)", "Concat"),
    "a table for the rows of one frame": (
        "16, 3",
        "int64 zero = {0}, float[16, 1] table = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}",
        f"{TOKENS}  rows = Gather<axis = 0>(tokens, zero)\n  out = Add(rows, table)",
        "Add",
    ),
    "an operator without a rule": (
        "4, 48",
        "float one = {1}",
        "  where = NonZero(pixels)\n  out = Cast<to = 1>(where)",
        "NonZero",
    ),
    "its own size": ("1, 3, 4, 4", "float one = {1}", "  s = Shape(pixels)\n  out = Expand(pixels, s)", "Shape"),
    "resized to the nearest size of the same shape": (
        "1, 3, 8, 8",
        "int64[4] sizes = {1, 3, 8, 8}",
        '  out = Resize<mode = "linear", keep_aspect_ratio_policy = "not_larger">(pixels, , , sizes)',
        "Resize",
    ),
    "frames picked by a list": (
        "2, 3, 4, 4",
        "int64[2] twice = {0, 0}",
        "  out = Gather<axis = 0>(pixels, twice)",
        "Gather",
    ),
    "frames between each other at the end": (
        "16, 3",
        "int64[2] rows = {16, 3}",
        f"{TOKENS}  first = Transpose<perm = [1, 0, 2]>(tokens)\n  out = Reshape(first, rows)",
        "'out' does not hold one frame after the other",
    ),
    "an output without frames": (
        "1, 3",
        "float[1, 3] fixed = {1, 2, 3}",
        "  used = Relu(pixels)\n  out = Identity(fixed)",
        "'out' does not hold one frame after the other",
    ),
}  # fmt: skip


def stage(shape: str, constants: str, body: str) -> ir.Model:
    model = ir.from_proto(parse(START.format(shape=shape, constants=constants, body=body)))
    ShapeInferencePass(strict_mode=True)(model)
    return model


def run(model: ir.Model, pixels: np.ndarray) -> np.ndarray:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"pixels": pixels})[0]
    return result


@pytest.mark.parametrize("name", WORKING)
def test_each_frame_gets_what_it_gets_alone(name: str) -> None:
    pixels = np.random.default_rng(list(WORKING).index(name)).standard_normal((COUNT, 3, 4, 4)).astype(np.float32)
    fixed = stage(*WORKING[name])
    alone = [run(fixed, pixels[i : i + 1]) for i in range(COUNT)]
    model = fixed.clone()
    open_frames(model, "pixels", "frames")
    shape = model.graph.outputs[0].shape
    assert shape is not None
    named = [i for i, size in enumerate(shape) if not isinstance(size, int) and "frames" in str(size.value)]
    together = run(model, pixels)
    for ours, expected in zip(np.split(together, COUNT, axis=named[0]), alone, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run(model, pixels[:1]), alone[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_frames_is_named(name: str) -> None:
    *text, words = REFUSED[name]
    with pytest.raises(GraphError, match="several frames cannot run at once") as caught:
        open_frames(stage(*text), "pixels", "frames")
    assert words in str(caught.value)


def test_rows_of_each_frame_are_counted() -> None:
    model = stage(*WORKING["the one frame picked"])
    open_frames(model, "pixels", "frames")
    assert [str(size) for size in model.graph.inputs[0].shape or ()] == ["frames", "3", "4", "4"]
    assert [str(size) for size in model.graph.outputs[0].shape or ()] == ["16*frames", "3"]


def test_new_names_are_new() -> None:
    """A bundle that is exported again holds nodes and weights that were named the last time."""
    model = stage(*WORKING["class token"])
    next(value for value in model.graph.initializers.values() if value.name == "token").name = "frames.0"
    open_frames(model, "pixels", "frames")
    names = [value.name for node in model.graph for value in node.outputs] + list(model.graph.initializers)
    assert len(set(names)) == len(names)
    assert run(model, np.ones((2, 3, 4, 4), np.float32)).shape == (2, 17, 3)


def test_the_stage_must_read_the_pixels() -> None:
    with pytest.raises(GraphError, match="does not read 'other'"):
        open_frames(stage(*WORKING["convolution"]), "other", "frames")
