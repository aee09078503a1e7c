"""Estimates: the arithmetic of the roofline, and that nothing unknown becomes a number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnx_ir")

import onnx
from support.bundles import write_bundle
from support.target_bundles import parse_graph, write_variants

from mmedge.bundle import Cost
from mmedge.targets import TARGETS, Chip
from mmedge_export.estimate import EFFICIENCY, KIND, estimate
from mmedge_export.graph.partition import CALL_SECONDS

CHIP = Chip("imagined", 87, 1 << 30, 1e9, {"fp32": 1e12, "fp16": 4e12}, "made up")
TARGET = replace(TARGETS["jetson-orin-jp6"], chips=(CHIP,))

# Inputs and outputs are 500 x 300 and 500 x 200 floats, weights 300 x 200: 1,240,000 bytes.
PRODUCT = """
scan (float[n, 300] x) => (float[n, 200] y) {
  y = MatMul(x, w)
}
"""


def product(kind: int = 1) -> onnx.ModelProto:
    """The product in float32 (1) or float16 (10)."""
    model = parse_graph(PRODUCT if kind == 1 else PRODUCT.replace("float[", "float16["))
    size = {1: 4, 10: 2}[kind]
    model.graph.initializer.append(
        onnx.TensorProto(name="w", dims=[300, 200], data_type=kind, raw_data=bytes(300 * 200 * size))
    )
    return model


@pytest.mark.parametrize(
    ("flops", "bound", "seconds"),
    [(10**10, "compute", 1e-2), (10**6, "memory", 1.24e-3)],
)
def test_the_slower_of_compute_and_memory(flops: int, bound: str, seconds: float, tmp_path: Path) -> None:
    path = write_variants(tmp_path / "a.mmedge", {"fp32": product()}, cost=Cost(flops, 1, {"n": 500}))
    (found,) = estimate(path, TARGET)
    (stage,) = found.stages
    assert stage.seconds == pytest.approx(seconds / EFFICIENCY + CALL_SECONDS)
    assert (stage.bound, stage.weights_bytes, stage.each_frame) == (bound, 240_000, True)
    assert stage.activation_bytes == 1_000_000
    assert found.memory_bytes == 1_240_000
    assert found.frame_seconds == {"": stage.seconds}
    assert found.to_json()["kind"] == KIND == "estimate, not measured"


def test_a_narrower_variant_moves_less_and_computes_faster(tmp_path: Path) -> None:
    graphs = {"fp32": product(), "fp16": product(10)}
    path = write_variants(tmp_path / "a.mmedge", graphs, cost=Cost(10**10, 1, {"n": 500}))
    wide, narrow = estimate(path, TARGET)
    assert (wide.precision, narrow.precision) == ("fp32", "fp16")
    assert narrow.stages[0].weights_bytes == 120_000
    assert narrow.stages[0].seconds == pytest.approx(1e10 / 4e12 / EFFICIENCY + CALL_SECONDS)
    assert [each.variant for each in estimate(path, TARGET, ["fp16"])] == ["fp16"]


def test_values_are_counted_while_they_are_needed(tmp_path: Path) -> None:
    """x and a are gone when c is made: the most is x, a and b (3 x 400 bytes)."""
    text = "scan (float[100] x) => (float[100] c) { a = Exp(x) b = Add(a, x) c = Exp(b) }"
    path = write_variants(tmp_path / "a.mmedge", {"fp32": parse_graph(text)})
    assert estimate(path, TARGET)[0].stages[0].activation_bytes == 1200


def test_what_a_branch_reads_stays_alive(tmp_path: Path) -> None:
    """Only the branch at the end reads x, so x is alive beside a and b, and c (one byte)."""
    text = """
scan (bool c, float[100] x) => (float[100] y) {
  a = Exp(x)
  b = Exp(a)
  y = If(c) <
    then_branch = p () => (float[100] q) { q = Add(b, x) },
    else_branch = r () => (float[100] s) { s = Identity(x) }
  >
}
"""
    path = write_variants(tmp_path / "a.mmedge", {"fp32": parse_graph(text)})
    assert estimate(path, TARGET)[0].stages[0].activation_bytes == 1201


def test_an_unknown_size_is_not_guessed(tmp_path: Path) -> None:
    path = write_variants(tmp_path / "a.mmedge", {"fp32": product()}, cost=Cost(10**10, 5_000_000))
    (found,) = estimate(path, TARGET)
    assert found.stages[0].activation_bytes is None
    assert found.memory_bytes == 240_000, "the weights alone: a lower bound"
    assert found.stages[0].seconds == pytest.approx(1e-2 / EFFICIENCY + CALL_SECONDS)


def test_an_unknown_peak_is_not_guessed(tmp_path: Path) -> None:
    path = write_variants(tmp_path / "a.mmedge", {"fp32": product()}, cost=Cost(10**10, 1, {"n": 500}))
    blind = replace(TARGET, chips=(replace(CHIP, flops={}),))
    (found,) = estimate(path, blind)
    assert found.stages[0].seconds is None
    assert found.frame_seconds == {"": None}


def test_no_chip_no_estimate(tmp_path: Path) -> None:
    assert estimate(write_variants(tmp_path / "a.mmedge", {"fp32": product()}), TARGETS["cpu"]) == ()


def test_text_is_not_part_of_a_frame(tmp_path: Path) -> None:
    (found,) = estimate(write_bundle(tmp_path / "colour.mmedge"), TARGET)
    assert {stage.stage: stage.each_frame for stage in found.stages} == {
        "image": True, "text": False, "image+text": True
    }  # fmt: skip
    assert found.stages[2].seconds is None, "nothing is known of it: no shape, and a cost of 0"
    assert found.frame_seconds == {"": None}
