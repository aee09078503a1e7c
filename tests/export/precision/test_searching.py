"""The precision search from start to end: what is kept, what is dropped and said, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from support.towers import WORDS, declared, export_tower, write_tower

import mmedge
import mmedge_export as mx
from mmedge.bundle import Measurement
from mmedge.engines import open_engine
from mmedge.errors import ParityError
from mmedge_export.precision import parse_precision, searching
from mmedge_export.precision.machine import Machine, this_machine


@pytest.fixture
def onnxruntime_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame is worth a search, and one engine is there to search on."""
    machine = Machine({"onnxruntime": open_engine("onnxruntime:cpu", threads=1)}, frozenset(), "a processor, 1 threads")
    monkeypatch.setattr("mmedge_export.precision.searching.this_machine", lambda threads: machine)
    monkeypatch.setattr("mmedge_export.precision.searching.WORTH_MS", 0.0)


def frames() -> list[mx.Sample]:
    """Calibration frames that are none of the samples."""
    random = np.random.default_rng(11)
    return [mx.Sample(random.integers(0, 256, (32, 32, 3), dtype=np.uint8), (word,)) for word in WORDS[2:6]]


@pytest.mark.usefixtures("onnxruntime_alone")
def test_variants_that_are_asked_for_are_all_there_and_verified(tmp_path: Path) -> None:
    names = ["bf16", "fp16", "int8", "int8-dynamic", "int8-symmetric"]
    report = export_tower(tmp_path / "t.mmedge", ",".join(names), mx.Options(merge_below=0.0))
    variants = report.manifest.variants
    assert list(variants) == ["fp32", *names]
    assert all(variant.verified for variant in variants.values())
    assert [variants[name].compute for name in names] == ["bf16", "fp32", "fp32", "fp32", "fp32"]
    assert report.warnings == ()
    image, text = (next(s for s in report.manifest.stages if s.label == (m,)) for m in ("image", "text"))
    assert set(text.files.values()) == {text.files["fp32"]}, "text runs once a prompt and stays exact"
    assert image.files["bf16"] == image.files["fp32"]
    assert len({image.files[name] for name in names}) == 5
    for name in ("fp16", "int8", "int8-dynamic"):
        found = mmedge.verify(report.path, engine="onnxruntime:cpu", precision=name)
        assert found.passed, found.reasons
        assert set(found.figures) == {"cosine", "relative_error", "top1"}


@pytest.mark.usefixtures("onnxruntime_alone")
def test_auto_keeps_what_the_table_says(tmp_path: Path) -> None:
    report = export_tower(tmp_path / "t.mmedge", "auto", mx.Options(calibration=frames()))
    manifest = report.manifest
    assert [row.variant for row in manifest.measured] == ["fp32", "int8", "int8-dynamic"]
    assert all(row.ms is not None and row.ms > 0 for row in manifest.measured)
    assert set(manifest.variants) == {row.variant for row in manifest.measured if row.kept}
    for row in manifest.measured:
        carried = any(row.variant in name for name in manifest.files)
        assert carried == row.kept, "what is dropped leaves no bytes"
        assert row.kept or row.note
    assert manifest.measured_on == "a processor, 1 threads"
    with mmedge.open_bundle(report.path) as bundle:
        card = bytes(bundle.read("MODEL_CARD.md")).decode()
    assert "## Precision search" in card
    assert "int8-dynamic" in card


@pytest.mark.usefixtures("onnxruntime_alone")
def test_auto_does_not_judge_fixed_ranges_by_the_samples_that_they_were_taken_from(tmp_path: Path) -> None:
    manifest = export_tower(tmp_path / "t.mmedge", "auto").manifest
    assert "int8" not in manifest.variants
    note = next(row.note for row in manifest.measured if row.variant == "int8")
    assert note == "its ranges need frames other than the samples that judge it: give calibration frames"


def test_frames_that_cost_nothing_are_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge_export.precision.searching.WORTH_MS", 1e9)
    report = export_tower(tmp_path / "t.mmedge", "auto")
    assert list(report.manifest.variants) == ["fp32"]
    assert "nothing to gain" in report.manifest.measured[0].note


def test_fp32_measures_nothing(tmp_path: Path) -> None:
    report = export_tower(tmp_path / "t.mmedge", "fp32")
    assert (report.manifest.measured, report.manifest.measured_on) == ((), "")


@pytest.mark.usefixtures("onnxruntime_alone")
def test_a_residual_too_large_for_fp16_stays_in_fp32_and_is_reported(tmp_path: Path) -> None:
    """A CPU computes fp16 graphs in float32, so the overflow shows on the device alone unless it is looked for."""
    report = export_tower(tmp_path / "t.mmedge", "fp16", mx.Options(form="folder"), gains=3e5)
    variant = report.manifest.variants["fp16"]
    assert variant.verified
    stage = next(s for s in report.manifest.stages if s.label == ("image",))
    graph = ir.load(report.path / stage.files["fp16"]).graph
    types = {str(v.name): v.dtype for node in graph for v in node.outputs}
    assert types["stream"] == types["loud"] == ir.DataType.FLOAT
    assert ir.DataType.FLOAT16 in types.values()
    nodes = {str(node.outputs[0].name): f"image:{node.name}" for node in graph}
    assert {nodes["stream"], nodes["loud"]} <= set(variant.kept_fp32)
    card = (report.path / "MODEL_CARD.md").read_text()
    assert "in float32, because they left the range" in card
    plain = export_tower(tmp_path / "p.mmedge", "fp16")
    assert plain.manifest.variants["fp16"].kept_fp32 == ()


@pytest.mark.usefixtures("onnxruntime_alone")
def test_a_norm_in_parts_stays_whole_in_fp32_and_is_reported(tmp_path: Path) -> None:
    report = export_tower(tmp_path / "t.mmedge", "fp16", mx.Options(form="folder"), spelled=True)
    variant = report.manifest.variants["fp16"]
    assert variant.verified
    stage = next(s for s in report.manifest.stages if s.label == ("image",))
    graph = ir.load(report.path / stage.files["fp16"]).graph
    made = {str(value.name): (value.dtype, node) for node in graph for value in node.outputs}
    inside = [made[name] for name in ("mean", "apart", "squares", "variance", "root", "quotient")]
    assert {dtype for dtype, _ in inside} == {ir.DataType.FLOAT}
    assert {f"image:{node.name}" for _, node in inside if node.op_type in ("Sub", "Mul", "Div")} == set(
        variant.kept_fp32
    )
    assert made["up"][0] == ir.DataType.FLOAT16


@pytest.mark.usefixtures("onnxruntime_alone")
def test_the_product_that_int8_ruins_is_found_and_kept(tmp_path: Path) -> None:
    """One loud channel takes the whole range of eight bits from the others."""
    report = export_tower(tmp_path / "t.mmedge", "int8", mx.Options(form="folder"), outlier=3e4)
    variant = report.manifest.variants["int8"]
    assert variant.verified
    stage = next(s for s in report.manifest.stages if s.label == ("image",))
    graph = ir.load(report.path / stage.files["int8"]).graph
    products = [node for node in graph if node.op_type in ("MatMul", "Conv")]
    rounded = [
        node for node in products if node.inputs[0].producer() and "Dequantize" in node.inputs[0].producer().op_type
    ]  # type: ignore[union-attr]
    assert 0 < len(rounded) < len(products)
    assert len(variant.kept_fp32) == len(products) - len(rounded)


@pytest.mark.usefixtures("onnxruntime_alone")
def test_a_variant_outside_its_limits_is_refused_when_asked_for_and_dropped_by_auto(tmp_path: Path) -> None:
    options = mx.Options(limits={"int8": {"cosine": 1.0, "relative_error": 0.0}})
    with pytest.raises(ParityError, match=r"int8.*relative_error.*force"):
        export_tower(tmp_path / "a.mmedge", "int8", options)
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    forced = export_tower(tmp_path / "b.mmedge", "int8", replace(options, force=True))
    assert not forced.manifest.variants["int8"].verified
    assert any("int8" in warning for warning in forced.warnings)
    auto = export_tower(tmp_path / "c.mmedge", "auto", replace(options, calibration=frames()))
    assert "int8" not in auto.manifest.variants
    note = next(row.note for row in auto.manifest.measured if row.variant == "int8")
    assert note.startswith("outside its limits: ")


def test_a_variant_that_loses_its_task_is_dropped(tmp_path: Path) -> None:
    asked = []

    def metric(bundle: Path, precision: str, engine: str) -> dict[str, float]:
        asked.append((precision, engine))
        return {"F1": {"fp32": 0.9, "int8": 0.895, "int8-dynamic": 0.7}[precision]}

    rows = [Measurement(name, "onnxruntime", 1.0, True, "") for name in ("fp32", "int8", "int8-dynamic")]
    rows.append(Measurement("bf16", "openvino", None, False, "does not run"))
    workshop: Any = SimpleNamespace(folder=tmp_path)
    machine = Machine({}, frozenset(), "")
    done = searching._Search(workshop, parse_precision("auto"), mx.Options(metric=metric), machine)._by_metric(rows)
    assert [row.kept for row in done] == [True, True, False, False]
    assert [row.figures.get("F1") for row in done] == [0.9, 0.895, 0.7, None]
    assert done[2].note == "loses more than 0.01: F1 0.7 after 0.9"
    assert asked == [(name, "onnxruntime") for name in ("fp32", "int8", "int8-dynamic")]


@pytest.mark.usefixtures("onnxruntime_alone")
def test_ranges_come_from_the_calibration_samples(tmp_path: Path) -> None:
    dark, bright = (np.full((32, 32, 3), level, np.uint8) for level in (25, 250))
    scales = []
    for name, frame in (("dark", dark), ("bright", bright)):
        limits = {"int8": {"cosine": -1.0, "relative_error": 1e9, "top1": 0.0}}
        options = mx.Options(form="folder", calibration=[mx.Sample(frame, ("red",))], limits=limits)
        report = export_tower(tmp_path / name, "int8", options)
        stage = next(s for s in report.manifest.stages if s.label == ("image",))
        scale = ir.load(report.path / stage.files["int8"]).graph.initializers["pixels.scale"].const_value
        assert scale is not None
        scales.append(float(scale.numpy()))
    assert scales == pytest.approx([25 / 255 / 255, 250 / 255 / 255])


def test_a_source_whose_output_never_changes_is_said(tmp_path: Path) -> None:
    report = export_tower(tmp_path / "t.mmedge", "fp32", blind=True)
    assert any("'seen'" in warning and "broken before" in warning for warning in report.warnings)
    assert export_tower(tmp_path / "g.mmedge", "fp32").warnings == ()


def test_this_machine_names_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    found = this_machine(2)
    assert "onnxruntime" in found.engines
    assert "2 threads" in found.description
    assert platform.node() not in found.description


def test_models_of_text_alone_have_nothing_to_search(tmp_path: Path) -> None:
    import onnx

    source = write_tower(tmp_path / "t.onnx")
    onnx.utils.extract_model(str(source), str(tmp_path / "text.onnx"), ["ids", "mask"], ["text"])
    inputs = {"text": declared()["text"]}
    report = mx.export_onnx(tmp_path / "text.onnx", inputs=inputs, task=mx.Raw(), out=tmp_path / "t.mmedge")
    assert report.manifest.measured == ()
