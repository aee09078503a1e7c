"""Preflight: every node that a target cannot take is named, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx_ir")

from support.target_bundles import parse_graph, write_variants

from mmedge.bundle import Variant, open_bundle
from mmedge.errors import BundleError
from mmedge.targets import TARGETS, Target
from mmedge_export.preflight import ERROR, NOTE, WARNING, Finding, preflight, usable_variants

PLAIN = "scan (float[2, 3] x) => (float[2, 3] y) { y = Add(x, x) }"
QUANTIZED = """
scan (float[2, 3] x) => (float[2, 3] y) <float scale = {{0.1}}, {kind} zero = {{{zero}}}> {{
  q = QuantizeLinear(x, scale, zero)
  y = DequantizeLinear(q, scale, zero)
}}
"""
DYNAMIC = """
scan (float[2, 3] x) => (int32[2, 4] y) <uint8[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
  q, scale, zero = DynamicQuantizeLinear(x)
  y = MatMulInteger(q, w, zero)
}
"""
BRANCH = """
scan (bool c, float[2, 3] x) => (float[2, 3] y) {
  y = If(c) <
    then_branch = a () => (float[2, 3] p) { p = Add(x, x) },
    else_branch = b () => (int32[2, 3] r) { i = Cast<to = 6>(x) r = BitwiseAnd(i, i) }
  >
}
"""
ATTENTION = "scan (float[1, 2, 4, 8] q, float[1, 2, 6, 8] k) => (float[1, 2, 4, 8] y) { y = Attention(q, k, k) }"
OURS = "scan (float[2, 3] x) => (float[2, 3] y) { y = mmedge.prompt_attention(x) }"
DOUBLE = "scan (float[2, 3] x) => (float[2, 3] y) { d = Cast<to = 11>(x) y = Cast<to = 1>(d) }"
SHORT = "scan (int16[2, 3] x) => (int16[2, 3] y) { y = Identity(x) }"
HALF = "scan (float16[2, 3] x) => (float16[2, 3] y) { y = Add(x, x) }"
BFLOAT = "scan (bfloat16[2, 3] x) => (bfloat16[2, 3] y) { y = Add(x, x) }"
FLOAT8 = """
scan (float[2, 3] x) => (float[2, 3] y) {
  a = Cast<to = 17>(x)
  y = Cast<to = 1>(a)
}
"""

JETSON = ("jetson-orin-jp6", "jetson-orin-jp7", "jetson-thor")
GPUS = (*JETSON, "rtx", "datacenter")


@pytest.fixture(autouse=True)
def _only_our_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the real parser says depends on what is installed; its own test asks it."""
    monkeypatch.setattr("mmedge_export.preflight._ask_parser", lambda *_: [])


def serious(path: Path, target: Target) -> list[tuple[str, str]]:
    """Severity and operator of each finding that is no note."""
    return [(f.severity, f.op_type) for f in preflight(path, target) if f.severity != NOTE]


TURING = (WARNING, "")
"""There is no fp32 on one architecture of rtx: a matter of the whole variant, not of a node."""


@pytest.mark.parametrize("target", TARGETS)
def test_a_plain_graph_passes_everywhere(target: str, tmp_path: Path) -> None:
    path = write_variants(tmp_path / "plain.mmedge", {"fp32": parse_graph(PLAIN)})
    findings = preflight(path, TARGETS[target])
    serious_ones = {(f.severity, f.why) for f in findings if f.severity != NOTE}
    assert serious_ones == ({(WARNING, "there is no fp32 on sm_75")} if target == "rtx" else set())
    with open_bundle(path) as bundle:
        assert usable_variants(bundle.manifest, TARGETS[target], findings) == ("fp32",)


@pytest.mark.parametrize(
    ("graph", "operators"),
    [
        pytest.param(QUANTIZED.format(kind="int8", zero=3), ["QuantizeLinear", "DequantizeLinear"], id="zero point"),
        pytest.param(QUANTIZED.format(kind="int8", zero=0), [], id="symmetric"),
        pytest.param(DYNAMIC, ["DynamicQuantizeLinear", "MatMulInteger"], id="dynamic quantization"),
        pytest.param(BRANCH, ["BitwiseAnd"], id="inside a branch"),
        pytest.param(SHORT, ["", "Identity"], id="int16"),
    ],
)
@pytest.mark.parametrize("target", GPUS)
def test_what_no_parser_of_tensorrt_takes(graph: str, operators: list[str], target: str, tmp_path: Path) -> None:
    path = write_variants(tmp_path / "a.mmedge", {"fp32": parse_graph(graph)})
    found = serious(path, TARGETS[target])
    assert [operator for severity, operator in found if severity == ERROR] == operators
    assert not [f for f in serious(path, TARGETS["cpu"]) if f[0] == ERROR], "the CPU's engines take all of these"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("jetson-orin-jp6", [(ERROR, ""), (ERROR, "Attention")]),
        ("jetson-thor", [(ERROR, ""), (ERROR, "Attention")]),
        ("jetson-orin-jp7", []),
        ("rtx", [TURING]),
    ],
)
def test_attention_needs_a_new_tensorrt(target: str, expected: list[tuple[str, str]], tmp_path: Path) -> None:
    path = write_variants(tmp_path / "attention.mmedge", {"fp32": parse_graph(ATTENTION, opset=23)})
    assert serious(path, TARGETS[target]) == expected


@pytest.mark.parametrize("target", TARGETS)
def test_our_operators_need_plugins(target: str, tmp_path: Path) -> None:
    path = write_variants(tmp_path / "ours.mmedge", {"fp32": parse_graph(OURS, domains=', "mmedge": 1')})
    expected = [] if TARGETS[target].plugins == "quick" else [(ERROR, "prompt_attention")]
    expected = [TURING, *expected] if target == "rtx" else expected
    assert serious(path, TARGETS[target]) == expected


@pytest.mark.parametrize(
    ("graph", "target", "expected"),
    [
        pytest.param(HALF, "jetson-orin-jp6", [], id="fp16 on Orin"),
        pytest.param(BFLOAT, "rtx", [WARNING, WARNING], id="bf16 not on Turing"),
        pytest.param(FLOAT8, "jetson-orin-jp7", [ERROR], id="fp8 not on Orin"),
        pytest.param(FLOAT8, "jetson-thor", [], id="fp8 on Thor"),
        pytest.param(FLOAT8, "datacenter", [WARNING], id="fp8 not on A100"),
        pytest.param(QUANTIZED.format(kind="int8", zero=0), "rtx", [WARNING, WARNING], id="int8 not on Turing"),
        pytest.param(DOUBLE, "jetson-thor", [WARNING], id="float64"),
        pytest.param(DOUBLE, "cpu", [], id="float64 on the CPU"),
    ],
)
def test_precisions_that_chips_lack(graph: str, target: str, expected: list[str], tmp_path: Path) -> None:
    path = write_variants(tmp_path / "a.mmedge", {"fp32": parse_graph(graph)})
    assert [severity for severity, _ in serious(path, TARGETS[target])] == expected


def test_the_arithmetic_that_an_engine_is_asked_for_counts(tmp_path: Path) -> None:
    graphs = {"fp32": parse_graph(PLAIN), "bf16": parse_graph(PLAIN)}
    entries = {"fp32": Variant(True, 1e-4, {}), "bf16": Variant(True, 1e-4, {}, compute="bf16")}
    path = write_variants(tmp_path / "a.mmedge", graphs, entries)
    assert [(f.severity, f.variant) for f in preflight(path, TARGETS["rtx"]) if f.severity != NOTE] == [
        (WARNING, "fp32"),
        (WARNING, "bf16"),
        (WARNING, "bf16"),
    ]


def test_a_variant_of_another_engine_is_left_out(tmp_path: Path) -> None:
    graphs = {"fp32": parse_graph(DYNAMIC), "int8": parse_graph(DYNAMIC)}
    entries = {"fp32": Variant(True, 1e-4, {}), "int8": Variant(True, 1e-4, {}, engines=("onnxruntime",))}
    path = write_variants(tmp_path / "a.mmedge", graphs, entries)
    with open_bundle(path) as bundle:
        findings = preflight(bundle, TARGETS["jetson-orin-jp6"])
        assert usable_variants(bundle.manifest, TARGETS["jetson-orin-jp6"], findings) == ()
        assert usable_variants(bundle.manifest, TARGETS["cpu"], preflight(bundle, TARGETS["cpu"])) == ("fp32", "int8")
    assert [f.variant for f in findings if f.severity == ERROR] == ["fp32", "fp32"]
    assert [f.variant for f in findings if "made for onnxruntime" in f.why] == ["int8"]


def test_an_opset_that_the_engine_does_not_read(tmp_path: Path) -> None:
    path = write_variants(tmp_path / "new.mmedge", {"fp32": parse_graph(PLAIN, opset=22)})
    (found,) = [f for f in preflight(path, TARGETS["jetson-orin-jp6"]) if f.severity == ERROR]
    assert "opset 22" in found.why
    assert (found.variant, found.stage) == ("fp32", "scan")


def test_a_finding_in_words() -> None:
    found = Finding(ERROR, "no such operator", "int8", "image", "/a/Det", "Det")
    assert str(found) == "error: variant int8, stage image: Det /a/Det: no such operator"
    assert str(Finding(NOTE, "Python there is 3.10")) == "note: Python there is 3.10"


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        preflight(tmp_path / "none.mmedge", TARGETS["cpu"])
