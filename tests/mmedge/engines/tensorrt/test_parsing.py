"""What the real parser refuses: every node of it, with its operator and the reason."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from mmedge.engines.tensorrt import refusals
from mmedge.engines.tensorrt.library import Library, messages
from mmedge.engines.tensorrt.lifetime import native_call
from mmedge.engines.tensorrt.parsing import parse
from mmedge.engines.tensorrt.wire import WireGraph
from mmedge.errors import EngineError

pytestmark = pytest.mark.usefixtures("rtx")

DYNAMIC_INT8 = """
g (float[n, 4] x, uint8[4, 4] w) => (float[n, 4] y) {
  q, s, z = DynamicQuantizeLinear(x)
  product = MatMulInteger(q, w, z)
  wide = Cast<to = 1>(product)
  scaled = Mul(wide, s)
  q2, s2, z2 = DynamicQuantizeLinear(scaled)
  y = DequantizeLinear(q2, s2, z2)
}
"""
Q_DQ = """
g (float[n, 4] x) => (float[n, 4] y) <float s = {0.1}, int8 odd = {3}, int8 even = {0}> {
  a = QuantizeLinear(x, s, odd)
  b = DequantizeLinear(a, s, odd)
  c = Relu(b)
  d = QuantizeLinear(c, s, even)
  e = DequantizeLinear(d, s, even)
  f = QuantizeLinear(e, s, odd)
  y = DequantizeLinear(f, s, odd)
}
"""
SYMMETRIC = Q_DQ.replace("{3}", "{0}")
BRANCH = """
g (float[n, 4] x, bool c) => (float[n, 4] y) {
  a = If (c) <
    then_branch = yes () => (float[n, 4] p) { q, s, z = DynamicQuantizeLinear(x) p = DequantizeLinear(q, s, z) },
    else_branch = no () => (float[n, 4] r) { r = Relu(x) }
  >
  y = Relu(a)
}
"""
TYPES = """
g (float[n, 4] x, float16[n, 4] h) => (float[n, 4] y, float[n, 4] z) {
  a = Add(x, h)
  y = Relu(a)
  b = Mul(x, h)
  z = Relu(b)
}
"""


def write(folder: Path, text: str, *, opset: int = 20, types: bool = True) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{text}')
    path = folder / "stage.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model) if types else model, path)
    return path


def found(path: Path) -> list[tuple[str, str]]:
    return [(refusal.node, refusal.op_type) for refusal in refusals(path)]


def test_a_graph_that_it_takes(tmp_path: Path) -> None:
    assert refusals(write(tmp_path, "g (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }")) == ()


def test_dynamic_int8_is_refused_node_by_node(tmp_path: Path) -> None:
    path = write(tmp_path, DYNAMIC_INT8)
    assert found(path)[:3] == [
        ("q", "DynamicQuantizeLinear"),
        ("product", "MatMulInteger"),
        ("q2", "DynamicQuantizeLinear"),
    ]
    assert all("no such operator" in refusal.why for refusal in refusals(path)[:3])


def test_nodes_behind_a_refused_one_are_looked_at_too(tmp_path: Path) -> None:
    """The parser itself stops at the first of these; only those with a zero point are refused, on both sides."""
    path = write(tmp_path, Q_DQ)
    assert found(path) == [
        ("a", "QuantizeLinear"),
        ("b", "DequantizeLinear"),
        ("f", "QuantizeLinear"),
        ("y", "DequantizeLinear"),
    ]
    assert all("Non-zero zero point" in refusal.why for refusal in refusals(path))


def test_symmetric_q_dq_is_taken(tmp_path: Path) -> None:
    assert refusals(write(tmp_path, SYMMETRIC)) == ()


def test_types_that_do_not_go_together(tmp_path: Path) -> None:
    refused = refusals(write(tmp_path, TYPES, types=False))
    assert [(r.node, r.op_type) for r in refused][:1] == [("a", "Add")]
    assert "Float and Half" in refused[0].why
    assert "cudaError" not in refused[0].why


def test_without_recorded_types_the_log_says_that_not_all_was_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, Q_DQ, types=False)
    with caplog.at_level(logging.WARNING, "mmedge"):
        assert found(path) == [("a", "QuantizeLinear")]
    assert "was not all checked" in caplog.text


def test_a_node_in_a_branch_is_named_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, BRANCH)
    ((name, kind),) = found(path)
    assert kind == "DynamicQuantizeLinear"
    assert "then_branch" in name


def test_our_own_operators_say_what_they_need(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20, "mmedge" : 1]>\n'
        "g (float[n, 4] x) => (float[n, 4] y) { a = Relu(x) y = mmedge.prompt_attention(a) }"
    )
    model.graph.node[1].name = "site"
    onnx.save(model, tmp_path / "s.onnx")
    (refusal,) = refusals(tmp_path / "s.onnx")
    assert (refusal.node, refusal.op_type) == ("site", "prompt_attention")
    assert "register_plugins" in refusal.why


@pytest.mark.parametrize("content", [b"no graph at all", b"\x08\x09\x3a\xff"], ids=["words", "truncated"])
def test_what_is_no_graph(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.onnx"
    path.write_bytes(content)
    (refusal,) = refusals(path)
    assert refusal.node == ""
    assert "Failed to parse" in refusal.why


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nothing\.onnx cannot be read"):
        refusals(tmp_path / "nothing.onnx")


def test_a_library_that_is_not_known_or_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, SYMMETRIC)
    with pytest.raises(EngineError, match="library must be one of tensorrt, tensorrt_rtx"):
        refusals(path, "warp")


def test_a_library_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"tensorrt cannot be imported .* install it: pip install tensorrt"):
        refusals(write(tmp_path, SYMMETRIC), "tensorrt")


def test_parsing_says_node_operator_and_reason(rtx: Library, tmp_path: Path) -> None:
    path = write(tmp_path, DYNAMIC_INT8)
    log = messages(rtx)
    said = r"not take stage.onnx: node 0 \(DynamicQuantizeLinear\): the parser has"
    with pytest.raises(EngineError, match=said), native_call():
        parse(rtx, path, rtx.trt.Builder(log), log)


def test_weights_lie_beside_the_graph(rtx: Library, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]>\ng (float[n, 64] x) => (float[n, 64] y) { y = MatMul(x, w) }'
    )
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "s.onnx", save_as_external_data=True, location="w.bin", size_threshold=64)
    assert refusals(tmp_path / "s.onnx") == ()
    (tmp_path / "w.bin").unlink()
    assert refusals(tmp_path / "s.onnx") != ()


def test_cutting_keeps_everything_else(tmp_path: Path) -> None:
    path = write(tmp_path, Q_DQ)
    whole = onnx.load(path)
    cut = onnx.ModelProto.FromString(WireGraph(path.read_bytes()).without([2]))
    assert [node.output[0] for node in cut.graph.node] == ["a", "b", "d", "e", "f", "y"]
    assert [value.name for value in cut.graph.input] == ["x", "c"]
    assert cut.graph.initializer == whole.graph.initializer
    assert cut.opset_import == whole.opset_import
    onnx.checker.check_model(cut)


def test_cutting_nothing_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, BRANCH)
    assert onnx.ModelProto.FromString(WireGraph(path.read_bytes()).without([])) == onnx.load(path)
