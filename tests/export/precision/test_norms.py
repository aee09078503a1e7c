"""Layer normalisation that is written out is found, and nothing else is."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from mmedge_export.precision.norms import decomposed_norms

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'


def found(body: str) -> list[list[str]]:
    constants = "<int64[1] last = {-1}, float two = {2}, float eps = {1e-5}, float half = {0.5}>"
    model = ir.from_proto(
        onnx.parser.parse_model(f"{HEAD}g (float[4,8] x, float[8] w) => (float[4,8] y) {constants} {{{body}}}")
    )
    return [[str(node.op_type) for node in norm] for norm in decomposed_norms(model.graph)]


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (
            """m = ReduceMean(x, last) d = Sub(x, m) s = Pow(d, two) v = ReduceMean(s, last)
               e = Add(v, eps) r = Sqrt(e) n = Div(d, r) y = Mul(n, w)""",
            ["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div"],
        ),
        (
            """m = ReduceMean(x, last) d = Sub(x, m) s = Mul(d, d) v = ReduceMean(s, last)
               e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r) n = Mul(d, i) y = Add(n, w)""",
            ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Reciprocal", "Mul"],
        ),
        (
            """m = ReduceMean(x, last) d = Sub(x, m) s = ReduceSumSquare(d, last) e = Add(s, eps) r = Pow(e, half)
               y = Div(d, r)""",
            ["ReduceMean", "Sub", "ReduceSumSquare", "Add", "Pow", "Div"],
        ),
    ],
    ids=["pow and div", "product and reciprocal", "sum of squares"],
)
def test_the_whole_norm_is_found(body: str, parts: list[str]) -> None:
    assert found(body) == [parts]


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMean(x, last) y = Sub(x, m)",
        "m = ReduceMean(x, last) d = Sub(x, m) y = Div(d, w)",
        "m = ReduceMean(x, last) d = Sub(w, m) s = Mul(d, d) r = Sqrt(s) y = Div(d, r)",
        "y = LayerNormalization(x, w)",
    ],
    ids=["centred", "scaled", "mean of another value", "the operator"],
)
def test_what_is_no_norm_is_not(body: str) -> None:
    assert found(body) == []
