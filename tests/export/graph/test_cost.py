"""Operations counted from shapes, against counts done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from support.staged import parse

from mmedge_export.graph.cost import node_flops
from mmedge_export.graph.sizes import concrete_sizes

ATTENTION = """g (float[1,2,6,8] q, float[1,2,3,8] k, float[1,2,3,8] v) => (float[1,2,6,8] out)
    { s = Transpose<perm=[0,1,3,2]>(k)  a = MatMul(q, s)  p = Softmax<axis=-1>(a)  out = MatMul(p, v) }"""
GRU = (
    "g (float[7,1,4] x) => (float[7,1,1,3] y) "
    f"<float[1,9,4] w = {{{', '.join(['0.1'] * 36)}}}, float[1,9,3] r = {{{', '.join(['0.1'] * 27)}}}> "
    "{ y, h = GRU<hidden_size=3>(x, w, r) }"
)
TRANSPOSES = "g (float[a,4] x) => (float[a,4] y) { t = Transpose<perm=[1,0]>(x)  y = Transpose<perm=[1,0]>(t) }"
MATMUL = "g (float[a,6] x, float[6,5] w) => (float[a,5] y) { y = MatMul(x, w) }"


def flops(text: str, **inputs: tuple[int, ...]) -> int:
    model = ir.from_proto(parse(text))
    sizes = concrete_sizes(model, {name: np.zeros(shape, np.float32) for name, shape in inputs.items()})
    return sum(node_flops(node, sizes) for node in model.graph)


@pytest.mark.parametrize(
    ("text", "inputs", "expected"),
    [
        (MATMUL, {"x": (7, 6), "w": (6, 5)}, 2 * 7 * 6 * 5),
        (
            "g (float[6,a] x, float[6,5] w) => (float[a,5] y) { y = Gemm<transA=1>(x, w) }",
            {"x": (6, 3), "w": (6, 5)},
            2 * 3 * 6 * 5,
        ),
        (
            "g (float[1,3,9,9] x, float[8,3,3,3] w) => (float[1,8,4,4] y) { y = Conv<strides=[2,2]>(x, w) }",
            {"x": (1, 3, 9, 9), "w": (8, 3, 3, 3)},
            2 * 8 * 4 * 4 * 27,
        ),
        (
            "g (float[1,8,5,5] x, float[8,1,3,3] w) => (float[1,8,3,3] y) { y = Conv<group=8>(x, w) }",
            {"x": (1, 8, 5, 5), "w": (8, 1, 3, 3)},
            2 * 8 * 3 * 3 * 9,
        ),
        (ATTENTION, {"q": (1, 2, 6, 8), "k": (1, 2, 3, 8), "v": (1, 2, 3, 8)}, 2 * (2 * 2 * 6 * 3 * 8) + 5 * 2 * 6 * 3),
        (GRU, {"x": (7, 1, 4)}, 2 * 7 * (36 + 27)),
        (TRANSPOSES, {"x": (3, 4)}, 0),
        (
            'g (float[i,j] x, float[j,k] w) => (float[i,k] y) { y = Einsum<equation = "ij,jk->ik">(x, w) }',
            {"x": (3, 4), "w": (4, 5)},
            2 * 3 * 4 * 5,
        ),
    ],
    ids=["matmul", "gemm transposed", "conv", "depthwise conv", "attention", "gru", "transpose", "einsum"],
)
def test_operations_are_those_counted_by_hand(text: str, inputs: dict[str, Any], expected: int) -> None:
    assert flops(text, **inputs) == expected


def test_what_shape_inference_cannot_tell_counts_as_nothing() -> None:
    text = """g (float[a] x) => (float[k] y)
        { where = NonZero(x)  flat = Flatten<axis=1>(where)  picked = Gather<axis=0>(x, flat)  y = Exp(picked) }"""
    assert flops(text, x=(5,)) == 0
