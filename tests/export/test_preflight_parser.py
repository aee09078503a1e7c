"""Preflight asks the real parser of TensorRT-RTX where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx_ir")
pytest.importorskip("tensorrt_rtx_bindings")

from support.target_bundles import parse_graph, write_variants

from mmedge.bundle import open_bundle
from mmedge.targets import TARGETS
from mmedge_export.preflight import ERROR, NOTE, preflight, usable_variants

# Plain types and a known operator: only the parser knows that it does not add numbers of 8 bits.
BYTES = "scan (uint8[2, 3] x) => (uint8[2, 3] y) { y = Add(x, x) }"
BRANCH = """
scan (bool c, float[2, 3] x) => (float[2, 3] y) {
  y = If(c) <
    then_branch = a () => (float[2, 3] p) { p = Add(x, x) },
    else_branch = b () => (float[2, 3] r) { i = Cast<to = 6>(x) j = BitwiseAnd(i, i) r = Cast<to = 1>(j) }
  >
}
"""
DYNAMIC = """
scan (float[2, 3] x) => (int32[2, 4] y) <uint8[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
  q, scale, zero = DynamicQuantizeLinear(x)
  y = MatMulInteger(q, w, zero)
}
"""


@pytest.mark.parametrize(
    ("graph", "operators"),
    [
        pytest.param(BYTES, ["Add"], id="known to the parser alone"),
        pytest.param(BRANCH, ["BitwiseAnd"], id="said once, in a branch"),
        pytest.param(DYNAMIC, ["DynamicQuantizeLinear", "MatMulInteger"], id="said once"),
        pytest.param(BYTES.replace("uint8", "float"), [], id="nothing"),
    ],
)
def test_rules_and_parser_together(graph: str, operators: list[str], tmp_path: Path) -> None:
    path = write_variants(tmp_path / "a.mmedge", {"fp32": parse_graph(graph)})
    found = [finding for finding in preflight(path, TARGETS["rtx"]) if finding.severity == ERROR]
    assert [finding.op_type for finding in found] == operators
    assert all(finding.stage == "scan" and finding.node for finding in found)


def test_a_parser_that_is_not_here_is_said_not_to_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    path = write_variants(tmp_path / "a.mmedge", dict.fromkeys(("fp32", "fp16"), parse_graph(BYTES)))
    findings = preflight(path, TARGETS["jetson-orin-jp6"])
    said = [finding.variant for finding in findings if "was not asked" in finding.why]
    assert said == ["fp32", "fp16"]
    assert all(finding.severity == NOTE for finding in findings)
    with open_bundle(path) as bundle:
        assert usable_variants(bundle.manifest, TARGETS["jetson-orin-jp6"], findings) == ("fp32", "fp16")
